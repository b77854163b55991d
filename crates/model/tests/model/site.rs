//! A site on a store that lets others overtake between its steps.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use cloakroom_model::engine::Engine;
use cloakroom_model::engine::memory::MemoryStore;
use cloakroom_model::exchange::{Answer, Exchange, Policy};
use cloakroom_model::store::{Cleared, Created, Deleted, Replaced, Rotated, Store, Stored, Touched, Version};
use cloakroom_model::wire::cookie::{CookieAttributes, CookieWriter};
use cloakroom_model::wire::expiry::ExpiryRules;
use cloakroom_model::wire::session_data::Codec;
use cloakroom_model::{Clock, KeySource, Result, Session, SessionKey, Timestamp, Values};
use shuttle::future::yield_now;

pub(crate) fn clock() -> Clock {
    Clock::manual(Timestamp::from_secs(1_900_000_000))
}

/// A store at the end of a wire: others may come in before it is asked and before it has answered.
pub(crate) struct Far(pub(crate) MemoryStore);

impl Far {
    async fn travel<T>(&self, work: impl Future<Output = T>) -> T {
        yield_now().await;
        let answer = work.await;
        yield_now().await;
        answer
    }
}

#[async_trait]
#[warn(clippy::missing_trait_methods)]
impl Store for Far {
    async fn load(&self, key: &SessionKey) -> Result<Option<Stored>> {
        self.travel(self.0.load(key)).await
    }

    async fn create(&self, key: &SessionKey, payload: Bytes, expiry: Timestamp) -> Result<Created> {
        self.travel(self.0.create(key, payload, expiry)).await
    }

    async fn replace(
        &self,
        key: &SessionKey,
        version: &Version,
        payload: Bytes,
        expiry: Timestamp,
    ) -> Result<Replaced> {
        self.travel(self.0.replace(key, version, payload, expiry)).await
    }

    async fn touch(&self, key: &SessionKey, expiry: Timestamp) -> Result<Touched> {
        self.travel(self.0.touch(key, expiry)).await
    }

    async fn delete(&self, key: &SessionKey, version: Option<&Version>) -> Result<Deleted> {
        self.travel(self.0.delete(key, version)).await
    }

    async fn rotate(
        &self,
        old: &SessionKey,
        version: &Version,
        new: &SessionKey,
        payload: Bytes,
        expiry: Timestamp,
    ) -> Result<Rotated> {
        self.travel(self.0.rotate(old, version, new, payload, expiry)).await
    }

    async fn clear_expired(&self, batch: usize) -> Result<Cleared> {
        self.travel(self.0.clear_expired(batch)).await
    }

    async fn list(&self, after: Option<&SessionKey>, limit: usize) -> Result<Vec<SessionKey>> {
        self.travel(self.0.list(after, limit)).await
    }
}

#[derive(Clone)]
pub(crate) struct Site {
    pub(crate) exchange: Exchange,
    pub(crate) store: Arc<Far>,
}

/// An exchange on an engine.
pub(crate) fn exchange(engine: Engine, clock: Clock) -> Exchange {
    let cookie = CookieWriter::new(&CookieAttributes::default()).expect("a cookie");
    Exchange::new(engine, Policy::new(cookie, ExpiryRules::default()), clock, KeySource::system())
}

/// A request of a browser with this key: loads, works, commits.
pub(crate) async fn request(
    exchange: &Exchange,
    key: Option<&SessionKey>,
    work: impl FnOnce(&Session) -> Result<()>,
) -> Result<Answer> {
    let cookie = key.map(|key| format!("sessionid={}", key.as_str()));
    let slot = exchange.open(cookie.iter().map(|cookie| cookie.as_bytes()));
    let session = slot.load().await?;
    work(&session)?;
    exchange.commit(&slot, 200).await
}

/// The key that an answer gives the browser.
pub(crate) fn given(answer: &Answer) -> Option<SessionKey> {
    let (_, rest) = answer.set_cookie.as_ref()?.split_once('=')?;
    SessionKey::presented(rest.split(';').next()?)
}

pub(crate) fn increment(session: &Session) -> Result<()> {
    session.update("n", |n: Option<u64>| n.unwrap_or(0) + 1).map(drop)
}

/// The counter of a session's data.
pub(crate) fn count(values: &Values) -> u64 {
    values.get("n").expect("a number").unwrap_or(0)
}

impl Site {
    pub(crate) fn new() -> Self {
        let clock = clock();
        let store = Arc::new(Far(MemoryStore::new(clock.clone())));
        let engine = Engine::Store { store: store.clone(), codec: Codec::json() };
        Self { exchange: exchange(engine, clock), store }
    }

    /// A session whose counter stands at 1.
    pub(crate) async fn saved(&self) -> SessionKey {
        given(&request(&self.exchange, None, increment).await.expect("a save")).expect("a cookie")
    }

    /// All records, with what they hold.
    pub(crate) async fn records(&self) -> Vec<(SessionKey, Values)> {
        let mut records = Vec::new();
        for key in self.store.0.list(None, 100).await.expect("a list") {
            // It may have been deleted since.
            if let Some(stored) = self.store.0.load(&key).await.expect("a record") {
                records.push((key, Codec::json().decode(&stored.payload).expect("data")));
            }
        }
        records
    }
}
