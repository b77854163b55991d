//! Sessions in this process: Django's cache engine with an in-process cache.

mod shard;

use std::fmt;
use std::sync::Once;

use async_trait::async_trait;
use bytes::Bytes;
use tracing::warn;

use super::page::Page;
use crate::clock::{Clock, Timestamp};
use crate::error::Result;
use crate::key::SessionKey;
use crate::peek::Peek;
use crate::spread::Spread;
use crate::store::{Cleared, Created, Deleted, Replaced, Store, Stored, Touched, Version};
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Mutex, MutexGuard};
use shard::{Record, Shard};

/// Shards, each with a lock of its own, so that requests seldom wait for each other. A power of two.
const SHARDS: usize = 64;
/// A new record removes up to so many expired ones of its shard: more than one, so that they disappear faster than new
/// ones come.
const SWEPT_BY_CREATE: usize = 4;

/// A store in this process's memory: fast, bounded, gone with the process, and not shared with another one.
///
/// It sweeps itself: each new record removes a few expired ones, and no task runs in the background. A record takes
/// about 102 bytes beside its payload, as counted with a million of them, and what the allocator adds.
///
/// # The bound
/// A full store removes expired records first. When it is really full of live ones, the record that expires soonest
/// makes room (of those in the shard of the new one), so that memory does not grow without limit whatever strangers
/// do. That signs a visitor out: a warning says so once, and [`evicted`](Self::evicted) counts. A site that wants
/// more live sessions raises the bound, or takes an engine that keeps them on disk.
///
/// ```
/// # use cloakroom_core::{Clock, engine::memory::MemoryStore};
/// let store = MemoryStore::with_max_entries(Clock::system(), 200_000);
/// assert!(store.is_empty());
/// ```
pub struct MemoryStore {
    clock: Clock,
    shards: Box<[Mutex<Shard>]>,
    spread: Spread,
    max_per_shard: usize,
    /// Never the same number twice, so that a record which was deleted and made anew is another version.
    versions: AtomicU64,
    evicted: AtomicU64,
    warned: Once,
}

impl MemoryStore {
    /// The bound of [`new`](Self::new), in records: with payloads of 500 bytes they come to about 600 MB.
    pub const DEFAULT_MAX_ENTRIES: usize = 1_000_000;

    /// A store for up to [a million](Self::DEFAULT_MAX_ENTRIES) sessions.
    pub fn new(clock: Clock) -> Self {
        Self::with_max_entries(clock, Self::DEFAULT_MAX_ENTRIES)
    }

    /// A store for up to `max_entries` sessions, at least one.
    ///
    /// They are spread at random over up to 64 shards with an equal part of the bound each, so that the first shard is
    /// full a little before the whole store is.
    pub fn with_max_entries(clock: Clock, max_entries: usize) -> Self {
        // A small store has fewer shards, each of which holds enough for chance to spread records evenly.
        let shards = (max_entries / 64).clamp(1, SHARDS).next_power_of_two().min(SHARDS);
        Self {
            clock,
            shards: (0..shards).map(|_| Mutex::default()).collect(),
            spread: Spread::new(),
            max_per_shard: (max_entries / shards).clamp(1, Shard::MAX),
            versions: AtomicU64::new(1),
            evicted: AtomicU64::new(0),
            warned: Once::new(),
        }
    }

    /// How many records stand, expired ones that were not swept yet among them.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    /// Whether no record stands.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many live sessions had to make room for new ones since the store was made.
    pub fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }

    /// The shard of a key, and the hash under which the key stands in it.
    fn shard(&self, key: &SessionKey) -> (MutexGuard<'_, Shard>, u32) {
        let hash = self.spread.hash(key.as_bytes());
        // The upper half chooses the shard, the lower the place in it: independent of each other.
        let shard = (hash >> 32) as usize & (self.shards.len() - 1);
        (lock(&self.shards[shard]), hash as u32)
    }

    fn next_version(&self) -> u64 {
        self.versions.fetch_add(1, Ordering::Relaxed)
    }

    fn count_evicted(&self) {
        self.evicted.fetch_add(1, Ordering::Relaxed);
        self.warned.call_once(|| {
            warn!(
                max_entries = self.max_per_shard * self.shards.len(),
                "the memory store is full of live sessions: those that expire soonest now make room for new ones, \
                 which signs visitors out. Raise its bound, shorten SESSION_COOKIE_AGE, or use another engine"
            );
        });
    }
}

