//! Whose turn it is to sweep, by the server's own locks; and how much there is to sweep.

use cloakroom_core::ErrorKind;
use cloakroom_core::sweep::Turns;
use cloakroom_test_servers::{Kind, require_or_skip, shared};

use crate::common::{NOW, bytes, clock, key};
use crate::{on_each_server, open, open_at, refused, store};

on_each_server! {
    one_node_has_the_turn
    a_turn_ends_with_its_node
    what_has_expired_is_counted
}

async fn one_node_has_the_turn(kind: Kind) {
    let Some(server) = shared(kind) else { return };
    let (url, elsewhere) = (server.database(), server.database());
    // One connection is enough: the turn takes none of the pool.
    let nodes = [format!("{url}?pool=1"), url.clone()];
    let mut turns = Vec::new();
    for url in nodes.iter().chain([&elsewhere]) {
        store(url).await;
        turns.push(open(url).await.unwrap().into_store_with_turns());
    }
    let [(first, one), (_, two), (_, of_another_table)] = &turns[..] else { unreachable!() };
    let held = one.take().await.unwrap().expect("nobody has it");
    assert!(two.take().await.unwrap().is_none());
    assert!(one.take().await.unwrap().is_none(), "nor has one node two of them");
    assert!(of_another_table.take().await.unwrap().is_some());
    assert_eq!(first.clear_expired(10).await.unwrap().removed, 0, "the pool is free");
    held.end().await;
    let held = two.take().await.unwrap().expect("it was given back");
    drop(held);
    free_again(&**one).await;
}

/// The server notices that a connection is gone, sooner or later.
async fn free_again(turns: &dyn Turns) {
    while turns.take().await.unwrap().is_none() {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

async fn a_turn_ends_with_its_node(kind: Kind) {
    let Some(server) = require_or_skip(kind) else { return };
    let url = server.database();
    store(&url).await;
    let (_store, turns) =
        open(&format!("{url}?acquire_timeout=1&statement_timeout=1")).await.unwrap().into_store_with_turns();
    let held = turns.take().await.unwrap().expect("nobody has it");
    server.kill();
    refused(turns.take().await.map(|turn| turn.is_some()), ErrorKind::Unavailable, &["take the turn to sweep"]);
    server.restart();
    let again = turns.take().await.unwrap().expect("what the dead server held is free");
    again.end().await;
    held.end().await;
    server.freeze();
    refused(turns.take().await.map(|turn| turn.is_some()), ErrorKind::Unavailable, &["take the turn to sweep"]);
    server.thaw();
    free_again(&*turns).await;
}

async fn what_has_expired_is_counted(kind: Kind) {
    let Some(server) = shared(kind) else { return };
    let url = server.database();
    let clock = clock();
    let database = open_at(&url, clock.clone()).await.unwrap();
    refused(database.count_expired().await, ErrorKind::NotMigrated, &["cloakroom migrate"]);
    let store = store(&url).await;
    for n in 0..7 {
        store.create(&key(n), bytes("x"), NOW.checked_add_micros(i64::from(n) * 1_000_000).unwrap()).await.unwrap();
    }
    assert_eq!(database.count_expired().await.unwrap(), 0);
    clock.advance(std::time::Duration::from_secs(5));
    assert_eq!(database.count_expired().await.unwrap(), 5);
    let store = database.into_store();
    assert_eq!(store.clear_expired(100).await.unwrap().removed, 5);
}
