//! Loading and saving one session.

mod save;
mod whole;

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use tracing::{debug, error, warn};

use crate::clock::Clock;
use crate::delta::Delta;
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::key::{KeySource, SessionKey};
use crate::settings::OnUnavailable;
use crate::state::{Record, State};
use crate::store::{Store, Stored};
use crate::sync::{Mutex, MutexGuard};
use crate::values::Values;
use crate::wire::cookie::CookieWriter;
use crate::wire::expiry::ExpiryRules;
use save::Job;
pub(crate) use whole::{Progress, ProgressOf, Whole};

/// Sessions whose retries queue up together; a power of two.
const QUEUES: usize = 64;

/// What every session of a site shares: the engine, what a save needs beside it, and what the answer does.
pub(crate) struct Keeper {
    pub(crate) engine: Engine,
    pub(crate) cookie: CookieWriter,
    pub(crate) save_every_request: bool,
    pub(crate) rules: ExpiryRules,
    pub(crate) clock: Clock,
    pub(crate) keys: KeySource,
    on_unavailable: OnUnavailable,
    /// After a first conflict, the saves of one session go one after another within this process.
    queues: [tokio::sync::Mutex<()>; QUEUES],
    hasher: RandomState,
}

/// Locks the state; a panic elsewhere does not make it unusable, since every change to it is made whole.
pub(crate) fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Keeper {
    pub(crate) fn new(
        engine: Engine,
        cookie: CookieWriter,
        save_every_request: bool,
        rules: ExpiryRules,
        clock: Clock,
        keys: KeySource,
        on_unavailable: OnUnavailable,
    ) -> Self {
        Self {
            engine,
            cookie,
            save_every_request,
            rules,
            clock,
            keys,
            on_unavailable,
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
                    debug!("load: no key, the store is not asked");
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
                    Ok(values) => {
                        debug!(key = %key.masked(), items = values.len(), bytes = key.as_str().len(), "load: hit");
                        state.found(values, Record::Absent);
                    }
                    Err(error) => {
                        debug!(%error, "load: the cookie's session is not valid");
                        // As in Django: the key stays, and the cookie is replaced by that of an empty session.
                        state.found(Values::new(), Record::Absent);
                        state.mark_modified();
                    }
                }
            }
            Engine::Store { store, codec } => {
                let asked = if key.is_storable() { store.load(&key).await } else { Ok(None) };
                let mut state = lock(state);
                let stored = match asked {
                    Err(failure) if self.does_without(&failure) => {
                        let source = std::error::Error::source(&failure);
                        error!(
                            key = %key.masked(), error = %failure, ?source,
                            "load: the store is unavailable, the visitor is served without a session"
                        );
                        if !state.loaded {
                            state.found(Values::new(), Record::Unreachable);
                        }
                        return Ok(());
                    }
                    asked => asked?,
                };
                if state.loaded {
                    // It was flushed while the store was asked.
                    return Ok(());
                }
                let read = stored.map(|Stored { payload, version, .. }| (codec.read(&payload), payload, version));
                match read {
                    None => {
                        debug!(key = %key.masked(), "load: miss");
                        state.found_nothing();
                    }
                    Some((Ok((values, current)), payload, version)) => {
                        debug!(key = %key.masked(), items = values.len(), bytes = payload.len(), "load: hit");
                        state.stale = !current;
                        state.found(values, Record::Standing(version));
                        state.payload = payload;
                    }
                    Some((Err(error), ..)) => {
                        warn!(
                            key = %key.masked(), %error,
                            "load: session data corrupted; it is read as empty and left as it stands. If this \
                             happens to many sessions, they were signed with another SECRET_KEY (set it, or add it to \
                             SECRET_KEY_FALLBACKS) or, in a cache, written by another BACKEND or SERIALIZER"
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
    pub(crate) async fn save(&self, state: &Mutex<State>, progress: ProgressOf<'_>) -> Result<()> {
        self.load(state).await?;
        lock(state).check_writable()?;
        match &self.engine {
            Engine::Off => Err(sessions_off()),
            Engine::SignedCookies(cookies) => {
                let mut state = lock(state);
                let text = cookies.write(&state.values, self.clock.now())?;
                debug!(items = state.values.len(), bytes = text.len(), "save: into the cookie");
                state.key = Some(SessionKey::from_text(&text));
                state.delta = Delta::default();
                state.modified = true;
                state.unsaved = false;
                state.saved = true;
                Ok(())
            }
            Engine::Store { store, codec } => {
                let mut job = Job::take(self, store.as_ref(), codec, state, progress);
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

    /// Whether a request goes on without what failed so.
    pub(crate) fn does_without(&self, failure: &Error) -> bool {
        self.on_unavailable == OnUnavailable::Anonymous && failure.kind() == ErrorKind::Unavailable
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
