//! One save: retries after a conflict, rotation, sign-out.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tracing::debug;

use super::{Keeper, ProgressOf, delete, lock};
use crate::clock::Timestamp;
use crate::delta::Delta;
use crate::error::{Error, ErrorKind, Result};
use crate::key::SessionKey;
use crate::state::{Record, Retired, State};
use crate::store::{Created, Deleted, Replaced, Rotated, Store, Touched, Version};
use crate::sync::{self, Mutex};
use crate::values::Values;
use crate::wire::expiry::EXPIRY_KEY;
use crate::wire::session_data::Codec;

/// How often a save meets a conflict before it gives up. Within one process the retries of a session queue up, so
/// that only writers of other processes are met here, and each round at least one of all writers succeeds.
const MAX_ATTEMPTS: u32 = 48;
/// How often a drawn key is taken before something must be wrong with the source of keys.
const MAX_DRAWS: u32 = 16;

/// One save under way: what it needs, taken out of the state, so that no lock is held while the store works.
pub(super) struct Job<'a> {
    keeper: &'a Keeper,
    store: &'a dyn Store,
    codec: &'a Codec,
    state: &'a Mutex<State>,
    progress: ProgressOf<'a>,
    key: Option<SessionKey>,
    record: Record,
    payload: Bytes,
    retired: Option<Arc<Retired>>,
    values: Values,
    delta: Delta,
    stale: bool,
    in_doubt: bool,
    /// Whether the record has got a new key, and the old one is deleted.
    moved: bool,
    /// The key as it was when the save began, and how often the session had been ended by then.
    began_as: Option<SessionKey>,
    ends: u32,
    finished: bool,
}

impl<'a> Job<'a> {
    pub(super) fn take(
        keeper: &'a Keeper,
        store: &'a dyn Store,
        codec: &'a Codec,
        state: &'a Mutex<State>,
        progress: ProgressOf<'a>,
    ) -> Self {
        let mut locked = lock(state);
        locked.unsaved = false;
        Self {
            keeper,
            store,
            codec,
            state,
            progress,
            key: locked.key.clone(),
            record: locked.record.clone(),
            payload: locked.payload.clone(),
            retired: locked.retired.clone(),
            values: locked.values.clone(),
            delta: std::mem::take(&mut locked.delta),
            stale: locked.stale,
            in_doubt: locked.in_doubt,
            moved: false,
            began_as: locked.key.clone(),
            ends: locked.ends,
            finished: false,
        }
    }

    pub(super) async fn run(&mut self) -> Result<()> {
        let now = self.keeper.clock.now();
        self.progress.begin();
        // A session that ended goes first: whatever becomes of the new one, the visitor has signed out.
        if let Some(Retired { key, only: None }) = self.retired.as_deref() {
            delete(self.store, key).await?;
            self.retired = None;
            lock(self.state).retired = None;
        }
        if self.in_doubt {
            return Err(Error::new(
                ErrorKind::Unavailable,
                "an earlier save of this request failed with an unknown outcome, and is not tried again",
            ));
        }
        // What is rare stands on its own, so that the usual save takes little memory.
        if self.retired.is_some() && Box::pin(self.rotate(now)).await? {
            return Ok(());
        }
        match (&self.key, &self.record) {
            (Some(key), Record::Standing(version)) => {
                let (key, version) = (key.clone(), version.clone());
                if self.delta.is_empty() && !self.stale {
                    self.touch(&key, now).await?;
                } else {
                    self.replace(&key, version, now).await?;
                }
            }
            (_, Record::Gone) => return Err(interrupted()),
            (key, record) => {
                // An unreadable record keeps its key, and what is saved now goes to another one.
                let drawn = key.clone().filter(|_| matches!(record, Record::Absent));
                self.create(drawn, now).await?;
            }
        }
        if self.retired.is_some() {
            Box::pin(self.retire(now)).await?;
        }
        Ok(())
    }

    fn encode(&self, now: Timestamp) -> Result<(Bytes, Timestamp)> {
        let expiry = self.expires_at(now)?;
        Ok((self.codec.encode(&self.values, now)?, expiry))
    }

    fn expires_at(&self, now: Timestamp) -> Result<Timestamp> {
        let item = self.values.readable_plain(EXPIRY_KEY)?;
        // As in Django, a session is not saved if nobody could tell the browser when it ends.
        self.keeper.rules.age(item, now)?;
        self.keeper.rules.expires_at(item, now)
    }

    async fn touch(&mut self, key: &SessionKey, now: Timestamp) -> Result<()> {
        let expiry = self.expires_at(now)?;
        let outcome = self.store.touch(key, expiry).await?;
        debug!(key = %key.masked(), ?outcome, "save: touch");
        match outcome {
            Touched::Touched => Ok(()),
            Touched::Gone => Err(interrupted()),
        }
    }

