//! Those who come again and again with one change after the other, as the visitors of a busy site do.
//!
//! While a statement does for some of them what they want, others come and wait for it. If those went at once when it is
//! done, the crowd would fall into two halves for good, one of which waits while the other is served. So whoever serves
//! them may wait a moment for those who were just answered, and then does for all by one statement.

use std::time::Duration;

/// How long to wait for a crowd: as long as the last statement took, since that is what they would wait for otherwise,
/// within these bounds.
const PATIENCE: [Duration; 2] = [Duration::from_micros(500), Duration::from_millis(5)];
/// For how many statements nobody is waited for after a crowd did not come: on a site whose visitors are others each time,
/// that is one wait in so many.
const PAUSE: u32 = 16;

/// What is known of a crowd.
#[derive(Debug, Default)]
pub(super) struct Crowd {
    size: usize,
    patience: Duration,
    pause: u32,
}

impl Crowd {
    /// So many were served in this time, while so many others came.
    pub(super) fn served(&mut self, served: usize, came: usize, took: Duration) {
        self.size = served + came;
        self.patience = took.clamp(PATIENCE[0], PATIENCE[1]);
        self.pause = self.pause.saturating_sub(1);
    }

    /// How many to wait for, and how long; `None` if so many are there already, or if it does not pay.
    pub(super) fn wait(&self, there: usize, most: usize) -> Option<(usize, Duration)> {
        let size = self.size.min(most);
        (size > 1 && size > there && self.pause == 0).then_some((size, self.patience))
    }

    /// Of so many that were waited for, so many came.
    pub(super) fn came(&mut self, missing: usize, came: usize) {
        if came * 2 < missing {
            self.pause = PAUSE;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    #[test]
    fn one_alone_is_never_waited_for() {
        let mut crowd = Crowd::default();
        assert_eq!(crowd.wait(0, 64), None);
        crowd.served(1, 0, MILLISECOND);
        assert_eq!(crowd.wait(0, 64), None);
    }

    #[test]
    fn a_crowd_is_waited_for_as_long_as_it_comes() {
        let mut crowd = Crowd::default();
        crowd.served(10, 20, MILLISECOND);
        assert_eq!(crowd.wait(20, 64), Some((30, MILLISECOND)));
        assert_eq!(crowd.wait(20, 25), Some((25, MILLISECOND)));
        assert_eq!(crowd.wait(30, 64), None, "they are all there");
        crowd.came(10, 5);
        assert!(crowd.wait(20, 64).is_some());
        crowd.came(10, 4);
        for _ in 0..PAUSE {
            assert_eq!(crowd.wait(20, 64), None);
            crowd.served(10, 20, MILLISECOND);
        }
        assert!(crowd.wait(20, 64).is_some(), "and then again");
    }

    #[test]
    fn the_patience_has_bounds() {
        let mut crowd = Crowd::default();
        for (took, patience) in [(1, 500), (700, 700), (1_000_000, 5_000)] {
            crowd.served(2, 0, Duration::from_micros(took));
            assert_eq!(crowd.wait(0, 64), Some((2, Duration::from_micros(patience))));
        }
    }
}