/// Locks a shard. A panic elsewhere does not make it unusable: no operation can panic half-way through a change.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn stored(record: &Record) -> Stored {
    Stored {
        payload: Bytes::copy_from_slice(&record.payload),
        version: Version::counter(record.version),
        expiry: record.expiry,
    }
}

fn is(record: &Record, version: &Version) -> bool {
    version.as_counter() == Some(record.version)
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore")
            .field("max_entries", &(self.max_per_shard * self.shards.len()))
            .field("evicted", &self.evicted())
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn load(&self, key: &SessionKey) -> Result<Option<Stored>> {
        let now = self.clock.now();
        let (mut shard, hash) = self.shard(key);
        Ok(shard.find_live(hash, key, now).map(|place| stored(shard.record(place))))
    }

    async fn create(&self, key: &SessionKey, payload: Bytes, expiry: Timestamp) -> Result<Created> {
        let (payload, now) = (Box::from(&*payload), self.clock.now());
        let (mut shard, hash) = self.shard(key);
        if shard.find_live(hash, key, now).is_some() {
            return Ok(Created::Taken);
        }
        shard.sweep(SWEPT_BY_CREATE, now);
        if shard.len() >= self.max_per_shard {
            shard.remove_soonest();
            self.count_evicted();
        }
        let version = self.next_version();
        shard.insert(hash, Record { key: key.clone(), payload, version, expiry });
        Ok(Created::Created(Version::counter(version)))
    }

    async fn replace(
        &self,
        key: &SessionKey,
        version: &Version,
        payload: Bytes,
        expiry: Timestamp,
    ) -> Result<Replaced> {
        let now = self.clock.now();
        let (mut shard, hash) = self.shard(key);
        let Some(place) = shard.find_live(hash, key, now) else { return Ok(Replaced::Gone) };
        if !is(shard.record(place), version) {
            return Ok(Replaced::Conflict(stored(shard.record(place))));
        }
        let version = self.next_version();
        shard.change(place, &payload, version);
        shard.set_expiry(place, expiry);
        Ok(Replaced::Replaced(Version::counter(version)))
    }

    async fn touch(&self, key: &SessionKey, expiry: Timestamp) -> Result<Touched> {
        let now = self.clock.now();
        let (mut shard, hash) = self.shard(key);
        let Some(place) = shard.find_live(hash, key, now) else { return Ok(Touched::Gone) };
        // The version stays: a save that is under way need not be repeated because of this.
        shard.set_expiry(place, expiry);
        Ok(Touched::Touched)
    }

    async fn delete(&self, key: &SessionKey, version: Option<&Version>) -> Result<Deleted> {
        let now = self.clock.now();
        let (mut shard, hash) = self.shard(key);
        let Some(place) = shard.find_live(hash, key, now) else { return Ok(Deleted::Gone) };
        if version.is_some_and(|version| !is(shard.record(place), version)) {
            return Ok(Deleted::Conflict(stored(shard.record(place))));
        }
        shard.remove(place);
        Ok(Deleted::Deleted)
    }

    async fn clear_expired(&self, batch: usize) -> Result<Cleared> {
        let now = self.clock.now();
        let mut removed = 0;
        for shard in &self.shards {
            let mut shard = lock(shard);
            removed += shard.sweep(batch - removed, now);
            if removed == batch && shard.has_expired(now) {
                return Ok(Cleared { removed: removed as u64, more: true });
            }
        }
        Ok(Cleared { removed: removed as u64, more: false })
    }

    async fn list(&self, after: Option<&SessionKey>, limit: usize) -> Result<Vec<SessionKey>> {
        let mut page = Page::new(after, limit);
        for shard in &self.shards {
            lock(shard).keys().for_each(|key| page.offer(key));
        }
        Ok(page.finish())
    }
}

