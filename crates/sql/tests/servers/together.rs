//! Operations that wait at the same moment go together, on PostgreSQL: one statement for many, and an outcome for each.

use std::sync::Arc;

use bytes::Bytes;
use cloakroom_core::store::{Created, Replaced, Store, Touched, Version};
use cloakroom_core::{ErrorKind, Result};
use cloakroom_sql::{Dialect, Postgres, Together};
use cloakroom_test_servers::{Kind, Options, require_or_skip, shared};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};
use tokio::task::{JoinHandle, yield_now};

use crate::common::{LATER, bytes, key};
use crate::locks::Holder;
use crate::proxy::{Fault, Proxy};
use crate::{create, payload, refused, store};

type Saving = JoinHandle<Result<Replaced>>;

/// One thread, so that what is started has come as far as it can at the next `yield_now`.
fn block_on(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(std::time::Duration::from_secs(300), test).await.expect("an end") });
}

/// Another program that has locked the table.
struct Lock(PgConnection);

impl Lock {
    async fn of(url: &str) -> Self {
        let mut conn = PgConnection::connect(url).await.unwrap();
        conn.execute("BEGIN").await.unwrap();
        conn.execute("LOCK TABLE django_session IN ACCESS EXCLUSIVE MODE").await.unwrap();
        Self(conn)
    }

    async fn release(mut self) {
        self.0.execute("ROLLBACK").await.unwrap();
    }
}

async fn save(store: &Arc<dyn Store>, n: u32, expected: &str, payload: impl Into<Bytes>) -> Saving {
    let (store, expected, payload) = (store.clone(), Version::payload(bytes(expected)), payload.into());
    let saving = tokio::spawn(async move { store.replace(&key(n), &expected, payload, LATER).await });
    yield_now().await;
    saving
}

/// Saves that take all the lanes there are, of records 100 and 101. Those that come now wait for these.
async fn fill_lanes(store: &Arc<dyn Store>) -> [Saving; 2] {
    [save(store, 100, "old", "new").await, save(store, 101, "old", "new").await]
}

async fn create_old(store: &dyn Store, keys: impl IntoIterator<Item = u32>) {
    for n in keys.into_iter().chain([100, 101]) {
        create(store, &key(n), "old").await;
    }
}

#[track_caller]
fn replaced(outcome: Result<Replaced>) {
    assert!(matches!(outcome, Ok(Replaced::Replaced(_))), "{outcome:?}");
}

#[test]
fn each_has_an_outcome_of_its_own() {
    block_on(async {
        let Some(server) = shared(Kind::Postgres) else { return };
        let url = server.database();
        let store = store(&url).await;
        create_old(&*store, 1..=20).await;
        let lock = Lock::of(&url).await;
        let first = fill_lanes(&store).await;
        let mut saves = Vec::new();
        for n in 1..=30 {
            let expected = if n % 3 == 0 { "older" } else { "old" };
            saves.push((n, save(&store, n, expected, format!("new {n}")).await));
        }
        // A second change of a record sees the first.
        let second = save(&store, 1, "old", "second").await;
        let third = save(&store, 2, "new 2", "third").await;
        lock.release().await;
        for save in first {
            replaced(save.await.unwrap());
        }
        for (n, save) in saves {
            match save.await.unwrap().unwrap() {
                Replaced::Gone => assert!(n > 20, "{n}"),
                Replaced::Conflict(stored) => {
                    assert!(n <= 20 && n % 3 == 0, "{n}");
                    assert_eq!((&*stored.payload, stored.expiry), (&b"old"[..], LATER));
                }
                Replaced::Replaced(version) => {
                    assert!(n <= 20 && n % 3 != 0, "{n}");
                    assert_eq!(version, Version::payload(bytes(&format!("new {n}"))));
                }
            }
        }
        match second.await.unwrap().unwrap() {
            Replaced::Conflict(stored) => assert_eq!(stored.payload, "new 1"),
            other => panic!("{other:?}"),
        }
        replaced(third.await.unwrap());
        for n in 3..=20 {
            let expected = if n % 3 == 0 { "old".to_owned() } else { format!("new {n}") };
            assert_eq!(payload(&*store, &key(n)).await.unwrap(), expected);
        }
        assert_eq!(payload(&*store, &key(2)).await.unwrap(), "third");
    });
}

