//! The place from which everything is looked at.

use std::sync::Arc;

use cloakroom_core::engine::Engine;
use cloakroom_core::engine::signed_cookies;
use cloakroom_core::peek::{Peek, Records};
use cloakroom_core::settings::{CacheBackend, CacheConfig, EngineName, Settings};
use cloakroom_core::store::{Deleted, Store};
use cloakroom_core::wire::django_auth::USER_ID_KEY;
use cloakroom_core::wire::expiry::EXPIRY_KEY;
use cloakroom_core::wire::session_data::{Codec, SignedText};
use cloakroom_core::{Clock, Error, ErrorKind, Result, SessionKey, Timestamp};

use crate::handle::Handles;
use crate::record::{Details, Reader};
use crate::{Handle, Record};

/// How many records are asked for to find one by its handle: those whose keys begin alike.
const ALIKE: usize = 500;

/// Looks into a site's sessions. Clones are cheap and share everything.
#[derive(Clone)]
pub struct Inspector(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    engine: Engine,
    peek: Option<Arc<dyn Peek>>,
    reader: Reader,
    handles: Handles,
    clock: Clock,
    settings: Settings,
    place: String,
    private: bool,
}

/// What an operator calls a session.
#[derive(Clone, Debug)]
pub enum Named {
    /// Its key, whole.
    Key(SessionKey),
    /// Its handle, as lists show it.
    Handle(Handle),
}

impl Named {
    /// Reads a key or a handle. With `signed_cookies` a key is the whole value of the cookie.
    pub fn parse(text: &str) -> Option<Self> {
        match text.parse() {
            Ok(handle) => Some(Self::Handle(handle)),
            Err(_) => SessionKey::presented(text).map(Self::Key),
        }
    }
}

impl Inspector {
    /// An inspector of an engine. One without `records` is not the engine that the settings name; its records are read
    /// through the store, which hands out nothing of what has expired.
    pub fn new(settings: &Settings, engine: Engine, records: Option<Records>, clock: Clock) -> Self {
        let custom = records.is_none() && engine.store().is_some();
        let (peek, codec) = match (records, &engine) {
            (Some(Records { peek, codec }), _) => (peek, codec),
            (None, Engine::Store { codec, .. }) => (None, codec.clone()),
            (None, _) => {
                let text = SignedText::new(settings.secrets(), signed_cookies::SALT, settings.serializer());
                (None, Codec::new(text))
            }
        };
        let place = if custom { "store of the application's own".to_owned() } else { place(settings) };
        let in_process = |cache: &CacheConfig| cache.backend == CacheBackend::LocMem;
        let private = !custom && settings.engine().uses_cache() && settings.session_cache().is_some_and(in_process);
        let reader = Reader { codec, rules: settings.expiry_rules(), user_item: USER_ID_KEY.to_owned() };
        let handles = Handles::new(settings.secrets());
        Self(Arc::new(Inner { engine, peek, reader, handles, clock, settings: settings.clone(), place, private }))
    }

    /// The same, where another item than Django's `_auth_user_id` says who is logged in.
    #[must_use]
    pub fn with_user_item(mut self, item: &str) -> Self {
        Arc::make_mut(&mut self.0).reader.user_item = item.to_owned();
        self
    }

    /// The engine and where it keeps sessions, without passwords.
    pub fn place(&self) -> &str {
        &self.0.place
    }

    /// Whether sessions, or a cache in front of them, live in the memory of the site's process: another process sees
    /// nothing of them.
    pub fn is_private(&self) -> bool {
        self.0.private
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.0.settings
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    /// The store.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) fn store(&self) -> Result<&Arc<dyn Store>> {
        match &self.0.engine {
            Engine::Store { store, .. } => Ok(store),
            Engine::SignedCookies(_) => Err(Error::new(
                ErrorKind::Unsupported,
                "signed_cookies keeps nothing on the server: its sessions are in the visitors' browsers, where they can \
                 be neither listed nor revoked",
            )),
            Engine::Off => Err(Error::new(
                ErrorKind::NotInstalled,
                "sessions are switched off: INSTALLED_APPS names neither `django.contrib.sessions` nor `cloakroom`",
            )),
        }
    }

    /// Whether the engine can list its sessions, so that a handle leads back to one.
    pub(crate) async fn can_list(&self) -> bool {
        match self.store() {
            // Any other failure is met again, and told, by what comes next.
            Ok(store) => store.list(None, 1).await.err().is_none_or(|error| error.kind() != ErrorKind::Unsupported),
            Err(_) => false,
        }
    }

    pub(crate) fn handle(&self, key: &SessionKey) -> Handle {
        self.0.handles.of(key)
    }

    /// The key of a handle, if a record stands under it.
    pub(crate) async fn resolve(&self, handle: &Handle) -> Result<Option<SessionKey>> {
        let store = self.store()?;
        let mut after = handle.before();
        loop {
            let keys = store.list(after.as_ref(), ALIKE).await?;
            for key in keys.iter().filter(|key| key.is_storable()) {
                if !key.as_str().starts_with(handle.prefix()) {
                    return Ok(None);
                }
                if self.handle(key) == *handle {
                    return Ok(Some(key.clone()));
                }
            }
            match keys.into_iter().next_back() {
                last @ Some(_) => after = last,
                None => return Ok(None),
            }
        }
    }

