//! Each operation is one statement. sqlx reports every statement that it runs, and this program counts them.

mod common;

use cloakroom_core::store::{Created, Store, Version};
use cloakroom_test_servers::statements;
use common::*;

/// The statements since the last call, those that opening a connection takes left out.
fn taken() -> String {
    let statements = std::mem::take(&mut *statements());
    statements.into_iter().filter(|s| s != "PRAGMA").collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn operations_cost_one_statement() {
    statements().clear();
    let (_directory, path) = place();
    let store = store(&path).await;
    assert!(!taken().is_empty(), "the counter counts");

    let Created::Created(version) = store.create(&key(1), bytes("x"), LATER).await.unwrap() else { panic!() };
    assert_eq!(taken(), "INSERT");
    store.create(&key(1), bytes("x"), LATER).await.unwrap();
    assert_eq!(taken(), "INSERT", "a taken key");
    store.load(&key(1)).await.unwrap();
    assert_eq!(taken(), "SELECT");
    store.load(&key(2)).await.unwrap();
    assert_eq!(taken(), "SELECT", "an unknown key");
    store.replace(&key(1), &version, bytes("y"), LATER).await.unwrap();
    assert_eq!(taken(), "UPDATE");
    store.replace(&key(1), &version, bytes("z"), LATER).await.unwrap();
    assert_eq!(taken(), "UPDATE SELECT", "a conflict");
    store.touch(&key(1), LATER).await.unwrap();
    assert_eq!(taken(), "UPDATE");
    store.rotate(&key(1), &Version::payload(bytes("y")), &key(2), bytes("z"), LATER).await.unwrap();
    assert_eq!(taken(), "UPDATE");
    store.rotate(&key(2), &Version::payload(bytes("y")), &key(1), bytes("z"), LATER).await.unwrap();
    assert_eq!(taken(), "UPDATE SELECT", "a conflict");
    store.delete(&key(2), Some(&Version::payload(bytes("z")))).await.unwrap();
    assert_eq!(taken(), "DELETE");
    store.delete(&key(1), None).await.unwrap();
    assert_eq!(taken(), "DELETE");
    store.clear_expired(10).await.unwrap();
    assert_eq!(taken(), "DELETE");
    store.list(None, 10).await.unwrap();
    assert_eq!(taken(), "SELECT");
}
