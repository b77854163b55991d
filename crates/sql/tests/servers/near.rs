//! The near cache of PostgreSQL's store: what it saves, and what it must not serve.

mod between;
mod conformance;
mod trigger;

use std::sync::Arc;
use std::time::{Duration, Instant};

use cloakroom_core::peek::Peek;
use cloakroom_core::store::{Deleted, Replaced, Rotated, Store, Touched};
use cloakroom_core::{Clock, ErrorKind, KeySource, SessionKey, Timestamp};
use cloakroom_sql::{PostgresStore, ServerOptions};
use cloakroom_test_servers::{Kind, Server, Warnings, require_or_skip, shared};

use crate::common::{LATER, bytes, clock, server_options};
use crate::{block_on, create, payload};
use between::Between;

const MIB: usize = 1 << 20;
/// Only what never comes takes so long.
const PATIENCE: Duration = Duration::from_secs(60);
/// A near cache asks the server of itself so seldom that a test does not see it.
const SELDOM: Duration = Duration::from_secs(3_600);
/// The backends that listen for near caches.
const LISTENING: &str =
    "FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE '% near cache'";

fn key() -> SessionKey {
    KeySource::system().draw().unwrap()
}

/// With time limits that no busy machine reaches: other tests hold the runtime's threads up while they make databases.
fn options(url: &str) -> ServerOptions {
    server_options(url).acquire_timeout(PATIENCE).statement_timeout(Some(PATIENCE))
}

/// A database with the table, and the trigger.
async fn prepared(server: &Server) -> String {
    let url = server.database();
    let store = PostgresStore::open(options(&url), clock()).await.unwrap();
    server.sql(&url, &[store.migrations().sql(), store.near_cache_trigger().sql()].concat().join("\n"));
    url
}

async fn near_within(url: &str, staleness: Duration) -> PostgresStore {
    PostgresStore::open(options(url).near_cache(MIB, staleness), clock()).await.unwrap()
}

/// Waits for what has to be so some time.
async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < PATIENCE, "never: {what}");
        tokio::task::yield_now().await;
    }
}

/// Loads until a condition holds, which it has to some time.
async fn until(store: &PostgresStore, key: &SessionKey, what: &str, holds: impl Fn(Option<&str>) -> bool) {
    eventually(what, async || holds(payload(store, key).await.as_deref())).await;
}

/// Asks until a change is seen, which nobody may miss who asks for the session later than that after it.
async fn seen_within(staleness: Duration, changed: Instant, change: &str, mut seen: impl AsyncFnMut() -> bool) {
    loop {
        let asked = changed.elapsed();
        if seen().await {
            break;
        }
        assert!(asked <= staleness, "served {asked:?} after {change}");
    }
}

/// A store with a near cache, what is between it and its server, and a store that has none.
struct Site {
    url: String,
    between: Between,
    near: Arc<PostgresStore>,
    there: PostgresStore,
}

impl Site {
    async fn new(server: &Server, staleness: Duration) -> Self {
        let url = prepared(server).await;
        let between = Between::new(server.port()).await;
        let near = Arc::new(near_within(&between.url(&url), staleness).await);
        Self { there: PostgresStore::open(options(&url), clock()).await.unwrap(), url, between, near }
    }

    /// Has a session held in the near cache.
    async fn hold(&self, key: &SessionKey) {
        eventually("it is held", async || {
            assert!(self.near.load(key).await.unwrap().is_some(), "it stands");
            self.is_held(key).await
        })
        .await;
    }

    /// Whether a session is served, and nobody is asked for it.
    async fn is_held(&self, key: &SessionKey) -> bool {
        self.between.requests();
        let found = self.near.load(key).await.unwrap();
        found.is_some() && !self.between.requests().iter().any(|request| request.contains(key.as_str()))
    }

    /// Waits for the one warning that the near cache is off, without which nothing is held either.
    async fn is_off(&self, key: &SessionKey, warnings: &Warnings) {
        eventually("a warning", async || {
            assert!(!self.is_held(key).await);
            warnings.count() > 0
        })
        .await;
    }

