//! The suite for stores, on a cache in this process in front of SQLite.

mod common;

use std::sync::Arc;
use std::time::Duration;

use cloakroom_core::conformance::store::{Harness, Subject};
use cloakroom_core::engine::cached::{CacheForm, CachedStore};
use cloakroom_core::engine::memory::MemoryStore;
use cloakroom_core::store_conformance;
use cloakroom_core::wire::session_data::Codec;
use cloakroom_core::wire::signing::Secrets;
use cloakroom_sql::{SqliteStore, Synchronous};
use common::{options, place};

/// Two handles with pools of their own on one file, behind one cache.
fn harness() -> Harness {
    Harness::new(async |clock| {
        let (directory, path) = place();
        let cache = Arc::new(MemoryStore::new(clock.clone()));
        let open = async || {
            let options = options(&path)
                .create_if_missing(true)
                .busy_timeout(Duration::from_secs(20))
                .synchronous(Synchronous::Off);
            let database = SqliteStore::open(options, clock.clone()).await.unwrap();
            database.migrations().apply().await.unwrap();
            let form = CacheForm::Private { max_age: Duration::MAX };
            let codec = Codec::signed_json(&Secrets::new("not asked for in this form"));
            CachedStore::new("default", cache.clone(), form, Arc::new(database), codec, clock.clone())
        };
        Subject::new(open().await).with_second(open().await).keeping(directory)
    })
}

store_conformance!(harness());
