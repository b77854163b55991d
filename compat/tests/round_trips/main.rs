//! What a request costs on each engine, as its servers report it: a test fails when a count grows.

mod eyes;

use cloakroom::{Clock, ErrorKind, SessionSlot, Sessions, Settings};
use eyes::Eye;

/// A site with its sessions in a place of their own, and an eye on each of its servers.
struct Site {
    sessions: Sessions,
    eyes: Vec<Eye>,
}

impl Site {
    /// A site with its sessions in this database, in this cache, or in both.
    async fn new(database: Option<Eye>, cache: Option<Eye>, every_request: bool) -> Self {
        let engine = match (&database, &cache) {
            (Some(_), None) => "db",
            (None, _) => "cache",
            (Some(_), Some(_)) => "cached_db",
        };
        let mut toml = format!(
            "SECRET_KEY = 'what a request costs'\nSESSION_ENGINE = '{engine}'\nSESSION_SAVE_EVERY_REQUEST = {every_request}\n"
        );
        if let Some(eye) = &database {
            toml += &format!("DATABASE_URL = '{}'\n", eye.setting);
        }
        if let Some(eye) = &cache {
            toml += &format!("[CACHES.default]\n{}\n", eye.setting);
        }
        let settings = Settings::builder().toml(&toml).build().unwrap();
        if database.is_some() {
            cloakroom::open_database(&settings, true, Clock::system()).await.unwrap().migrate().await.unwrap();
        }
        let sessions = Sessions::from_settings(settings).await.unwrap();
        let mut site = Self { sessions, eyes: cache.into_iter().chain(database).collect() };
        // After one of each, connections are open, statements prepared and scripts known.
        let key = site.new_session().await;
        site.increment(&key).await;
        site.increment(&key).await;
        let key = site.rotate(&key).await;
        site.flush(&key).await;
        site.eyes.iter_mut().for_each(Eye::settle);
        site
    }

    fn request(&self, key: Option<&str>) -> SessionSlot {
        let header = key.map(|key| format!("sessionid={key}"));
        self.sessions.exchange().open(header.iter().map(|header| header.as_bytes()))
    }

    /// Ends a request, and returns the key that its session then has.
    async fn respond(&self, slot: &SessionSlot) -> Option<String> {
        self.sessions.exchange().commit(slot, 200).await.unwrap();
        slot.key().map(|key| key.as_str().to_owned())
    }

    async fn untouched(&self, key: Option<&str>) {
        self.respond(&self.request(key)).await;
    }

    async fn read(&self, key: Option<&str>) -> Option<u32> {
        let slot = self.request(key);
        let visits = slot.load().await.unwrap().get("visits").unwrap();
        // A second look, by a middleware for example.
        slot.load().await.unwrap();
        self.respond(&slot).await;
        visits
    }

    async fn new_session(&self) -> String {
        let slot = self.request(None);
        slot.load().await.unwrap().insert("visits", &1).unwrap();
        self.respond(&slot).await.expect("a key")
    }

    async fn increment(&self, key: &str) -> Option<String> {
        let slot = self.request(Some(key));
        slot.load().await.unwrap().update("visits", |n: Option<u32>| n.unwrap_or(0) + 1).unwrap();
        self.respond(&slot).await
    }

    async fn rotate(&self, key: &str) -> String {
        let slot = self.request(Some(key));
        slot.load().await.unwrap().cycle_key().unwrap();
        self.respond(&slot).await.expect("a key")
    }

    async fn flush(&self, key: &str) {
        let slot = self.request(Some(key));
        slot.flush();
        self.respond(&slot).await;
    }

    /// What was asked since the last look, of the cache before the database.
    fn cost(&mut self) -> Vec<String> {
        self.eyes.iter_mut().map(Eye::asked).collect()
    }
}

