//! The stores on PostgreSQL and MariaDB: what is particular to each, and what happens when they break.
#![cfg(any(feature = "postgres", feature = "mysql"))]

#[path = "../common/mod.rs"]
mod common;
mod faults;
mod interrupted;
mod locks;
#[cfg(feature = "mysql")]
mod mariadb;
mod migrations;
#[cfg(feature = "postgres")]
mod near;
#[cfg(feature = "postgres")]
mod postgres;
mod proxy;
mod round_trips;
mod tls;
mod together;
mod turns;

use std::sync::Arc;
use std::time::Duration;

use cloakroom_core::store::{Created, Store, Version};
use cloakroom_core::{Clock, ErrorKind, Result, SessionKey};
use cloakroom_sql::AnySqlStore;
use cloakroom_test_servers::Kind;

use common::{LATER, bytes, clock};

/// Writes a test for each kind of server that is compiled in, from a function of the kind, which is run to
/// its end by the function named first, if that is not the usual one.
macro_rules! on_each_server {
    ($($(#[$attribute:meta])* $name:ident)*) => {
        crate::on_each_server! { by crate::block_on; $($(#[$attribute])* $name)* }
    };
    (by $run:path; $($(#[$attribute:meta])* $name:ident)*) => {
        #[cfg(feature = "postgres")]
        mod on_postgres {
            $(#[test] $(#[$attribute])* fn $name() { $run(super::$name(cloakroom_test_servers::Kind::Postgres)) })*
        }
        #[cfg(feature = "mysql")]
        mod on_mariadb {
            $(#[test] $(#[$attribute])* fn $name() { $run(super::$name(cloakroom_test_servers::Kind::MariaDb)) })*
        }
    };
}
pub(crate) use on_each_server;

/// Runs a test to its end, which has to come: what is broken must not hold anybody up for ever.
fn block_on(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(300), test).await.expect("an end") });
}

async fn open(url: &str) -> Result<AnySqlStore> {
    open_at(url, clock()).await
}

async fn open_at(url: &str, clock: Clock) -> Result<AnySqlStore> {
    AnySqlStore::open(url, false, None, clock).await
}

/// A store on a database, migrated.
async fn store(url: &str) -> Arc<dyn Store> {
    let store = open(url).await.unwrap();
    store.migrate().await.unwrap();
    store.into_store()
}

/// Short time-outs, so that tests of broken servers do not take long, and a pool of so many connections.
fn impatient(url: &str, pool: u32) -> String {
    format!("{url}?pool={pool}&acquire_timeout=1&statement_timeout=0.2")
}

async fn create(store: &dyn Store, key: &SessionKey, payload: &str) -> Version {
    match store.create(key, bytes(payload), LATER).await.unwrap() {
        Created::Created(version) => version,
        Created::Taken => panic!("the key is taken"),
    }
}

async fn payload(store: &dyn Store, key: &SessionKey) -> Option<String> {
    let stored = store.load(key).await.unwrap()?;
    Some(String::from_utf8(stored.payload.to_vec()).unwrap())
}

/// The error's kind and that it says enough, and not too much.
#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T>, kind: ErrorKind, words: &[&str]) {
    let error = result.expect_err("an error");
    let text = format!("{error} {error:?}");
    assert_eq!(error.kind(), kind, "{text}");
    for word in words {
        assert!(error.to_string().contains(word), "no {word:?} in {text}");
    }
    assert!(!text.contains(cloakroom_test_servers::PASSWORD), "{text}");
}

/// The name of a database in a URL.
fn database(url: &str) -> &str {
    url.rsplit('/').next().unwrap()
}

fn is_postgres(kind: Kind) -> bool {
    kind == Kind::Postgres
}
