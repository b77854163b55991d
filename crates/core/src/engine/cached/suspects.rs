//! The sessions for which the cache is known to hold old data.

use std::collections::HashMap;

use crate::key::SessionKey;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Mutex, MutexGuard};

/// After a long outage of the cache under load there may be many; some 10 MB of them are enough.
const MAX: usize = 100_000;

/// Keys that the cache is not asked about until its entry is out of the way.
#[derive(Default)]
pub(super) struct Suspects {
    /// The usual case, seen without a lock.
    any: AtomicBool,
    list: Mutex<List>,
}

#[derive(Default)]
struct List {
    /// Each with the number of the suspicion, so that what settles an earlier one leaves a later one alone.
    keys: HashMap<SessionKey, u64>,
    count: u64,
    /// Whether a task works on them.
    in_repair: bool,
}

impl Suspects {
    fn list(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The number of the suspicion that a key is under.
    pub(super) fn suspicion(&self, key: &SessionKey) -> Option<u64> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        self.list().keys.get(key).copied()
    }

    /// Puts a key under suspicion. Whether the caller has to see to the repair, since nobody does yet.
    pub(super) fn add(&self, key: &SessionKey) -> bool {
        let mut list = self.list();
        if list.keys.len() >= MAX
            && let Some(other) = list.keys.keys().next().cloned()
        {
            list.keys.remove(&other);
        }
        list.count += 1;
        let number = list.count;
        list.keys.insert(key.clone(), number);
        self.any.store(true, Ordering::Release);
        !std::mem::replace(&mut list.in_repair, true)
    }

    /// Settles this suspicion.
    pub(super) fn remove(&self, key: &SessionKey, suspicion: u64) {
        let mut list = self.list();
        if list.keys.get(key) == Some(&suspicion) {
            list.keys.remove(key);
            self.any.store(!list.keys.is_empty(), Ordering::Release);
        }
    }

    /// One that is to be repaired; `None` ends the repair.
    pub(super) fn next(&self) -> Option<SessionKey> {
        let mut list = self.list();
        let next = list.keys.keys().next().cloned();
        list.in_repair = next.is_some();
        next
    }

    /// The repair ends for another reason.
    pub(super) fn give_up(&self) {
        self.list().in_repair = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: usize) -> SessionKey {
        SessionKey::presented(&format!("key{n:08}")).unwrap()
    }

    #[test]
    fn the_list_is_bounded() {
        let suspects = Suspects::default();
        for n in 0..=MAX {
            assert_eq!(suspects.add(&key(n)), n == 0, "one repair is enough");
        }
        assert_eq!(suspects.list().keys.len(), MAX);
        assert!(suspects.suspicion(&key(MAX)).is_some(), "the newest is never the one to go");
    }

    #[test]
    fn a_later_suspicion_outlives_an_earlier_one() {
        let suspects = Suspects::default();
        assert_eq!(suspects.suspicion(&key(1)), None);
        suspects.add(&key(1));
        let first = suspects.suspicion(&key(1)).unwrap();
        suspects.add(&key(1));
        suspects.remove(&key(1), first);
        assert_eq!(suspects.next(), Some(key(1)));
        suspects.remove(&key(1), suspects.suspicion(&key(1)).unwrap());
        assert_eq!((suspects.suspicion(&key(1)), suspects.next()), (None, None));
        assert!(suspects.add(&key(1)), "the repair has ended");
    }
}
