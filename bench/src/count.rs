//! What became of acknowledged changes.

use std::ops::AddAssign;

use serde::Serialize;

/// What became of acknowledged changes, and of sessions that ended. Every acknowledged change is one of `found`, `lost`,
/// `forgotten`, `signed_out`, `unreachable` and `unanswered`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Count {
    /// Changes that were answered with 200.
    pub acknowledged: u64,
    /// Of these, the ones that are there.
    pub found: u64,
    /// Of the found ones, those that were missing at a first look.
    pub late: u64,
    /// Of these, the ones that should be there and are not.
    pub lost: u64,
    /// Of these, the ones that a server which keeps nothing has forgotten with the whole session when it was restarted.
    pub forgotten: u64,
    /// Of the forgotten ones, those that were found before that.
    pub forgotten_after_found: u64,
    /// Of these, the ones whose session ended by a sign-out.
    pub signed_out: u64,
    /// Of these, the ones whose session got a new key which the visitor was never told, since that answer failed.
    pub unreachable: u64,
    /// Of these, the ones that nobody could look for, since the site did not answer any more.
    pub unanswered: u64,
    /// Increments that are there and were not made.
    pub twice: u64,
    /// Sessions that can be read after their sign-out.
    pub revived: u64,
    /// Sessions that can be read by the key which they had before a rotation.
    pub old_key: u64,
}

impl AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.acknowledged += other.acknowledged;
        self.found += other.found;
        self.late += other.late;
        self.lost += other.lost;
        self.forgotten += other.forgotten;
        self.forgotten_after_found += other.forgotten_after_found;
        self.signed_out += other.signed_out;
        self.unreachable += other.unreachable;
        self.unanswered += other.unanswered;
        self.twice += other.twice;
        self.revived += other.revived;
        self.old_key += other.old_key;
    }
}

/// What a look at a session says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// In numbers.
    pub count: Count,
    /// Each loss, in words.
    pub losses: Vec<String>,
}

impl Verdict {
    /// Whether nothing of what was acknowledged is missing, and nothing is there that should not be.
    pub fn is_clean(&self) -> bool {
        let Count { lost, twice, revived, old_key, .. } = self.count;
        lost + twice + revived + old_key == 0
    }

    /// What remains of this verdict after a second look: what is there by then came late, and all else stands.
    #[must_use]
    pub fn revised(self, second: Option<Self>) -> Self {
        let only_missing = Count { lost: 0, ..self.count };
        match second {
            Some(mut second)
                if (Self { count: only_missing, losses: Vec::new() }).is_clean()
                    && second.is_clean()
                    && second.count.found == self.count.acknowledged =>
            {
                second.count.late = self.count.lost;
                second
            }
            _ => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(found: u64, lost: u64) -> Verdict {
        let count = Count { acknowledged: found + lost, found, lost, ..Count::default() };
        Verdict { count, losses: vec!["w1".to_owned(); lost as usize] }
    }

    #[test]
    fn what_is_there_at_a_second_look_came_late() {
        let revised = verdict(3, 2).revised(Some(verdict(5, 0)));
        assert_eq!(revised.count, Count { acknowledged: 5, found: 5, late: 2, ..Count::default() });
        assert!(revised.losses.is_empty());
    }

    #[test]
    fn what_is_still_missing_or_forgotten_by_then_stays_lost() {
        let first = verdict(3, 2);
        assert_eq!(first.clone().revised(Some(verdict(4, 1))), first);
        let forgotten =
            Verdict { count: Count { acknowledged: 5, forgotten: 5, ..Count::default() }, losses: Vec::new() };
        assert_eq!(first.clone().revised(Some(forgotten)), first);
        assert_eq!(first.clone().revised(None), first);
    }

    #[test]
    fn what_should_not_have_been_there_is_not_excused() {
        let mut first = verdict(5, 0);
        first.count.revived = 1;
        assert_eq!(first.clone().revised(Some(verdict(5, 0))), first);
    }
}
