//! The session of one request: a dictionary.

use std::any::type_name;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::clock::Timestamp;
use crate::delta::{Change, Updater};
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::json::RawJson;
use crate::key::SessionKey;
use crate::slot::SessionSlot;
use crate::state::State;
use crate::sync::MutexGuard;
use crate::values::Values;
use crate::wire::expiry::{Age, DateTime, EXPIRY_KEY, Expiry};

/// The item that the test cookie is.
const TEST_COOKIE: &str = "testcookie";
const TEST_COOKIE_VALUE: &str = "worked";

/// How often an update is run because other threads change the same item of the same request: far more than they could
/// be in each other's way, so that only a closure which changes its own item gets there.
const MAX_RUNS: usize = 1_000;

/// The session of a request: a dictionary that was loaded.
///
/// Everything but [`save`](Self::save) is synchronous and works on what was loaded. What a handler did is saved when
/// it has answered, before the response begins, unless the response is a server error (status 500 and above).
///
/// A value is anything that serde can write as JSON. Keys that start with an underscore are Django's by convention.
/// Clones are handles of the same session.
#[derive(Clone, Debug)]
pub struct Session(SessionSlot);

impl SessionSlot {
    /// The session's dictionary. The first call reads it, in at most one round trip; a request without a session
    /// cookie asks nobody.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] if the store failed: that is not a missing session, and no cookie is cleared for it.
    /// With `SESSION_ON_UNAVAILABLE = "anonymous"` this is no error, see [`Session::is_unavailable`].
    /// [`ErrorKind::NotMigrated`] if the session table is missing, [`ErrorKind::NotInstalled`] if sessions are off.
    pub async fn load(&self) -> Result<Session> {
        self.fill().await?;
        Ok(Session(self.clone()))
    }
}

impl Session {
    /// The slot this session was loaded from: key and flags without counting as an access.
    pub fn slot(&self) -> &SessionSlot {
        &self.0
    }