#[async_trait]
impl Peek for MemoryStore {
    async fn peek(&self, key: &SessionKey) -> Result<Option<Stored>> {
        let (shard, hash) = self.shard(key);
        Ok(shard.find(hash, key).map(|place| stored(shard.record(place))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: usize) -> SessionKey {
        SessionKey::presented(&format!("key{n:08}")).unwrap()
    }

    fn payload() -> Bytes {
        Bytes::from_static(b"payload")
    }

    #[tokio::test]
    async fn a_full_store_gives_up_what_expires_soonest() {
        let clock = Clock::manual(Timestamp::from_secs(1_000));
        let store = MemoryStore::with_max_entries(clock.clone(), 10);
        for n in 0..10 {
            store.create(&key(n), payload(), Timestamp::from_secs(2_000 - n as i64)).await.unwrap();
        }
        assert_eq!((store.len(), store.evicted()), (10, 0));
        store.touch(&key(9), Timestamp::from_secs(3_000)).await.unwrap();
        store.create(&key(10), payload(), Timestamp::from_secs(2_500)).await.unwrap();
        assert_eq!((store.len(), store.evicted()), (10, 1));
        assert!(store.load(&key(8)).await.unwrap().is_none());
        for n in [0, 1, 2, 3, 4, 5, 6, 7, 9, 10] {
            assert!(store.load(&key(n)).await.unwrap().is_some(), "{n}");
        }
    }

    #[tokio::test]
    async fn a_full_store_sweeps_before_it_evicts() {
        let clock = Clock::manual(Timestamp::from_secs(1_000));
        let store = MemoryStore::with_max_entries(clock.clone(), 10);
        for n in 0..10 {
            store.create(&key(n), payload(), Timestamp::from_secs(1_010)).await.unwrap();
        }
        clock.set(Timestamp::from_secs(1_010));
        for n in 10..20 {
            store.create(&key(n), payload(), Timestamp::from_secs(1_030)).await.unwrap();
        }
        assert_eq!((store.len(), store.evicted()), (10, 0));
    }

    #[tokio::test]
    async fn without_a_background_task_the_expired_disappear() {
        let clock = Clock::manual(Timestamp::from_secs(0));
        let store = MemoryStore::with_max_entries(clock.clone(), 100_000);
        let mut most = 0;
        for n in 0..20_000 {
            clock.set(Timestamp::from_secs(n as i64));
            store.create(&key(n), payload(), Timestamp::from_secs(n as i64 + 1_000)).await.unwrap();
            most = most.max(store.len());
        }
        // A thousand are alive at any time; what exceeds them waits for the next new record of its shard.
        assert!(most < 1_500, "{most}");
    }

    #[tokio::test]
    async fn a_thousand_records_are_found_listed_and_removed() {
        let clock = Clock::manual(Timestamp::from_secs(0));
        let store = MemoryStore::new(clock.clone());
        for n in (0..1_000).rev() {
            store.create(&key(n), Bytes::from(n.to_string()), Timestamp::from_secs(n as i64)).await.unwrap();
        }
        // Expiry 0 was over at once, and made way while others came.
        clock.set(Timestamp::from_secs(499));
        for n in 0..1_000 {
            let found = store.load(&key(n)).await.unwrap().map(|stored| stored.payload);
            assert_eq!(found, (n > 499).then(|| Bytes::from(n.to_string())));
        }
        let page = store.list(Some(&key(700)), 3).await.unwrap();
        assert_eq!(page, [key(701), key(702), key(703)]);
        assert!(store.list(None, 0).await.unwrap().is_empty());
        for n in 500..1_000 {
            assert!(matches!(store.delete(&key(n), None).await.unwrap(), Deleted::Deleted));
        }
        assert!(store.is_empty());
    }
}
