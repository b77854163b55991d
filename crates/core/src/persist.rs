//! Loading and saving one session: retries after a conflict, rotation, sign-out.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use tracing::{debug, warn};

use crate::clock::{Clock, Timestamp};
use crate::delta::Delta;
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::key::{KeySource, SessionKey};
use crate::state::{Record, Retired, State};
use crate::store::{Created, Deleted, Replaced, Store, Touched, Version};
use crate::values::Values;
use crate::wire::expiry::{EXPIRY_KEY, ExpiryRules};
use crate::wire::session_data::Codec;

/// How often a save meets a conflict before it gives up. Within one process the retries of a session queue up, so
/// that only writers of other processes are met here, and each round at least one of all writers succeeds.
const MAX_ATTEMPTS: u32 = 48;
/// How often a drawn key is taken before something must be wrong with the source of keys.
const MAX_DRAWS: u32 = 16;
/// Sessions whose retries queue up together; a power of two.
const QUEUES: usize = 64;

/// What every session of a site shares: the engine, and what a save needs beside it.
pub(crate) struct Keeper {
    pub(crate) engine: Engine,
    pub(crate) rules: ExpiryRules,
    pub(crate) clock: Clock,
    pub(crate) keys: KeySource,
    /// After a first conflict, the saves of one session go one after another within this process.
    queues: [tokio::sync::Mutex<()>; QUEUES],
    hasher: RandomState,
}

/// Locks the state; a panic elsewhere does not make it unusable, since every change to it is made whole.
pub(crate) fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Keeper {
    pub(crate) fn new(engine: Engine, rules: ExpiryRules, clock: Clock, keys: KeySource) -> Self {
        Self {
            engine,
            rules,
            clock,
            keys,
            queues: std::array::from_fn(|_| tokio::sync::Mutex::new(())),
            hasher: RandomState::new(),
        }
    }

    /// Asks the engine for the session's data, once. Without a key there is nothing to ask for.
    pub(crate) async fn load(&self, state: &Mutex<State>) -> Result<()> {
        if matches!(self.engine, Engine::Off) {
            return Err(sessions_off());
        }
        let key = {
            let mut state = lock(state);
            if state.loaded {
                return Ok(());
            }
            match &state.key {
                Some(key) => key.clone(),
                None => {
                    state.found_nothing();
                    return Ok(());
                }
            }
        };
        match &self.engine {
            Engine::Off => {}
            Engine::SignedCookies(cookies) => {
                let read = cookies.read(key.as_str(), self.clock.now());
                let mut state = lock(state);
                if state.loaded {
                    return Ok(());
                }
                match read {
                    Ok(values) => state.found(values, Record::Absent),
                    Err(error) => {
                        debug!(%error, "load: the cookie's session is not valid");
                        // As in Django: the key stays, and the cookie is replaced by that of an empty session.
                        state.found(Values::new(), Record::Absent);
                        state.mark_modified();
                    }
                }
            }
            Engine::Store { store, codec } => {
                let stored = if key.is_storable() { store.load(&key).await? } else { None };
                let mut state = lock(state);
                if state.loaded {
                    // It was flushed while the store was asked.
                    return Ok(());
                }
                match stored.map(|stored| (codec.decode(&stored.payload), stored)) {
                    None => {
                        debug!(key = %key.masked(), "load: miss");
                        state.found_nothing();
                    }
                    Some((Ok(values), stored)) => {
                        debug!(key = %key.masked(), items = values.len(), bytes = stored.payload.len(), "load: hit");
                        state.stale = !codec.is_current(&stored.payload);
                        state.found(values, Record::Standing(stored.version));
                    }
                    Some((Err(error), _)) => {
                        warn!(
                            key = %key.masked(), %error,
                            "load: session data corrupted; it is read as empty and left as it stands. If this \
                             happens to many sessions, SECRET_KEY is not the one they were signed with: set it, or \
                             add the former one to SECRET_KEY_FALLBACKS"
                        );
                        state.found(Values::new(), Record::Unreadable);
                    }
                }
            }
        }
        Ok(())
    }

    /// Asks the engine again, without a change to what is loaded; a key under which nothing stands is dropped.
    pub(crate) async fn reload(&self, state: &Mutex<State>) -> Result<Values> {
        if matches!(self.engine, Engine::Off) {
            return Err(sessions_off());
        }
        let Some(key) = lock(state).key.clone() else {
            if matches!(self.engine, Engine::SignedCookies(_)) {
                // Nothing is no valid text either.
                lock(state).mark_modified();
            }
            return Ok(Values::new());
        };
        let found = Mutex::new(State::new(Some(key.clone())));
        self.load(&found).await?;
        let found = found.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
        let mut state = lock(state);
        if found.key.is_none() && state.key == Some(key) {
            state.key = None;
            if matches!(state.record, Record::Standing(_)) {
                state.record = Record::Gone;
            }
        }
        if found.modified {
            state.mark_modified();
        }
        Ok(found.values)
    }

    /// Saves the session as it stands, and deletes the record it leaves behind, if any.
    pub(crate) async fn save(&self, state: &Mutex<State>) -> Result<()> {
        self.load(state).await?;
        match &self.engine {
            Engine::Off => Err(sessions_off()),
            Engine::SignedCookies(cookies) => {
                let mut state = lock(state);
                let text = cookies.write(&state.values, self.clock.now())?;
                state.key = Some(SessionKey::from_text(&text));
                state.delta = Delta::default();
                state.modified = true;
                state.unsaved = false;
                state.saved = true;
                Ok(())
            }
            Engine::Store { store, codec } => {
                let mut job = Job::take(self, store.as_ref(), codec, state);
                let outcome = job.run().await;
                job.finish(outcome)?;
                // If the session was flushed meanwhile, what was saved ends with it.
                self.delete_flushed(state).await
            }
        }
    }

    /// Deletes the record of a session that ended, if there is one. Done whatever the response's status.
    pub(crate) async fn delete_flushed(&self, state: &Mutex<State>) -> Result<()> {
        let (Engine::Store { store, .. }, Some(retired)) = (&self.engine, lock(state).retired.clone()) else {
            return Ok(());
        };
        if retired.only.is_none() {
            delete(store.as_ref(), &retired.key).await?;
            lock(state).retired = None;
        }
        Ok(())
    }

    /// A place in the queue of this session's retries.
    async fn queue(&self, key: &SessionKey) -> tokio::sync::MutexGuard<'_, ()> {
        self.queues[self.hasher.hash_one(key) as usize % QUEUES].lock().await
    }
}

