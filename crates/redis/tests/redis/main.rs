//! The store on private servers that these tests start: the suite for stores, round trips, TLS and login, faults.

mod conformance;
mod faults;
mod fullness;
mod near;
mod round_trips;
mod runtimes;
mod sentinel;
mod together;
mod ways_in;

use cloakroom_core::store::{Created, Store, Version};
use cloakroom_core::{Clock, Error, KeySource, SessionKey, Timestamp};
use cloakroom_redis::{RedisOptions, RedisStore};
use cloakroom_test_servers::Kind;

/// A server on which a script compares, unless it is as new as Redis 8.4, and one that compares by itself.
const BOTH: [Kind; 2] = [Kind::Redis, Kind::Valkey];

/// A store at a URL.
fn store(url: &str) -> RedisStore {
    RedisStore::open(options(url), Clock::system()).expect("a store is opened without a server")
}

fn options(url: &str) -> RedisOptions {
    RedisOptions::from_url(url).expect("a URL of ours")
}

fn key() -> SessionKey {
    KeySource::system().draw().expect("a random key")
}

/// An hour from now.
fn later() -> Timestamp {
    Clock::system().now().checked_add_micros(3_600_000_000).expect("within the calendar")
}

async fn create(store: &RedisStore, key: &SessionKey, payload: &'static str) -> Version {
    match store.create(key, payload.into(), later()).await {
        Ok(Created::Created(version)) => version,
        other => panic!("{other:?}"),
    }
}

async fn payload(store: &RedisStore, key: &SessionKey) -> Option<String> {
    let stored = store.load(key).await.expect("load");
    stored.map(|stored| String::from_utf8(stored.payload.to_vec()).expect("what was stored"))
}

/// A connection of the test's own, past the store.
struct Wire(redis::aio::MultiplexedConnection);

impl Wire {
    async fn to(url: &str) -> Self {
        Self::try_to(url).await.expect("a connection")
    }

    async fn try_to(url: &str) -> redis::RedisResult<Self> {
        // Long enough for a machine that is busy with other tests.
        let patience = Some(std::time::Duration::from_secs(20));
        let config =
            redis::AsyncConnectionConfig::new().set_connection_timeout(patience).set_response_timeout(patience);
        Ok(Self(redis::Client::open(url)?.get_multiplexed_async_connection_with_config(&config).await?))
    }

    async fn try_ask(&mut self, words: &[&str]) -> redis::RedisResult<redis::Value> {
        let mut command = redis::cmd(words[0]);
        words[1..].iter().for_each(|&word| {
            command.arg(word);
        });
        command.query_async(&mut self.0).await
    }

    /// Whether the server compares a value by itself before it replaces it.
    async fn compares(&mut self) -> bool {
        self.try_ask(&["SET", "nothing", "new", "IFEQ", "old"]).await.is_ok()
    }

    async fn ask<T: redis::FromRedisValue>(&mut self, words: &[&str]) -> T {
        let answer = self.try_ask(words).await.unwrap_or_else(|error| panic!("{words:?}: {error}"));
        redis::from_redis_value(answer).unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }
}

/// What an error says, with everything beneath it.
fn all_of(error: &Error) -> String {
    format!("{error} {error:?}")
}