    /// A new session, held.
    async fn held(&self, payload: &str) -> SessionKey {
        let key = key();
        create(&self.there, &key, payload).await;
        self.hold(&key).await;
        key
    }
}

#[test]
fn what_was_read_once_costs_nothing() {
    block_on(async {
        let Some(server) = shared(Kind::Postgres) else { return };
        let site = Site::new(server, SELDOM).await;
        let key = site.held("one").await;
        site.between.requests();
        for _ in 0..10 {
            let found = site.near.load(&key).await.unwrap().unwrap();
            assert_eq!((&found.payload[..], found.expiry), (&b"one"[..], LATER));
        }
        assert_eq!(site.between.requests(), [] as [String; 0], "nobody is asked for anything");

        // A session that is not there is asked for each time; and what a tool wants to know.
        let nobody = self::key();
        for _ in 0..2 {
            assert_eq!(payload(&*site.near, &nobody).await, None);
            assert!(!site.between.requests().is_empty());
        }
        site.near.peek(&key).await.unwrap().unwrap();
        assert!(!site.between.requests().is_empty());
    });
}

#[test]
fn what_other_stores_do_is_seen() {
    block_on(async {
        let Some(server) = shared(Kind::Postgres) else { return };
        let site = Site::new(server, SELDOM).await;
        let (near, there) = (&*site.near, &site.there);
        let (key, other) = (site.held("one").await, self::key());
        let later = Timestamp::from_micros(LATER.as_micros() + 1);
        let version = there.load(&key).await.unwrap().unwrap().version;
        let Replaced::Replaced(version) = there.replace(&key, &version, bytes("two"), LATER).await.unwrap() else {
            panic!()
        };
        until(near, &key, "the save", |found| found == Some("two")).await;

        site.hold(&key).await;
        assert_eq!(there.touch(&key, later).await.unwrap(), Touched::Touched);
        eventually("the new end", async || near.load(&key).await.unwrap().unwrap().expiry == later).await;

        site.hold(&key).await;
        let rotated = there.rotate(&key, &version, &other, bytes("three"), LATER).await.unwrap();
        assert!(matches!(rotated, Rotated::Rotated(_)), "{rotated:?}");
        until(near, &key, "the rotation", |found| found.is_none()).await;
        assert_eq!(payload(near, &other).await.as_deref(), Some("three"));

        site.hold(&other).await;
        assert!(matches!(there.delete(&other, None).await.unwrap(), Deleted::Deleted));
        until(near, &other, "the sign-out", |found| found.is_none()).await;
    });
}

/// Whoever it is: Django, or a person.
#[test]
fn what_is_done_in_sql_is_seen() {
    block_on(async {
        let Some(server) = shared(Kind::Postgres) else { return };
        let site = Site::new(server, SELDOM).await;
        let key = site.held("one").await;
        let row = format!("WHERE session_key = '{}'", key.as_str());
        let run = |sql: &str| server.sql(&site.url, sql);
        run(&format!("UPDATE django_session SET session_data = 'two', expire_date = '2040-01-01' {row}"));
        until(&site.near, &key, "Django's save", |found| found == Some("two")).await;
        site.hold(&key).await;
        run(&format!("SET session_replication_role = replica; UPDATE django_session SET session_data = 'three' {row}"));
        until(&site.near, &key, "a save that was replicated", |found| found == Some("three")).await;
        site.hold(&key).await;
        run(&format!("DELETE FROM django_session {row}"));
        until(&site.near, &key, "Django's sign-out", |found| found.is_none()).await;

        let key = site.held("one").await;
        run("TRUNCATE django_session");
        until(&site.near, &key, "that all are gone", |found| found.is_none()).await;
    });
}