/// Not even the first one, which goes alone, and waits.
#[test]
fn a_row_that_another_holds_holds_up_nobody_else() {
    block_on(async {
        let Some(server) = shared(Kind::Postgres) else { return };
        let url = server.database();
        let store = store(&format!("{url}?statement_timeout=60")).await;
        create_old(&*store, 1..=20).await;
        let holders = [Holder::of(&url, 1).await, Holder::of(&url, 7).await];
        let mut saves = Vec::new();
        for n in 1..=20 {
            saves.push((n, save(&store, n, "old", "new").await));
        }
        let mut waiting = Vec::new();
        for (n, save) in saves {
            match n {
                1 | 7 => waiting.push(save),
                _ => replaced(save.await.unwrap()),
            }
        }
        assert!(waiting.iter().all(|save| !save.is_finished()));
        drop(holders);
        for save in waiting {
            replaced(save.await.unwrap());
        }
    });
}

#[test]
fn bad_data_of_one_is_its_own_affair() {
    block_on(async {
        let Some(server) = shared(Kind::Postgres) else { return };
        let url = server.database();
        let store = store(&url).await;
        create_old(&*store, 1..=5).await;
        let lock = Lock::of(&url).await;
        let first = fill_lanes(&store).await;
        let mut saves = Vec::new();
        for n in 1..=5 {
            let payload = if n == 3 { Bytes::from_static(b"\xff\xfe") } else { bytes("new") };
            saves.push((n, save(&store, n, "old", payload).await));
        }
        let mut creates = Vec::new();
        for n in 11..=15 {
            let key = if n == 13 { "k".repeat(41) } else { format!("{n:032}") };
            let key = cloakroom_core::SessionKey::presented(&key).unwrap();
            let store = store.clone();
            creates.push((n, tokio::spawn(async move { store.create(&key, bytes("x"), LATER).await })));
            yield_now().await;
        }
        lock.release().await;
        for save in first {
            replaced(save.await.unwrap());
        }
        for (n, save) in saves {
            match n {
                3 => refused(save.await.unwrap(), ErrorKind::Unrepresentable, &["save a session"]),
                _ => replaced(save.await.unwrap()),
            }
        }
        for (n, create) in creates {
            match n {
                13 => refused(create.await.unwrap(), ErrorKind::TooLarge, &["create a session"]),
                _ => assert!(matches!(create.await.unwrap(), Ok(Created::Created(_))), "{n}"),
            }
        }
        assert_eq!(payload(&*store, &key(3)).await.unwrap(), "old");
    });
}

/// The statement for many is lost on its way, or was carried out and nobody heard of it.
#[test]
fn a_connection_that_breaks_under_many() {
    block_on(async {
        for fault in [Fault::LoseRequest, Fault::LoseAnswer] {
            let Some(server) = shared(Kind::Postgres) else { return };
            let url = server.database();
            let direct = store(&url).await;
            let proxy = Proxy::new(server.port()).await;
            let ours = store(&proxy.url(&url)).await;
            create_old(&*direct, 1..=10).await;
            let lock = Lock::of(&url).await;
            let first = fill_lanes(&ours).await;
            let mut saves = Vec::new();
            for n in 1..=10 {
                saves.push(save(&ours, n, "old", "new").await);
            }
            proxy.arm(key(5).as_str(), fault);
            proxy.go_on();
            lock.release().await;
            proxy.happened().await;
            for save in first {
                replaced(save.await.unwrap());
            }
            for save in saves {
                match fault {
                    Fault::LoseAnswer => {
                        refused(save.await.unwrap(), ErrorKind::Unavailable, &["save a session", "unknown"]);
                    }
                    _ => replaced(save.await.unwrap()),
                }
            }
            for n in 1..=10 {
                assert_eq!(payload(&*direct, &key(n)).await.unwrap(), "new");
            }
        }
    });
}

#[test]
fn a_server_that_is_killed_under_many() {
    block_on(async {
        let Some(server) = require_or_skip(Kind::Postgres) else { return };
        let url = server.database();
        let store = store(&format!("{url}?acquire_timeout=1&statement_timeout=60")).await;
        create_old(&*store, 1..=10).await;
        let lock = Lock::of(&url).await;
        let mut saves: Vec<_> = fill_lanes(&store).await.into();
        for n in 1..=10 {
            saves.push(save(&store, n, "old", "new").await);
        }
        server.kill();
        for save in saves {
            refused(save.await.unwrap(), ErrorKind::Unavailable, &["save a session"]);
        }
        server.restart();
        drop(lock);
        for n in 1..=10 {
            assert_eq!(payload(&*store, &key(n)).await.unwrap(), "old");
            replaced(store.replace(&key(n), &Version::payload(bytes("old")), bytes("new"), LATER).await);
        }
    });
}