/// What each request costs, by the names of commands or by their number.
struct Costs<const SERVERS: usize> {
    nothing: [&'static str; SERVERS],
    read: [&'static str; SERVERS],
    unknown: [&'static str; SERVERS],
    first_write: [&'static str; SERVERS],
    first_write_of_unknown: [&'static str; SERVERS],
    later_write: [&'static str; SERVERS],
    rotation: [&'static str; SERVERS],
    flush: [&'static str; SERVERS],
    /// The first of two requests which read the same state has saved: the second, with its conflict.
    conflict: [&'static str; SERVERS],
    /// A request whose session was ended after it had read it.
    late: [&'static str; SERVERS],
}

const UNKNOWN: &str = "an0unknown0key0an0unknown0key000";

async fn each_request_costs<const SERVERS: usize>(site: &mut Site, costs: Costs<SERVERS>) {
    site.untouched(None).await;
    assert_eq!(site.cost(), costs.nothing, "nobody, nothing");
    assert_eq!(site.read(None).await, None);
    assert_eq!(site.cost(), costs.nothing, "nobody has nothing to read");
    assert_eq!(site.read(Some("NOT-A-KEY-OF-OURS")).await, None);
    assert_eq!(site.cost(), costs.nothing, "no such key was ever made");

    let key = site.new_session().await;
    assert_eq!(site.cost(), costs.first_write, "a first write");
    site.untouched(Some(&key)).await;
    assert_eq!(site.cost(), costs.nothing, "untouched");
    assert_eq!(site.read(Some(&key)).await, Some(1));
    assert_eq!(site.cost(), costs.read, "read");
    site.increment(&key).await;
    assert_eq!(site.cost(), costs.later_write, "a later write");

    assert_eq!(site.read(Some(UNKNOWN)).await, None);
    assert_eq!(site.cost(), costs.unknown, "an unknown cookie");
    let own = site.increment(UNKNOWN).await.expect("a key");
    assert_eq!(site.cost(), costs.first_write_of_unknown, "a first write with an unknown cookie");
    assert_ne!(own, UNKNOWN);

    let new = site.rotate(&key).await;
    assert_eq!(site.cost(), costs.rotation, "a rotation");
    assert_ne!(new, key);

    let (one, two) = (site.request(Some(&new)), site.request(Some(&new)));
    for slot in [&one, &two] {
        slot.load().await.unwrap().update("visits", |n: Option<u32>| n.unwrap_or(0) + 1).unwrap();
    }
    site.respond(&one).await;
    site.cost();
    site.respond(&two).await;
    assert_eq!(site.cost(), costs.conflict, "a conflict");
    assert_eq!(site.read(Some(&new)).await, Some(4), "nothing is lost");

    let late = site.request(Some(&new));
    late.load().await.unwrap().insert("late", &true).unwrap();
    site.cost();
    site.flush(&new).await;
    assert_eq!(site.cost(), costs.flush, "a sign-out");
    let error = site.sessions.exchange().commit(&late, 200).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
    assert_eq!(site.cost(), costs.late, "a request that comes too late");
    assert_eq!(site.read(Some(&new)).await, None, "a session that was signed out stays so");
}

#[tokio::test]
async fn on_sqlite() {
    let mut site = Site::new(Some(Eye::on_sqlite()), None, false).await;
    let costs = Costs {
        nothing: [""],
        read: ["SELECT"],
        unknown: ["SELECT"],
        first_write: ["INSERT"],
        first_write_of_unknown: ["SELECT INSERT"],
        later_write: ["SELECT UPDATE"],
        rotation: ["SELECT UPDATE"],
        flush: ["DELETE"],
        conflict: ["UPDATE SELECT UPDATE"],
        late: ["UPDATE SELECT"],
    };
    each_request_costs(&mut site, costs).await;
}

/// Of databases with a server, which count statements.
const COUNTED: Costs<1> = Costs {
    nothing: ["0"],
    read: ["1"],
    unknown: ["1"],
    first_write: ["1"],
    first_write_of_unknown: ["2"],
    later_write: ["2"],
    rotation: ["2"],
    flush: ["1"],
    conflict: ["3"],
    late: ["2"],
};

#[tokio::test]
async fn on_postgres() {
    let Some(eye) = Eye::on_postgres() else { return };
    each_request_costs(&mut Site::new(Some(eye), None, false).await, COUNTED).await;
}

#[tokio::test]
async fn on_mariadb() {
    let Some(eye) = Eye::on_mariadb() else { return };
    each_request_costs(&mut Site::new(Some(eye), None, false).await, COUNTED).await;
}

#[tokio::test]
async fn on_redis() {
    let Some(eye) = Eye::on_redis() else { return };
    let mut site = Site::new(None, Some(eye), false).await;
    let costs = Costs {
        nothing: [""],
        read: ["GET"],
        unknown: ["GET"],
        first_write: ["SET"],
        first_write_of_unknown: ["GET SET"],
        later_write: ["GET EVALSHA"],
        rotation: ["GET EVALSHA"],
        flush: ["DEL"],
        // The refusal brings along what stands.
        conflict: ["EVALSHA EVALSHA"],
        late: ["EVALSHA"],
    };
    each_request_costs(&mut site, costs).await;
}

#[tokio::test]
async fn on_memcached() {
    let Some(eye) = Eye::on_memcached() else { return };
    let mut site = Site::new(None, Some(eye), false).await;
    let costs = Costs {
        nothing: [""],
        read: ["mg"],
        unknown: ["mg"],
        first_write: ["add"],
        first_write_of_unknown: ["mg add"],
        later_write: ["mg cas"],
        rotation: ["mg add md"],
        flush: ["md"],
        conflict: ["cas mg cas"],
        late: ["cas"],
    };
    each_request_costs(&mut site, costs).await;
}

/// An entry as Django writes it does not say which row it is: a write after a hit looks at the row first.
#[tokio::test]
async fn on_redis_before_postgres() {
    let (Some(cache), Some(database)) = (Eye::on_redis(), Eye::on_postgres()) else { return };
    let mut site = Site::new(Some(database), Some(cache), false).await;
    let costs = Costs {
        nothing: ["", "0"],
        read: ["GET", "0"],
        unknown: ["GET", "1"],
        first_write: ["SET", "1"],
        first_write_of_unknown: ["GET SET", "2"],
        later_write: ["GET EVALSHA", "2"],
        rotation: ["GET EVALSHA SET", "2"],
        flush: ["GET EVALSHA", "1"],
        conflict: ["EVALSHA GET EVALSHA", "2"],
        late: ["GET EVALSHA", "1"],
    };
    each_request_costs(&mut site, costs).await;

    let key = site.new_session().await;
    site.eyes[0].forget(&format!(":1:django.contrib.sessions.cached_db{key}"));
    site.cost();
    assert_eq!(site.read(Some(&key)).await, Some(1));
    assert_eq!(site.cost(), ["GET SET", "1"], "read of what the cache has lost");
}

#[tokio::test]
async fn saving_every_request_moves_the_end_alone() {
    let Some(eye) = Eye::on_redis() else { return };
    let mut site = Site::new(None, Some(eye), true).await;
    let key = site.new_session().await;
    site.cost();
    site.untouched(Some(&key)).await;
    assert_eq!(site.cost(), ["GET EXPIRE"]);
}
