//! A site on each embedded engine, at a time and with the keys that a recorded case gives.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::sync::Arc;

use cloakroom_core::engine::Engine;
use cloakroom_core::engine::cached::{CacheForm, CachedStore};
use cloakroom_core::engine::file::{FileStore, dating};
use cloakroom_core::engine::memory::MemoryStore;
use cloakroom_core::engine::signed_cookies::{self, SignedCookies};
use cloakroom_core::exchange::{Exchange, Policy, SessionSlot};
use cloakroom_core::store::Store;
use cloakroom_core::wire::cookie::{CookieAttributes, CookieWriter};
use cloakroom_core::wire::expiry::ExpiryRules;
use cloakroom_core::wire::session_data::{Codec, JsonSerializer, SignedText};
use cloakroom_core::wire::signing::Secrets;
use cloakroom_core::{Clock, KeySource, SessionKey, Timestamp, Values};
use cloakroom_sql::{SqliteOptions, SqliteStore, Synchronous};

/// A site for one case; its directory goes with it.
pub(crate) struct Site {
    pub(crate) engine: &'static str,
    pub(crate) exchange: Exchange,
    pub(crate) clock: Clock,
    directory: tempfile::TempDir,
}

/// What differs between sites.
pub(crate) struct Options<'a> {
    pub(crate) secret: &'a str,
    pub(crate) fallbacks: Vec<&'a str>,
    pub(crate) cookie_age: i64,
    pub(crate) save_every_request: bool,
    pub(crate) now: Timestamp,
    pub(crate) keys: Vec<&'a str>,
}

impl Site {
    pub(crate) async fn open(engine: &'static str, options: Options<'_>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock = Clock::manual(options.now);
        let secrets = Secrets::new(options.secret).with_fallbacks(options.fallbacks);
        let rules = ExpiryRules { cookie_age: options.cookie_age, ..ExpiryRules::default() };
        let cookie = CookieAttributes::default();
        let codec = Codec::signed_json(&secrets);
        let engine_of = match engine {
            "db" | "cached_db" => {
                // FULL synchronisation is for power cuts, not for thousands of short-lived test databases.
                let options = SqliteOptions::new(directory.path().join("db.sqlite3"))
                    .create_if_missing(true)
                    .synchronous(Synchronous::Off);
                let store = SqliteStore::open(options, clock.clone()).await.unwrap();
                store.migrations().apply().await.unwrap();
                let store = Arc::new(store);
                if engine == "db" {
                    Engine::Store { store, codec }
                } else {
                    // In the form of a cache that Django reads, though none does: what it shares is tested elsewhere.
                    let cache = Arc::new(MemoryStore::new(clock.clone()));
                    let form = CacheForm::Django(Codec::json());
                    CachedStore::new("default", cache, form, store, codec, clock.clone()).into_engine()
                }
            }
            "cache" => Engine::Store { store: Arc::new(MemoryStore::new(clock.clone())), codec: Codec::json() },
            "file" => {
                let dating = dating(codec.clone(), rules.clone());
                let store = FileStore::new(directory.path(), &cookie.name, clock.clone(), dating).unwrap();
                Engine::Store { store: Arc::new(store), codec }
            }
            "signed_cookies" => Engine::SignedCookies(SignedCookies::new(
                SignedText::new(&secrets, signed_cookies::SALT, Arc::new(JsonSerializer)),
                rules.clone(),
                cookie.name.len(),
            )),
            other => panic!("no engine {other}"),
        };
        let policy = Policy::new(CookieWriter::new(&cookie).unwrap(), rules);
        let policy = Policy { save_every_request: options.save_every_request, ..policy };
        let exchange = Exchange::new(engine_of, policy, clock.clone(), KeySource::scripted(options.keys));
        Self { engine, exchange, clock, directory }
    }

    /// Takes the database away.
    pub(crate) fn remove_database(&self) {
        std::fs::remove_file(self.directory.path().join("db.sqlite3")).unwrap();
    }

    /// A request with this session cookie, quoted where its value needs it.
    pub(crate) fn request(&self, cookie: Option<&str>) -> SessionSlot {
        let header = cookie.map(|value| {
            let plain = value.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:".contains(&b));
            let quoted = format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""));
            format!("{}={}", self.exchange.cookie_name(), if plain { value } else { &quoted })
        });
        self.exchange.open(header.iter().map(|header| header.as_bytes()))
    }

    pub(crate) fn store(&self) -> Option<&Arc<dyn Store>> {
        self.exchange.engine().store()
    }

    pub(crate) fn codec(&self) -> Option<&Codec> {
        match self.exchange.engine() {
            Engine::Store { codec, .. } => Some(codec),
            _ => None,
        }
    }

    /// Makes a record as Django would have at `now`, to expire at `expiry`.
    pub(crate) async fn put(&self, key: &str, values: &Values, expiry: Timestamp) {
        let payload = self.codec().unwrap().encode(values, self.clock.now()).unwrap();
        let key = SessionKey::presented(key).unwrap();
        self.store().unwrap().create(&key, payload, expiry).await.unwrap();
    }

    /// The keys of all records, expired ones too, except in the cache engine.
    pub(crate) async fn keys(&self) -> Vec<SessionKey> {
        let Some(store) = self.store() else { return Vec::new() };
        let mut keys: Vec<SessionKey> = Vec::new();
        loop {
            let page = store.list(keys.last(), 100).await.unwrap();
            if page.is_empty() {
                break;
            }
            keys.extend(page);
        }
        if self.engine == "cache" {
            let mut live = Vec::new();
            for key in keys {
                if store.load(&key).await.unwrap().is_some() {
                    live.push(key);
                }
            }
            keys = live;
        }
        keys
    }

    /// Whether a record stands under the key, expired or not.
    pub(crate) async fn exists(&self, key: Option<&str>) -> bool {
        let Some(key) = key else { return false };
        self.keys().await.iter().any(|present| present.as_str() == key)
    }

    pub(crate) async fn clear_expired(&self) {
        if let Some(store) = self.store() {
            while store.clear_expired(10).await.unwrap().more {}
        }
    }
}

/// Accounts for one case: as recorded, or otherwise for the reason that a row of `docs/django.md` gives.
pub(crate) fn account(report: &mut cloakroom_compat::Report, row: Option<&str>, differences: &[String]) {
    match (differences, row) {
        ([], _) => report.checked(),
        (_, Some(row)) => report.departure(row),
        (_, None) => report.fail("", differences.join("\n")),
    }
}
