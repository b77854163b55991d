//! What no other session library promises, on each embedded engine that has a store.

mod support;

use cloakroom_core::exchange::SessionSlot;
use cloakroom_core::{ErrorKind, SessionKey, Timestamp};
use support::{Options, Site};

const STORES: [&str; 4] = ["db", "cache", "cached_db", "file"];

async fn site(engine: &'static str) -> Site {
    let now = Timestamp::from_secs(1_900_000_000);
    Site::open(
        engine,
        Options {
            secret: "one",
            fallbacks: Vec::new(),
            cookie_age: 3600,
            save_every_request: false,
            now,
            keys: vec![],
        },
    )
    .await
}

/// A saved session with `n` = 0, and its key.
async fn saved(site: &Site) -> SessionKey {
    let slot = site.request(None);
    slot.load().await.unwrap().insert("n", &0).unwrap();
    slot.save().await.unwrap();
    slot.key().unwrap()
}

async fn open(site: &Site, key: &SessionKey) -> SessionSlot {
    let slot = site.request(Some(key.as_str()));
    slot.load().await.unwrap();
    slot
}

async fn data(site: &Site, key: &SessionKey) -> String {
    open(site, key).await.load().await.unwrap().to_json()
}

#[tokio::test]
async fn overlapping_requests_are_merged() {
    for engine in STORES {
        let site = site(engine).await;
        let key = saved(&site).await;
        let (a, b) = (open(&site, &key).await, open(&site, &key).await);
        for (slot, name) in [(&a, "a"), (&b, "b")] {
            let session = slot.load().await.unwrap();
            session.insert(name, &1).unwrap();
            session.update("n", |n: Option<u64>| n.unwrap_or(0) + 1).unwrap();
        }
        for slot in [&a, &b] {
            site.exchange.commit(slot, 200).await.unwrap();
        }
        assert_eq!(data(&site, &key).await, r#"{"n":2,"a":1,"b":1}"#, "{engine}");
    }
}

#[tokio::test]
async fn what_a_request_set_as_a_default_gives_way_to_what_another_set() {
    for engine in STORES {
        let site = site(engine).await;
        let key = saved(&site).await;
        let (a, b) = (open(&site, &key).await, open(&site, &key).await);
        a.load().await.unwrap().insert("cart", "full").unwrap();
        assert_eq!(b.load().await.unwrap().get_or_insert_with("cart", || "empty".to_owned()).unwrap(), "empty");
        for slot in [&a, &b] {
            site.exchange.commit(slot, 200).await.unwrap();
        }
        assert_eq!(data(&site, &key).await, r#"{"n":0,"cart":"full"}"#, "{engine}");
    }
}

#[tokio::test]
async fn rotation_carries_a_concurrent_change_over() {
    for engine in STORES {
        let site = site(engine).await;
        let key = saved(&site).await;
        let (rotating, writing) = (open(&site, &key).await, open(&site, &key).await);
        let session = rotating.load().await.unwrap();
        session.cycle_key().unwrap();
        session.insert("user", "ada").unwrap();
        writing.load().await.unwrap().insert("late", &1).unwrap();
        site.exchange.commit(&writing, 200).await.unwrap();
        site.exchange.commit(&rotating, 200).await.unwrap();
        let new = rotating.key().unwrap();
        assert_ne!(new, key);
        assert_eq!(data(&site, &new).await, r#"{"n":0,"late":1,"user":"ada"}"#, "{engine}");
        assert_eq!(site.keys().await, [new], "{engine}");
    }
}

#[tokio::test]
async fn a_session_that_ended_while_it_was_rotated_stays_ended() {
    for engine in STORES {
        let site = site(engine).await;
        let key = saved(&site).await;
        let (rotating, leaving) = (open(&site, &key).await, open(&site, &key).await);
        rotating.load().await.unwrap().cycle_key().unwrap();
        leaving.flush();
        site.exchange.commit(&leaving, 200).await.unwrap();
        let error = site.exchange.commit(&rotating, 200).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Interrupted, "{engine}");
        assert!(site.keys().await.is_empty(), "{engine}");
    }
}

#[tokio::test]
async fn a_wrong_secret_destroys_nothing() {
    for engine in ["db", "cached_db", "file"] {
        let site = site(engine).await;
        let key = saved(&site).await;
        let store = site.store().unwrap();
        let foreign = bytes::Bytes::from_static(b"eyJuIjo3fQ:1vabcd:signed-with-another-secret-0123456789abcdefghij");
        let version = store.load(&key).await.unwrap().unwrap().version;
        let expiry = Timestamp::from_secs(1_900_003_600);
        store.replace(&key, &version, foreign.clone(), expiry).await.unwrap();

        // Reading gives nothing, and changes nothing.
        let reading = open(&site, &key).await;
        assert_eq!(reading.load().await.unwrap().len(), 0);
        let answer = site.exchange.commit(&reading, 200).await.unwrap();
        assert_eq!(answer.set_cookie, None, "{engine}");

        // What the visitor writes, or takes along when signing in, goes to a key of its own.
        for rotate in [false, true] {
            let writing = open(&site, &key).await;
            let session = writing.load().await.unwrap();
            if rotate {
                session.cycle_key().unwrap();
            }
            session.insert("x", &1).unwrap();
            let answer = site.exchange.commit(&writing, 200).await.unwrap();
            let new = writing.key().unwrap();
            assert_ne!(new, key, "{engine}");
            assert!(answer.set_cookie.unwrap().contains(new.as_str()));
            assert_eq!(data(&site, &new).await, r#"{"x":1}"#, "{engine}");
        }
        assert_eq!(store.load(&key).await.unwrap().unwrap().payload, foreign, "{engine}");
    }
}

#[tokio::test]
async fn a_flush_is_carried_out_though_what_was_set_after_it_cannot_be_saved() {
    for engine in STORES {
        let site = site(engine).await;
        let key = saved(&site).await;
        let slot = open(&site, &key).await;
        let session = slot.load().await.unwrap();
        session.flush();
        session.insert_raw("_session_expiry", cloakroom_core::RawJson::parse("[]").unwrap());
        session.insert_raw("_session_expiry", cloakroom_core::RawJson::parse("\"no date\"").unwrap());
        assert!(site.exchange.commit(&slot, 200).await.is_err(), "{engine}");
        assert!(site.keys().await.is_empty(), "{engine}");
    }
}
