//! Sessions kept in this process, until the server says that they changed.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cloakroom_core::{Clock, Timestamp};
use hashlink::LruCache;
use redis::{PushInfo, PushKind, Value};

/// Threads that ask for different sessions seldom wait for each other.
const SHARDS: usize = 16;

/// What an entry takes beside its payload and its name: the table, the links, the allocations.
const OVERHEAD: usize = 200;

/// A copy of what was read, which the server keeps true: it tells on the connection when one of the records changes.
///
/// How it stays honest:
/// - An entry belongs to one connection, and is served only while that is the one on which the server tells of changes.
/// - A record is kept only if nothing was told of it between the question and its keeping: who asks leaves a
///   reservation, which a change removes. The driver tells in the order of the connection, before it hands out what was
///   answered later.
/// - An answer proves that everything was heard which the server did before the question was sent. Nothing is served if
///   the latest such proof is older than the staleness that is allowed, however long the connection hangs.
/// - A record ends here no later than on the server.
pub(crate) struct NearCache {
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
    prefix: Box<str>,
    /// How many bytes each shard may take.
    room: usize,
    staleness: u64,
    clock: Clock,
    start: Instant,
    /// The number of the connection on which the server tells of changes, zero if there is none.
    line: AtomicU64,
    /// When the latest question was sent that has an answer.
    proven: AtomicU64,
    proven_on_the_clock: AtomicI64,
    /// When somebody was last sent to get a new proof before the old one is of no use.
    sent_for: AtomicU64,
    tickets: AtomicU64,
}

/// A moment: microseconds by the processor's clock, which stands still while the machine sleeps, and by the calendar's,
/// which may be set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    steady: u64,
    calendar: Timestamp,
}

struct Shard {
    entries: LruCache<Box<str>, Entry>,
    size: usize,
}

struct Entry {
    line: u64,
    content: Content,
}

enum Content {
    /// Somebody has asked the server, and will keep the answer if this still stands.
    Reserved(u64),
    Kept {
        payload: Bytes,
        steady_end: u64,
        calendar_end: Timestamp,
    },
}

impl Entry {
    fn size(&self, key: &str) -> usize {
        let payload = match &self.content {
            Content::Reserved(_) => 0,
            Content::Kept { payload, .. } => payload.len(),
        };
        OVERHEAD + key.len() + payload
    }
}

impl Shard {
    fn new() -> Self {
        Self { entries: LruCache::new_unbounded(), size: 0 }
    }

    fn put(&mut self, key: &str, entry: Entry, room: usize) {
        self.size += entry.size(key);
        if let Some(former) = self.entries.insert(key.into(), entry) {
            self.size -= former.size(key);
        }
        while self.size > room {
            let Some((key, entry)) = self.entries.remove_lru() else { break };
            self.size -= entry.size(&key);
        }
    }

    fn remove(&mut self, key: &str) {
        if let Some(entry) = self.entries.remove(key) {
            self.size -= entry.size(key);
        }
    }
}

