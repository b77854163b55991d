//! Who has which sandbox. There is room for so many; who rests for long, or longest when all are taken, gives way.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cloakroom::Session;
use cloakroom::core::KeySource;

use super::course::Course;
use super::practice::Proof;
use super::wishes::Wishes;

/// The item of the demonstration site's session that names the visitor's sandbox.
const ITEM: &str = "sandbox";

/// What the site keeps for one visitor, in memory.
pub(crate) struct Desk {
    pub(crate) course: tokio::sync::Mutex<Course>,
    /// What "show me" came to, by question.
    pub(crate) proofs: Mutex<BTreeMap<usize, Proof>>,
    used: Mutex<Instant>,
}

/// All visitors' sandboxes.
pub(crate) struct Visitors {
    desks: Mutex<HashMap<String, Arc<Desk>>>,
    max: usize,
    idle: Duration,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Visitors {
    /// Room for `max` visitors, who may rest for as long as `idle`.
    pub(crate) fn new(max: usize, idle: Duration) -> Arc<Self> {
        Arc::new(Self { desks: Mutex::default(), max: max.max(1), idle })
    }

    /// Clears away what has rested for too long, every now and then, for as long as the site is there.
    pub(crate) fn sweep_in_background(self: &Arc<Self>) {
        let (visitors, pause) = (Arc::downgrade(self), self.idle / 10);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(pause).await;
                let Some(visitors) = visitors.upgrade() else { return };
                visitors.sweep();
            }
        });
    }

    /// Removes the sandboxes that have rested for too long, and those beyond the bound that rested longest.
    fn sweep(&self) {
        // Dropped without the lock: that removes directories.
        let mut removed = Vec::new();
        let mut desks = lock(&self.desks);
        let mut resting: Vec<_> = desks.iter().map(|(key, desk)| (lock(&desk.used).elapsed(), key.clone())).collect();
        resting.sort_by(|a, b| b.cmp(a));
        let beyond = desks.len().saturating_sub(self.max);
        for (place, (rest, key)) in resting.into_iter().enumerate() {
            if place < beyond || rest >= self.idle {
                removed.extend(desks.remove(&key));
            }
        }
        drop(desks);
    }

    /// The visitor's desk, if there is one. Changes nothing.
    pub(crate) fn find(&self, session: &Session) -> Option<Arc<Desk>> {
        let desk = lock(&self.desks).get(&name(session)?).cloned()?;
        *lock(&desk.used) = Instant::now();
        Some(desk)
    }

    /// The visitor's desk; makes one, and notes its name in the visitor's session.
    pub(crate) async fn find_or_make(&self, session: &Session) -> anyhow::Result<Arc<Desk>> {
        if let Some(desk) = self.find(session) {
            return Ok(desk);
        }
        let course = tokio::sync::Mutex::new(Course::begin(Wishes::default()).await?);
        let desk = Arc::new(Desk { course, proofs: Mutex::default(), used: Mutex::new(Instant::now()) });
        let key = KeySource::system().draw()?.as_str().to_owned();
        session.insert(ITEM, &key)?;
        lock(&self.desks).insert(key, desk.clone());
        self.sweep();
        Ok(desk)
    }

    /// Whether the visitor's session names a desk that is there no more.
    pub(crate) fn has_lost(&self, session: &Session) -> bool {
        name(session).is_some_and(|key| !lock(&self.desks).contains_key(&key))
    }
}

/// The name of the visitor's desk. An item that is something else is none.
fn name(session: &Session) -> Option<String> {
    session.get(ITEM).ok().flatten()
}

impl Desk {
    pub(crate) fn proofs(&self) -> MutexGuard<'_, BTreeMap<usize, Proof>> {
        lock(&self.proofs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cloakroom::testing::Visitor;

    #[tokio::test]
    async fn who_rests_longest_gives_way() {
        let visitors = Visitors::new(2, Duration::from_secs(3600));
        let mut sessions = Vec::new();
        for _ in 0..3 {
            let session = Visitor::new().unwrap().session().await.unwrap();
            visitors.find_or_make(&session).await.unwrap();
            sessions.push(session);
            // The first comes back, so that the second has rested longer.
            visitors.find(&sessions[0]);
        }
        let found: Vec<bool> = sessions.iter().map(|session| visitors.find(session).is_some()).collect();
        assert_eq!(found, [true, false, true]);
        assert!(visitors.has_lost(&sessions[1]) && !visitors.has_lost(&sessions[0]));
        visitors.find_or_make(&sessions[1]).await.unwrap();
        assert!(visitors.find(&sessions[1]).is_some());
    }

    #[tokio::test]
    async fn a_sandbox_ends_with_its_directory() {
        let visitors = Visitors::new(9, Duration::ZERO);
        let session = Visitor::new().unwrap().session().await.unwrap();
        let desk = visitors.find_or_make(&session).await.unwrap();
        // Nobody may rest here: it was cleared away at once, but for our own handle.
        assert!(visitors.find(&session).is_none());
        let directory = desk.course.lock().await.directory().to_owned();
        assert!(directory.exists());
        drop(desk);
        assert!(!directory.exists());
    }
}