/// Deletes a session's record, whatever it holds.
async fn delete(store: &dyn Store, key: &SessionKey) -> Result<()> {
    if key.is_storable() {
        let outcome = store.delete(key, None).await?;
        debug!(key = %key.masked(), ?outcome, "delete");
    }
    Ok(())
}

pub(crate) fn sessions_off() -> Error {
    Error::new(
        ErrorKind::NotInstalled,
        "sessions are switched off: INSTALLED_APPS names neither `cloakroom` nor `django.contrib.sessions`; add one",
    )
}

/// One save under way: what it needs, taken out of the state, so that no lock is held while the store works.
struct Job<'a> {
    keeper: &'a Keeper,
    store: &'a dyn Store,
    codec: &'a Codec,
    state: &'a Mutex<State>,
    key: Option<SessionKey>,
    record: Record,
    retired: Option<Retired>,
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
    fn take(keeper: &'a Keeper, store: &'a dyn Store, codec: &'a Codec, state: &'a Mutex<State>) -> Self {
        let mut locked = lock(state);
        locked.unsaved = false;
        Self {
            keeper,
            store,
            codec,
            state,
            key: locked.key.clone(),
            record: locked.record.clone(),
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

    async fn run(&mut self) -> Result<()> {
        let now = self.keeper.clock.now();
        // A session that ended goes first: whatever becomes of the new one, the visitor has signed out.
        if let Some(Retired { key, only: None }) = &self.retired {
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
        self.retire(now).await
    }

    fn encode(&self, now: Timestamp) -> Result<(Bytes, Timestamp)> {
        let expiry = self.expires_at(now)?;
        Ok((self.codec.encode(&self.values, now)?, expiry))
    }

    fn expires_at(&self, now: Timestamp) -> Result<Timestamp> {
        let item = self.values.readable(EXPIRY_KEY)?;
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
                return Ok(());
            }
        }
        Err(Error::new(
            ErrorKind::Unavailable,
            format!("{MAX_DRAWS} random session keys in a row were taken: the system's random generator is broken"),
        ))
    }

    async fn replace(&mut self, key: &SessionKey, mut version: Version, now: Timestamp) -> Result<()> {
        let mut place = None;
        for attempt in 0..MAX_ATTEMPTS {
            let (payload, expiry) = self.encode(now)?;
            let bytes = payload.len();
            match self.store.replace(key, &version, payload, expiry).await? {
                Replaced::Replaced(version) => {
                    debug!(key = %key.masked(), bytes, attempt, "save: replace");
                    self.record = Record::Standing(version);
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
                place = Some(self.keeper.queue(key).await);
            }
            back_off(attempt).await;
        }
        Err(contended())
    }

    /// Deletes the record from which the session was rotated, after the new one stands.
    async fn retire(&mut self, now: Timestamp) -> Result<()> {
        let Some(Retired { key: old, only: Some(mut version) }) = self.retired.take() else { return Ok(()) };
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
                    match self.store.replace(new, standing, payload, expiry).await? {
                        Replaced::Replaced(version) => self.record = Record::Standing(version),
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
    fn finish(mut self, outcome: Result<()>) -> Result<()> {
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
            let (delta, edits) = {
                let state = lock(self.state);
                (state.delta.clone(), state.edits)
            };
            // Without the lock: the closure of an update may use the session.
            let values = delta.replay(self.values.clone())?;
            let mut state = lock(self.state);
            if state.edits != edits {
                continue;
            }
            self.finished = true;
            let (Some(key), Record::Standing(version)) = (self.key.take(), self.record.clone()) else {
                unreachable!("a save leaves a record that stands")
            };
            if state.ends != self.ends {
                // It was ended: what was saved is deleted, and nothing of it comes back.
                state.retired = Some(Retired { key, only: None });
                return Ok(());
            }
            state.values = values;
            state.stale = false;
            state.moved |= self.moved;
            if state.key != self.began_as {
                // It was rotated: what was saved is what that leaves behind.
                state.retired = Some(Retired { key, only: Some(version) });
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
    tokio::time::sleep(Duration::from_micros(random % limit)).await;
}
