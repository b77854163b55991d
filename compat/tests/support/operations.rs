//! Our sessions at the operations that Django's recorded cache sessions went through.

use std::sync::Arc;

use cloakroom_core::engine::Engine;
use cloakroom_core::engine::cached::{CacheForm, CachedStore};
use cloakroom_core::exchange::{Exchange, Policy, SessionSlot};
use cloakroom_core::store::Store;
use cloakroom_core::wire::cache_key::{CACHE_ENGINE, CACHED_DB_ENGINE};
use cloakroom_core::wire::cookie::{CookieAttributes, CookieWriter};
use cloakroom_core::wire::expiry::ExpiryRules;
use cloakroom_core::wire::session_data::Codec;
use cloakroom_core::wire::signing::Secrets;
use cloakroom_core::{Clock, ErrorKind, KeySource, RawJson, SessionKey};
use cloakroom_sql::{SqliteOptions, SqliteStore};

/// A recorded operation, as far as it matters to what our sessions do.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    /// What is done.
    pub(crate) name: String,
    /// The keys that Django's commands name, in order, and with each what is stored there.
    pub(crate) keys: Vec<(String, Option<Vec<u8>>)>,
}

/// What stands before the session's key in the keys of an engine.
pub(crate) fn key_prefix(engine: &str) -> String {
    format!(":1:{}", if engine == "cache" { CACHE_ENGINE } else { CACHED_DB_ENGINE })
}

/// A site of ours, and the session that goes from operation to operation.
pub(crate) struct Script {
    pub(crate) exchange: Exchange,
    codec: Codec,
    prefix: String,
    /// The session keys that Django drew, in order.
    drawn: Vec<String>,
    /// What Django's first save stores.
    first_value: Vec<u8>,
    first_key: String,
    slot: SessionSlot,
}

impl Script {
    /// A site on an engine, `cache` or `cached_db`, whose cache is `store`.
    pub(crate) async fn new(
        engine: &str,
        store: Arc<dyn Store>,
        codec: Codec,
        clock: Clock,
        operations: &[Operation],
    ) -> Self {
        let prefix = key_prefix(engine);
        let drawn = drawn(operations, &prefix);
        let first_value = operations.iter().flat_map(|operation| &operation.keys).find_map(|(_, value)| value.clone());
        let engine = match engine {
            "cache" => Engine::Store { store, codec: codec.clone() },
            _ => {
                let rows = SqliteStore::open(SqliteOptions::in_memory(), clock.clone()).await.expect("a database");
                rows.migrations().apply().await.expect("its table");
                let rows: Arc<dyn Store> = Arc::new(rows);
                let signed = Codec::signed_json(&Secrets::new("of no account for the cache"));
                CachedStore::new("default", store, CacheForm::Django(codec.clone()), rows, signed, clock.clone())
                    .into_engine()
            }
        };
        let cookie = CookieWriter::new(&CookieAttributes::default()).expect("a cookie");
        let policy = Policy::new(cookie, ExpiryRules::default());
        let exchange = Exchange::new(engine, policy, clock, KeySource::scripted(drawn.iter().map(String::as_str)));
        let slot = exchange.open(std::iter::empty());
        let first_value = first_value.expect("a save");
        Self { exchange, codec, prefix, drawn, first_value, first_key: String::new(), slot }
    }

    fn open(&self, key: Option<&str>) -> SessionSlot {
        let header = key.map(|key| format!("sessionid={key}"));
        self.exchange.open(header.iter().map(|header| header.as_bytes()))
    }

    async fn save(&self) -> Option<&'static str> {
        match self.slot.save().await {
            Ok(()) => None,
            Err(error) if error.kind() == ErrorKind::Interrupted => Some("UpdateError"),
            Err(error) => panic!("{:?}: {error}", error.kind()),
        }
    }

    /// What stands unrecorded before an operation; the key that this made, if any.
    pub(crate) async fn prepare(&mut self, operation: &Operation) -> Option<String> {
        if operation.name != "flush" {
            return None;
        }
        self.slot = self.open(None);
        self.slot.load().await.expect("a session").insert("z", &1).expect("an item");
        self.slot.save().await.expect("a save");
        let made = self.slot.key().expect("a key that was drawn");
        Some(format!("{}{}", self.prefix, made.as_str()))
    }

    /// Does what Django did; the name of Python's exception if it fails.
    pub(crate) async fn run(&mut self, operation: &Operation) -> Option<&'static str> {
        let named = || operation.keys[0].0.split_once(&self.prefix).expect("a key of this engine").1.to_owned();
        match operation.name.as_str() {
            "set on a new session, no save" => {
                let values = self.codec.decode(&self.first_value).expect("what Django saves next");
                let session = self.slot.load().await.unwrap();
                values.iter().for_each(|(name, raw)| session.insert_raw(&name, RawJson::parse(raw).unwrap()));
                None
            }
            "save of a new session" => {
                let outcome = self.save().await;
                self.first_key = self.slot.key().unwrap().as_str().to_owned();
                outcome
            }
            "second save" => {
                // Something has to be written again: a save of nothing new would only move the expiry.
                let session = self.slot.load().await.unwrap();
                let (name, raw) = session.iter().next().map(|(name, raw)| (name.to_string(), raw)).unwrap();
                session.insert_raw(&name, raw);
                self.save().await
            }
            "load by another instance" => {
                assert!(!self.open(Some(&self.first_key)).load().await.unwrap().is_empty());
                None
            }
            "set_expiry(0)" | "set_expiry(30 days + 1 s)" | "set_expiry(-10)" => {
                let seconds = match operation.name.as_str() {
                    "set_expiry(0)" => 0,
                    "set_expiry(-10)" => -10,
                    _ => 2_592_001,
                };
                self.slot.load().await.unwrap().set_expiry(seconds).unwrap();
                None
            }
            "save with expiry 0" | "save with 30 days + 1 s" | "save with expiry -10" => self.save().await,
            "save after that" => {
                self.slot.load().await.unwrap().insert("late", &true).unwrap();
                self.save().await
            }
            "cycle_key" => {
                self.slot.load().await.unwrap().cycle_key().unwrap();
                self.save().await
            }
            // There is no such operation: to make a record finds out.
            "exists" | "exists of an unknown key" => None,
            "load of an unknown key" => {
                assert!(self.open(Some(&named())).load().await.unwrap().is_empty());
                None
            }
            "delete of a missing key" => {
                let missing = SessionKey::presented(&self.first_key).unwrap();
                self.exchange.engine().store().unwrap().delete(&missing, None).await.unwrap();
                None
            }
            "flush" => {
                self.slot.flush();
                // The status keeps everything else from being done.
                self.exchange.commit(&self.slot, 500).await.unwrap();
                None
            }
            "create on a new object" => {
                self.open(None).create().await.unwrap();
                None
            }
            other => panic!("an operation that is not known here: {other}, of {:?}", self.drawn),
        }
    }
}

/// The session keys that Django drew, in order.
fn drawn(operations: &[Operation], prefix: &str) -> Vec<String> {
    let key = |key: &String| key.split_once(prefix).expect("a key of this engine").1.to_owned();
    operations
        .iter()
        .filter_map(|operation| match operation.name.as_str() {
            "save of a new session" | "cycle_key" | "create on a new object" => {
                operation.keys.iter().find(|(_, value)| value.is_some()).map(|(name, _)| key(name))
            }
            // The session that is flushed was made before, unrecorded.
            "flush" => operation.keys.last().map(|(name, _)| key(name)),
            _ => None,
        })
        .collect()
}
