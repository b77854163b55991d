//! Sessions kept in this process, until the server says that they changed.
//!
//! For authors of stores whose server tells of changes. [`NearCache`] knows no server: who does reports to it what
//! the server tells, on which connection, and what proves how much was heard.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hashlink::LruCache;
use tokio::sync::Notify;

use crate::clock::{Clock, Timestamp};

/// Threads that ask for different sessions seldom wait for each other.
const SHARDS: usize = 16;

/// What an entry takes beside its payload and its name: the table, the links, the allocations.
const OVERHEAD: usize = 200;

/// A copy of what was read, which the server keeps true: it tells on the connection when one of the records changes.
///
/// How it stays honest:
/// - An entry belongs to one connection, and is served only while that is the one on which the server tells of changes.
/// - A record is kept only if nothing was told of it between the question and its keeping: who asks leaves a
///   [`Reservation`], which a change removes. So a change that the answer does not show yet has to be told after the
///   question was sent.
/// - An answer of the server's can prove that everything was heard which it did before the question was sent. Nothing is
///   served if the latest such proof is older than the staleness that is allowed, however long the connection hangs.
/// - A record ends here no later than on the server.
///
/// A server may name records by a part of their keys. Of those whose names are the same, one is kept at a time, and it is
/// served to the full key only.
pub struct NearCache {
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
    /// How many bytes of a key are its name.
    name: usize,
    /// Who gets a new proof. `None`: whoever is told that there is nothing here, and asks the server.
    prover: Option<Arc<Notify>>,
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
pub struct Moment {
    steady: u64,
    calendar: Timestamp,
}

/// What is kept of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// What the record holds.
    pub payload: Bytes,
    /// Its end by the calendar, as it was given to [`Reservation::keep`].
    pub end: Timestamp,
}

/// By name.
struct Shard {
    entries: LruCache<Box<str>, Entry>,
    size: usize,
}

struct Entry {
    /// The key without its name.
    rest: Box<str>,
    line: u64,
    content: Content,
}

enum Content {
    /// Somebody has asked the server, and will keep the answer if this still stands.
    Reserved(u64),
    Kept(Bytes, Moment),
}

impl Entry {
    fn size(&self, name: &str) -> usize {
        let payload = match &self.content {
            Content::Reserved(_) => 0,
            Content::Kept(payload, _) => payload.len(),
        };
        OVERHEAD + name.len() + self.rest.len() + payload
    }
}

impl Moment {
    /// What never comes.
    pub const NEVER: Self = Self { steady: u64::MAX, calendar: Timestamp::MAX };

    /// What the calendar said.
    pub fn calendar(self) -> Timestamp {
        self.calendar
    }

    /// So many microseconds later, whichever clock is looked at.
    #[must_use]
    pub fn after(self, micros: u64) -> Self {
        let calendar = i64::try_from(micros).ok().and_then(|micros| self.calendar.checked_add_micros(micros));
        Self { steady: self.steady.saturating_add(micros), calendar: calendar.unwrap_or(Timestamp::MAX) }
    }

    /// When it will be `end`: by the calendar, and by the other clock if nobody sets the calendar meanwhile.
    #[must_use]
    pub fn until(self, end: Timestamp) -> Self {
        let micros = u64::try_from(end.micros_since(self.calendar)).unwrap_or(0);
        Self { steady: self.steady.saturating_add(micros), calendar: end }
    }

    /// Whether it has come by either clock.
    fn has_come(self, now: Self) -> bool {
        now.steady >= self.steady || now.calendar >= self.calendar
    }
}

impl Shard {
    fn new() -> Self {
        Self { entries: LruCache::new_unbounded(), size: 0 }
    }

    fn put(&mut self, name: &str, entry: Entry, room: usize) {
        self.size += entry.size(name);
        if let Some(former) = self.entries.insert(name.into(), entry) {
            self.size -= former.size(name);
        }
        while self.size > room {
            let Some((name, entry)) = self.entries.remove_lru() else { break };
            self.size -= entry.size(&name);
        }
    }

    fn remove(&mut self, name: &str) {
        if let Some(entry) = self.entries.remove(name) {
            self.size -= entry.size(name);
        }
    }
}

