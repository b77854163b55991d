//! The engine cached_db on real servers, opened from settings in Django's shape: Redis in front of PostgreSQL, and by
//! the suite for stores also Memcached in front of MariaDB.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use cloakroom::core::engine::Engine;
use cloakroom::{Clock, Error, ErrorKind, SessionKey, SessionSlot, Sessions, Settings};
use cloakroom_core::conformance::store::{Harness, Subject, ThroughCodec};
use cloakroom_test_servers::{Kind, Server, require_or_skip, shared};

fn settings(database: &str, cache: &str) -> Settings {
    let (backend, cache) = match cache.strip_prefix("memcached://") {
        Some(address) => ("django.core.cache.backends.memcached.PyMemcacheCache", address),
        None => ("django.core.cache.backends.redis.RedisCache", cache),
    };
    let toml = format!(
        "SECRET_KEY = 'cached_db on servers'\nSESSION_ENGINE = 'django.contrib.sessions.backends.cached_db'\n\
         SESSION_CACHE_ALIAS = 'sessions'\nDATABASE_URL = '{database}'\n\
         [CACHES.sessions]\nBACKEND = '{backend}'\nLOCATION = '{cache}'\n"
    );
    Settings::builder().toml(&toml).build().unwrap()
}

/// A site on two servers, whose table is there.
async fn sessions(database: &str, cache: &str) -> Sessions {
    let settings = settings(database, cache);
    cloakroom::open_database(&settings, false, Clock::system()).await.unwrap().migrate().await.unwrap();
    Sessions::from_settings(settings).await.unwrap()
}

/// Two handles on a fresh database behind a cache, as two processes have them; nothing if there are no such servers.
/// Keys of sessions are random, so that Memcached, which has no databases, needs no more than one place for all.
fn harness(database: Kind, cache: Kind) -> Option<Harness> {
    let (database, cache) = (shared(database)?, shared(cache)?);
    let tells_expiry = cache.kind() == Kind::Memcached;
    let open = move |clock: Clock| async move {
        let (database, cache) = (database.database(), cache.database());
        let open = async || {
            let sessions = sessions(&database, &cache).await;
            let Engine::Store { store, codec } = sessions.exchange().engine().clone() else { unreachable!() };
            ThroughCodec::new(store, codec, clock.clone())
        };
        Subject::new(open().await).with_second(open().await)
    };
    let harness = Harness::new(open).in_real_time();
    Some(if tells_expiry { harness } else { harness.without_expiry() })
}

mod redis_before_postgres {
    use super::*;
    cloakroom_core::store_conformance!(match harness(Kind::Postgres, Kind::Redis) {
        Some(harness) => harness,
        None => return,
    });
}

mod memcached_before_mariadb {
    use super::*;
    cloakroom_core::store_conformance!(match harness(Kind::MariaDb, Kind::Memcached) {
        Some(harness) => harness,
        None => return,
    });
}

/// Both servers for one test, to be broken.
struct Site {
    database: Server,
    cache: Server,
    table: String,
}

impl Site {
    fn start() -> Option<Self> {
        let (database, cache) = (require_or_skip(Kind::Postgres)?, require_or_skip(Kind::Redis)?);
        let table = database.database();
        Some(Self { database, cache, table })
    }

    async fn process(&self) -> Process {
        Process(sessions(&self.table, &self.cache.url()).await)
    }

    fn row(&self, key: &SessionKey) -> String {
        let sql = format!("SELECT session_data FROM django_session WHERE session_key = '{}'", key.as_str());
        self.database.sql(&self.table, &sql)
    }

    /// What a Django would get from the cache.
    fn entry(&self, key: &SessionKey) -> Option<Vec<u8>> {
        let mut wire = TcpStream::connect(self.cache.address()).unwrap();
        write!(wire, "GET :1:django.contrib.sessions.cached_db{}\r\n", key.as_str()).unwrap();
        let mut wire = BufReader::new(wire);
        let mut head = String::new();
        wire.read_line(&mut head).unwrap();
        let length = head.trim_end().strip_prefix('$').unwrap().parse().ok()?;
        let mut value = vec![0; length];
        wire.read_exact(&mut value).unwrap();
        Some(value)
    }
}

struct Process(Sessions);

impl Process {
    async fn request(&self, key: Option<&SessionKey>) -> Result<SessionSlot, Error> {
        let cookie = key.map(|key| format!("sessionid={}", key.as_str()));
        let slot = self.0.exchange().open(cookie.iter().map(|cookie| cookie.as_bytes()));
        slot.load().await?;
        Ok(slot)
    }

    async fn read(&self, key: &SessionKey) -> Result<String, Error> {
        Ok(self.request(Some(key)).await?.load().await?.to_json())
    }

    async fn set(&self, key: &SessionKey, name: &str) -> Result<(), Error> {
        let slot = self.request(Some(key)).await?;
        slot.load().await?.insert(name, &1)?;
        Ok(slot.save().await?)
    }

