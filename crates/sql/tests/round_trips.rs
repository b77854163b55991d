//! Each operation is one statement. sqlx reports every statement that it runs, and this program counts them.

mod common;

use std::sync::Mutex;

use cloakroom_core::store::{Created, Store, Version};
use common::*;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

static STATEMENTS: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Counter;

impl Subscriber for Counter {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "sqlx::query"
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        struct Summary;
        impl Visit for Summary {
            fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
            fn record_str(&mut self, field: &Field, value: &str) {
                if field.name() == "summary" {
                    STATEMENTS.lock().unwrap().push(value.split(' ').next().unwrap().to_owned());
                }
            }
        }
        event.record(&mut Summary);
    }
}

/// The statements since the last call, those that opening a connection takes left out.
fn statements() -> String {
    let statements = std::mem::take(&mut *STATEMENTS.lock().unwrap());
    statements.into_iter().filter(|s| s != "PRAGMA").collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn operations_cost_one_statement() {
    tracing::subscriber::set_global_default(Counter).unwrap();
    let (_directory, path) = place();
    let store = store(&path).await;
    assert!(!statements().is_empty(), "the counter counts");

    let Created::Created(version) = store.create(&key(1), bytes("x"), LATER).await.unwrap() else { panic!() };
    assert_eq!(statements(), "INSERT");
    store.create(&key(1), bytes("x"), LATER).await.unwrap();
    assert_eq!(statements(), "INSERT", "a taken key");
    store.load(&key(1)).await.unwrap();
    assert_eq!(statements(), "SELECT");
    store.load(&key(2)).await.unwrap();
    assert_eq!(statements(), "SELECT", "an unknown key");
    store.replace(&key(1), &version, bytes("y"), LATER).await.unwrap();
    assert_eq!(statements(), "UPDATE");
    store.replace(&key(1), &version, bytes("z"), LATER).await.unwrap();
    assert_eq!(statements(), "UPDATE SELECT", "a conflict");
    store.touch(&key(1), LATER).await.unwrap();
    assert_eq!(statements(), "UPDATE");
    store.delete(&key(1), Some(&Version::payload(bytes("y")))).await.unwrap();
    assert_eq!(statements(), "DELETE");
    store.delete(&key(1), None).await.unwrap();
    assert_eq!(statements(), "DELETE");
    store.clear_expired(10).await.unwrap();
    assert_eq!(statements(), "DELETE");
    store.list(None, 10).await.unwrap();
    assert_eq!(statements(), "SELECT");
}
