//! Sites whose threads each have a runtime of their own, such as actix-web's.

use std::sync::Arc;

use cloakroom_redis::RedisStore;
use cloakroom_test_servers::{Kind, require_or_skip};
use tokio::runtime::{Builder, Runtime};

use crate::{Wire, create, key, options, payload, store};

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// The identifiers of the connections that the server has, the test's own among them.
async fn clients(wire: &mut Wire) -> Vec<String> {
    let clients: String = wire.ask(&["CLIENT", "LIST"]).await;
    clients.lines().filter_map(|line| Some(line.split(' ').next()?.to_owned())).collect()
}

/// How many connections the server has, without the test's own; of those that were closed it may not know yet.
async fn connections(wire: &mut Wire, expected: usize) -> usize {
    let mut found = 0;
    for _ in 0..500 {
        found = clients(wire).await.len() - 1;
        if found == expected {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    found
}

#[test]
fn each_runtime_has_its_connection_and_takes_no_other_one_along() {
    let Some(server) = require_or_skip(Kind::Redis) else { return };
    let (store, key) = (Arc::new(store(&server.url())), key());
    let (first, second, own) = (runtime(), runtime(), runtime());
    let mut wire = own.block_on(Wire::to(&server.url()));
    first.block_on(create(&store, &key, "one"));
    assert_eq!(own.block_on(connections(&mut wire, 1)), 1);
    for _ in 0..2 {
        assert_eq!(first.block_on(payload(&store, &key)).as_deref(), Some("one"));
        assert_eq!(second.block_on(payload(&store, &key)).as_deref(), Some("one"));
    }
    assert_eq!(own.block_on(connections(&mut wire, 2)), 2);

    let before = own.block_on(clients(&mut wire));
    drop(first);
    assert_eq!(own.block_on(connections(&mut wire, 1)), 1, "it ended with its runtime");
    assert_eq!(second.block_on(payload(&store, &key)).as_deref(), Some("one"));
    let after = own.block_on(clients(&mut wire));
    assert!(after.iter().all(|id| before.contains(id)), "the other one went on: {before:?}, {after:?}");

    // Neither do those that are over come back, nor are they kept.
    for _ in 0..3 {
        let another = runtime();
        assert_eq!(another.block_on(payload(&store, &key)).as_deref(), Some("one"));
        drop(another);
    }
    assert_eq!(own.block_on(connections(&mut wire, 1)), 1);
}

/// What a near cache keeps is as true as what is heard on the connection that asked.
#[test]
fn with_a_near_cache_all_share_one() {
    let Some(server) = require_or_skip(Kind::Redis) else { return };
    let options = options(&server.url()).near_cache(1 << 20, std::time::Duration::from_secs(1));
    let store = Arc::new(RedisStore::open(options, cloakroom_core::Clock::system()).expect("a store"));
    let (first, second, key) = (runtime(), runtime(), key());
    let mut wire = second.block_on(Wire::to(&server.url()));
    first.block_on(create(&store, &key, "one"));
    // The driver of the shared connection runs while its runtime does.
    std::thread::scope(|scope| {
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        scope.spawn(move || first.block_on(async { drop(stopped.await) }));
        assert_eq!(second.block_on(payload(&store, &key)).as_deref(), Some("one"));
        assert_eq!(second.block_on(connections(&mut wire, 1)), 1);
        drop(stop);
    });
}
