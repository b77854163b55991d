//! The suite for stores, with times in seconds as Django has them, and in milliseconds as django-redis has them; and with
//! near caches.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cloakroom_core::conformance::store::{Harness, Subject, ThroughCodec};
use cloakroom_core::engine::cached::{CacheForm, CachedStore};
use cloakroom_core::engine::memory::MemoryStore;
use cloakroom_core::store::{Cleared, Created, Deleted, Replaced, Rotated, Store, Stored, Touched, Version};
use cloakroom_core::wire::session_data::Codec;
use cloakroom_core::wire::signing::Secrets;
use cloakroom_core::{Clock, Result, SessionKey, Timestamp};
use cloakroom_redis::{RedisStore, TimeUnit};
use cloakroom_test_servers::{Kind, shared};

/// A harness on the shared server of a kind, each check in a database of its own; nothing if there is no server.
fn harness(kind: Kind, unit: TimeUnit) -> Option<Harness> {
    let server = shared(kind)?;
    let open = move |clock: Clock| async move {
        let url = server.database();
        let open = || RedisStore::open(crate::options(&url).time_unit(unit), clock.clone()).expect("a store");
        Subject::new(open()).with_second(open())
    };
    Some(Harness::new(open).in_real_time().without_expiry())
}

mod in_seconds {
    use super::*;
    cloakroom_core::store_conformance!(match harness(Kind::Redis, TimeUnit::Seconds) {
        Some(harness) => harness,
        None => return,
    });
}

mod in_milliseconds {
    use super::*;
    cloakroom_core::store_conformance!(match harness(Kind::Redis, TimeUnit::Milliseconds) {
        Some(harness) => harness,
        None => return,
    });
}

/// On a server that compares by itself.
mod on_valkey {
    use super::*;
    cloakroom_core::store_conformance!(match harness(Kind::Valkey, TimeUnit::Seconds) {
        Some(harness) => harness,
        None => return,
    });
}

mod on_valkey_in_milliseconds {
    use super::*;
    cloakroom_core::store_conformance!(match harness(Kind::Valkey, TimeUnit::Milliseconds) {
        Some(harness) => harness,
        None => return,
    });
}

/// A store with a near cache beside another one, which has heard of everything that this one did when that is done: the
/// suite looks at once whether one sees what the other does, and a message takes its time.
struct Heard {
    store: Arc<RedisStore>,
    other: Arc<RedisStore>,
}

impl Heard {
    /// What is answered to the other one now comes after what it is told of our change.
    async fn by_the_other<T>(&self, outcome: Result<T>) -> Result<T> {
        self.other.ping().await?;
        outcome
    }
}

#[async_trait]
impl Store for Heard {
    async fn load(&self, key: &SessionKey) -> Result<Option<Stored>> {
        self.store.load(key).await
    }

    async fn create(&self, key: &SessionKey, payload: Bytes, expiry: Timestamp) -> Result<Created> {
        self.by_the_other(self.store.create(key, payload, expiry).await).await
    }

    async fn replace(&self, key: &SessionKey, version: &Version, new: Bytes, expiry: Timestamp) -> Result<Replaced> {
        self.by_the_other(self.store.replace(key, version, new, expiry).await).await
    }

    async fn touch(&self, key: &SessionKey, expiry: Timestamp) -> Result<Touched> {
        self.by_the_other(self.store.touch(key, expiry).await).await
    }

    async fn delete(&self, key: &SessionKey, version: Option<&Version>) -> Result<Deleted> {
        self.by_the_other(self.store.delete(key, version).await).await
    }

    async fn rotate(
        &self,
        old: &SessionKey,
        version: &Version,
        new: &SessionKey,
        payload: Bytes,
        expiry: Timestamp,
    ) -> Result<Rotated> {
        self.by_the_other(self.store.rotate(old, version, new, payload, expiry).await).await
    }

    async fn clear_expired(&self, batch: usize) -> Result<Cleared> {
        self.store.clear_expired(batch).await
    }

    async fn list(&self, after: Option<&SessionKey>, limit: usize) -> Result<Vec<SessionKey>> {
        self.store.list(after, limit).await
    }
}

/// Two stores with near caches on one server.
fn two_that_hear(url: &str, clock: &Clock) -> (Heard, Heard) {
    let near = || {
        let options = crate::options(url).near_cache(1 << 24, Duration::from_secs(3_600));
        Arc::new(RedisStore::open(options, clock.clone()).expect("a store"))
    };
    let (one, two) = (near(), near());
    (Heard { store: one.clone(), other: two.clone() }, Heard { store: two, other: one })
}

fn harness_of_near_caches(kind: Kind) -> Option<Harness> {
    let server = shared(kind)?;
    let open = move |clock: Clock| async move {
        let (one, two) = two_that_hear(&server.database(), &clock);
        Subject::new(one).with_second(two)
    };
    Some(Harness::new(open).in_real_time().without_expiry())
}

mod with_near_caches {
    use super::*;
    cloakroom_core::store_conformance!(match harness_of_near_caches(Kind::Redis) {
        Some(harness) => harness,
        None => return,
    });
}

mod with_near_caches_on_valkey {
    use super::*;
    cloakroom_core::store_conformance!(match harness_of_near_caches(Kind::Valkey) {
        Some(harness) => harness,
        None => return,
    });
}

/// `cached_db`, whose cache is this store with a near cache.
mod near_caches_before_a_database {
    use super::*;

    fn harness() -> Option<Harness> {
        let server = shared(Kind::Redis)?;
        let open = move |clock: Clock| async move {
            let (one, two) = two_that_hear(&server.database(), &clock);
            let database = Arc::new(MemoryStore::new(clock.clone()));
            let cached = |cache: Heard| {
                let (form, signed) = (CacheForm::Django(Codec::json()), Codec::signed_json(&Secrets::new("a secret")));
                let store = CachedStore::new("near", Arc::new(cache), form, database.clone(), signed, clock.clone());
                let codec = store.codec();
                ThroughCodec::new(Arc::new(store), codec, clock.clone())
            };
            Subject::new(cached(one)).with_second(cached(two))
        };
        Some(Harness::new(open).in_real_time().without_expiry())
    }

    cloakroom_core::store_conformance!(match harness() {
        Some(harness) => harness,
        None => return,
    });
}