impl NearCache {
    /// An empty one of up to so many bytes, which serves nothing that did not stand on the server within the last
    /// `staleness`. It serves nothing at all until it is told which connection it can rely on.
    ///
    /// While it has a proof of half that age, one caller in a while is told that nothing is here, and asks the server:
    /// the [answer](Self::answered) is the next proof.
    pub fn new(bytes: usize, staleness: Duration, clock: Clock) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::new(Shard::new())).collect(),
            hasher: RandomState::new(),
            name: usize::MAX,
            prover: None,
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

    /// The server names a record by the first so many bytes of its key only.
    #[must_use]
    pub fn named_by_first(mut self, bytes: usize) -> Self {
        self.name = bytes;
        self
    }

    /// Somebody else gets the proofs, where the answers to callers prove nothing: who is notified when somebody asks and
    /// the proof ages, or there is no connection. Callers are served as long as the old proof holds.
    #[must_use]
    pub fn proven_by(mut self, prover: Arc<Notify>) -> Self {
        self.prover = Some(prover);
        self
    }

    /// The present moment, to be taken before a question is sent.
    pub fn now(&self) -> Moment {
        Moment { steady: micros(self.start.elapsed()), calendar: self.clock.now() }
    }

    /// What is kept of a session, if it may be served without asking the server.
    pub fn get(&self, key: &str) -> Option<Kept> {
        let (line, now) = (self.line.load(Ordering::SeqCst), self.now());
        if line == 0 {
            self.prover.iter().for_each(|prover| prover.notify_one());
            return None;
        }
        if !self.is_proven(now) {
            return None;
        }
        let (name, rest) = self.divide(key);
        let mut shard = self.shard(name);
        let entry = shard.entries.get(name).filter(|entry| entry.line == line && *entry.rest == *rest)?;
        let Content::Kept(payload, end) = &entry.content else { return None };
        if !end.has_come(now) {
            return Some(Kept { payload: payload.clone(), end: end.calendar });
        }
        shard.remove(name);
        None
    }

    /// Whether there is a proof that is young enough. From half of its time on, one caller in a while has the next one got:
    /// by somebody else, or by being told that there is none and asking the server.
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
        match &self.prover {
            None => age <= self.staleness && !sends,
            Some(prover) => {
                if sends {
                    prover.notify_one();
                }
                age <= self.staleness
            }
        }
    }

    /// A place for what the server is about to be asked for; `None` if somebody has asked already, or if nothing can be
    /// kept at the moment.
    pub fn reserve<'a>(&'a self, key: &'a str) -> Option<Reservation<'a>> {
        let line = self.line.load(Ordering::SeqCst);
        let (name, rest) = self.divide(key);
        let mut shard = self.shard(name);
        if line == 0 || shard.entries.peek(name).is_some_and(|entry| entry.line == line) {
            return None;
        }
        let ticket = self.tickets.fetch_add(1, Ordering::Relaxed);
        shard.put(name, Entry { rest: rest.into(), line, content: Content::Reserved(ticket) }, self.room);
        Some(Reservation { cache: self, key, line, ticket })
    }

    /// Forgets the session of a key, or all whose keys have this name, and whatever is under way to be kept of them.
    pub fn forget(&self, key: &str) {
        let (name, _) = self.divide(key);
        self.shard(name).remove(name);
    }

    /// Forgets a session now, when it is about to be changed, and again when that is done or given up.
    pub fn changing<'a>(&'a self, key: &'a str) -> Changing<'a> {
        self.forget(key);
        Changing { cache: self, key }
    }

    /// Forgets all sessions, and whatever is under way to be kept.
    pub fn forget_all(&self) {
        for shard in &self.shards {
            let mut shard = lock(shard);
            shard.entries.clear();
            shard.size = 0;
        }
    }

    /// The server tells of changes on this connection from now on. No two connections have the same number, and none has
    /// zero.
    pub fn rely_on(&self, line: u64) {
        self.forget_all();
        self.line.store(line, Ordering::SeqCst);
    }

    /// A connection is not to be relied on any more.
    pub fn give_up(&self, line: u64) {
        if self.line.compare_exchange(line, 0, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
            self.forget_all();
        }
    }

    /// A question that was sent at `asked` has been answered, on this connection, or in another way that proves that
    /// everything was heard on it which the server did before.
    pub fn answered(&self, line: u64, asked: Moment) {
        // A proof of an earlier connection is older than everything that this one has.
        if line == self.line.load(Ordering::SeqCst)
            && self.proven.fetch_max(asked.steady, Ordering::SeqCst) <= asked.steady
        {
            self.proven_on_the_clock.store(asked.calendar.as_micros(), Ordering::SeqCst);
        }
    }

    /// A key's name, and the rest.
    fn divide<'k>(&self, key: &'k str) -> (&'k str, &'k str) {
        key.split_at_checked(self.name).unwrap_or((key, ""))
    }

    fn shard(&self, name: &str) -> MutexGuard<'_, Shard> {
        lock(&self.shards[self.hasher.hash_one(name) as usize % SHARDS])
    }
}

impl fmt::Debug for NearCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NearCache")
            .field("bytes", &(self.room * SHARDS))
            .field("staleness", &Duration::from_micros(self.staleness))
            .finish_non_exhaustive()
    }
}

/// A place in the cache for an answer that is under way. It is given back if that does not come.
#[derive(Debug)]
pub struct Reservation<'a> {
    cache: &'a NearCache,
    key: &'a str,
    line: u64,
    ticket: u64,
}

impl Reservation<'_> {
    /// The connection that was relied on when it was made.
    pub fn line(&self) -> u64 {
        self.line
    }

    /// Keeps what was answered, until its end, if changes of it are told on this connection.
    pub fn keep(self, line: u64, payload: Bytes, end: Moment) {
        let (name, rest) = self.cache.divide(self.key);
        let mut shard = self.cache.shard(name);
        if line == self.line && self.stands(&shard, name) {
            let entry = Entry { rest: rest.into(), line, content: Content::Kept(payload, end) };
            shard.put(name, entry, self.cache.room);
        }
    }

    fn stands(&self, shard: &Shard, name: &str) -> bool {
        let entry = shard.entries.peek(name);
        entry.is_some_and(|entry| matches!(entry.content, Content::Reserved(ticket) if ticket == self.ticket))
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        let (name, _) = self.cache.divide(self.key);
        let mut shard = self.cache.shard(name);
        if self.stands(&shard, name) {
            shard.remove(name);
        }
    }
}

/// A change of a session that is under way.
#[derive(Debug)]
#[must_use = "the session is forgotten again when this is dropped"]
pub struct Changing<'a> {
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
mod tests;
