//! Where keys and texts belong in tables of ours.

use std::hash::{BuildHasher, RandomState};

/// Hashes bytes by numbers that nobody knows.
///
/// For what nobody can choose: a key that was drawn at random, or a text with a signature. So nobody fills a chain, and it
/// takes no `SipHash` to keep chains short.
pub(crate) struct Spread([u64; 2]);

impl Spread {
    pub(crate) fn new() -> Self {
        let random = RandomState::new();
        Self([random.hash_one(0), random.hash_one(1)])
    }

    pub(crate) fn hash(&self, bytes: &[u8]) -> u64 {
        let (chunks, rest) = bytes.as_chunks::<16>();
        let mut last = [0; 16];
        last[..rest.len()].copy_from_slice(rest);
        let last = if rest.is_empty() { None } else { Some(&last) };
        chunks.iter().chain(last).fold(self.0[0], |hash, chunk| {
            let chunk = u128::from_le_bytes(*chunk);
            let product = u128::from(chunk as u64 ^ self.0[1]) * u128::from((chunk >> 64) as u64 ^ hash);
            product as u64 ^ (product >> 64) as u64
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_spread_evenly_over_shards_and_chains() {
        let spread = Spread::new();
        let mut counts = [[0; 64]; 2];
        for number in 0..64_000 {
            // Much more alike than keys that are drawn, and of several lengths.
            let key = format!("{number:0width$}", width = 8 + number % 30);
            let hash = spread.hash(key.as_bytes());
            counts[0][(hash >> 32) as usize % 64] += 1;
            counts[1][hash as usize % 64] += 1;
        }
        // A thousand each; the standard deviation is 31.
        assert!(counts.as_flattened().iter().all(|count| (800..1_200).contains(count)), "{counts:?}");
    }
}
