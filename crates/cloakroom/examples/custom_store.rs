//! A store of one's own: sessions in a sorted map.
//!
//! A store needs `cloakroom-core`, `async-trait` and `bytes`, and knows nothing of JSON, cookies or signatures: it keeps
//! bytes under keys. The suite of `cloakroom-core` (feature `conformance`) proves that it holds to the contract; for
//! this one that is `crates/cloakroom/tests/custom_store.rs`.
//!
//! ```sh
//! cargo run -p cloakroom --example custom_store
//! curl -b jar -c jar localhost:8000/
//! ```

use std::collections::BTreeMap;
use std::error::Error;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use axum::{Router, routing::get};
use bytes::Bytes;
use cloakroom::{Session, Sessions, Settings};
use cloakroom_core::store::{Cleared, Created, Deleted, Replaced, Rotated, Store, Stored, Touched, Version};
use cloakroom_core::{Clock, Result, SessionKey, Timestamp};

/// Sessions in a sorted map, for as long as the process lives.
pub struct MapStore {
    clock: Clock,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    records: BTreeMap<SessionKey, Stored>,
    /// Counts up with every payload that is stored. If each record counted for itself, one that was deleted and made
    /// anew could have the version of its predecessor.
    versions: u64,
}

impl MapStore {
    /// An empty store. Time comes from the clock, so that tests can move it.
    pub fn new(clock: Clock) -> Self {
        Self { clock, inner: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Inner {
    /// The record under `key`, unless it has expired: at its very expiry, it has.
    fn live(&mut self, key: &SessionKey, now: Timestamp) -> Option<&mut Stored> {
        self.records.get_mut(key).filter(|stored| stored.expiry > now)
    }

    fn put(&mut self, key: &SessionKey, payload: Bytes, expiry: Timestamp) -> Version {
        self.versions += 1;
        let version = Version::counter(self.versions);
        self.records.insert(key.clone(), Stored { payload, version: version.clone(), expiry });
        version
    }
}

/// Each method looks and writes under one lock, so that nothing comes between. A server would do the same in one
/// statement or one script: a look followed by a write is not atomic, and the suite finds it.
#[async_trait]
impl Store for MapStore {
    async fn load(&self, key: &SessionKey) -> Result<Option<Stored>> {
        Ok(self.lock().live(key, self.clock.now()).cloned())
    }

    async fn create(&self, key: &SessionKey, payload: Bytes, expiry: Timestamp) -> Result<Created> {
        let mut inner = self.lock();
        if inner.live(key, self.clock.now()).is_some() {
            return Ok(Created::Taken);
        }
        Ok(Created::Created(inner.put(key, payload, expiry)))
    }

    async fn replace(
        &self,
        key: &SessionKey,
        version: &Version,
        payload: Bytes,
        expiry: Timestamp,
    ) -> Result<Replaced> {
        let mut inner = self.lock();
        Ok(match inner.live(key, self.clock.now()) {
            // Never made anew: a session that was signed out must not come back.
            None => Replaced::Gone,
            // What stands there goes to the caller, who merges and tries again.
            Some(stored) if stored.version != *version => Replaced::Conflict(stored.clone()),
            Some(_) => Replaced::Replaced(inner.put(key, payload, expiry)),
        })
    }

    async fn touch(&self, key: &SessionKey, expiry: Timestamp) -> Result<Touched> {
        Ok(match self.lock().live(key, self.clock.now()) {
            None => Touched::Gone,
            Some(stored) => {
                stored.expiry = expiry;
                Touched::Touched
            }
        })
    }

    async fn delete(&self, key: &SessionKey, version: Option<&Version>) -> Result<Deleted> {
        let mut inner = self.lock();
        Ok(match inner.live(key, self.clock.now()) {
            None => Deleted::Gone,
            Some(stored) if version.is_some_and(|version| stored.version != *version) => {
                Deleted::Conflict(stored.clone())
            }
            Some(_) => {
                inner.records.remove(key);
                Deleted::Deleted
            }
        })
    }

    /// The optional one. Without it a rotation is a `create` and a guarded `delete`; here it is one step.
    async fn rotate(
        &self,
        old: &SessionKey,
        version: &Version,
        new: &SessionKey,
        payload: Bytes,
        expiry: Timestamp,
    ) -> Result<Rotated> {
        let (mut inner, now) = (self.lock(), self.clock.now());
        if inner.live(new, now).is_some() {
            return Ok(Rotated::Taken);
        }
        Ok(match inner.live(old, now) {
            None => Rotated::Gone,
            Some(stored) if stored.version != *version => Rotated::Conflict(stored.clone()),
            Some(_) => {
                inner.records.remove(old);
                Rotated::Rotated(inner.put(new, payload, expiry))
            }
        })
    }

    async fn clear_expired(&self, batch: usize) -> Result<Cleared> {
        let (mut inner, now) = (self.lock(), self.clock.now());
        let expired = inner.records.iter().filter(|(_, stored)| stored.expiry < now).map(|(key, _)| key.clone());
        // One more than the batch tells whether more are left.
        let mut expired: Vec<_> = expired.take(batch.saturating_add(1)).collect();
        let more = expired.len() > batch;
        expired.truncate(batch);
        for key in &expired {
            inner.records.remove(key);
        }
        Ok(Cleared { removed: expired.len() as u64, more })
    }

    async fn list(&self, after: Option<&SessionKey>, limit: usize) -> Result<Vec<SessionKey>> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        Ok(self
            .lock()
            .records
            .range::<SessionKey, _>((from, Bound::Unbounded))
            .take(limit)
            .map(|(key, _)| key.clone())
            .collect())
    }
}

async fn visits(session: Session) -> cloakroom::Result<String> {
    let visits: u64 = session.update("visits", |n: Option<u64>| n.unwrap_or(0) + 1)?;
    Ok(format!("This is visit {visits}.\n"))
}

/// A page whose sessions stand in a store of this kind.
pub fn page(store: MapStore) -> cloakroom::Result<Router> {
    let settings = Settings::builder().secret_key("change-me").build().map_err(cloakroom_core::Error::from)?;
    let sessions = Sessions::with_store(settings, Arc::new(store))?;
    Ok(Router::new().route("/", get(visits)).layer(sessions.layer()))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let page = page(MapStore::new(Clock::system()))?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:8000").await?;
    println!("Count your visits on http://{}", listener.local_addr()?);
    axum::serve(listener, page).await?;
    Ok(())
}
