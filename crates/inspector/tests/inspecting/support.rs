//! A store in memory, filled with what sites write.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cloakroom_core::engine::Engine;
use cloakroom_core::engine::memory::MemoryStore;
use cloakroom_core::peek::Records;
use cloakroom_core::store::Store;
use cloakroom_core::{Clock, KeySource, SessionKey, Settings, Timestamp, Values};
use cloakroom_inspector::{Inspector, Step};

pub(crate) const NOW: Timestamp = Timestamp::from_secs(1_900_000_000);

/// A step of so many records, however long it takes.
pub(crate) fn step(records: u64) -> Step {
    Step { records, time: Duration::MAX }
}

pub(crate) struct Place {
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) settings: Settings,
    pub(crate) clock: Clock,
}

impl Place {
    pub(crate) fn new() -> Self {
        let settings = Settings::builder().secret_key("of a test").set("SESSION_ENGINE", "cache").build().unwrap();
        let clock = Clock::manual(NOW);
        Self { store: Arc::new(MemoryStore::new(clock.clone())), settings, clock }
    }

    pub(crate) fn inspector(&self) -> Inspector {
        let records = Records { peek: Some(self.store.clone()), codec: self.settings.signed_codec() };
        Inspector::new(&self.settings, self.engine(), Some(records), self.clock.clone())
    }

    /// An inspector that knows the store by its contract alone.
    pub(crate) fn stranger(&self) -> Inspector {
        Inspector::new(&self.settings, self.engine(), None, self.clock.clone())
    }

    fn engine(&self) -> Engine {
        Engine::Store { store: self.store.clone(), codec: self.settings.signed_codec() }
    }

    /// A session that was saved just now and lives for so many seconds.
    pub(crate) async fn add(&self, json: &str, seconds: i64) -> SessionKey {
        let values = Values::parse(json.as_bytes().to_vec()).unwrap();
        let payload = self.settings.signed_codec().encode(&values, self.clock.now()).unwrap();
        self.add_raw(payload, seconds).await
    }

    pub(crate) async fn add_raw(&self, payload: Bytes, seconds: i64) -> SessionKey {
        let key = KeySource::system().draw().unwrap();
        let expiry = self.clock.now().checked_add_micros(seconds * 1_000_000).unwrap();
        self.store.create(&key, payload, expiry).await.unwrap();
        key
    }

    pub(crate) async fn has(&self, key: &SessionKey) -> bool {
        self.store.load(key).await.unwrap().is_some()
    }
}