impl NearCache {
    /// An empty one of up to so many bytes, for names that begin with `prefix`. It serves nothing until it is told
    /// which connection it can rely on.
    pub(crate) fn new(bytes: usize, staleness: Duration, prefix: &str, clock: Clock) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::new(Shard::new())).collect(),
            hasher: RandomState::new(),
            prefix: prefix.into(),
            room: bytes / SHARDS,
            staleness: micros(staleness),
            clock,
            start: Instant::now(),
            line: AtomicU64::new(0),
            proven: AtomicU64::new(0),
            proven_on_the_clock: AtomicI64::new(0),
            sent_for: AtomicU64::new(0),
            tickets: AtomicU64::new(0),
        }
    }

    pub(crate) fn now(&self) -> Moment {
        Moment { steady: micros(self.start.elapsed()), calendar: self.clock.now() }
    }

    /// What is kept of a session, if it may be served without asking the server.
    pub(crate) fn get(&self, key: &str) -> Option<Bytes> {
        let (line, now) = (self.line.load(Ordering::SeqCst), self.now());
        if line == 0 || !self.is_proven(now) {
            return None;
        }
        let mut shard = self.shard(key);
        let entry = shard.entries.get(key).filter(|entry| entry.line == line)?;
        let Content::Kept { payload, steady_end, calendar_end } = &entry.content else { return None };
        if now.steady < *steady_end && now.calendar < *calendar_end {
            return Some(payload.clone());
        }
        shard.remove(key);
        None
    }

    /// Whether there is a proof that is young enough. From half of its time on, one caller in a while is told that there
    /// is none, and gets the next one by asking the server.
    fn is_proven(&self, now: Moment) -> bool {
        let steady = now.steady.saturating_sub(self.proven.load(Ordering::SeqCst));
        let calendar = now.calendar.as_micros().saturating_sub(self.proven_on_the_clock.load(Ordering::SeqCst));
        let age = steady.max(u64::try_from(calendar).unwrap_or(0));
        if age <= self.staleness / 2 {
            return true;
        }
        let sent_for = self.sent_for.load(Ordering::SeqCst);
        let sends = now.steady.saturating_sub(sent_for) > self.staleness / 4
            && self.sent_for.compare_exchange(sent_for, now.steady, Ordering::SeqCst, Ordering::SeqCst).is_ok();
        age <= self.staleness && !sends
    }

    /// A place for what the server is about to be asked for; `None` if somebody has asked already, or if nothing can be
    /// kept at the moment.
    pub(crate) fn reserve<'a>(&'a self, key: &'a str) -> Option<Reservation<'a>> {
        let line = self.line.load(Ordering::SeqCst);
        let mut shard = self.shard(key);
        if line == 0 || shard.entries.peek(key).is_some_and(|entry| entry.line == line) {
            return None;
        }
        let ticket = self.tickets.fetch_add(1, Ordering::Relaxed);
        shard.put(key, Entry { line, content: Content::Reserved(ticket) }, self.room);
        Some(Reservation { cache: self, key, line, ticket })
    }

    /// Forgets a session, and whatever is under way to be kept of it.
    pub(crate) fn forget(&self, key: &str) {
        self.shard(key).remove(key);
    }

    /// Forgets a session now, when it is about to be changed, and again when that is done or given up.
    pub(crate) fn changing<'a>(&'a self, key: &'a str) -> Changing<'a> {
        self.forget(key);
        Changing { cache: self, key }
    }

    fn forget_all(&self) {
        for shard in &self.shards {
            let mut shard = lock(shard);
            shard.entries.clear();
            shard.size = 0;
        }
    }

    /// The server tells of changes on this connection from now on.
    pub(crate) fn rely_on(&self, line: u64) {
        self.forget_all();
        self.line.store(line, Ordering::SeqCst);
    }

    /// A connection is not to be relied on any more.
    pub(crate) fn give_up(&self, line: u64) {
        if self.line.compare_exchange(line, 0, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
            self.forget_all();
        }
    }

    /// A question that was sent at `asked` has been answered.
    pub(crate) fn answered(&self, line: u64, asked: Moment) {
        // A proof of an earlier connection is older than everything that this one has.
        if line == self.line.load(Ordering::SeqCst)
            && self.proven.fetch_max(asked.steady, Ordering::SeqCst) <= asked.steady
        {
            self.proven_on_the_clock.store(asked.calendar.as_micros(), Ordering::SeqCst);
        }
    }

    /// What the server, or the driver, tells without being asked.
    pub(crate) fn told(&self, line: u64, push: &PushInfo) {
        match (&push.kind, push.data.first()) {
            (PushKind::Invalidate, Some(Value::Array(names))) => {
                for name in names {
                    match name {
                        Value::BulkString(name) => self.name_changed(name),
                        Value::SimpleString(name) => self.name_changed(name.as_bytes()),
                        _ => self.forget_all(),
                    }
                }
            }
            // The whole database was emptied.
            (PushKind::Invalidate, _) => self.forget_all(),
            (PushKind::Disconnection, _) => self.give_up(line),
            _ => {}
        }
    }

    fn name_changed(&self, name: &[u8]) {
        if let Some(key) = name.strip_prefix(self.prefix.as_bytes()).and_then(|key| std::str::from_utf8(key).ok()) {
            self.forget(key);
        }
    }

    fn shard(&self, key: &str) -> MutexGuard<'_, Shard> {
        lock(&self.shards[self.hasher.hash_one(key) as usize % SHARDS])
    }
}

/// A place in the cache for an answer that is under way. It is given back if that does not come.
pub(crate) struct Reservation<'a> {
    cache: &'a NearCache,
    key: &'a str,
    line: u64,
    ticket: u64,
}

impl Reservation<'_> {
    /// Keeps what was answered to a question sent at `asked`, for so many milliseconds from then on, or without an end.
    pub(crate) fn keep(self, line: u64, asked: Moment, payload: Bytes, millis: Option<u64>) {
        let mut shard = self.cache.shard(self.key);
        if line != self.line || !self.stands(&shard) {
            return;
        }
        // The server counts whole milliseconds, of which the present one may be over.
        let lifetime = millis.map_or(u64::MAX, |millis| millis.saturating_sub(1).saturating_mul(1_000));
        let content = Content::Kept {
            payload,
            steady_end: asked.steady.saturating_add(lifetime),
            calendar_end: i64::try_from(lifetime)
                .ok()
                .and_then(|lifetime| asked.calendar.checked_add_micros(lifetime))
                .unwrap_or(Timestamp::MAX),
        };
        shard.put(self.key, Entry { line, content }, self.cache.room);
    }

    fn stands(&self, shard: &Shard) -> bool {
        let entry = shard.entries.peek(self.key);
        entry.is_some_and(|entry| matches!(entry.content, Content::Reserved(ticket) if ticket == self.ticket))
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        let mut shard = self.cache.shard(self.key);
        if self.stands(&shard) {
            shard.remove(self.key);
        }
    }
}

