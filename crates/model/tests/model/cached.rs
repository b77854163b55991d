//! A cache in front of a database, which fails and comes back at any moment.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use cloakroom_model::engine::cached::{CacheForm, CachedStore};
use cloakroom_model::engine::memory::MemoryStore;
use cloakroom_model::exchange::Exchange;
use cloakroom_model::store::{Cleared, Created, Deleted, Replaced, Rotated, Store, Stored, Touched, Version};
use cloakroom_model::wire::session_data::Codec;
use cloakroom_model::wire::signing::Secrets;
use cloakroom_model::{Error, ErrorKind, Result, SessionKey, Timestamp};
use shuttle::future::{spawn, yield_now};
use shuttle::rand::{Rng, thread_rng};
use shuttle::sync::atomic::{AtomicBool, Ordering};

use crate::common::explore;
use crate::site::{Far, clock, exchange, given, increment, request};

/// A cache that answers now and then, until it is mended: what it does not answer to, it may have done or not.
struct Flaky {
    cache: Far,
    mended: AtomicBool,
}

impl Flaky {
    async fn call<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let broken = !self.mended.load(Ordering::SeqCst);
        let down = || Error::new(ErrorKind::Unavailable, "the cache does not answer");
        if broken && thread_rng().gen_bool(0.3) {
            return Err(down());
        }
        let answer = work.await;
        if broken && thread_rng().gen_bool(0.2) { Err(down()) } else { answer }
    }
}

#[async_trait]
#[warn(clippy::missing_trait_methods)]
impl Store for Flaky {
    async fn load(&self, key: &SessionKey) -> Result<Option<Stored>> {
        self.call(self.cache.load(key)).await
    }

    async fn create(&self, key: &SessionKey, payload: Bytes, expiry: Timestamp) -> Result<Created> {
        self.call(self.cache.create(key, payload, expiry)).await
    }

    async fn replace(
        &self,
        key: &SessionKey,
        version: &Version,
        payload: Bytes,
        expiry: Timestamp,
    ) -> Result<Replaced> {
        self.call(self.cache.replace(key, version, payload, expiry)).await
    }

    async fn touch(&self, key: &SessionKey, expiry: Timestamp) -> Result<Touched> {
        self.call(self.cache.touch(key, expiry)).await
    }

    async fn delete(&self, key: &SessionKey, version: Option<&Version>) -> Result<Deleted> {
        self.call(self.cache.delete(key, version)).await
    }

    async fn rotate(
        &self,
        old: &SessionKey,
        version: &Version,
        new: &SessionKey,
        payload: Bytes,
        expiry: Timestamp,
    ) -> Result<Rotated> {
        self.call(self.cache.rotate(old, version, new, payload, expiry)).await
    }

    async fn clear_expired(&self, batch: usize) -> Result<Cleared> {
        self.call(self.cache.clear_expired(batch)).await
    }

    async fn list(&self, after: Option<&SessionKey>, limit: usize) -> Result<Vec<SessionKey>> {
        self.call(self.cache.list(after, limit)).await
    }
}

/// Two processes over one cache and one database.
fn two() -> (Arc<Flaky>, Exchange, Exchange) {
    let clock = clock();
    let cache = Arc::new(Flaky { cache: Far(MemoryStore::new(clock.clone())), mended: AtomicBool::new(false) });
    let database = Arc::new(Far(MemoryStore::new(clock.clone())));
    let open = || {
        let (form, codec) = (CacheForm::Django(Codec::json()), Codec::signed_json(&Secrets::new("model")));
        let store =
            CachedStore::new("default", cache.clone(), form, database.clone(), codec, clock.clone()).into_engine();
        exchange(store, clock.clone())
    };
    (cache.clone(), open(), open())
}

/// What a process reads of a session.
async fn read(exchange: &Exchange, key: &SessionKey) -> Option<u64> {
    let mut found = None;
    let reading = request(exchange, Some(key), |session| {
        found = session.get("n")?;
        Ok(())
    });
    reading.await.expect("a session can be read without its cache");
    found
}

#[test]
fn a_process_never_reads_less_than_it_saved_and_the_other_not_for_long() {
    explore(150, async || {
        let (cache, one, other) = two();
        let key = given(&request(&one, None, increment).await.expect("a save")).expect("a cookie");
        let writers = [&one, &other].map(|exchange| {
            let (exchange, key) = (exchange.clone(), key.clone());
            spawn(async move {
                for _ in 0..2 {
                    let before = read(&exchange, &key).await.expect("a session");
                    request(&exchange, Some(&key), increment).await.expect("a save that does without the cache");
                    assert!(read(&exchange, &key).await.expect("a session") > before, "it read what was before it");
                }
            })
        });
        for writer in writers {
            writer.await.expect("a writer");
        }
        cache.mended.store(true, Ordering::SeqCst);
        for exchange in [&one, &other] {
            while read(exchange, &key).await != Some(5) {
                yield_now().await;
            }
        }
    });
}

#[test]
fn what_was_ended_is_not_read_again() {
    explore(150, async || {
        let (cache, one, other) = two();
        let key = given(&request(&one, None, increment).await.expect("a save")).expect("a cookie");
        let reader = {
            let (other, key) = (other.clone(), key.clone());
            spawn(async move { read(&other, &key).await })
        };
        let ended = request(&one, Some(&key), |session| {
            session.flush();
            Ok(())
        });
        let ended = ended.await;
        reader.await.expect("a reader");
        if ended.is_ok() {
            for _ in 0..3 {
                assert_eq!(read(&one, &key).await, None, "a session that was ended");
                assert_eq!(read(&other, &key).await, None, "a session whose end was acknowledged");
            }
        }
        // Where the end was not acknowledged, for the cache may hold the session, that does not last.
        cache.mended.store(true, Ordering::SeqCst);
        for exchange in [&one, &other] {
            while read(exchange, &key).await.is_some() {
                yield_now().await;
            }
        }
    });
}
