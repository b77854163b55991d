//! Operations that wait at the same moment go together, on SQLite, with an outcome for each: on a file of the store's own by
//! one transaction, and on an application's pool by one statement.

mod common;

use std::path::Path;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use cloakroom_core::store::{Created, Replaced, Store, Touched, Version};
use cloakroom_core::{ErrorKind, Timestamp};
use cloakroom_sql::{Dialect, Sqlite, SqliteStore, Together};
use cloakroom_test_servers::statements;
use common::*;
use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use tokio::task::{JoinHandle, JoinSet, yield_now};

/// The ways in which a store writes.
const WAYS: [Way; 2] = [Way::File, Way::Pool];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    File,
    Pool,
}

/// A store with these records, and another program that keeps it from writing until it is dropped.
struct Held {
    _directory: tempfile::TempDir,
    store: Arc<SqliteStore>,
    other: SqliteConnection,
    first: JoinHandle<()>,
}

impl Held {
    /// The first change waits for the other program; those that come now wait for the first.
    async fn with(way: Way, records: impl IntoIterator<Item = (u32, &'static str)>) -> Self {
        let (directory, path) = place();
        let options = options(&path).create_if_missing(true).busy_timeout(Duration::from_secs(60));
        let mut store = SqliteStore::open(options, clock()).await.unwrap();
        store.migrations().apply().await.unwrap();
        if way == Way::Pool {
            store = on_a_pool(&path).await;
        }
        let store = Arc::new(store);
        for (n, payload) in records {
            store.create(&key(n), bytes(payload), LATER).await.unwrap();
        }
        store.create(&key(0), bytes("0"), LATER).await.unwrap();
        let mut other = stranger(&path).await;
        run(&mut other, "BEGIN IMMEDIATE").await;
        let first = tokio::spawn({
            let store = store.clone();
            async move {
                let replaced = store.replace(&key(0), &version("0"), bytes("1"), LATER).await.unwrap();
                assert!(matches!(replaced, Replaced::Replaced(_)), "{replaced:?}");
                store.touch(&key(0), LATER).await.unwrap();
            }
        });
        yield_now().await;
        Self { _directory: directory, store, other, first }
    }

    /// A save that waits.
    async fn save(&self, n: u32, expected: &str, payload: impl Into<Bytes>) -> JoinHandle<Replaced> {
        let (store, expected, payload) = (self.store.clone(), version(expected), payload.into());
        let saving = tokio::spawn(async move { store.replace(&key(n), &expected, payload, LATER).await.unwrap() });
        yield_now().await;
        saving
    }

    async fn go_on(&mut self) {
        run(&mut self.other, "ROLLBACK").await;
        (&mut self.first).await.unwrap();
    }

    async fn payload(&self, n: u32) -> Option<Bytes> {
        self.store.load(&key(n)).await.unwrap().map(|stored| stored.payload)
    }
}

fn version(payload: &str) -> Version {
    Version::payload(bytes(payload))
}

#[tokio::test]
async fn each_has_an_outcome_of_its_own() {
    for way in WAYS {
        let mut held = Held::with(way, (1..=20).map(|n| (n, "old"))).await;
        let mut saves = Vec::new();
        for n in 1..=30 {
            // Every third of those that exist was saved by somebody else, and the last ten are gone.
            let expected = if n % 3 == 0 { "older" } else { "old" };
            saves.push((n, held.save(n, expected, format!("new {n}")).await));
        }
        held.go_on().await;
        for (n, save) in saves {
            match save.await.unwrap() {
                Replaced::Gone => assert!(n > 20, "{n}"),
                Replaced::Conflict(stored) => {
                    assert!(n <= 20 && n % 3 == 0, "{n}");
                    assert_eq!(stored.payload, "old");
                    assert_eq!(held.payload(n).await.unwrap(), "old");
                }
                Replaced::Replaced(version) => {
                    assert!(n <= 20 && n % 3 != 0, "{n}");
                    let stored = held.store.load(&key(n)).await.unwrap().unwrap();
                    assert_eq!((stored.version, stored.expiry), (version, LATER));
                    assert_eq!(stored.payload, format!("new {n}"));
                }
            }
        }
    }
}

#[tokio::test]
async fn two_changes_of_a_record_are_made_one_after_the_other() {
    for way in WAYS {
        let mut held = Held::with(way, [(1, "old"), (2, "old"), (3, "old")]).await;
        let mut saves = Vec::new();
        for (n, expected, payload) in
            [(1, "old", "a"), (2, "old", "b"), (1, "old", "c"), (3, "old", "d"), (2, "b", "e"), (1, "a", "f")]
        {
            saves.push(held.save(n, expected, payload).await);
        }
        held.go_on().await;
        let mut outcomes = Vec::new();
        for save in saves {
            outcomes.push(match save.await.unwrap() {
                Replaced::Replaced(_) => "replaced",
                // What stands there when it is looked at: of one that came later, perhaps.
                Replaced::Conflict(stored) if ["a", "f"].iter().any(|saved| stored.payload == *saved) => "conflict",
                other => panic!("{way:?}: {other:?}"),
            });
        }
        assert_eq!(outcomes, ["replaced", "replaced", "conflict", "replaced", "replaced", "replaced"]);
        assert_eq!(held.payload(1).await.unwrap(), "f");
        assert_eq!(held.payload(2).await.unwrap(), "e");
    }
}

/// Some of those who wait, and then the one that they wait for.
#[tokio::test]
async fn those_who_give_up_take_nobody_with_them() {
    for way in WAYS {
        let mut held = Held::with(way, (1..=6).map(|n| (n, "old"))).await;
        let mut saves = Vec::new();
        for n in 1..=6 {
            saves.push(held.save(n, "old", "new").await);
        }
        for n in [1, 3, 5] {
            saves[n].abort();
        }
        held.first.abort();
        assert!((&mut held.first).await.unwrap_err().is_cancelled());
        run(&mut held.other, "ROLLBACK").await;
        for (n, save) in (1..).zip(saves) {
            match save.await {
                Ok(replaced) => {
                    assert!(matches!(replaced, Replaced::Replaced(_)), "{replaced:?}");
                    assert_eq!(held.payload(n).await.unwrap(), "new");
                }
                Err(error) => {
                    assert!(error.is_cancelled() && [2, 4, 6].contains(&n));
                    assert_eq!(held.payload(n).await.unwrap(), "old", "what had not begun has no effect");
                }
            }
        }
        // And later ones go on as ever.
        let replaced = held.store.replace(&key(1), &version("new"), bytes("newer"), LATER).await.unwrap();
        assert!(matches!(replaced, Replaced::Replaced(_)), "{replaced:?}");
    }
}

/// One that nobody polls any more, neither finished nor dropped, is not waited for without end.
#[tokio::test]
async fn one_that_is_left_lying_holds_up_nobody_for_ever() {
    let (_directory, path) = place();
    drop(store(&path).await);
    let store = on_a_pool(&path).await;
    store.create(&key(1), bytes("x"), LATER).await.unwrap();
    let key = key(1);
    let mut left = store.load(&key);
    let begun = std::future::poll_fn(|context| Poll::Ready(left.as_mut().poll(context).is_pending())).await;
    assert!(begun);
    assert!(store.load(&key).await.unwrap().is_some());
    assert!(left.await.unwrap().is_some());
}

/// Bytes that are no text, and a payload that is far too large to go with others, among others that are neither.
#[tokio::test]
async fn odd_payloads_are_kept_as_they_are() {
    for way in WAYS {
        let mut held = Held::with(way, (1..=4).map(|n| (n, "old"))).await;
        let payloads =
            [Bytes::from_static(b"\xff\xfe\0"), bytes("plain"), Bytes::from(vec![b'x'; 1_000_000]), Bytes::new()];
        let mut saves = Vec::new();
        for (n, payload) in (1..).zip(&payloads) {
            saves.push(held.save(n, "old", payload.clone()).await);
        }
        held.go_on().await;
        for (n, (save, payload)) in (1..).zip(saves.into_iter().zip(payloads)) {
            assert!(matches!(save.await.unwrap(), Replaced::Replaced(_)));
            assert!(held.payload(n).await.unwrap() == payload, "{n}");
        }
    }
}

/// As a table that was dropped while operations waited.
#[tokio::test]
async fn what_fails_for_all_fails_for_each() {
    for way in WAYS {
        let mut held = Held::with(way, [(1, "old"), (2, "old")]).await;
        let mut creating = JoinSet::new();
        for n in 10..14 {
            let store = held.store.clone();
            creating.spawn(async move { store.create(&key(n), bytes("x"), LATER).await });
        }
        yield_now().await;
        run(&mut held.other, "DROP TABLE django_session; COMMIT").await;
        assert!((&mut held.first).await.unwrap_err().is_panic());
        while let Some(created) = creating.join_next().await {
            assert_eq!(created.unwrap().unwrap_err().kind(), ErrorKind::NotMigrated);
        }
    }
}

/// Counted, not timed: a hundred of each kind, of which all but the first wait.
#[tokio::test]
async fn many_take_fewer_statements() {
    for way in WAYS {
        drop(statements());
        let mut held = Held::with(way, (1..=100).map(|n| (n, "old"))).await;
        let mut working = JoinSet::new();
        for n in 1..=100 {
            let store = held.store.clone();
            working.spawn(async move {
                let replaced = store.replace(&key(n), &version("old"), bytes("new"), LATER).await.unwrap();
                assert!(matches!(replaced, Replaced::Replaced(_)), "{replaced:?}");
                assert_eq!(store.touch(&key(n), LATER).await.unwrap(), Touched::Touched);
                let created = store.create(&key(1_000 + n), bytes("x"), LATER).await.unwrap();
                assert!(matches!(created, Created::Created(_)));
            });
        }
        yield_now().await;
        statements().clear();
        held.go_on().await;
        while let Some(done) = working.join_next().await {
            done.unwrap();
        }
        // 302 operations. They need about 12 statements, or as many transactions; how many exactly depends on when which
        // thread gets ahead.
        let taken = taken();
        let count = match way {
            Way::Pool => taken.len(),
            Way::File => {
                let is_change = |verb: &&String| matches!(verb.as_str(), "INSERT" | "UPDATE");
                assert_eq!(taken.iter().filter(is_change).count(), 302);
                taken.iter().filter(|verb| *verb == "BEGIN").count()
            }
        };
        assert!((3..150).contains(&count), "{way:?}: {count}");
    }
}

/// The same for those that are not answered on the thread that asks.
#[tokio::test]
async fn many_loads_through_an_application_s_pool_take_fewer_statements() {
    let (_directory, path) = place();
    store(&path).await.create(&key(1), bytes("x"), LATER).await.unwrap();
    let store = Arc::new(on_a_pool(&path).await);
    drop(statements());
    let mut working = JoinSet::new();
    for _ in 0..100 {
        let store = store.clone();
        working.spawn(async move {
            assert_eq!(store.load(&key(1)).await.unwrap().unwrap().payload, "x");
            assert!(store.load(&key(5_000)).await.unwrap().is_none());
        });
    }
    while let Some(done) = working.join_next().await {
        done.unwrap();
    }
    let taken = taken().len();
    assert!((4..100).contains(&taken), "{taken}");
}

/// The statements since they were last taken.
fn taken() -> Vec<String> {
    let mut taken = std::mem::take(&mut *statements());
    taken.retain(|verb| !matches!(verb.as_str(), "PRAGMA" | "ROLLBACK"));
    taken
}

/// A store that reads by its pool alone.
async fn on_a_pool(path: &Path) -> SqliteStore {
    let options = SqliteConnectOptions::new().filename(path).busy_timeout(Duration::from_secs(60));
    let pool = SqlitePool::connect_with(options).await.unwrap();
    SqliteStore::from_pool(pool, clock())
}

/// Whatever the size of the table, with and without statistics.
#[tokio::test]
async fn every_statement_for_many_finds_its_rows_by_their_keys() {
    let (_directory, path) = place();
    store(&path).await;
    let mut conn = stranger(&path).await;
    let fill = "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n LIMIT 20000)
                INSERT INTO django_session SELECT printf('%032d', n), 'x', '2031-01-01' FROM n";
    for preparation in ["", fill, "ANALYZE"] {
        run(&mut conn, preparation).await;
        for kind in [Together::Load, Together::Replace, Together::Touch] {
            for rows in [1, 2, 64] {
                let statement = Sqlite::together(kind, rows);
                let plan = plan(&mut conn, statement).await;
                assert!(plan.contains("SEARCH django_session USING INDEX sqlite_autoindex_django_session_1"), "{plan}");
                assert!(!plan.contains("SCAN django_session"), "{plan}");
            }
        }
    }
}

async fn plan(conn: &mut SqliteConnection, statement: &str) -> String {
    use sqlx::Row;

    let rows = sqlx::query(sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}")));
    let rows = rows.fetch_all(conn).await.unwrap();
    rows.iter().map(|row| row.get::<String, _>("detail")).collect::<Vec<_>>().join("\n")
}

/// A load that begins after a save was acknowledged sees it, whatever else is loaded at the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_saved_sees_it() {
    let (_directory, path) = place();
    let store = Arc::new(store(&path).await);
    let mut working = JoinSet::new();
    for n in 0..16 {
        let store = store.clone();
        working.spawn(async move {
            let Created::Created(mut version) = store.create(&key(n), bytes("0"), LATER).await.unwrap() else {
                panic!("the key is free")
            };
            for i in 1..=50 {
                let payload = bytes(&i.to_string());
                let end = Timestamp::from_secs(1_900_003_600 + i);
                match store.replace(&key(n), &version, payload.clone(), end).await.unwrap() {
                    Replaced::Replaced(new) => version = new,
                    other => panic!("{other:?}"),
                }
                let stored = store.load(&key(n)).await.unwrap().unwrap();
                assert_eq!((stored.payload, stored.expiry), (payload, end));
            }
        });
    }
    while let Some(done) = working.join_next().await {
        done.unwrap();
    }
}