/// A change of a session that is under way.
pub(crate) struct Changing<'a> {
    cache: &'a NearCache,
    key: &'a str,
}

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        self.cache.forget(self.key);
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn cache(staleness: Duration, clock: &Clock) -> NearCache {
        let cache = NearCache::new(1 << 20, staleness, "p:", clock.clone());
        cache.rely_on(1);
        cache.answered(1, cache.now());
        cache
    }

    fn clock() -> Clock {
        Clock::manual(Timestamp::from_secs(1_800_000_000))
    }

    fn keep(cache: &NearCache, key: &str, line: u64) {
        let place = cache.reserve(key).expect("a place");
        place.keep(line, cache.now(), Bytes::from_static(b"x"), None);
    }

    fn invalidate(names: Value) -> PushInfo {
        PushInfo { kind: PushKind::Invalidate, data: vec![names] }
    }

    #[test]
    fn an_answer_is_kept_only_in_its_place() {
        let cache = cache(HOUR, &clock());
        keep(&cache, "a", 1);
        assert_eq!(cache.get("a").as_deref(), Some(&b"x"[..]));
        assert!(cache.reserve("a").is_none(), "it is there already");

        // A change while the question is under way.
        let place = cache.reserve("b").expect("a place");
        assert!(cache.reserve("b").is_none(), "one asks, and that is enough");
        cache.told(1, &invalidate(Value::Array(vec![Value::BulkString(b"p:b".to_vec())])));
        let second = cache.reserve("b").expect("a place");
        place.keep(1, cache.now(), Bytes::from_static(b"old"), None);
        assert_eq!(cache.get("b"), None);
        second.keep(1, cache.now(), Bytes::from_static(b"new"), None);
        assert_eq!(cache.get("b").as_deref(), Some(&b"new"[..]));

        // A change by this process.
        let place = cache.reserve("c").expect("a place");
        drop(cache.changing("c"));
        place.keep(1, cache.now(), Bytes::from_static(b"old"), None);
        assert_eq!(cache.get("c"), None);

        // A question that was given up.
        drop(cache.reserve("d"));
        assert!(cache.reserve("d").is_some());
        // An answer on another connection than the one that is relied on.
        keep(&cache, "e", 2);
        assert_eq!(cache.get("e"), None);
    }

    #[test]
    fn a_connection_that_is_lost_takes_all_along() {
        let cache = cache(HOUR, &clock());
        keep(&cache, "a", 1);
        let place = cache.reserve("b").expect("a place");
        cache.told(1, &PushInfo { kind: PushKind::Disconnection, data: vec![] });
        assert_eq!(cache.get("a"), None);
        assert!(cache.reserve("c").is_none(), "nothing can be kept");
        cache.rely_on(2);
        cache.answered(2, cache.now());
        place.keep(1, cache.now(), Bytes::from_static(b"old"), None);
        assert_eq!((cache.get("a"), cache.get("b")), (None, None));
        keep(&cache, "a", 2);
        // What the former connection still says is no matter.
        cache.give_up(1);
        assert!(cache.get("a").is_some());
        cache.told(2, &invalidate(Value::Nil));
        assert_eq!(cache.get("a"), None);
    }

    #[test]
    fn without_a_young_proof_nothing_is_served() {
        let clock = clock();
        let cache = cache(Duration::from_secs(1_000), &clock);
        keep(&cache, "a", 1);
        clock.advance(Duration::from_secs(500));
        assert!(cache.get("a").is_some());
        clock.advance(Duration::from_secs(1));
        // Whether one was sent for a proof a while ago goes by the steady clock, which a test does not move.
        assert!(cache.get("a").is_some());
        clock.advance(Duration::from_secs(500));
        assert_eq!(cache.get("a"), None);
        cache.answered(7, cache.now());
        assert_eq!(cache.get("a"), None, "an answer on another connection");
        cache.answered(1, cache.now());
        assert!(cache.get("a").is_some());
        // A clock that is set back makes nothing old, and nothing young.
        clock.set(Timestamp::from_secs(1_700_000_000));
        assert!(cache.get("a").is_some());
    }

    #[test]
    fn before_the_proof_is_too_old_one_is_sent_for_another() {
        let cache = cache(Duration::from_secs(400), &clock());
        let proven = cache.proven.load(Ordering::SeqCst);
        let after = |seconds: u64| Moment { steady: proven + seconds * 1_000_000, ..cache.now() };
        let served: Vec<bool> = [200, 201, 202, 300, 302, 303, 400, 401].map(|at| cache.is_proven(after(at))).into();
        assert_eq!(served, [true, false, true, true, false, true, true, false]);
    }

    #[test]
    fn sizes_are_kept_account_of() {
        let cache = cache(HOUR, &clock());
        for round in 0..3 {
            for key in 0..1_000 {
                let key = format!("key{key}");
                if let Some(place) = cache.reserve(&key) {
                    place.keep(1, cache.now(), vec![0; 100 * round].into(), None);
                }
                if round == 1 {
                    cache.forget(&key);
                }
            }
        }
        for shard in &cache.shards {
            let shard = lock(shard);
            let size: usize = shard.entries.iter().map(|(key, entry)| entry.size(key)).sum();
            assert_eq!(size, shard.size);
            assert!(size <= cache.room);
        }
    }
}