    async fn make(&self) -> SessionKey {
        let slot = self.request(None).await.unwrap();
        slot.load().await.unwrap().insert("a", &1).unwrap();
        slot.save().await.unwrap();
        slot.key().unwrap()
    }

    async fn sign_out(&self, key: &SessionKey) -> Result<(), Error> {
        let slot = self.request(Some(key)).await?;
        slot.flush();
        Ok(self.0.exchange().commit(&slot, 200).await.map(drop)?)
    }
}

fn unavailable<T: std::fmt::Debug>(outcome: Result<T, Error>) {
    assert_eq!(outcome.expect_err("with a server down").kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn each_half_holds_its_own_form() {
    let Some(site) = Site::start() else { return };
    let process = site.process().await;
    let key = process.make().await;
    assert!(site.row(&key).starts_with("eyJhIjoxfQ:"), "signed text: {}", site.row(&key));
    let pickle = site.entry(&key).unwrap();
    assert!(pickle.starts_with(b"\x80\x05") && pickle.ends_with(b"."), "a pickle: {pickle:?}");
    process.sign_out(&key).await.unwrap();
    let marker = site.entry(&key).unwrap();
    assert!(marker.starts_with(b"\x80") && marker[2..].starts_with(b"N."), "a pickled None: {marker:?}");
    assert_eq!((site.row(&key).as_str(), process.read(&key).await.unwrap().as_str()), ("", "{}"));
}

#[tokio::test]
async fn the_cache_is_killed_and_comes_back_with_all_that_it_held() {
    let Some(site) = Site::start() else { return };
    let (process, other) = (site.process().await, site.process().await);
    let (changed, left) = (process.make().await, process.make().await);
    site.cache.kill();
    process.set(&changed, "b").await.unwrap();
    assert_eq!(process.read(&changed).await.unwrap(), "{\"a\":1,\"b\":1}");
    let during = process.make().await;
    assert_eq!(other.read(&during).await.unwrap(), "{\"a\":1}");
    unavailable(process.sign_out(&left).await);
    assert_eq!(site.row(&left), "", "its row is deleted all the same");

    site.cache.restart();
    assert_eq!(process.read(&changed).await.unwrap(), "{\"a\":1,\"b\":1}", "nobody falls for the old entry");
    assert_eq!(other.read(&changed).await.unwrap(), "{\"a\":1,\"b\":1}");
    assert_eq!(other.read(&during).await.unwrap(), "{\"a\":1}");
    process.sign_out(&left).await.unwrap();
    assert_eq!(other.read(&left).await.unwrap(), "{}");
}

#[tokio::test]
async fn the_cache_is_frozen() {
    let Some(site) = Site::start() else { return };
    let process = site.process().await;
    let key = process.make().await;
    site.cache.freeze();
    process.set(&key, "b").await.unwrap();
    assert_eq!(process.read(&key).await.unwrap(), "{\"a\":1,\"b\":1}");
    site.cache.thaw();
    // What it was sent while it was frozen, it does now; none of it is older than what it is sent from here on.
    assert_eq!(process.read(&key).await.unwrap(), "{\"a\":1,\"b\":1}");
    assert_eq!(site.process().await.read(&key).await.unwrap(), "{\"a\":1,\"b\":1}");
}

#[tokio::test]
async fn the_database_is_killed() {
    let Some(site) = Site::start() else { return };
    let process = site.process().await;
    let key = process.make().await;
    site.database.kill();
    assert_eq!(process.read(&key).await.unwrap(), "{\"a\":1}", "what is cached can be read");
    unavailable(process.set(&key, "b").await);
    unavailable(process.sign_out(&key).await);
    site.database.restart();
    process.set(&key, "b").await.unwrap();
    assert_eq!(site.process().await.read(&key).await.unwrap(), "{\"a\":1,\"b\":1}");
}

/// Two processes count on one session, with Redis being killed and restarted under them.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_lost_while_the_cache_comes_and_goes() {
    let Some(site) = Site::start() else { return };
    let processes = [Arc::new(site.process().await), Arc::new(site.process().await)];
    let key = processes[0].make().await;
    let workers: Vec<_> = (0..6)
        .map(|worker| {
            let (process, key) = (Arc::clone(&processes[worker % 2]), key.clone());
            tokio::spawn(async move {
                for _ in 0..20 {
                    let slot = process.request(Some(&key)).await.unwrap();
                    let session = slot.load().await.unwrap();
                    session.update("n", |n: Option<u32>| n.unwrap_or(0) + 1).unwrap();
                    slot.save().await.unwrap();
                }
            })
        })
        .collect();
    let site = tokio::task::spawn_blocking(move || {
        for _ in 0..3 {
            site.cache.kill();
            site.cache.restart();
        }
        site
    });
    let site = site.await.unwrap();
    for worker in workers {
        worker.await.unwrap();
    }
    for process in &processes {
        process.set(&key, "end").await.unwrap();
        assert_eq!(process.read(&key).await.unwrap(), "{\"a\":1,\"n\":120,\"end\":1}");
    }
    drop(site);
}
