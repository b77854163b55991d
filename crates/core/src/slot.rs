//! The place of a request's session, before and after it is loaded.

use std::fmt;
use std::sync::Arc;

use tracing::field::DisplayValue;

use crate::engine::Engine;
use crate::error::Result;
use crate::key::SessionKey;
use crate::persist::{Keeper, Progress, Whole, lock, sessions_off};
use crate::state::{Record, State};
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Mutex, MutexGuard};
use crate::values::Values;

/// The place of a request's session: it stands in the request's extensions from the start, and costs nothing until
/// [`load`](Self::load) asks the store.
///
/// Clones are handles of the same session.
#[derive(Clone)]
pub struct SessionSlot(Arc<Slot>);

struct Slot {
    keeper: Arc<Keeper>,
    state: Mutex<State>,
    /// One load or save of this session at a time; the state's own lock is never held while a store works.
    io: tokio::sync::Mutex<()>,
    progress: Progress,
    /// Whether the request carried the session cookie, valid or not.
    cookie_presented: bool,
    /// Whether the response will stay as it is if nobody touches the session; `false` as soon as anybody is given the
    /// state, whatever for.
    untouched: AtomicBool,
}

impl SessionSlot {
    #[inline]
    pub(crate) fn new(keeper: Arc<Keeper>, key: Option<SessionKey>, cookie_presented: bool, untouched: bool) -> Self {
        let state = Mutex::new(State::new(key));
        let (io, progress) = (tokio::sync::Mutex::new(()), Progress::default());
        Self(Arc::new(Slot { keeper, state, io, progress, cookie_presented, untouched: AtomicBool::new(untouched) }))
    }

    /// The state, for whoever may look at it or change it.
    fn shared(&self) -> &Mutex<State> {
        self.0.untouched.store(false, Ordering::Relaxed);
        &self.0.state
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        lock(self.shared())
    }

    /// The key as the log may show it, before the state is anybody's.
    pub(crate) fn presented_key(&self) -> Option<DisplayValue<String>> {
        lock(&self.0.state).masked_key()
    }

    /// Whether nobody was given the state, and the response therefore stays as it is.
    #[inline]
    pub(crate) fn is_untouched(&self) -> bool {
        self.0.untouched.load(Ordering::Relaxed)
    }

    pub(crate) fn keeper(&self) -> &Keeper {
        &self.0.keeper
    }

    pub(crate) fn progress(&self) -> &Progress {
        &self.0.progress
    }

    pub(crate) fn cookie_presented(&self) -> bool {
        self.0.cookie_presented
    }

    /// The turn of a load or a save: nearly always there is no other, and no need to wait in a queue.
    async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        match self.0.io.try_lock() {
            Ok(turn) => turn,
            Err(_) => self.0.io.lock().await,
        }
    }

    pub(crate) fn delete_flushed(&self) -> Whole {
        Whole::new(self, |slot, save| async move {
            let _turn = slot.turn().await;
            slot.progress().of(save).begin();
            slot.0.keeper.delete_flushed(slot.shared()).await
        })
    }

    /// Reads the session's data, unless that was done.
    pub(crate) async fn fill(&self) -> Result<()> {
        if !self.state().loaded {
            let _turn = self.turn().await;
            self.0.keeper.load(self.shared()).await?;
        }
        Ok(())
    }

    /// Saves the session now instead of at the end of the request; see [`Session::save`](crate::Session::save).
    pub async fn save(&self) -> Result<()> {
        self.whole_save().await
    }

    pub(crate) fn whole_save(&self) -> Whole {
        self.state().accessed = true;
        Whole::new(self, |slot, save| async move {
            let _turn = slot.turn().await;
            slot.0.keeper.save(slot.shared(), slot.progress().of(save)).await
        })
    }

    /// Saves the session's data under a new key, and leaves what stands under the former one as it is: Django's
    /// `create`. To change the key of a session, use
    /// [`Session::cycle_key`](crate::Session::cycle_key).
    ///
    /// # Errors
    /// As [`Session::save`](crate::Session::save).
    pub async fn create(&self) -> Result<()> {
        let _turn = self.turn().await;
        match self.0.keeper.engine {
            Engine::Store { .. } => {}
            Engine::SignedCookies(_) => {
                // There is no record to make: the cookie is written when the request ends.
                self.state().mark_modified();
                return Ok(());
            }
            Engine::Off => return Err(sessions_off()),
        }
        self.state().check_writable()?;
        let drawn = self.0.keeper.keys.draw()?;
        {
            let mut state = self.state();
            // What was not loaded is not asked for: a session made so starts empty, as in Django.
            state.loaded = true;
            state.accessed = true;
            state.mark_modified();
            state.key = Some(drawn);
            state.record = Record::Absent;
        }
        self.0.keeper.save(self.shared(), self.progress().of(self.progress().new_save())).await
    }

    /// Asks the store again, and returns what stands there now: Django's `load`. What was loaded or changed stays as
    /// it is; only if nothing stands there any more, the key is dropped.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub async fn reload(&self) -> Result<Values> {
        let _turn = self.turn().await;
        self.0.keeper.reload(self.shared()).await
    }

    /// Ends the session without loading it: its record is deleted when the request ends, whatever the response, and
    /// the cookie is removed. See [`Session::flush`](crate::Session::flush).
    pub fn flush(&self) {
        self.state().flush();
    }

    /// The session's key, as presented or drawn; `None` if it has none. Does not load.
    pub fn key(&self) -> Option<SessionKey> {
        self.state().key.clone()
    }

    /// Whether there is neither a key nor data that was loaded or set. Does not load: with a key it is `false` even
    /// if the stored data turns out to be empty.
    pub fn is_empty(&self) -> bool {
        self.state().is_empty()
    }

    /// Whether the data was asked for or changed; then the response varies on `Cookie`.
    pub fn accessed(&self) -> bool {
        self.state().accessed
    }

    /// Whether the session was changed; then it is saved and its cookie is sent.
    pub fn modified(&self) -> bool {
        self.state().modified
    }

    /// Sets or resets the mark that [`modified`](Self::modified) shows.
    pub fn set_modified(&self, modified: bool) {
        let mut state = self.state();
        if modified {
            state.mark_modified();
        } else {
            state.modified = false;
            state.unsaved = false;
        }
    }

    /// Whether the store did not answer when the session was loaded; see
    /// [`Session::is_unavailable`](crate::Session::is_unavailable).
    pub fn is_unavailable(&self) -> bool {
        self.state().is_unreachable()
    }

    /// Whether the data was read already.
    pub fn is_loaded(&self) -> bool {
        self.state().loaded
    }

    /// Takes the session out of the response: whatever was done to it, nothing is saved and no header is sent.
    pub fn detach(&self) {
        self.state().detached = true;
    }

    /// Resets both flags. Tests that follow a recorded session step by step need it.
    #[doc(hidden)]
    pub fn reset_flags(&self) {
        let mut state = self.state();
        state.accessed = false;
        state.modified = false;
    }
}

impl fmt::Debug for SessionSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("SessionSlot")
            .field("key", &state.key)
            .field("loaded", &state.loaded)
            .field("accessed", &state.accessed)
            .field("modified", &state.modified)
            .finish_non_exhaustive()
    }
}
