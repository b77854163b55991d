//! Counts and sizes, in memory that does not grow with the sessions.

use cloakroom_core::{Result, SessionKey};

use crate::scan::Walk;
use crate::{Inspector, Record, Step};

const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;

/// When sessions end: up to so many seconds from now.
const ENDS: [(i64, &str); 8] = [
    (HOUR, "within an hour"),
    (6 * HOUR, "within 6 hours"),
    (DAY, "within a day"),
    (3 * DAY, "within 3 days"),
    (7 * DAY, "within a week"),
    (14 * DAY, "within 2 weeks"),
    (30 * DAY, "within 30 days"),
    (i64::MAX, "later"),
];

/// How large they are: up to so many bytes.
const SIZES: [(usize, &str); 6] = [
    (256, "up to 256 B"),
    (1 << 10, "up to 1 KiB"),
    (4 << 10, "up to 4 KiB"),
    (16 << 10, "up to 16 KiB"),
    (64 << 10, "up to 64 KiB"),
    (usize::MAX, "larger"),
];

/// One bar of a histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bar {
    /// What is counted.
    pub name: &'static str,
    /// How many there are.
    pub count: u64,
}

/// What a store holds.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// How many records were looked at.
    pub scanned: u64,
    /// Whether those were all.
    pub complete: bool,
    /// How many there are: exact if all were looked at, and else estimated from how far the keys that were looked at
    /// reach, since keys are drawn at random.
    pub total: u64,
    /// Those that are found when presented.
    pub live: u64,
    /// Those that have ended and wait for a sweep.
    pub expired: u64,
    /// Those whose data cannot be read, expired or not.
    pub corrupted: u64,
    /// Live ones in which a user is logged in.
    pub with_user: u64,
    /// Bytes of all records.
    pub bytes: u64,
    /// Bytes of the largest record.
    pub largest: u64,
    ends: [u64; ENDS.len()],
    unknown_end: u64,
    sizes: [u64; SIZES.len()],
}

impl Stats {
    /// When sessions end, from the expired ones to those whose end only the store knows.
    pub fn ends(&self) -> Vec<Bar> {
        let within = ENDS.iter().zip(self.ends).map(|((_, name), count)| Bar { name, count });
        let mut bars = vec![Bar { name: "expired", count: self.expired }];
        bars.extend(within);
        bars.extend(Some(Bar { name: "the store does not tell", count: self.unknown_end }).filter(|bar| bar.count > 0));
        bars
    }

    /// How large records are.
    pub fn sizes(&self) -> Vec<Bar> {
        SIZES.iter().zip(self.sizes).map(|((_, name), count)| Bar { name, count }).collect()
    }

    /// What a count comes to in all, as [`total`](Self::total).
    pub fn in_all(&self, count: u64) -> u64 {
        if self.complete || self.scanned == 0 {
            return count;
        }
        (count as f64 * (self.total as f64 / self.scanned as f64)).round() as u64
    }

    fn count(&mut self, record: &Record, now: i64) {
        self.scanned += 1;
        if let Some(size) = record.size {
            self.bytes += size as u64;
            self.largest = self.largest.max(size as u64);
            let place = SIZES.iter().position(|(most, _)| size <= *most).unwrap_or(SIZES.len() - 1);
            self.sizes[place] += 1;
        }
        self.corrupted += u64::from(record.problem.is_some());
        if record.expired {
            self.expired += 1;
            return;
        }
        if record.problem.is_none() {
            self.live += 1;
            self.with_user += u64::from(record.user.is_some());
        }
        match record.expiry {
            None => self.unknown_end += 1,
            Some(expiry) => {
                let left = expiry.as_micros().saturating_sub(now);
                let within = |most: i64| left <= most.saturating_mul(1_000_000);
                let place = ENDS.iter().position(|(most, _)| within(*most)).unwrap_or(ENDS.len() - 1);
                self.ends[place] += 1;
            }
        }
    }
}

impl Inspector {
    /// Counts what the store holds, as far as one step goes. `progress` is told how many were looked at.
    ///
    /// Sessions are looked at in the order of their keys, which are random: the first ones stand for all.
    ///
    /// # Errors
    /// As [`list`](Self::list).
    pub async fn stats(&self, step: Step, mut progress: impl FnMut(u64)) -> Result<Stats> {
        let now = self.now().as_micros();
        let mut stats = Stats::default();
        let mut walk = Walk::through(self, None, step).await?;
        while let Some(details) = walk.next().await? {
            stats.count(&details.record, now);
            progress(stats.scanned);
        }
        stats.complete = !walk.has_more().await?;
        stats.total = match &walk.last {
            Some(last) if !stats.complete => (stats.scanned as f64 / place(last)).round() as u64,
            _ => stats.scanned,
        };
        Ok(stats)
    }
}

/// Where a key stands among all that can be drawn, from 0 to 1.
fn place(key: &SessionKey) -> f64 {
    let digit = |byte: u8| f64::from(if byte.is_ascii_digit() { byte - b'0' } else { byte - b'a' + 10 });
    // Right behind the key: the first of one is not at nought.
    key.as_str()
        .bytes()
        .take(10)
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
        .fold(1.0, |rest, byte| (digit(byte) + rest) / 36.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_keys_are_even() {
        let place = |text| place(&SessionKey::presented(text).unwrap());
        assert!(place("00000000") > 0.0 && place("00000000") < 1e-6);
        assert!((place("i0000000") - 0.5).abs() < 1e-6);
        assert!(place("zzzzzzzzzzzz") > 0.999_999 && place("zzzzzzzzzzzz") <= 1.0);
    }
}
