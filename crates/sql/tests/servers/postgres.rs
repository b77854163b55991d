//! What is particular to PostgreSQL.

use bytes::Bytes;
use cloakroom_core::store::{Deleted, Replaced, Store, Version};
use cloakroom_core::{ErrorKind, Timestamp};
use cloakroom_sql::{Dialect, Postgres, PostgresStore, Together};
use cloakroom_test_servers::{Kind, Options, shared};
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};

use crate::common::{LATER, NOW, bytes, clock, key};
use crate::locks::Holder;
use crate::{block_on, create, payload, refused, store};

#[test]
fn the_sweep_passes_rows_that_others_hold() {
    block_on(async {
        let Some(server) = shared(Kind::Postgres) else { return };
        let url = server.database();
        let store = store(&url).await;
        let past = Timestamp::from_secs(1_800_000_000);
        for n in 1..=5 {
            store.create(&key(n), bytes("x"), past).await.unwrap();
        }
        let _holder = Holder::of(&url, 3).await;
        assert_eq!(store.clear_expired(2).await.unwrap().removed, 2);
        assert_eq!(store.clear_expired(10).await.unwrap().removed, 2);
        assert_eq!(store.list(None, 10).await.unwrap(), [key(3)]);
    });
}

/// Dates are moments, whatever time zone a connection believes to be in.
#[test]
fn a_pool_of_the_application_in_another_time_zone() {
    block_on(async {
        let Some(server) = shared(Kind::Postgres) else { return };
        let url = server.database();
        store(&url).await;
        let pool = PgPoolOptions::new().max_connections(2).after_connect(|conn, _| {
            Box::pin(async move {
                sqlx::query("SET TIME ZONE 'Asia/Kolkata'").execute(conn).await?;
                Ok(())
            })
        });
        let store = PostgresStore::from_pool(pool.connect(&url).await.unwrap(), clock());
        let end = Timestamp::from_micros(NOW.as_micros() + 1);
        store.create(&key(1), bytes("x"), end).await.unwrap();
        assert_eq!(store.load(&key(1)).await.unwrap().unwrap().expiry, end);
        let utc = "SELECT to_char(expire_date AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') FROM django_session";
        assert_eq!(server.sql(&url, utc).trim(), "2030-03-17 17:46:40.000001");
        store.clock().set(end);
        assert!(store.load(&key(1)).await.unwrap().is_none());
    });
}

#[test]
fn odd_rows_are_read_and_never_harmed() {
    block_on(async {
        let Some(server) = shared(Kind::Postgres) else { return };
        // A database that does not look at its text may hold anything but NUL.
        let name = "bytes_as_they_come";
        server.sql("postgres", &format!("CREATE DATABASE {name} ENCODING 'SQL_ASCII' TEMPLATE template0"));
        let url = server.url_of(name);
        let store = store(&url).await;
        let row = |n: u32, data: &str, date: &str| {
            server.sql(&url, &format!("INSERT INTO django_session VALUES ('{n:032}', {data}, '{date}')"));
        };
        row(1, r"E'\xff\xfe'", "2040-01-01");
        row(2, "''", "infinity");
        row(3, "'x'", "290000-01-01");
        row(4, "'x'", "-infinity");
        refused(store.load(&key(1)).await, ErrorKind::Corrupted, &["load a session", "not text"]);
        assert_eq!(store.load(&key(2)).await.unwrap().unwrap().expiry, Timestamp::MAX);
        assert_eq!(store.load(&key(3)).await.unwrap().unwrap().expiry, Timestamp::MAX);
        assert!(store.load(&key(4)).await.unwrap().is_none());
        let version = Version::payload(Bytes::from_static(b"\xff\xfe"));
        let replacing = store.replace(&key(1), &version, bytes("new"), LATER).await;
        refused(replacing, ErrorKind::Unrepresentable, &["save a session"]);
        let rows = "SELECT COUNT(*) FROM django_session WHERE session_data = E'\\xff\\xfe'";
        assert_eq!(server.sql(&url, rows).trim(), "1", "it was not harmed");
        // A sign-out does not look at it.
        assert!(matches!(store.delete(&key(1), None).await.unwrap(), Deleted::Deleted));

        let creating = store.create(&key(5), Bytes::from_static(b"a\0b"), LATER).await;
        refused(creating, ErrorKind::Unrepresentable, &["create a session", "0x00"]);
    });
}

/// Collations that call different texts equal, or order them otherwise, change nothing.
#[test]
fn texts_are_compared_byte_for_byte() {
    block_on(async {
        let Some(server) = shared(Kind::Postgres) else { return };
        let url = server.database();
        let store = store(&url).await;
        server.sql(
            &url,
            "CREATE COLLATION lax (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
             ALTER TABLE django_session ALTER COLUMN session_data TYPE text COLLATE lax",
        );
        create(&*store, &key(1), "Text").await;
        let replacing = store.replace(&key(1), &Version::payload(bytes("tEXT")), bytes("new"), LATER).await.unwrap();
        assert!(matches!(replacing, Replaced::Conflict(_)), "{replacing:?}");
        assert_eq!(payload(&*store, &key(1)).await.unwrap(), "Text");
    });
}

/// Two transactions that would have to run one after the other: the database takes one back, and it is repeated.
#[test]
fn serializable_transactions_are_repeated() {
    block_on(async {
        let options = Options::new(Kind::Postgres).args(["-c", "default_transaction_isolation=serializable"]);
        let Some(server) = options.require_or_skip() else { return };
        let store = store(&server.database()).await;
        create(&*store, &key(1), "0").await;
        let mut counting = tokio::task::JoinSet::new();
        for _ in 0..5 {
            let store = store.clone();
            counting.spawn(async move {
                for _ in 0..10 {
                    loop {
                        let stored = store.load(&key(1)).await.unwrap().unwrap();
                        let n: u32 = std::str::from_utf8(&stored.payload).unwrap().parse().unwrap();
                        let new = bytes(&(n + 1).to_string());
                        match store.replace(&key(1), &stored.version, new, LATER).await {
                            Ok(Replaced::Replaced(_)) => break,
                            Ok(Replaced::Conflict(_)) => {}
                            // As bounded retries may end; never another kind, and never a lost count.
                            Err(error) => assert_eq!(error.kind(), ErrorKind::Contended, "{error}"),
                            Ok(other) => panic!("{other:?}"),
                        }
                    }
                }
            });
        }
        counting.join_all().await;
        assert_eq!(payload(&*store, &key(1)).await.unwrap(), "50");
    });
}

/// A PgBouncer in transaction mode hands a statement to another connection than the one that prepared it.
#[test]
fn without_a_statement_cache() {
    block_on(async {
        let Some(server) = shared(Kind::Postgres) else { return };
        let url = format!("{}?statement_cache=0&statement_timeout=0&pool=1", server.database());
        let store = store(&url).await;
        create(&*store, &key(1), "x").await;
        assert_eq!(payload(&*store, &key(1)).await.unwrap(), "x");
        assert_eq!(payload(&*store, &key(1)).await.unwrap(), "x");
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