/// What changes nothing is not told, nor is a sweep; notifications come in order, so what was not heard by now is not under
/// way either.
#[test]
fn what_matters_to_nobody_is_not_told() {
    block_on(async {
        let Some(server) = shared(Kind::Postgres) else { return };
        let site = Site::new(server, SELDOM).await;
        let key = site.held("one").await;
        let fresh = SessionKey::presented(&format!("{}{}", &key.as_str()[..8], "another")).unwrap();
        let row = format!("WHERE session_key = '{}'", key.as_str());
        server.sql(&site.url, &format!("UPDATE django_session SET session_data = 'one' {row}"));
        // Keys that begin alike: the one is new, the other one was over long ago, and is swept.
        let sql =
            format!("INSERT INTO django_session VALUES ('{}', 'x', now() - interval '3 minutes')", fresh.as_str());
        server.sql(&site.url, &sql);
        server.sql(&site.url, &format!("DELETE FROM django_session WHERE session_key = '{}'", fresh.as_str()));
        let told = site.held("told").await;
        site.there.delete(&told, None).await.unwrap();
        until(&site.near, &told, "the sign-out", |found| found.is_none()).await;
        assert!(site.is_held(&key).await);

        // What ended just now may live on by another clock.
        server.sql(&site.url, &sql.replace("3 minutes", "1 minute"));
        server.sql(&site.url, &format!("DELETE FROM django_session WHERE session_key = '{}'", fresh.as_str()));
        eventually("the deletion", async || !site.is_held(&key).await).await;
    });
}

#[test]
fn what_this_process_does_is_seen_at_once() {
    block_on(async {
        let Some(server) = shared(Kind::Postgres) else { return };
        let site = Site::new(server, SELDOM).await;
        let (near, key, other) = (&*site.near, site.held("one").await, key());
        // Nothing is heard from here on.
        site.between.hold_back(true);
        let version = near.load(&key).await.unwrap().unwrap().version;
        let replaced = near.replace(&key, &version, bytes("two"), LATER).await.unwrap();
        let Replaced::Replaced(version) = replaced else { panic!("{replaced:?}") };
        assert_eq!(payload(near, &key).await.as_deref(), Some("two"));
        let later = Timestamp::from_micros(LATER.as_micros() + 1);
        assert_eq!(near.touch(&key, later).await.unwrap(), Touched::Touched);
        assert_eq!(near.load(&key).await.unwrap().unwrap().expiry, later);
        let rotated = near.rotate(&key, &version, &other, bytes("three"), LATER).await.unwrap();
        assert!(matches!(rotated, Rotated::Rotated(_)), "{rotated:?}");
        assert_eq!((payload(near, &key).await, payload(near, &other).await.as_deref()), (None, Some("three")));
        assert!(site.is_held(&other).await);
        assert!(matches!(near.delete(&other, None).await.unwrap(), Deleted::Deleted));
        assert_eq!(payload(near, &other).await, None);
        create(near, &other, "four").await;
        assert_eq!(payload(near, &other).await.as_deref(), Some("four"));
        let version = near.load(&other).await.unwrap().unwrap().version;
        assert!(matches!(near.delete(&other, Some(&version)).await.unwrap(), Deleted::Deleted));
        assert_eq!(payload(near, &other).await, None);
    });
}

/// What is read is old: what is written from it is compared all the same.
#[test]
fn a_save_from_a_stale_copy_is_a_conflict() {
    block_on(async {
        let Some(server) = shared(Kind::Postgres) else { return };
        let site = Site::new(server, SELDOM).await;
        let (changed, deleted) = (site.held("one").await, site.held("one").await);
        let first = site.there.load(&changed).await.unwrap().unwrap().version;
        site.between.hold_back(true);
        site.there.replace(&changed, &first, bytes("two"), LATER).await.unwrap();
        site.there.delete(&deleted, None).await.unwrap();
        for key in [&changed, &deleted] {
            assert_eq!(payload(&*site.near, key).await.as_deref(), Some("one"), "nothing is heard");
        }
        let replaced = site.near.replace(&changed, &first, bytes("three"), LATER).await.unwrap();
        assert!(matches!(&replaced, Replaced::Conflict(standing) if standing.payload == "two"), "{replaced:?}");
        let replaced = site.near.replace(&deleted, &first, bytes("three"), LATER).await.unwrap();
        assert!(matches!(replaced, Replaced::Gone), "{replaced:?}");
        // Whoever met that reads anew.
        assert_eq!(payload(&*site.near, &changed).await.as_deref(), Some("two"));
        assert_eq!(payload(&*site.near, &deleted).await, None);
    });
}