    async fn create(&mut self, mut drawn: Option<SessionKey>, now: Timestamp) -> Result<()> {
        let (payload, expiry) = self.encode(now)?;
        for _ in 0..MAX_DRAWS {
            let key = match drawn.take() {
                Some(key) => key,
                None => self.keeper.keys.draw()?,
            };
            let outcome = self.store.create(&key, payload.clone(), expiry).await?;
            debug!(key = %key.masked(), bytes = payload.len(), taken = outcome == Created::Taken, "save: create");
            if let Created::Created(version) = outcome {
                self.key = Some(key);
                self.record = Record::Standing(version);
                self.payload = payload;
                return Ok(());
            }
        }
        Err(no_free_key())
    }

    /// Moves the record from which the session was rotated to the new key, if the store can do so in one exchange.
    /// `false` if it cannot, or if there was no rotation.
    async fn rotate(&mut self, now: Timestamp) -> Result<bool> {
        let Some(Retired { key: old, only: Some(version) }) = self.retired.as_deref() else { return Ok(false) };
        let (old, mut version) = (old.clone(), version.clone());
        let mut drawn = self.key.clone();
        let (mut place, mut draws) = (None, 0);
        for attempt in 0..MAX_ATTEMPTS {
            if self.progress.is_given_up() {
                return Err(nobody_left());
            }
            let new = match drawn.take() {
                Some(key) => key,
                None => self.keeper.keys.draw()?,
            };
            let (payload, expiry) = self.encode(now)?;
            match self.store.rotate(&old, &version, &new, payload.clone(), expiry).await? {
                Rotated::Unsupported => return Ok(false),
                Rotated::Rotated(version) => {
                    debug!(key = %new.masked(), old = %old.masked(), bytes = payload.len(), attempt, "save: rotated");
                    if self.progress.is_given_up() && self.take_back(&old, &new, &version, now).await? {
                        return Err(nobody_left());
                    }
                    self.key = Some(new);
                    self.record = Record::Standing(version);
                    self.payload = payload;
                    self.retired = None;
                    self.moved = true;
                    return Ok(true);
                }
                Rotated::Gone => return Err(interrupted()),
                Rotated::Taken if draws == MAX_DRAWS => return Err(no_free_key()),
                Rotated::Taken => {
                    draws += 1;
                    continue;
                }
                Rotated::Conflict(stored) => {
                    debug!(key = %old.masked(), attempt, "save: conflict while rotating, the change is carried over");
                    self.values = self.delta.replay(self.codec.decode(&stored.payload)?)?;
                    self.payload = stored.payload;
                    version = stored.version;
                    drawn = Some(new);
                }
            }
            if place.is_none() {
                place = Some(self.keeper.queue(&old).await);
            }
            back_off(attempt).await;
        }
        Err(contended())
    }

    /// Undoes a rotation of whose new key nobody is left to learn: what the record held goes back to the old one.
    /// `false` if the session went on elsewhere meanwhile.
    async fn take_back(&self, old: &SessionKey, new: &SessionKey, version: &Version, now: Timestamp) -> Result<bool> {
        let values = self.codec.decode(&self.payload)?;
        let expiry = self.keeper.rules.expires_at(values.readable(EXPIRY_KEY)?, now)?;
        let outcome = self.store.rotate(new, version, old, self.payload.clone(), expiry).await?;
        debug!(key = %old.masked(), ?outcome, "save: the rotation is taken back");
        Ok(matches!(outcome, Rotated::Rotated(_)))
    }

    async fn replace(&mut self, key: &SessionKey, mut version: Version, now: Timestamp) -> Result<()> {
        let mut place = None;
        for attempt in 0..MAX_ATTEMPTS {
            let (payload, expiry) = self.encode(now)?;
            match self.store.replace(key, &version, payload.clone(), expiry).await? {
                Replaced::Replaced(version) => {
                    debug!(key = %key.masked(), bytes = payload.len(), attempt, "save: replace");
                    self.record = Record::Standing(version);
                    self.payload = payload;
                    return Ok(());
                }
                Replaced::Gone => return Err(interrupted()),
                Replaced::Conflict(stored) => {
                    debug!(key = %key.masked(), attempt, "save: conflict, the changes are replayed on what stands now");
                    self.values = self.delta.replay(self.codec.decode(&stored.payload)?)?;
                    version = stored.version;
                }
            }
            if place.is_none() {
                place = Some(Box::pin(self.keeper.queue(key)).await);
            }
            Box::pin(back_off(attempt)).await;
        }
        Err(contended())
    }

