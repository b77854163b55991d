//! What a request costs on a Redis server, as that reports it: a test fails when a count grows.

use std::sync::Arc;

use cloakroom_compat::live::redis::{Monitor, Redis};
use cloakroom_core::engine::Engine;
use cloakroom_core::exchange::{Exchange, Policy, SessionSlot};
use cloakroom_core::wire::cookie::{CookieAttributes, CookieWriter};
use cloakroom_core::wire::expiry::ExpiryRules;
use cloakroom_core::wire::pickle::Protocol;
use cloakroom_core::wire::session_data::Codec;
use cloakroom_core::{Clock, ErrorKind, KeySource};
use cloakroom_redis::{RedisOptions, RedisStore};
use cloakroom_test_servers::{Kind, shared};

/// A site with its sessions in a database of its own, and an eye on that.
struct Site {
    exchange: Exchange,
    monitor: Monitor,
}

impl Site {
    async fn new(save_every_request: bool) -> Option<Self> {
        let url = shared(Kind::Redis)?.database();
        let options = RedisOptions::from_url(&url).expect("a URL of ours");
        let store = RedisStore::open(options, Clock::system()).expect("a store");
        let engine = Engine::Store { store: Arc::new(store), codec: Codec::pickle(Protocol::DJANGO) };
        let cookie = CookieWriter::new(&CookieAttributes::default()).expect("a cookie");
        let policy = Policy { save_every_request, ..Policy::new(cookie, ExpiryRules::default()) };
        let exchange = Exchange::new(engine, policy, Clock::system(), KeySource::system());
        let mut site = Self { exchange, monitor: Redis::at(&url).monitor() };
        // The server knows both scripts from here on.
        let key = site.new_session().await;
        let slot = site.request(Some(&key));
        slot.load().await.unwrap().insert("warm", &"up").unwrap();
        site.respond(&slot).await;
        let slot = site.request(Some(&key));
        slot.load().await.unwrap().cycle_key().unwrap();
        site.respond(&slot).await;
        site.cost();
        Some(site)
    }

    fn request(&self, key: Option<&str>) -> SessionSlot {
        let header = key.map(|key| format!("sessionid={key}"));
        self.exchange.open(header.iter().map(|header| header.as_bytes()))
    }

    async fn respond(&self, slot: &SessionSlot) -> Option<String> {
        self.exchange.commit(slot, 200).await.unwrap();
        slot.key().map(|key| key.as_str().to_owned())
    }

    async fn new_session(&self) -> String {
        let slot = self.request(None);
        slot.load().await.unwrap().insert("visits", &1).unwrap();
        self.respond(&slot).await.expect("a key")
    }

    /// The commands that clients have sent since the last call: one round trip each.
    fn cost(&mut self) -> Vec<String> {
        let carried = self.monitor.carried();
        let sent = carried.into_iter().filter(|carried| !carried.by_script);
        let names = sent.map(|carried| String::from_utf8_lossy(&carried.words[0]).to_uppercase());
        names.filter(|name| !matches!(name.as_str(), "SELECT" | "CLIENT")).collect()
    }
}

const NOTHING: [&str; 0] = [];

#[tokio::test]
async fn each_request_costs_what_it_has_to() {
    let Some(mut site) = Site::new(false).await else { return };

    let slot = site.request(None);
    site.respond(&slot).await;
    assert_eq!(site.cost(), NOTHING, "nobody, nothing");

    let slot = site.request(None);
    assert!(slot.load().await.unwrap().is_empty());
    site.respond(&slot).await;
    assert_eq!(site.cost(), NOTHING, "nobody has nothing to read");

    let key = site.new_session().await;
    assert_eq!(site.cost(), ["SET"], "a first write");

    let slot = site.request(Some(&key));
    site.respond(&slot).await;
    assert_eq!(site.cost(), NOTHING, "untouched");

    let slot = site.request(Some(&key));
    assert_eq!(slot.load().await.unwrap().get::<u32>("visits").unwrap(), Some(1));
    slot.load().await.unwrap();
    site.respond(&slot).await;
    assert_eq!(site.cost(), ["GET"], "read");

    let slot = site.request(Some(&key));
    slot.load().await.unwrap().update("visits", |n: Option<u32>| n.unwrap_or(0) + 1).unwrap();
    site.respond(&slot).await;
    assert_eq!(site.cost(), ["GET", "EVALSHA"], "a later write");

    let slot = site.request(Some("an0unknown0key0an0unknown0key000"));
    assert!(slot.load().await.unwrap().is_empty());
    site.respond(&slot).await;
    assert_eq!(site.cost(), ["GET"], "an unknown cookie");

    let slot = site.request(Some("an0unknown0key0an0unknown0key000"));
    slot.load().await.unwrap().insert("visits", &1).unwrap();
    site.respond(&slot).await;
    assert_eq!(site.cost(), ["GET", "SET"], "a first write with an unknown cookie");

    let slot = site.request(Some(&key));
    slot.load().await.unwrap().cycle_key().unwrap();
    let new = site.respond(&slot).await.expect("a key");
    assert_eq!(site.cost(), ["GET", "SET", "EVALSHA"], "a rotation");
    assert_ne!(new, key);

    let slot = site.request(Some(&new));
    slot.flush();
    site.respond(&slot).await;
    assert_eq!(site.cost(), ["DEL"], "a sign-out");

    let slot = site.request(Some("NOT-A-KEY-OF-OURS"));
    assert!(slot.load().await.unwrap().is_empty());
    site.respond(&slot).await;
    assert_eq!(site.cost(), NOTHING, "no such key was ever made");
}

#[tokio::test]
async fn saving_every_request_moves_the_end_alone() {
    let Some(mut site) = Site::new(true).await else { return };
    let key = site.new_session().await;
    site.cost();
    let slot = site.request(Some(&key));
    site.respond(&slot).await;
    assert_eq!(site.cost(), ["GET", "EXPIRE"]);
}

#[tokio::test]
async fn a_conflict_costs_one_more() {
    let Some(mut site) = Site::new(false).await else { return };
    let key = site.new_session().await;
    let (one, two) = (site.request(Some(&key)), site.request(Some(&key)));
    for slot in [&one, &two] {
        slot.load().await.unwrap().update("visits", |n: Option<u32>| n.unwrap_or(0) + 1).unwrap();
    }
    site.cost();
    site.respond(&one).await;
    site.respond(&two).await;
    assert_eq!(site.cost(), ["EVALSHA", "EVALSHA", "EVALSHA"], "the refusal brings along what stands");
    let slot = site.request(Some(&key));
    assert_eq!(slot.load().await.unwrap().get::<u32>("visits").unwrap(), Some(3), "nothing is lost");
}

#[tokio::test]
async fn a_session_that_was_signed_out_meanwhile_stays_so() {
    let Some(mut site) = Site::new(false).await else { return };
    let key = site.new_session().await;
    let late = site.request(Some(&key));
    late.load().await.unwrap().insert("late", &true).unwrap();
    let slot = site.request(Some(&key));
    slot.flush();
    site.respond(&slot).await;
    site.cost();
    let error = site.exchange.commit(&late, 200).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
    assert_eq!(site.cost(), ["EVALSHA"]);
    assert!(site.request(Some(&key)).load().await.unwrap().is_empty());
}