/// A connection that hangs while the server goes on: nothing older than the staleness is served.
#[test]
fn a_silent_connection_is_not_believed_for_long() {
    block_on(async {
        let Some(server) = shared(Kind::Postgres) else { return };
        let staleness = Duration::from_secs(1);
        let site = Site::new(server, staleness).await;
        let key = site.held("signed in").await;
        site.between.hold_back(true);
        let silent = Instant::now();
        site.there.delete(&key, None).await.unwrap();
        seen_within(staleness, silent, "the sign-out", async || site.near.load(&key).await.unwrap().is_none()).await;
        // It is given up, and a new one takes its place.
        site.between.hold_back(false);
        site.held("signed in again").await;
    });
}

#[test]
fn a_server_that_is_frozen() {
    block_on(async {
        let Some(server) = require_or_skip(Kind::Postgres) else { return };
        let staleness = Duration::from_millis(500);
        let url = prepared(&server).await;
        let quick = options(&url).statement_timeout(Some(Duration::from_millis(300))).near_cache(MIB, staleness);
        let near = PostgresStore::open(quick, clock()).await.unwrap();
        let key = key();
        let patient = PostgresStore::open(options(&url), clock()).await.unwrap();
        create(&patient, &key, "kept").await;
        // On a machine that is busy, time limits that are so short are reached by themselves.
        let answers = async || {
            let start = Instant::now();
            loop {
                match near.load(&key).await {
                    Ok(found) => break assert_eq!(found.expect("it stands").payload, "kept"),
                    Err(error) => assert!(start.elapsed() < PATIENCE, "{error}"),
                }
            }
        };
        answers().await;
        server.freeze();
        let frozen = Instant::now();
        loop {
            let asked = frozen.elapsed();
            match near.load(&key).await {
                Ok(found) => {
                    assert_eq!(found.expect("a frozen server is no sign-out").payload, "kept");
                    assert!(asked <= staleness, "served {asked:?} after the server froze");
                }
                Err(error) => break assert_eq!(error.kind(), ErrorKind::Unavailable),
            }
        }
        server.thaw();
        answers().await;
    });
}

/// The connection that listens is cut while others change the session.
#[test]
fn a_connection_that_the_server_ends() {
    block_on(async {
        let Some(server) = shared(Kind::Postgres) else { return };
        let staleness = Duration::from_secs(1);
        let site = Site::new(server, staleness).await;
        let key = site.held("0").await;
        for round in 1..10 {
            site.hold(&key).await;
            // The one transaction cuts it, the next one changes what is not told any more.
            server.sql(&site.url, &format!("SELECT pg_terminate_backend(pid) {LISTENING}"));
            server.sql(&site.url, &format!("UPDATE django_session SET session_data = '{round}'"));
            let (changed, new) = (Instant::now(), round.to_string());
            seen_within(staleness, changed, "the change", async || {
                payload(&*site.near, &key).await.as_deref() == Some(&new)
            })
            .await;
            assert_eq!(payload(&*site.near, &key).await.as_deref(), Some(&*new), "nothing old comes back");
        }
        site.hold(&key).await;
    });
}

#[test]
fn a_restart() {
    block_on(async {
        let Some(server) = require_or_skip(Kind::Postgres) else { return };
        let site = Site::new(&server, Duration::from_secs(1)).await;
        let (kept, lost) = (site.held("kept").await, site.held("lost").await);
        server.restart();
        server.sql(&site.url, &format!("DELETE FROM django_session WHERE session_key = '{}'", lost.as_str()));
        until(&site.near, &lost, "the sign-out", |found| found.is_none()).await;
        site.hold(&kept).await;
    });
}

/// Of keys that begin alike, one is held, and it opens nothing to the other ones.
#[test]
fn keys_that_begin_alike() {
    block_on(async {
        let Some(server) = shared(Kind::Postgres) else { return };
        let site = Site::new(server, SELDOM).await;
        let key = site.held("one").await;
        let alike = |end: &str| SessionKey::presented(&format!("{}{end}", &key.as_str()[..8])).unwrap();
        let (stranger, second) = (alike("000000000000000000000000"), alike("111111111111111111111111"));
        create(&site.there, &second, "two").await;
        for _ in 0..2 {
            assert_eq!(payload(&*site.near, &stranger).await, None);
            assert_eq!(payload(&*site.near, &second).await.as_deref(), Some("two"));
        }
        assert!(site.is_held(&key).await);
        site.there.delete(&key, None).await.unwrap();
        until(&site.near, &key, "the sign-out", |found| found.is_none()).await;
        assert_eq!(payload(&*site.near, &second).await.as_deref(), Some("two"));
    });
}

