//! The suite for stores, with near caches.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use cloakroom_core::conformance::store::{self, Harness, Subject};
use cloakroom_core::peek::Peek;
use cloakroom_core::store::{Cleared, Created, Deleted, Replaced, Rotated, Store, Stored, Touched, Version};
use cloakroom_core::{Clock, Result, SessionKey, Timestamp};
use cloakroom_sql::PostgresStore;
use cloakroom_test_servers::{Kind, Options};

use super::{MIB, PATIENCE, SELDOM, options};

/// A store with a near cache beside another one, which has heard of everything that this one did when that is done: the
/// suite looks at once whether one sees what the other does, and a notification takes its time.
struct Heard {
    store: Arc<PostgresStore>,
    other: Arc<PostgresStore>,
}

impl Heard {
    /// Waits until the other one serves what stands in the table.
    async fn by_the_other<T>(&self, key: &SessionKey, outcome: Result<T>) -> Result<T> {
        let start = Instant::now();
        loop {
            let standing = self.other.peek(key).await?;
            let now = self.other.clock().now();
            let standing = standing.filter(|stored| stored.expiry > now).map(|stored| (stored.payload, stored.expiry));
            let served = self.other.load(key).await?.map(|stored| (stored.payload, stored.expiry));
            if standing == served {
                return outcome;
            }
            assert!(start.elapsed() < PATIENCE, "{served:?} is served, and {standing:?} stands there");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

#[async_trait]
impl Store for Heard {
    async fn load(&self, key: &SessionKey) -> Result<Option<Stored>> {
        self.store.load(key).await
    }

    async fn create(&self, key: &SessionKey, payload: Bytes, expiry: Timestamp) -> Result<Created> {
        self.by_the_other(key, self.store.create(key, payload, expiry).await).await
    }

    async fn replace(&self, key: &SessionKey, version: &Version, new: Bytes, expiry: Timestamp) -> Result<Replaced> {
        self.by_the_other(key, self.store.replace(key, version, new, expiry).await).await
    }

    async fn touch(&self, key: &SessionKey, expiry: Timestamp) -> Result<Touched> {
        self.by_the_other(key, self.store.touch(key, expiry).await).await
    }

    async fn delete(&self, key: &SessionKey, version: Option<&Version>) -> Result<Deleted> {
        self.by_the_other(key, self.store.delete(key, version).await).await
    }

    async fn rotate(
        &self,
        old: &SessionKey,
        version: &Version,
        new: &SessionKey,
        payload: Bytes,
        expiry: Timestamp,
    ) -> Result<Rotated> {
        let outcome = self.store.rotate(old, version, new, payload, expiry).await;
        self.by_the_other(new, self.by_the_other(old, outcome).await).await
    }

    async fn clear_expired(&self, batch: usize) -> Result<Cleared> {
        self.store.clear_expired(batch).await
    }

    async fn list(&self, after: Option<&SessionKey>, limit: usize) -> Result<Vec<SessionKey>> {
        self.store.list(after, limit).await
    }
}

/// All checks in one test, with a database for each, on a server of their own: each of them listens, twice.
#[test]
fn near_caches_conform() {
    let many = Options::new(Kind::Postgres).args(["-c", "max_connections=1000"]);
    let Some(server) = many.require_or_skip() else { return };
    let server = Arc::new(server);
    store::block_on(store::run(Harness::new(move |clock: Clock| {
        let server = Arc::clone(&server);
        async move {
            let url = super::prepared(&server).await;
            let near = async || {
                let options = options(&url).near_cache(16 * MIB, SELDOM);
                Arc::new(PostgresStore::open(options, clock.clone()).await.unwrap())
            };
            let (one, two) = (near().await, near().await);
            Subject::new(Heard { store: one.clone(), other: two.clone() }).with_second(Heard { store: two, other: one })
        }
    })));
}
