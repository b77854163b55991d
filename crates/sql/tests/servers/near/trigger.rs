//! The trigger that tells of changes: how it comes and goes, and that nothing is served without it.

use std::time::{Duration, Instant};

use cloakroom_core::ErrorKind;
use cloakroom_core::store::{Rotated, Store};
use cloakroom_sql::PostgresStore;
use cloakroom_test_servers::{Kind, shared};

use super::{SELDOM, Site, key, options, seen_within, until, warnings};
use crate::common::{LATER, bytes, clock};
use crate::{block_on, create, open, payload, refused};

#[test]
fn it_is_installed_and_removed() {
    block_on(async {
        let Some(server) = shared(Kind::Postgres) else { return };
        let url = server.database();
        let store = PostgresStore::open(options(&url), clock()).await.unwrap();
        let trigger = store.near_cache_trigger();
        assert!(!trigger.is_installed().await.unwrap());
        assert!(!trigger.remove().await.unwrap(), "there is nothing to remove");
        refused(trigger.install().await, ErrorKind::NotMigrated, &["near cache's trigger", "cloakroom migrate"]);

        store.migrations().apply().await.unwrap();
        assert!(!trigger.is_installed().await.unwrap(), "it is no part of the migration");
        assert!(trigger.install().await.unwrap());
        assert!(trigger.is_installed().await.unwrap());
        assert!(!trigger.install().await.unwrap(), "nothing to do");
        assert!(trigger.remove().await.unwrap());
        assert!(!trigger.is_installed().await.unwrap());

        // By hand, twice.
        for _ in 0..2 {
            server.sql(&url, &trigger.sql().join("\n"));
            assert!(trigger.is_installed().await.unwrap());
        }
        for _ in 0..2 {
            server.sql(&url, &trigger.removal_sql().join("\n"));
            assert!(!trigger.is_installed().await.unwrap());
        }

        // What is not as it should be is seen, and mended.
        for spoilt in [
            "ALTER TABLE django_session DISABLE TRIGGER cloakroom_session_update",
            "ALTER TABLE django_session ENABLE TRIGGER cloakroom_session_delete",
            "DROP TRIGGER cloakroom_session_truncate ON django_session",
            "CREATE OR REPLACE FUNCTION cloakroom_session_changed() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        ] {
            trigger.install().await.unwrap();
            server.sql(&url, spoilt);
            assert!(!trigger.is_installed().await.unwrap(), "{spoilt}");
        }
        assert!(trigger.install().await.unwrap());
        assert!(trigger.is_installed().await.unwrap());
    });
}

#[test]
fn several_at_once_install_it_once() {
    block_on(async {
        let Some(server) = shared(Kind::Postgres) else { return };
        let url = server.database();
        open(&url).await.unwrap().migrate().await.unwrap();
        let mut installing = tokio::task::JoinSet::new();
        for _ in 0..5 {
            let store = PostgresStore::open(options(&url), clock()).await.unwrap();
            installing.spawn(async move { store.near_cache_trigger().install().await.unwrap() });
        }
        installing.join_all().await;
        let store = PostgresStore::open(options(&url), clock()).await.unwrap();
        assert!(store.near_cache_trigger().is_installed().await.unwrap());
    });
}

/// Rows that hold what is no key of ours do not matter, and are deleted as ever.
#[test]
fn odd_rows_are_changed_as_ever() {
    block_on(async {
        let Some(server) = shared(Kind::Postgres) else { return };
        let site = Site::new(server, SELDOM).await;
        let key = site.held("one").await;
        server.sql(&site.url, "INSERT INTO django_session VALUES ('', '', 'infinity'), ('Ünbekannt', 'x', now())");
        server.sql(&site.url, "UPDATE django_session SET session_data = 'y' WHERE length(session_key) < 10");
        server.sql(&site.url, "DELETE FROM django_session WHERE length(session_key) < 10");
        let told = site.held("told").await;
        server.sql(&site.url, &format!("DELETE FROM django_session WHERE session_key = '{}'", told.as_str()));
        until(&site.near, &told, "the sign-out", |found| found.is_none()).await;
        assert!(site.is_held(&key).await);
    });
}