/// A session ends here by the store's clock, and not later than in the table.
#[test]
fn an_end_by_the_calendar() {
    block_on(async {
        let Some(server) = shared(Kind::Postgres) else { return };
        let site = Site::new(server, SELDOM).await;
        let key = site.held("one").await;
        site.near.clock().set(Timestamp::from_micros(LATER.as_micros() - 1));
        // The proof is as old as the clock says; that one is as young again which comes then.
        site.hold(&key).await;
        site.near.clock().set(LATER);
        assert_eq!(payload(&*site.near, &key).await, None);
    });
}

#[test]
fn the_listening_connection_ends_with_its_store() {
    block_on(async {
        let Some(server) = shared(Kind::Postgres) else { return };
        let site = Site::new(server, SELDOM).await;
        let count = || server.sql(&site.url, &format!("SELECT COUNT(*) {LISTENING}")).trim().to_owned();
        assert_eq!(count(), "0", "nobody has asked for anything");
        site.held("one").await;
        assert_eq!(count(), "1");
        drop(site.near);
        eventually("its end", async || count() == "0").await;
    });
}

/// A store outlives the runtime in which it listened, and listens in the next one.
#[test]
fn runtimes_that_come_and_go() {
    let Some(server) = shared(Kind::Postgres) else { return };
    let mut kept = None;
    for _ in 0..3 {
        block_on(async {
            let (url, near) = match kept.take() {
                Some(kept) => kept,
                None => {
                    let url = prepared(server).await;
                    let near = near_within(&url, Duration::from_secs(1)).await;
                    (url, near)
                }
            };
            let key = key();
            create(&near, &key, "one").await;
            eventually("somebody who listens", async || {
                payload(&near, &key).await;
                server.sql(&url, &format!("SELECT COUNT(*) {LISTENING}")).trim() == "1"
            })
            .await;
            server.sql(&url, "DELETE FROM django_session");
            until(&near, &key, "the sign-out", |found| found.is_none()).await;
            kept = Some((url, near));
        });
    }
}

/// The warnings about the near cache.
fn warnings() -> Warnings {
    Warnings::of("cloakroom_sql::postgres::listener")
}

/// A pooler that lends its connections for single transactions.
#[tokio::test]
async fn behind_a_pooler_nothing_is_served() {
    let Some(server) = shared(Kind::Postgres) else { return };
    let warnings = warnings();
    let _listening = warnings.listen();
    let site = Site::new(server, Duration::from_secs(1)).await;
    site.between.pool_transactions();
    let key = key();
    create(&site.there, &key, "one").await;
    site.is_off(&key, &warnings).await;
    assert!(!site.is_held(&key).await);
    assert_eq!(warnings.count(), 1);
}

/// By our clock, a session would live on that the server's sweep has deleted without a word.
#[tokio::test]
async fn a_clock_that_is_behind_the_servers() {
    let Some(server) = shared(Kind::Postgres) else { return };
    let warnings = warnings();
    let _listening = warnings.listen();
    let url = prepared(server).await;
    let between = Between::new(server.port()).await;
    let clock = Clock::manual(Timestamp::from_secs(1_700_000_000));
    let near = options(&between.url(&url)).near_cache(MIB, SELDOM);
    let near = Arc::new(PostgresStore::open(near, clock.clone()).await.unwrap());
    let there = PostgresStore::open(options(&url), clock.clone()).await.unwrap();
    let site = Site { url, between, near, there };
    let key = key();
    create(&site.there, &key, "one").await;
    site.is_off(&key, &warnings).await;
    clock.set(Clock::system().now());
    site.hold(&key).await;
    assert_eq!(warnings.count(), 1);
}