    /// A session with its data; `None` if there is none.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for a handle where the engine cannot list; that of the store, if it fails.
    pub async fn find(&self, named: &Named) -> Result<Option<Details>> {
        let key = match named {
            Named::Key(key) => key.clone(),
            Named::Handle(handle) => match self.resolve(handle).await? {
                Some(key) => key,
                None => return Ok(None),
            },
        };
        if let Engine::SignedCookies(_) = self.0.engine {
            return Ok(Some(self.cookie(key)));
        }
        self.store()?;
        if !key.is_storable() {
            return Ok(None);
        }
        self.look(&key, false).await
    }

    /// The session in a cookie, for the engine that keeps none.
    fn cookie(&self, key: SessionKey) -> Details {
        let payload = key.as_str().to_owned().into();
        let handle = self.handle(&key);
        let mut details = self.0.reader.read(key, handle, payload, None, self.now());
        // What is stored is the key here, and a key is shown by nobody.
        details.payload = Default::default();
        if let (Some(saved), None) = (details.record.saved, details.record.expiry) {
            let item = details.values.as_ref().and_then(|values| values.get_raw(EXPIRY_KEY));
            if let Ok(end) = self.0.reader.rules.expires_at(item, saved) {
                details.record.expiry = Some(end);
                details.record.expired = end <= self.now();
            }
        }
        details
    }

    /// The record under a key. One that is `listed` and not handed out has expired, or has gone in between.
    pub(crate) async fn look(&self, key: &SessionKey, listed: bool) -> Result<Option<Details>> {
        let inner = &self.0;
        let stored = match &inner.peek {
            Some(peek) => peek.peek(key).await?,
            None => self.store()?.load(key).await?,
        };
        let (key, handle) = (key.clone(), self.handle(key));
        Ok(match stored {
            Some(stored) => {
                let expiry = Some(stored.expiry).filter(|expiry| *expiry != Timestamp::MAX);
                Some(inner.reader.read(key, handle, stored.payload, expiry, self.now()))
            }
            None if listed && inner.peek.is_none() => {
                let (user, size, saved, expiry, problem) = (None, None, None, None, None);
                let record = Record { key, handle, user, size, saved, expiry, expired: true, problem };
                Some(Details { record, values: None, payload: Default::default() })
            }
            None => None,
        })
    }

    /// Ends a session; `false` if there is none. It does not come back: a request of it that is still under way is
    /// answered 400.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] where the engine keeps no sessions; that of the store, if it fails.
    pub async fn revoke(&self, record: &Record) -> Result<bool> {
        let deleted = match self.store()?.delete(&record.key, None).await? {
            Deleted::Deleted => true,
            Deleted::Gone | Deleted::Conflict(_) => false,
        };
        tracing::info!(key = %record.masked(), deleted, "inspector: a session is revoked");
        Ok(deleted)
    }
}

fn place(settings: &Settings) -> String {
    if !settings.sessions_enabled() {
        return "switched off by INSTALLED_APPS".to_owned();
    }
    match settings.engine() {
        engine @ (EngineName::Db | EngineName::CachedDb) => {
            let url = settings.database_url().map(|url| format!(", {url}")).unwrap_or_default();
            let cache = match settings.session_cache() {
                Some(cache) if engine.uses_cache() => format!(", behind the cache {:?}", cache.backend),
                _ => String::new(),
            };
            format!("database engine{url}{cache}")
        }
        EngineName::Cache => match settings.session_cache().map(|cache| &cache.backend) {
            Some(CacheBackend::Redis | CacheBackend::DjangoRedis) => "cache engine, in Redis".to_owned(),
            Some(CacheBackend::PyMemcache | CacheBackend::PyLibMc) => "cache engine, in Memcached".to_owned(),
            _ => "cache engine, in this process: they end with it".to_owned(),
        },
        EngineName::File => format!("file engine, in {}", settings.file_path().display()),
        EngineName::SignedCookies => "signed_cookies engine, in the browser".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_sessions_is_told() {
        for (backend, location, told) in [
            ("locmem", "", "in this process"),
            ("redis", "redis://cache.example", "in Redis"),
            ("django_redis", "redis://cache.example", "in Redis"),
            ("pymemcache", "cache.example:11211", "in Memcached"),
        ] {
            let toml = format!(
                "SECRET_KEY = 'of a test'\nSESSION_ENGINE = 'cache'\n\
                 [CACHES.default]\nBACKEND = '{backend}'\nLOCATION = '{location}'"
            );
            let settings = Settings::builder().toml(&toml).build().expect("settings");
            let place = place(&settings);
            assert!(place.starts_with("cache engine") && place.contains(told), "{backend}: {place}");
        }
    }
}
