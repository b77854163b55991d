//! What a request costs with cached_db on Redis and PostgreSQL, as both servers report it: a test fails when a count
//! grows.

use cloakroom::{Clock, SessionSlot, Sessions, Settings};
use cloakroom_compat::live::redis::{Monitor, Redis};
use cloakroom_test_servers::{Kind, Options, Server, shared};

/// A site with its sessions in databases of its own, and an eye on both.
struct Site {
    sessions: Sessions,
    cache: Monitor,
    cache_url: String,
    server: Server,
    database: String,
    statements: u64,
}

impl Site {
    async fn new() -> Option<Self> {
        let cache = shared(Kind::Redis)?.database();
        let server = Options::new(Kind::Postgres)
            .args(["-c", "shared_preload_libraries=pg_stat_statements"])
            .require_or_skip()?;
        server.sql("postgres", "CREATE EXTENSION pg_stat_statements");
        let database = server.database();
        let toml = format!(
            "SECRET_KEY = 'round trips of cached_db'\nSESSION_ENGINE = 'cached_db'\nDATABASE_URL = '{database}'\n\
             CACHE_URL = '{cache}'\n"
        );
        let settings = Settings::builder().toml(&toml).build().unwrap();
        cloakroom::open_database(&settings, false, Clock::system()).await.unwrap().migrate().await.unwrap();
        let sessions = Sessions::from_settings(settings).await.unwrap();
        let monitor = Redis::at(&cache).monitor();
        let mut site = Self { sessions, cache: monitor, cache_url: cache, server, database, statements: 0 };
        // From here on both sides know each other: connections are open, statements prepared, scripts loaded.
        let key = site.new_session().await;
        for _ in 0..2 {
            let slot = site.request(Some(&key));
            slot.load().await.unwrap().update("warm", |n: Option<u32>| n.unwrap_or(0) + 1).unwrap();
            site.respond(&slot).await;
        }
        let slot = site.request(Some(&key));
        slot.load().await.unwrap().cycle_key().unwrap();
        site.respond(&slot).await;
        let slot = site.request(Some(slot.key().unwrap().as_str()));
        slot.flush();
        site.respond(&slot).await;
        site.cost();
        Some(site)
    }

    fn request(&self, key: Option<&str>) -> SessionSlot {
        let header = key.map(|key| format!("sessionid={key}"));
        self.sessions.exchange().open(header.iter().map(|header| header.as_bytes()))
    }

    async fn respond(&self, slot: &SessionSlot) {
        self.sessions.exchange().commit(slot, 200).await.unwrap();
    }

    async fn new_session(&self) -> String {
        let slot = self.request(None);
        slot.load().await.unwrap().insert("visits", &1).unwrap();
        self.respond(&slot).await;
        slot.key().expect("a key").as_str().to_owned()
    }

    /// The commands that Redis, and the number of statements that PostgreSQL was sent since the last call.
    fn cost(&mut self) -> (Vec<String>, u64) {
        let sent = self.cache.carried().into_iter().filter(|carried| !carried.by_script);
        let names = sent.map(|carried| String::from_utf8_lossy(&carried.words[0]).to_uppercase());
        let commands = names.filter(|name| !matches!(name.as_str(), "SELECT" | "CLIENT")).collect();
        // Asked in another database, so that the question does not count.
        let name = self.database.rsplit('/').next().unwrap();
        let question = format!(
            "SELECT COALESCE(SUM(calls), 0) FROM pg_stat_statements WHERE dbid = (SELECT oid FROM pg_database \
             WHERE datname = '{name}')"
        );
        let total: u64 = self.server.sql("postgres", &question).trim().parse().unwrap();
        let statements = total - std::mem::replace(&mut self.statements, total);
        (commands, statements)
    }

    #[track_caller]
    fn costs(&mut self, commands: &[&str], statements: u64, what: &str) {
        let cost = self.cost();
        assert_eq!(cost, (commands.iter().map(|name| (*name).to_owned()).collect(), statements), "{what}");
    }
}

#[tokio::test]
async fn each_request_costs_what_it_has_to() {
    let Some(mut site) = Site::new().await else { return };

    let slot = site.request(None);
    assert!(slot.load().await.unwrap().is_empty());
    site.respond(&slot).await;
    site.costs(&[], 0, "nobody has nothing to read");

    let key = site.new_session().await;
    site.costs(&["SET"], 1, "a first write");

    let slot = site.request(Some(&key));
    site.respond(&slot).await;
    site.costs(&[], 0, "untouched");

    let slot = site.request(Some(&key));
    assert_eq!(slot.load().await.unwrap().get::<u32>("visits").unwrap(), Some(1));
    site.respond(&slot).await;
    site.costs(&["GET"], 0, "read");

    let slot = site.request(Some(&key));
    slot.load().await.unwrap().update("visits", |n: Option<u32>| n.unwrap_or(0) + 1).unwrap();
    site.respond(&slot).await;
    site.costs(&["GET", "EVALSHA"], 2, "a later write: an entry as Django writes it does not say which row it is");

    let slot = site.request(Some("an0unknown0key0an0unknown0key000"));
    assert!(slot.load().await.unwrap().is_empty());
    site.respond(&slot).await;
    site.costs(&["GET"], 1, "an unknown cookie");

    // A restart of the cache, for example.
    let entry = format!(":1:django.contrib.sessions.cached_db{key}");
    Redis::at(&site.cache_url).ask(&["DEL", &entry]);
    site.cost();
    let slot = site.request(Some(&key));
    assert_eq!(slot.load().await.unwrap().get::<u32>("visits").unwrap(), Some(2));
    site.respond(&slot).await;
    site.costs(&["GET", "SET"], 1, "read of what the cache has lost");

    let slot = site.request(Some(&key));
    slot.load().await.unwrap().cycle_key().unwrap();
    site.respond(&slot).await;
    site.costs(&["GET", "SET", "GET", "EVALSHA"], 3, "a rotation");

    let key = slot.key().expect("a key").as_str().to_owned();
    let slot = site.request(Some(&key));
    slot.flush();
    site.respond(&slot).await;
    site.costs(&["GET", "EVALSHA"], 1, "a sign-out");
}
