//! Loads that come at the same moment: one command, and an answer for each.

use std::sync::Arc;
use std::time::Duration;

use cloakroom_core::store::Store;
use cloakroom_core::{Clock, ErrorKind, SessionKey};
use cloakroom_redis::RedisStore;
use cloakroom_test_servers::{Kind, require_or_skip};
use tokio::task::JoinHandle;

use crate::round_trips::commands;
use crate::{Wire, create, key, options, payload, store};

type Loading = JoinHandle<cloakroom_core::Result<Option<String>>>;

/// Loads that are all under way before the first has its answer: the test's runtime has one thread.
fn load_all(store: &Arc<RedisStore>, keys: &[SessionKey]) -> Vec<Loading> {
    let load = |key: &SessionKey| {
        let (store, key) = (store.clone(), key.clone());
        tokio::spawn(async move {
            let stored = store.load(&key).await?;
            Ok(stored.map(|stored| String::from_utf8(stored.payload.to_vec()).expect("what was stored")))
        })
    };
    keys.iter().map(load).collect()
}

async fn create_all(store: &RedisStore, count: usize) -> Vec<SessionKey> {
    let keys: Vec<_> = (0..count).map(|_| key()).collect();
    for key in &keys {
        create(store, key, Box::leak(key.as_str().to_owned().into_boxed_str())).await;
    }
    keys
}

#[tokio::test]
async fn many_loads_are_one_command_and_each_has_its_answer() {
    let Some(server) = require_or_skip(Kind::Redis) else { return };
    let store = Arc::new(store(&server.url()));
    let mut wire = Wire::to(&server.url()).await;
    let keys = create_all(&store, 50).await;
    // One is gone, and under one is something else than a session.
    store.delete(&keys[20], None).await.unwrap();
    let name = format!(":1:django.contrib.sessions.cache{}", keys[30].as_str());
    let _: () = wire.ask(&["DEL", &name]).await;
    let _: () = wire.ask(&["LPUSH", &name, "a list"]).await;
    commands(&mut wire).await;
    for (place, (loading, key)) in load_all(&store, &keys).into_iter().zip(&keys).enumerate() {
        match (place, loading.await.unwrap()) {
            (20, found) => assert_eq!(found.unwrap(), None),
            (30, found) => {
                let error = found.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Corrupted, "{error}");
            }
            (_, found) => assert_eq!(found.unwrap().as_deref(), Some(key.as_str())),
        }
    }
    // The first one finds nobody under way; what is not found at once is asked for alone.
    assert_eq!(commands(&mut wire).await, ["get*3", "mget*1"]);
}

#[tokio::test]
async fn a_user_who_may_not_ask_for_many_asks_for_each() {
    let Some(server) = require_or_skip(Kind::Redis) else { return };
    let mut wire = Wire::to(&server.url()).await;
    let acl = ["ACL", "SETUSER", "web", "on", ">secret", "~*", "+@all", "-mget"];
    let _: () = wire.ask(&acl).await;
    let store = Arc::new(store(&server.url().replace("redis://", "redis://web:secret@")));
    let keys = create_all(&store, 20).await;
    for round in 0..2 {
        commands(&mut wire).await;
        for (loading, key) in load_all(&store, &keys).into_iter().zip(&keys) {
            assert_eq!(loading.await.unwrap().unwrap().as_deref(), Some(key.as_str()));
        }
        let seen = commands(&mut wire).await;
        assert!(seen.contains(&"get*20".to_owned()), "{round}: {seen:?}");
        // Those that are refused are counted as well, with no call to them.
        assert_eq!(seen.len(), if round == 0 { 2 } else { 1 }, "{seen:?}");
    }
}

#[tokio::test]
async fn a_server_that_freezes_and_one_that_is_killed_under_many() {
    let Some(server) = require_or_skip(Kind::Redis) else { return };
    let quick =
        options(&server.url()).connect_timeout(Duration::from_secs(20)).response_timeout(Duration::from_millis(300));
    let store = Arc::new(RedisStore::open(quick, Clock::system()).unwrap());
    let keys = create_all(&store, 30).await;
    server.freeze();
    for loading in load_all(&store, &keys) {
        let error = loading.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.to_string().contains("did not answer within 0.3 s"), "{error}");
    }
    server.thaw();
    assert_eq!(payload(&store, &keys[0]).await.as_deref(), Some(keys[0].as_str()));
    server.freeze();
    let loading = load_all(&store, &keys);
    tokio::time::sleep(Duration::from_millis(50)).await;
    server.kill();
    for loading in loading {
        assert_eq!(loading.await.unwrap().unwrap_err().kind(), ErrorKind::Unavailable);
    }
    server.restart();
    for (loading, key) in load_all(&store, &keys).into_iter().zip(&keys) {
        assert_eq!(loading.await.unwrap().unwrap().as_deref(), Some(key.as_str()));
    }
}

/// Visitors who leave take nobody along.
#[tokio::test]
async fn loads_that_are_given_up() {
    let Some(server) = require_or_skip(Kind::Redis) else { return };
    let store = Arc::new(store(&server.url()));
    let keys = create_all(&store, 30).await;
    for turns in 0..6 {
        for given_up in 0..4 {
            let mut loading = load_all(&store, &keys);
            for _ in 0..turns {
                tokio::task::yield_now().await;
            }
            loading.remove(given_up).abort();
            let left = keys.iter().enumerate().filter(|(place, _)| *place != given_up);
            for (loading, (_, key)) in loading.into_iter().zip(left) {
                assert_eq!(loading.await.unwrap().unwrap().as_deref(), Some(key.as_str()));
            }
        }
    }
}
