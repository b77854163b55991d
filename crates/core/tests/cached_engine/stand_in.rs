//! A store that can be counted, broken and held up.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use cloakroom_core::engine::memory::MemoryStore;
use cloakroom_core::store::{Cleared, Created, Deleted, Replaced, Rotated, Store, Stored, Touched, Version};
use cloakroom_core::{Clock, Error, ErrorKind, Result, SessionKey, Timestamp};
use tokio::sync::Notify;

/// A memory store behind a wire that tests can cut.
pub(crate) struct StandIn {
    pub(crate) inner: MemoryStore,
    calls: Mutex<Vec<&'static str>>,
    pub(crate) down: AtomicBool,
    /// Refuses new data, as a full cache does, but deletes.
    pub(crate) full: AtomicBool,
    /// Rotates in one exchange, as databases do.
    pub(crate) rotates: AtomicBool,
    hold: Mutex<Option<(&'static str, Arc<Held>)>>,
}

/// A call that was carried out, and whose answer is on its way.
#[derive(Default)]
pub(crate) struct Held {
    reached: Notify,
    release: Notify,
}

impl Held {
    pub(crate) async fn reached(&self) {
        self.reached.notified().await;
    }

    pub(crate) fn release(&self) {
        self.release.notify_one();
    }
}

impl StandIn {
    pub(crate) fn new(clock: &Clock) -> Arc<Self> {
        Arc::new(Self {
            inner: MemoryStore::new(clock.clone()),
            calls: Mutex::default(),
            down: AtomicBool::new(false),
            full: AtomicBool::new(false),
            rotates: AtomicBool::new(false),
            hold: Mutex::default(),
        })
    }

    /// The calls since the last time this was asked.
    pub(crate) fn calls(&self) -> Vec<&'static str> {
        std::mem::take(&mut *self.calls.lock().unwrap())
    }

    pub(crate) fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::SeqCst);
    }

    pub(crate) fn set_full(&self, full: bool) {
        self.full.store(full, Ordering::SeqCst);
    }

    /// Holds up the answer of the next call of this operation.
    pub(crate) fn hold(&self, operation: &'static str) -> Arc<Held> {
        let held = Arc::new(Held::default());
        *self.hold.lock().unwrap() = Some((operation, Arc::clone(&held)));
        held
    }

    fn call(&self, operation: &'static str) -> Result<()> {
        self.calls.lock().unwrap().push(operation);
        let refused = self.full.load(Ordering::SeqCst) && matches!(operation, "create" | "replace");
        if refused || self.down.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Unavailable, "the wire is cut"));
        }
        Ok(())
    }

    async fn answer(&self, operation: &'static str) {
        let held = self.hold.lock().unwrap().take_if(|(name, _)| *name == operation);
        if let Some((_, held)) = held {
            held.reached.notify_one();
            held.release.notified().await;
        }
    }
}

#[async_trait]
#[warn(clippy::missing_trait_methods)]
impl Store for StandIn {
    async fn load(&self, key: &SessionKey) -> Result<Option<Stored>> {
        self.call("load")?;
        let answer = self.inner.load(key).await;
        self.answer("load").await;
        answer
    }

    async fn create(&self, key: &SessionKey, payload: Bytes, expiry: Timestamp) -> Result<Created> {
        self.call("create")?;
        let answer = self.inner.create(key, payload, expiry).await;
        self.answer("create").await;
        answer
    }

    async fn replace(
        &self,
        key: &SessionKey,
        version: &Version,
        payload: Bytes,
        expiry: Timestamp,
    ) -> Result<Replaced> {
        self.call("replace")?;
        let answer = self.inner.replace(key, version, payload, expiry).await;
        self.answer("replace").await;
        answer
    }

    async fn touch(&self, key: &SessionKey, expiry: Timestamp) -> Result<Touched> {
        self.call("touch")?;
        self.inner.touch(key, expiry).await
    }

    async fn delete(&self, key: &SessionKey, version: Option<&Version>) -> Result<Deleted> {
        self.call("delete")?;
        let answer = self.inner.delete(key, version).await;
        self.answer("delete").await;
        answer
    }

    async fn rotate(
        &self,
        old: &SessionKey,
        version: &Version,
        new: &SessionKey,
        payload: Bytes,
        expiry: Timestamp,
    ) -> Result<Rotated> {
        if !self.rotates.load(Ordering::SeqCst) {
            return self.inner.rotate(old, version, new, payload, expiry).await;
        }
        self.call("rotate")?;
        // Tests run on one thread, and a store in memory never waits: nobody sees the steps.
        let outcome = match self.inner.delete(old, Some(version)).await? {
            Deleted::Deleted => match self.inner.create(new, payload, expiry).await? {
                Created::Created(version) => Rotated::Rotated(version),
                Created::Taken => panic!("no test draws a key twice"),
            },
            Deleted::Gone => Rotated::Gone,
            Deleted::Conflict(stored) => Rotated::Conflict(stored),
        };
        self.answer("rotate").await;
        Ok(outcome)
    }

    async fn clear_expired(&self, batch: usize) -> Result<Cleared> {
        self.call("clear_expired")?;
        self.inner.clear_expired(batch).await
    }

    async fn list(&self, after: Option<&SessionKey>, limit: usize) -> Result<Vec<SessionKey>> {
        self.call("list")?;
        self.inner.list(after, limit).await
    }
}
