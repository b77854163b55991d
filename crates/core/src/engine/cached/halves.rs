//! The two halves: what goes into the cache, what is taken out of its way, and what is repaired later.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tracing::{debug, error};

use super::form::Form;
use super::suspects::Suspects;
use super::token::{Base, Token};
use crate::clock::{Clock, Timestamp};
use crate::error::Result;
use crate::key::SessionKey;
use crate::store::{Created, Replaced, Store, Stored, Version};
use crate::sync;

/// How long a marker stands, and with it how long something that was read from the database before may still be on its
/// way into the cache.
const MARKER_LIFE: Duration = Duration::from_secs(60);
/// What was read from the database longer ago does not go into an empty place of the cache any more. Half of the
/// marker's life, so that clocks may go differently.
const FRESH_FOR: Duration = Duration::from_secs(30);
/// How often another writer may come in between while a marker is set; then the entry is deleted instead.
const MARK_TRIES: usize = 8;
/// How often a cache that took no marker is offered one again. One attempt a second costs nothing, and what other
/// processes may read until it succeeds is old.
const REPAIR_EVERY: Duration = Duration::from_secs(1);

/// Both halves and what stands between them.
pub(super) struct Inner {
    pub(super) cache: Arc<dyn Store>,
    pub(super) database: Arc<dyn Store>,
    pub(super) form: Form,
    pub(super) clock: Clock,
    pub(super) name: Box<str>,
    pub(super) suspects: Suspects,
}

/// Where a row that was read goes in the cache.
pub(super) enum Refill {
    /// Nowhere: the cache does not answer.
    No,
    /// Into an empty place.
    Add,
    /// In place of this entry, if it still stands.
    Over(Version),
}

/// What a compare-and-swap is based on.
pub(super) enum Found {
    Version(Version),
    /// The row is another one than was seen in the cache.
    Differs(Stored),
    Gone,
}

impl Inner {
    /// Writes a record into the cache, and says at which version it stands there; `None` if another writer came in
    /// between. `over` is the entry that it may take the place of, `since` when its row was read or about to be written.
    pub(super) async fn put(
        &self,
        key: &SessionKey,
        row: &Stored,
        over: Option<&Version>,
        since: Instant,
    ) -> Result<Option<Version>> {
        let value = self.form.write(row, self.clock.now())?;
        if let Some(entry) = over {
            match self.cache.replace(key, entry, value.clone(), row.expiry).await? {
                Replaced::Replaced(version) => return Ok(Some(version)),
                Replaced::Conflict(_) => return Ok(None),
                Replaced::Gone => {}
            }
        }
        if since.elapsed() > FRESH_FOR {
            return Ok(None);
        }
        Ok(match self.cache.create(key, value, row.expiry).await? {
            Created::Created(version) => Some(version),
            Created::Taken => None,
        })
    }

    /// After the database has taken a record: brings it into the cache, or at least what stands there out of the way.
    pub(super) async fn settle(
        self: &Arc<Self>,
        key: &SessionKey,
        row: &Stored,
        over: Option<&Version>,
        since: Instant,
    ) -> Option<Version> {
        match self.put(key, row, over, since).await {
            Ok(Some(version)) => return Some(version),
            Ok(None) => debug!(key = %key.masked(), "cache: overtaken, the next reader asks the database"),
            Err(failure) => error!(
                cache = %self.name, key = %key.masked(), error = %failure, kind = ?failure.kind(),
                source = ?std::error::Error::source(&failure), "Error saving to cache ({})", self.name
            ),
        }
        self.invalidate_or_log(key, None).await;
        None
    }

    /// Puts a marker in place of what the cache holds, or at least deletes that. While neither works, this process does
    /// not trust the cache for this session, and goes on trying. What is `known` to stand there need not be asked for.
    pub(super) async fn invalidate(self: &Arc<Self>, key: &SessionKey, known: Option<&Version>) -> Result<()> {
        let outcome = self.try_invalidate(key, known).await;
        if outcome.is_err() {
            self.suspect(key);
        }
        outcome
    }