/// A server that falls silent fails all who wait, and within bounds.
#[test]
fn a_server_that_freezes_under_many() {
    block_on(async {
        let Some(server) = require_or_skip(Kind::Postgres) else { return };
        let store = store(&format!("{}?statement_timeout=0.2", server.database())).await;
        create_old(&*store, 1..=10).await;
        server.freeze();
        let mut saves = Vec::new();
        for n in 1..=10 {
            saves.push(save(&store, n, "old", "new").await);
        }
        for save in saves {
            refused(save.await.unwrap(), ErrorKind::Unavailable, &["save a session"]);
        }
        server.thaw();
        for n in 1..=10 {
            // A save may have been carried out after all; the record is whole in either case.
            let text = payload(&*store, &key(n)).await.unwrap();
            assert!(text == "old" || text == "new", "{text}");
        }
    });
}

#[test]
fn many_take_fewer_statements() {
    block_on(async {
        let options = Options::new(Kind::Postgres).args(["-c", "shared_preload_libraries=pg_stat_statements"]);
        let Some(server) = options.require_or_skip() else { return };
        server.sql("postgres", "CREATE EXTENSION pg_stat_statements");
        let url = server.database();
        let store = store(&format!("{url}?statement_timeout=60")).await;
        // Other rows than the saves': a touch that meets a row which a save holds goes alone.
        let touched = 110..170;
        create_old(&*store, (1..=60).chain(touched.clone())).await;
        let lock = Lock::of(&url).await;
        let mut loads: Vec<JoinHandle<bool>> = Vec::new();
        let mut touches: Vec<JoinHandle<Touched>> = Vec::new();
        let mut saves: Vec<_> = fill_lanes(&store).await.into();
        for n in 1..=60 {
            saves.push(save(&store, n, "old", "new").await);
            let ours = store.clone();
            loads.push(tokio::spawn(async move { ours.load(&key(n)).await.unwrap().is_some() }));
        }
        for n in touched {
            let ours = store.clone();
            touches.push(tokio::spawn(async move { ours.touch(&key(n), LATER).await.unwrap() }));
        }
        yield_now().await;
        server.sql("postgres", "SELECT pg_stat_statements_reset()");
        lock.release().await;
        for save in saves {
            replaced(save.await.unwrap());
        }
        for load in loads {
            assert!(load.await.unwrap());
        }
        for touch in touches {
            assert_eq!(touch.await.unwrap(), Touched::Touched);
        }
        let count = "SELECT SUM(calls) FROM pg_stat_statements WHERE query LIKE '%django_session%'";
        let count: u32 = server.sql("postgres", count).trim().parse().unwrap();
        // Of each kind those that the two lanes held, and one for the others.
        assert!((9..20).contains(&count), "{count} statements for 182 operations");
    });
}

/// A plan that is kept does not depend on how large the table was when it was made: none reads all of it.
#[test]
fn every_statement_for_many_finds_its_rows_by_their_keys() {
    block_on(async {
        let Some(server) = shared(Kind::Postgres) else { return };
        let url = server.database();
        store(&url).await;
        let mut conn = PgConnection::connect(&url).await.unwrap();
        conn.execute("SET plan_cache_mode = force_generic_plan").await.unwrap();
        let fill = "INSERT INTO django_session SELECT lpad(n::text, 32, '0'), repeat('x', 600), now() + '1 day'
                    FROM generate_series(1, 20000) AS n";
        for preparation in ["", fill, "ANALYZE django_session"] {
            conn.execute(preparation).await.unwrap();
            for (kind, parameters) in [
                (Together::Load, "'{}', '{}'"),
                (Together::Replace, "'{}', '{}', '{}', '{}'"),
                (Together::Touch, "'{}', '{}', '{}'"),
            ] {
                let statement = Postgres::together(kind, 64);
                conn.execute(AssertSqlSafe(format!("PREPARE many AS {statement}"))).await.unwrap();
                let rows = sqlx::raw_sql(AssertSqlSafe(format!("EXPLAIN EXECUTE many ({parameters})")));
                let rows = rows.fetch_all(&mut conn).await.unwrap();
                let plan = rows.iter().map(|row| row.get::<String, _>(0)).collect::<Vec<_>>().join("\n");
                conn.execute("DEALLOCATE many").await.unwrap();
                assert!(
                    plan.contains("Index Scan") && !plan.contains("Seq Scan"),
                    "{preparation}\n{statement}\n{plan}"
                );
            }
        }
    });
}
