//! Random choices that can be repeated: a seed names a run.

/// A small generator with good spread (SplitMix64); nothing here is a secret.
pub struct Random(u64);

impl Random {
    /// The seed in `CLOAKROOM_SEED`, or a new one; either is printed, past the capture of the test runner.
    pub fn from_env(what: &str) -> Random {
        let fresh = || std::time::UNIX_EPOCH.elapsed().map_or(1, |now| now.as_nanos() as u64);
        let seed = std::env::var("CLOAKROOM_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(fresh);
        super::tell(&format!("{what}: seed {seed} (repeat it with CLOAKROOM_SEED={seed})"));
        Random(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.bits() % end as u64) as usize
    }

    /// One of several.
    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }

    /// Letters and digits that no compression makes small.
    pub fn text(&mut self, length: usize) -> String {
        const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
        (0..length).map(|_| char::from(*self.pick(LETTERS))).collect()
    }
}