#[tokio::test]
async fn without_it_the_near_cache_is_off() {
    let Some(server) = shared(Kind::Postgres) else { return };
    let warnings = warnings();
    let _listening = warnings.listen();
    let site = Site::new(server, Duration::from_secs(1)).await;
    let trigger = site.there.near_cache_trigger();
    trigger.remove().await.unwrap();
    let key = key();
    create(&site.there, &key, "one").await;
    site.is_off(&key, &warnings).await;
    for _ in 0..10 {
        assert!(!site.is_held(&key).await);
    }
    // It is looked for again, and again told of once.
    trigger.install().await.unwrap();
    site.hold(&key).await;
    assert_eq!(warnings.count(), 1);
}

/// As the documentation divides a large table: a row whose key changes may move to another part.
#[test]
fn a_table_in_partitions() {
    block_on(async {
        let Some(server) = shared(Kind::Postgres) else { return };
        let site = Site::new(server, SELDOM).await;
        let parts = "FOR VALUES WITH (MODULUS 2, REMAINDER";
        let table = "CREATE TABLE django_session (session_key varchar(40) NOT NULL PRIMARY KEY, session_data text NOT NULL, \
                     expire_date timestamptz NOT NULL) PARTITION BY HASH (session_key)";
        server.sql(
            &site.url,
            &format!(
                "DROP TABLE django_session; {table}; CREATE TABLE a PARTITION OF django_session {parts} 0); \
                 CREATE TABLE b PARTITION OF django_session {parts} 1)"
            ),
        );
        assert!(site.there.near_cache_trigger().install().await.unwrap());
        // Some of these go to the other part.
        for _ in 0..8 {
            let (key, new) = (site.held("one").await, key());
            let version = site.there.load(&key).await.unwrap().unwrap().version;
            let rotated = site.there.rotate(&key, &version, &new, bytes("two"), LATER).await.unwrap();
            assert!(matches!(rotated, Rotated::Rotated(_)), "{rotated:?}");
            until(&site.near, &key, "the rotation", |found| found.is_none()).await;
        }
        for sql in [
            "UPDATE django_session SET session_data = 'three'",
            "DELETE FROM django_session",
            "TRUNCATE django_session",
        ] {
            let key = site.held("one").await;
            server.sql(&site.url, sql);
            until(&site.near, &key, sql, |found| found != Some("one")).await;
        }
    });
}

/// Nobody tells of what happens meanwhile; nothing is served that is older than the staleness.
#[test]
fn switched_off_under_way() {
    block_on(async {
        let Some(server) = shared(Kind::Postgres) else { return };
        let staleness = Duration::from_secs(1);
        let site = Site::new(server, staleness).await;
        for (before, after) in [
            ("DISABLE TRIGGER cloakroom_session_delete", ""),
            // As a script does that wants to be quick: the next look finds all as it was, and yet not the same.
            (
                "DISABLE TRIGGER USER",
                "ALTER TABLE django_session ENABLE ALWAYS TRIGGER cloakroom_session_delete, ENABLE ALWAYS TRIGGER cloakroom_session_truncate, ENABLE ALWAYS TRIGGER cloakroom_session_update;",
            ),
        ] {
            site.there.near_cache_trigger().install().await.unwrap();
            let key = site.held("signed in").await;
            server.sql(
                &site.url,
                &format!("BEGIN; ALTER TABLE django_session {before}; DELETE FROM django_session; {after} COMMIT"),
            );
            seen_within(staleness, Instant::now(), "the sign-out", async || payload(&*site.near, &key).await.is_none())
                .await;
        }
    });
}