    /// Deletes the record from which the session was rotated, after the new one stands.
    async fn retire(&mut self, now: Timestamp) -> Result<()> {
        let Some(retired) = self.retired.take() else { return Ok(()) };
        let Retired { key: old, only: Some(mut version) } = Arc::unwrap_or_clone(retired) else { return Ok(()) };
        if self.progress.is_given_up()
            && let Some(new) = &self.key
        {
            // The visitor goes on with the old key, and must find there what was there.
            delete(self.store, new).await?;
            return Err(nobody_left());
        }
        for attempt in 0..MAX_ATTEMPTS {
            match self.store.delete(&old, Some(&version)).await? {
                Deleted::Deleted => {
                    debug!(key = %old.masked(), attempt, "save: rotated, the old record is deleted");
                    self.moved = true;
                    return Ok(());
                }
                Deleted::Gone => {
                    // The session ended elsewhere while we rotated it: the new record must not keep it alive.
                    if let Some(new) = &self.key {
                        delete(self.store, new).await?;
                    }
                    return Err(interrupted());
                }
                Deleted::Conflict(stored) => {
                    debug!(key = %old.masked(), attempt, "save: conflict while rotating, the change is carried over");
                    self.values = self.delta.replay(self.codec.decode(&stored.payload)?)?;
                    version = stored.version;
                    let (Some(new), Record::Standing(standing)) = (&self.key, &self.record) else {
                        unreachable!("a rotation has just made the new record")
                    };
                    let (payload, expiry) = self.encode(now)?;
                    match self.store.replace(new, standing, payload.clone(), expiry).await? {
                        Replaced::Replaced(version) => {
                            self.record = Record::Standing(version);
                            self.payload = payload;
                        }
                        // Nobody knows the new key yet, so nobody can have changed or deleted its record.
                        Replaced::Conflict(_) | Replaced::Gone => return Err(interrupted()),
                    }
                }
            }
            back_off(attempt).await;
        }
        Err(contended())
    }

    /// Writes what the save came to back into the state.
    pub(super) fn finish(mut self, outcome: Result<()>) -> Result<()> {
        match outcome {
            Ok(()) => self.settle(),
            Err(error) => {
                self.give_back(error.kind() == ErrorKind::Unavailable);
                debug!(%error, kind = ?error.kind(), "save: failed");
                Err(error)
            }
        }
    }

    /// After a save: what other handles did to the session while it was under way is rebased on what was saved.
    fn settle(&mut self) -> Result<()> {
        loop {
            let mut state = lock(self.state);
            let mut values = self.values.clone();
            if !state.delta.is_empty() {
                let (delta, edits) = (state.delta.clone(), state.edits);
                drop(state);
                // Without the lock: the closure of an update may use the session.
                values = delta.replay(values)?;
                state = lock(self.state);
                if state.edits != edits {
                    continue;
                }
            }
            self.finished = true;
            let (Some(key), Record::Standing(version)) = (self.key.take(), self.record.clone()) else {
                unreachable!("a save leaves a record that stands")
            };
            if state.ends != self.ends {
                // It was ended: what was saved is deleted, and nothing of it comes back.
                state.retired = Some(Arc::new(Retired { key, only: None }));
                return Ok(());
            }
            state.values = values;
            state.stale = false;
            state.payload = std::mem::take(&mut self.payload);
            state.moved |= self.moved;
            if state.key != self.began_as {
                // It was rotated: what was saved is what that leaves behind.
                state.retired = Some(Arc::new(Retired { key, only: Some(version) }));
                return Ok(());
            }
            // A record that was made has a key that the browser does not know yet: its cookie has to be sent.
            state.modified |= state.key.as_ref() != Some(&key);
            state.key = Some(key);
            state.record = Record::Standing(version);
            state.retired = None;
            state.saved = !state.unsaved;
            return Ok(());
        }
    }

    /// Puts the changes back that were not, or perhaps not, saved; unless the session was ended meanwhile.
    fn give_back(&mut self, in_doubt: bool) {
        self.finished = true;
        let mut state = lock(self.state);
        if state.ends == self.ends {
            state.delta.prepend(std::mem::take(&mut self.delta));
            state.in_doubt = in_doubt;
            state.unsaved = true;
        }
    }
}

impl Drop for Job<'_> {
    /// A save that was cancelled half-way: whether the store carried it out is not known.
    fn drop(&mut self) {
        if !self.finished {
            self.give_back(true);
        }
    }
}

fn interrupted() -> Error {
    Error::new(
        ErrorKind::Interrupted,
        "the session was deleted before the request completed; the visitor may have signed out in a concurrent request",
    )
}

fn nobody_left() -> Error {
    Error::new(
        ErrorKind::Interrupted,
        "nobody was left to learn of the session's new key: it stays as it was, under the old one",
    )
}

fn no_free_key() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        format!("{MAX_DRAWS} random session keys in a row were taken: the system's random generator is broken"),
    )
}

fn contended() -> Error {
    Error::new(
        ErrorKind::Contended,
        format!("other requests changed this session {MAX_ATTEMPTS} times in a row while it was being saved"),
    )
}

/// Waits after a conflict: not at all at first, then up to 2, 4, … 32 ms, drawn at random so that writers spread.
async fn back_off(attempt: u32) {
    if attempt < 2 {
        return;
    }
    let limit = 1_000u64 << attempt.min(5);
    let random = RandomState::new().hash_one(attempt);
    sync::sleep(Duration::from_micros(random % limit)).await;
}