    fn accessed_state(&self) -> MutexGuard<'_, State> {
        let mut state = self.0.state();
        state.accessed = true;
        state
    }

    /// The value under `key`, read as `T`; `None` if there is none.
    ///
    /// # Errors
    /// [`ErrorKind::Type`] if a value is there but is not a `T`; the message names the key and both types.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        self.accessed_state().values.get(key)
    }

    /// The value under `key` as the JSON text that is stored; `null` for a Python value that JSON has no form for.
    pub fn get_raw(&self, key: &str) -> Option<RawJson> {
        self.accessed_state().values.get_raw(key).map(RawJson::from_valid)
    }

    /// As [`get_raw`](Self::get_raw), but a Python value that JSON has no form for is an error.
    ///
    /// # Errors
    /// [`ErrorKind::Type`] for such a value; the message names the key and the Python type.
    pub fn try_get_raw(&self, key: &str) -> Result<Option<RawJson>> {
        Ok(self.accessed_state().values.readable(key)?.map(RawJson::from_valid))
    }

    /// Sets `key` to `value`. An existing key keeps its place in the order.
    ///
    /// # Errors
    /// [`ErrorKind::Unrepresentable`] if JSON cannot hold the value; the session is then as it was.
    pub fn insert<T: Serialize + ?Sized>(&self, key: &str, value: &T) -> Result<()> {
        let value = represent(key, value)?;
        self.0.state().change(Change::Set(key.into(), value))
    }

    /// Sets `key` to a value that is JSON text already.
    pub fn insert_raw(&self, key: &str, value: RawJson) {
        self.0.state().change_or_mark(Change::Set(key.into(), value));
    }

    /// Sets every key to its value, in order: Django's `update`. The session counts as modified even if there are none.
    ///
    /// # Errors
    /// [`ErrorKind::Unrepresentable`] at the first value that JSON cannot hold; then none of them is set.
    pub fn extend<K: AsRef<str>, T: Serialize>(&self, items: impl IntoIterator<Item = (K, T)>) -> Result<()> {
        let items: Vec<_> = items
            .into_iter()
            .map(|(key, value)| {
                let value = represent(key.as_ref(), &value)?;
                Ok((key, value))
            })
            .collect::<Result<_>>()?;
        self.accessed_state().check_writable()?;
        self.extend_raw(items);
        Ok(())
    }

    /// As [`extend`](Self::extend), for values that are JSON text already.
    pub fn extend_raw<K: AsRef<str>>(&self, items: impl IntoIterator<Item = (K, RawJson)>) {
        let mut state = self.accessed_state();
        state.mark_modified();
        for (key, value) in items {
            state.change_or_mark(Change::Set(key.as_ref().into(), value));
        }
    }

    /// Sets `key` to what `change` makes of its present value, and returns that.
    ///
    /// This is the way to change a counter, a list or a cart: if another request changed the session meanwhile,
    /// `change` is run again on the fresh value when the session is saved, so that no change is lost. It must
    /// therefore have no side effects; above all it must not change the session, though it may read it. What it returned
    /// the first time is what this method returns; after [`save`](Self::save) the value that was stored can be read back.
    ///
    /// # Errors
    /// [`ErrorKind::Type`] if the present value is not a `T`, or if what is stored of the new one could not be read as
    /// such; [`ErrorKind::Unrepresentable`] if JSON cannot hold the new one; [`ErrorKind::Contended`] if `change` itself
    /// changes this item. The session is then as it was.
    pub fn update<T, F>(&self, key: &str, change: F) -> Result<T>
    where
        T: Serialize + DeserializeOwned,
        F: Fn(Option<T>) -> T + Send + Sync + 'static,
    {
        let updated = self.update_or_remove(key, move |present| Some(change(present)))?;
        Ok(updated.expect("the update has set it"))
    }

    /// As [`update`](Self::update), but the key is removed if `change` returns `None`: the way to take something out of
    /// a list that is to disappear with its last item.
    ///
    /// # Errors
    /// As [`update`](Self::update).
    pub fn update_or_remove<T, F>(&self, key: &str, change: F) -> Result<Option<T>>
    where
        T: Serialize + DeserializeOwned,
        F: Fn(Option<T>) -> Option<T> + Send + Sync + 'static,
    {
        let name: Arc<str> = key.into();
        let of = Arc::clone(&name);
        let update: Updater = Arc::new(move |present| {
            let present = present.map(|raw| read(&of, raw)).transpose()?;
            change(present).map(|value| represent(&of, &value)).transpose()
        });
        for _ in 0..MAX_RUNS {
            let values = self.accessed_state().values.clone();
            let present = values.readable(key)?;
            // The state is not locked while the closure runs: it may read the session.
            let raw = update(present)?;
            let value = raw.as_ref().map(|raw| read(key, raw.as_str())).transpose()?;
            let mut state = self.0.state();
            if state.values.is_same(&values) || state.values.readable(key)? == present {
                // Before the change, which would make a copy for as long as there are two of it.
                drop(values);
                state.update(name, raw, update)?;
                return Ok(value);
            }
        }
        Err(Error::new(
            ErrorKind::Contended,
            format!(
                "the session's item {key:?} changed whenever its update ran: its closure must not change it itself"
            ),
        ))
    }

    /// The value under `key`; if there is none, sets and returns what `default` gives: Django's `setdefault`.
    ///
    /// If another request sets the key meanwhile, its value stays.
    ///
    /// # Errors
    /// [`ErrorKind::Type`] if a value is there but is not a `T`, [`ErrorKind::Unrepresentable`] if JSON cannot hold
    /// the default.
    pub fn get_or_insert_with<T, F>(&self, key: &str, default: F) -> Result<T>
    where
        T: Serialize + DeserializeOwned,
        F: FnOnce() -> T,
    {
        if let Some(present) = self.get(key)? {
            return Ok(present);
        }
        // The state is not locked meanwhile: the default may come from the session itself.
        let value = default();
        let raw = represent(key, &value)?;
        let mut state = self.0.state();
        if let Some(present) = state.values.get(key)? {
            return Ok(present);
        }
        state.change(Change::SetDefault(key.into(), raw))?;
        Ok(value)
    }

    /// As [`get_or_insert_with`](Self::get_or_insert_with), for JSON text.
    pub fn get_or_insert_raw(&self, key: &str, default: impl FnOnce() -> RawJson) -> RawJson {
        if let Some(present) = self.get_raw(key) {
            return present;
        }
        let value = default();
        let mut state = self.0.state();
        if let Some(present) = state.values.get_raw(key) {
            return RawJson::from_valid(present);
        }
        state.change_or_mark(Change::SetDefault(key.into(), value.clone()));
        value
    }

    /// Removes `key` and returns its value; `None`, and no change, if there is none.
    ///
    /// # Errors
    /// [`ErrorKind::Type`] if the value is not a `T`; it is then still there. To remove without reading, use
    /// [`remove_raw`](Self::remove_raw).
    pub fn remove<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        let mut state = self.accessed_state();
        let value = state.values.get(key)?;
        state.check_writable()?;
        state.remove(key);
        Ok(value)
    }

    /// Removes `key` and returns its value as JSON text; `None`, and no change, if there is none.
    pub fn remove_raw(&self, key: &str) -> Option<RawJson> {
        self.0.state().remove(key)
    }

    /// Whether there is a value under `key`.
    pub fn contains_key(&self, key: &str) -> bool {
        self.accessed_state().values.contains_key(key)
    }

    /// The keys, in the order in which they were first set.
    pub fn keys(&self) -> Vec<String> {
        self.accessed_state().values.keys().map(|key| key.into_owned()).collect()
    }

    /// Keys and values, in order, as they are at this moment.
    pub fn iter(&self) -> impl Iterator<Item = (String, RawJson)> + use<> {
        let state = self.accessed_state();
        let items: Vec<_> =
            state.values.iter().map(|(key, raw)| (key.into_owned(), RawJson::from_valid(raw))).collect();
        items.into_iter()
    }

    /// All data as one JSON object, as Django would write it.
    pub fn to_json(&self) -> String {
        self.accessed_state().values.to_json()
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.accessed_state().values.len()
    }

    /// Whether the session has neither a key nor data: Django's `is_empty`, which does not count as an access. A
    /// session that was saved is not empty, even if [`len`](Self::len) is 0.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Drops all data and keeps the key; the record is then saved empty. To end a session, use [`flush`](Self::flush).
    pub fn clear(&self) {
        self.0.state().change_or_mark(Change::Clear);
    }

    /// The session's key; `None` for one that has not been saved yet, or was flushed.
    pub fn key(&self) -> Option<SessionKey> {
        self.0.key()
    }

    /// Whether the store did not answer, and the visitor is served without a session all the same, as
    /// `SESSION_ON_UNAVAILABLE = "anonymous"` wants it. Such a session reads as empty. What would change it is refused
    /// with [`ErrorKind::Unavailable`]; by a method that returns no error, when the request ends: its response is then
    /// replaced by 503. Only a [`flush`](Self::flush) is tried nevertheless, since it does not need to know what it ends.
    pub fn is_unavailable(&self) -> bool {
        self.0.is_unavailable()
    }

    /// Whether the data was asked for or changed.
    pub fn accessed(&self) -> bool {
        self.0.accessed()
    }

    /// Whether the session was changed.
    pub fn modified(&self) -> bool {
        self.0.modified()
    }

    /// Marks the session as changed, or not. A change through this dictionary marks it by itself.
    pub fn set_modified(&self, modified: bool) {
        self.0.set_modified(modified);
    }

    /// Sets when this session ends; see [`Expiry`] for the choices. It is stored with the session, and survives until
    /// it is set anew.
    ///
    /// ```ignore
    /// session.set_expiry(30 * 24 * 3600)?;        // 30 days after the last save
    /// session.set_expiry(Expiry::BrowserClose)?;
    /// session.set_expiry(Expiry::Default)?;       // what the settings say
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Unrepresentable`] for a date before 1970 or beyond 9999, or a number that is not finite.
    pub fn set_expiry(&self, expiry: impl Into<Expiry>) -> Result<()> {
        let keeper = self.0.keeper();
        let item = keeper.rules.stored_item(&expiry.into(), keeper.clock.now())?;
        let mut state = self.accessed_state();
        state.check_writable()?;
        match item {
            Some(item) => state.change(Change::Set(EXPIRY_KEY.into(), RawJson::from_valid(&item))),
            None => {
                state.remove(EXPIRY_KEY);
                Ok(())
            }
        }
    }

    /// How long the session lives from now, in seconds.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupted`] if what is stored as its expiry cannot be read.
    pub fn expiry_age(&self) -> Result<Age> {
        self.expiry_age_from(self.0.keeper().clock.now())
    }

    /// How long the session lives, in seconds, if it is saved at `modification`.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupted`] if what is stored as its expiry cannot be read.
    pub fn expiry_age_from(&self, modification: Timestamp) -> Result<Age> {
        let state = self.accessed_state();
        self.0.keeper().rules.age(state.values.readable_plain(EXPIRY_KEY)?, modification)
    }

    /// When the session ends, if it is saved now.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupted`] if what is stored as its expiry cannot be read.
    pub fn expiry_date(&self) -> Result<DateTime> {
        self.expiry_date_from(self.0.keeper().clock.now())
    }

    /// When the session ends, if it is saved at `modification`.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupted`] if what is stored as its expiry cannot be read.
    pub fn expiry_date_from(&self, modification: Timestamp) -> Result<DateTime> {
        let state = self.accessed_state();
        self.0.keeper().rules.date(state.values.readable_plain(EXPIRY_KEY)?, modification)
    }

    /// Whether the cookie ends with the browser's session.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupted`] if what is stored as the session's expiry cannot be read.
    pub fn expires_at_browser_close(&self) -> Result<bool> {
        let state = self.accessed_state();
        self.0.keeper().rules.browser_close(state.values.readable_plain(EXPIRY_KEY)?)
    }

    /// Gives the session a new key and keeps its data: do this when a visitor signs in, so that a key known before
    /// is worth nothing. The new record is made when the session is saved, and the old one deleted after it.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] if the system has no randomness to give.
    pub fn cycle_key(&self) -> Result<()> {
        let keeper = self.0.keeper();
        self.accessed_state().check_writable()?;
        match &keeper.engine {
            Engine::SignedCookies(cookies) => {
                let mut state = self.accessed_state();
                let text = cookies.write(&state.values, keeper.clock.now())?;
                state.key = Some(SessionKey::from_text(&text));
                state.mark_modified();
            }
            Engine::Store { .. } | Engine::Off => {
                let new = keeper.keys.draw()?;
                self.0.state().rotate(new);
            }
        }
        Ok(())
    }

    /// Ends the session: do this when a visitor signs out. Its data is gone, its record is deleted when the request
    /// ends, whatever the response's status, and the cookie is removed. What is set afterwards starts a new session.
    pub fn flush(&self) {
        self.0.flush();
    }

    /// Saves the session now instead of at the end of the request: for a handler that streams its answer, or works
    /// long after its last change. Nothing is saved a second time unless it changes again.
    ///
    /// # Errors
    /// [`ErrorKind::Interrupted`] if the session was deleted meanwhile, [`ErrorKind::Contended`] if other requests
    /// kept changing it, [`ErrorKind::Unavailable`] if the store failed, [`ErrorKind::TooLarge`] if the engine cannot
    /// carry so much.
    pub async fn save(&self) -> Result<()> {
        self.0.save().await
    }

    /// Sets an item by which a later request can tell that the browser accepts cookies.
    pub fn set_test_cookie(&self) {
        self.insert_raw(TEST_COOKIE, RawJson::from_valid(&format!("\"{TEST_COOKIE_VALUE}\"")));
    }

    /// Whether the item of [`set_test_cookie`](Self::set_test_cookie) came back.
    pub fn test_cookie_worked(&self) -> bool {
        matches!(self.get::<String>(TEST_COOKIE), Ok(Some(text)) if text == TEST_COOKIE_VALUE)
    }

    /// Removes the item of [`set_test_cookie`](Self::set_test_cookie).
    ///
    /// # Errors
    /// [`ErrorKind::Missing`] if it is not there.
    pub fn delete_test_cookie(&self) -> Result<()> {
        match self.remove_raw(TEST_COOKIE) {
            Some(_) => Ok(()),
            None => Err(Error::new(ErrorKind::Missing, "no test cookie is set in this session")),
        }
    }
}

/// A value as JSON; the error names its key.
fn represent<T: Serialize + ?Sized>(key: &str, value: &T) -> Result<RawJson> {
    RawJson::new(value).map_err(|error| {
        Error::new(
            ErrorKind::Unrepresentable,
            format!("the value for session key `{key}` ({}) cannot be stored: {error}", type_name::<T>()),
        )
    })
}

/// A raw value as `T`; the error names its key.
fn read<T: DeserializeOwned>(key: &str, raw: &str) -> Result<T> {
    crate::json::item(key, raw)
}

impl From<&Session> for Values {
    /// A copy of the data.
    fn from(session: &Session) -> Self {
        session.accessed_state().values.clone()
    }
}