    async fn try_invalidate(&self, key: &SessionKey, known: Option<&Version>) -> Result<()> {
        let suspicion = self.suspects.suspicion(key);
        let marked = match self.form.marker() {
            Some(marker) => self.mark(key, marker, known).await,
            None => Ok(false),
        };
        if !matches!(marked, Ok(true)) {
            // A cache that is full takes no marker, but deletes.
            self.cache.delete(key, None).await?;
        }
        if let Some(suspicion) = suspicion {
            self.suspects.remove(key, suspicion);
        }
        Ok(())
    }

    pub(super) async fn invalidate_or_log(self: &Arc<Self>, key: &SessionKey, known: Option<&Version>) {
        if let Err(failure) = self.invalidate(key, known).await {
            error!(
                cache = %self.name, key = %key.masked(), error = %failure, kind = ?failure.kind(),
                "the cache ({}) may serve old data of this session to others until it answers again", self.name
            );
        }
    }

    /// From now on, the cache is not asked about this session, until its entry is out of the way.
    fn suspect(self: &Arc<Self>, key: &SessionKey) {
        if !self.suspects.add(key) {
            return;
        }
        if !sync::spawn(repair(Arc::downgrade(self))) {
            self.suspects.give_up();
        }
    }

    /// Sets a marker whatever stands there, or gives up after too many others came in between.
    async fn mark(&self, key: &SessionKey, marker: Bytes, known: Option<&Version>) -> Result<bool> {
        let micros = i64::try_from(MARKER_LIFE.as_micros()).unwrap_or(i64::MAX);
        let end = self.clock.now().checked_add_micros(micros).unwrap_or(Timestamp::MAX);
        let mut standing = match known {
            Some(version) => Some(version.clone()),
            None => self.cache.load(key).await?.map(|stored| stored.version),
        };
        for _ in 0..MARK_TRIES {
            standing = match &standing {
                Some(version) => match self.cache.replace(key, version, marker.clone(), end).await? {
                    Replaced::Replaced(_) => return Ok(true),
                    Replaced::Conflict(stored) => Some(stored.version),
                    Replaced::Gone => None,
                },
                None => match self.cache.create(key, marker.clone(), end).await? {
                    Created::Created(_) => return Ok(true),
                    Created::Taken => self.cache.load(key).await?.map(|stored| stored.version),
                },
            };
        }
        Ok(false)
    }

    /// What the row must hold for a change that is based on `token`.
    pub(super) async fn base(&self, key: &SessionKey, base: Base) -> Result<Found> {
        let seen = match base {
            Base::Row(version) => return Ok(Found::Version(version)),
            Base::Seen(seen) => seen,
        };
        Ok(match self.database.load(key).await? {
            None => Found::Gone,
            Some(row) if self.form.holds(&row, &seen) => Found::Version(row.version),
            Some(row) => Found::Differs(row),
        })
    }

    /// A row as this store hands it out.
    pub(super) fn stored(&self, row: Stored, entry: Option<Version>) -> Stored {
        let version = Token { base: Base::Row(row.version), entry }.into();
        Stored { payload: self.form.outgoing(row.payload), version, expiry: row.expiry }
    }
}

/// Offers the cache markers for the sessions under suspicion until none is left, or the store is gone.
async fn repair(store: Weak<Inner>) {
    loop {
        sync::sleep(REPAIR_EVERY).await;
        let Some(inner) = store.upgrade() else { return };
        loop {
            let Some(key) = inner.suspects.next() else { return };
            if let Err(failure) = inner.try_invalidate(&key, None).await {
                debug!(cache = %inner.name, error = %failure, "the cache cannot be repaired yet");
                break;
            }
        }
    }
}

/// While this lives, the database may hold what the cache does not. If it is dropped before that is settled, because
/// the request was cancelled, a task of its own brings the cache's entry out of the way.
pub(super) struct Unsettled<'a> {
    inner: &'a Arc<Inner>,
    key: &'a SessionKey,
    settled: bool,
}

impl<'a> Unsettled<'a> {
    pub(super) fn new(inner: &'a Arc<Inner>, key: &'a SessionKey) -> Self {
        Self { inner, key, settled: false }
    }

    pub(super) fn settled(mut self) {
        self.settled = true;
    }
}

impl Drop for Unsettled<'_> {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        self.inner.suspect(self.key);
        // At once, not only when the repair gets to it.
        let (inner, key) = (Arc::clone(self.inner), self.key.clone());
        sync::spawn(async move { inner.invalidate_or_log(&key, None).await });
    }
}
