//! The suite's payloads as what sessions hold.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::clock::{Clock, Timestamp};
use crate::error::Result;
use crate::key::SessionKey;
use crate::store::{Cleared, Created, Deleted, Replaced, Rotated, Store, Stored, Touched, Version};
use crate::values::Values;
use crate::wire::session_data::Codec;

/// A store that takes only what its codec writes, made fit for the suite: the suite's payloads are put into sessions.
pub struct ThroughCodec {
    store: Arc<dyn Store>,
    codec: Codec,
    clock: Clock,
}

impl ThroughCodec {
    /// A store with its codec.
    pub fn new(store: Arc<dyn Store>, codec: Codec, clock: Clock) -> Self {
        Self { store, codec, clock }
    }

    fn write(&self, payload: &[u8]) -> Result<Bytes> {
        let mut values = Values::new();
        values.insert("text", std::str::from_utf8(payload).expect("the suite's payloads are text"))?;
        self.codec.encode(&values, self.clock.now())
    }

    fn read(&self, stored: Stored) -> Result<Stored> {
        let payload: Option<String> = self.codec.decode(&stored.payload)?.get("text")?;
        Ok(Stored { payload: payload.unwrap_or_default().into(), ..stored })
    }
}

#[async_trait]
#[warn(clippy::missing_trait_methods)]
impl Store for ThroughCodec {
    async fn load(&self, key: &SessionKey) -> Result<Option<Stored>> {
        self.store.load(key).await?.map(|stored| self.read(stored)).transpose()
    }

    async fn create(&self, key: &SessionKey, payload: Bytes, expiry: Timestamp) -> Result<Created> {
        self.store.create(key, self.write(&payload)?, expiry).await
    }

    async fn replace(
        &self,
        key: &SessionKey,
        version: &Version,
        payload: Bytes,
        expiry: Timestamp,
    ) -> Result<Replaced> {
        Ok(match self.store.replace(key, version, self.write(&payload)?, expiry).await? {
            Replaced::Conflict(stored) => Replaced::Conflict(self.read(stored)?),
            other => other,
        })
    }

    async fn touch(&self, key: &SessionKey, expiry: Timestamp) -> Result<Touched> {
        self.store.touch(key, expiry).await
    }

    async fn delete(&self, key: &SessionKey, version: Option<&Version>) -> Result<Deleted> {
        Ok(match self.store.delete(key, version).await? {
            Deleted::Conflict(stored) => Deleted::Conflict(self.read(stored)?),
            other => other,
        })
    }

    async fn rotate(
        &self,
        old: &SessionKey,
        version: &Version,
        new: &SessionKey,
        payload: Bytes,
        expiry: Timestamp,
    ) -> Result<Rotated> {
        Ok(match self.store.rotate(old, version, new, self.write(&payload)?, expiry).await? {
            Rotated::Conflict(stored) => Rotated::Conflict(self.read(stored)?),
            other => other,
        })
    }

    async fn clear_expired(&self, batch: usize) -> Result<Cleared> {
        self.store.clear_expired(batch).await
    }

    async fn list(&self, after: Option<&SessionKey>, limit: usize) -> Result<Vec<SessionKey>> {
        self.store.list(after, limit).await
    }
}
