//! What is particular to MariaDB and MySQL.

use std::sync::Arc;
use std::time::Duration;

use cloakroom_core::store::{Created, Deleted, Replaced, Store, Touched, Version};
use cloakroom_core::wire::expiry::TimeZone;
use cloakroom_core::{ErrorKind, SessionKey, Timestamp};
use cloakroom_sql::{Dialect, MySql, MySqlStore, Together};
use cloakroom_test_servers::{Kind, Options, require_or_skip, shared};
use sqlx::mysql::MySqlPoolOptions;
use sqlx::{AssertSqlSafe, Connection, Executor, MySqlConnection, Row};
use tokio::task::JoinSet;

use crate::common::{LATER, NOW, bytes, clock, key};
use crate::locks::Holder;
use crate::proxy::{Fault, Proxy};
use crate::{block_on, create, open, payload, refused, store};

fn named(text: &str) -> SessionKey {
    SessionKey::presented(text).unwrap()
}

/// The usual collations take upper for lower case, and blanks at the end for nothing.
#[test]
fn texts_are_compared_byte_for_byte() {
    block_on(async {
        let Some(server) = shared(Kind::MariaDb) else { return };
        let url = server.database();
        let store = store(&url).await;
        for (row, ours) in [("ABCDEFGH12", "abcdefgh12"), ("spaces0000  ", "spaces0000"), ("accént0000", "accent0000")]
        {
            server.sql(&url, &format!("INSERT INTO django_session VALUES ('{row}', 'Text', '2040-01-01')"));
            let (ours, text) = (named(ours), Version::payload(bytes("Text")));
            assert!(store.load(&ours).await.unwrap().is_none(), "{row}");
            assert_eq!(store.touch(&ours, LATER).await.unwrap(), Touched::Gone, "{row}");
            assert!(matches!(store.delete(&ours, None).await.unwrap(), Deleted::Gone), "{row}");
            assert!(matches!(store.delete(&ours, Some(&text)).await.unwrap(), Deleted::Gone), "{row}");
            assert!(matches!(store.replace(&ours, &text, bytes("x"), LATER).await.unwrap(), Replaced::Gone), "{row}");
            // Both cannot stand in the table; another key is drawn then.
            assert_eq!(store.create(&ours, bytes("x"), LATER).await.unwrap(), Created::Taken, "{row}");
        }
        let rows = server.sql(&url, "SELECT COUNT(*) FROM django_session WHERE session_data = 'Text'");
        assert_eq!(rows.trim(), "3", "none was harmed");

        create(&*store, &key(1), "Text").await;
        for wrong in ["tEXT", "Text ", "Téxt"] {
            let expected = Version::payload(bytes(wrong));
            let replacing = store.replace(&key(1), &expected, bytes("new"), LATER).await.unwrap();
            assert!(matches!(replacing, Replaced::Conflict(_)), "{replacing:?}");
            assert!(matches!(store.delete(&key(1), Some(&expected)).await.unwrap(), Deleted::Conflict(_)));
        }
        assert_eq!(payload(&*store, &key(1)).await.unwrap(), "Text");
    });
}

/// Rows that match count, whether or not they change.
#[test]
fn a_save_that_changes_nothing_is_a_save() {
    block_on(async {
        let Some(server) = shared(Kind::MariaDb) else { return };
        let store = store(&server.database()).await;
        let version = create(&*store, &key(1), "same").await;
        let saved = store.replace(&key(1), &version, bytes("same"), LATER).await.unwrap();
        assert!(matches!(saved, Replaced::Replaced(_)), "{saved:?}");
        assert_eq!(store.touch(&key(1), LATER).await.unwrap(), Touched::Touched);
        assert_eq!(store.touch(&key(1), LATER).await.unwrap(), Touched::Touched);
    });
}

/// A table of another character set, as one of an old Django: what is read there can be compared and replaced.
#[test]
fn other_character_sets() {
    block_on(async {
        let Some(server) = shared(Kind::MariaDb) else { return };
        for charset in ["latin1", "utf8mb3", "utf16"] {
            let url = server.database();
            let store = store(&url).await;
            server.sql(&url, &format!("ALTER TABLE django_session CONVERT TO CHARACTER SET {charset}"));
            let version = create(&*store, &key(1), "plain").await;
            let Replaced::Replaced(version) = store.replace(&key(1), &version, bytes("é"), LATER).await.unwrap()
            else {
                panic!("{charset}")
            };
            assert_eq!(payload(&*store, &key(1)).await.unwrap(), "é", "{charset}");
            assert!(matches!(store.delete(&key(1), Some(&version)).await.unwrap(), Deleted::Deleted), "{charset}");
            if charset == "latin1" {
                let creating = store.create(&key(2), bytes("字"), LATER).await;
                refused(creating, ErrorKind::Unrepresentable, &["create a session"]);
            }
        }
    });
}

#[test]
fn dates_are_local_where_django_stores_them_so() {
    block_on(async {
        let Some(server) = shared(Kind::MariaDb) else { return };
        let url = server.database();
        store(&url).await;
        let zone = TimeZone::named("Asia/Kolkata").unwrap();
        // A pool whose connections believe to be elsewhere.
        let pool = MySqlPoolOptions::new().max_connections(2).after_connect(|conn, _| {
            Box::pin(async move {
                sqlx::query("SET time_zone = '-07:00'").execute(conn).await?;
                Ok(())
            })
        });
        let pool = pool.connect(&url).await.unwrap();
        let store = MySqlStore::from_pool(pool, clock()).with_time_zone(Some(zone));
        let end = Timestamp::from_micros(NOW.as_micros() + 1);
        store.create(&key(1), bytes("x"), end).await.unwrap();
        assert_eq!(store.load(&key(1)).await.unwrap().unwrap().expiry, end);
        let text = server.sql(&url, "SELECT CAST(expire_date AS CHAR) FROM django_session");
        assert_eq!(text.trim(), "2030-03-17 23:16:40.000001");
        store.clock().set(end);
        assert!(store.load(&key(1)).await.unwrap().is_none());
        assert_eq!(store.clear_expired(10).await.unwrap().removed, 0, "equal is neither alive nor swept");
    });
}

#[test]
fn odd_rows_are_read_and_never_harmed() {
    block_on(async {
        let Some(server) = shared(Kind::MariaDb) else { return };
        let url = server.database();
        let store = store(&url).await;
        let row = |n: u32, date: &str| {
            let insert = format!("INSERT INTO django_session VALUES ('{n:032}', 'a\\0b', '{date}')");
            server.sql(&url, &format!("SET sql_mode = ''; {insert}"));
        };
        row(1, "0000-00-00 00:00:00");
        row(2, "2040-00-00 00:00:00");
        row(3, "9999-12-31 23:59:59.999999");
        assert!(store.load(&key(1)).await.unwrap().is_none());
        // No such day; alive, since the database says so, and soon to be renewed.
        let odd = store.load(&key(2)).await.unwrap().unwrap();
        assert_eq!(odd.payload, &b"a\0b"[..]);
        assert_eq!(odd.expiry, Timestamp::from_micros(NOW.as_micros() + 1_000_000));
        assert_eq!(store.load(&key(3)).await.unwrap().unwrap().expiry, Timestamp::MAX);
        assert_eq!(store.list(None, 10).await.unwrap().len(), 3);
    });
}

/// A record larger than the server takes is told to be so; smaller ones go on.
#[test]
fn more_than_the_server_takes() {
    block_on(async {
        let Some(server) = require_or_skip(Kind::MariaDb) else { return };
        let store = store(&server.database()).await;
        server.sql("mysql", "SET GLOBAL max_allowed_packet = 1048576");
        let store = {
            drop(store);
            open(&server.url_of("test_1")).await.unwrap().into_store()
        };
        let version = create(&*store, &key(1), "small").await;
        // The server says why and ends the connection, which a client that is still sending finds broken first.
        for size in [3_000_000, 30_000_000] {
            let large = bytes(&"x".repeat(size));
            let saving = store.replace(&key(1), &version, large.clone(), LATER).await;
            refused(saving, ErrorKind::TooLarge, &["save a session"]);
            refused(store.create(&key(2), large, LATER).await, ErrorKind::TooLarge, &["create a session"]);
        }
        assert_eq!(payload(&*store, &key(1)).await.unwrap(), "small");
    });
}

/// As the other statements do, for the same odd rows and in every character set.
#[test]
fn many_are_compared_as_one_is() {
    block_on(async {
        let Some(server) = shared(Kind::MariaDb) else { return };
        for collation in ["latin1_swedish_ci", "utf8mb3_unicode_ci", "utf16_general_ci", "utf8mb4_nopad_bin"] {
            let url = server.database();
            let store = store(&url).await;
            let charset = collation.split('_').next().unwrap();
            let convert = format!("ALTER TABLE django_session CONVERT TO CHARACTER SET {charset} COLLATE {collation}");
            server.sql(&url, &convert);
            for row in ["ABCDEFGH12", "spaces0000  ", "acc\u{e9}nt0000"] {
                server.sql(&url, &format!("INSERT INTO django_session VALUES ('{row}', 'Text', '2040-01-01')"));
            }
            server.sql(&url, "INSERT INTO django_session VALUES ('wasalive', 'Text', '2030-01-01')");
            for n in 1..=20 {
                create(&*store, &key(n), "Text").await;
            }
            let lock = Holder::of_all(&url).await;
            let mut work = JoinSet::new();
            let odd = ["abcdefgh12", "spaces0000", "accent0000", "wasalive"].map(named);
            for key in odd.into_iter().chain((1..=20).map(key)) {
                let store = store.clone();
                work.spawn(async move {
                    let is_odd = key.as_str().contains(char::is_alphabetic);
                    assert_eq!(store.load(&key).await.unwrap().is_none(), is_odd, "{collation} {key:?}");
                    let touched = if is_odd { Touched::Gone } else { Touched::Touched };
                    assert_eq!(store.touch(&key, LATER).await.unwrap(), touched, "{collation} {key:?}");
                    for wrong in ["tEXT", "Text ", "T\u{e9}xt"] {
                        let saved = store.replace(&key, &Version::payload(bytes(wrong)), bytes("x"), LATER).await;
                        assert!(!matches!(saved.unwrap(), Replaced::Replaced(_)), "{collation} {key:?} {wrong}");
                    }
                    if !is_odd {
                        let new = bytes(&format!("\u{e9} {}", key.as_str()));
                        let saved = store.replace(&key, &Version::payload(bytes("Text")), new.clone(), LATER).await;
                        assert!(matches!(saved.unwrap(), Replaced::Replaced(_)), "{collation} {key:?}");
                        assert_eq!(store.load(&key).await.unwrap().unwrap().payload, new);
                    }
                });
            }
            // Until they wait.
            tokio::time::sleep(Duration::from_millis(50)).await;
            drop(lock);
            while let Some(done) = work.join_next().await {
                done.unwrap();
            }
            let rows = "SELECT COUNT(*) FROM django_session WHERE BINARY CONVERT(session_data USING utf8mb4) = 'Text'";
            assert_eq!(server.sql(&url, rows).trim(), "4", "{collation}: none was harmed");
        }
    });
}

/// As another server would that came in place of the first one, or as MySQL would: then each goes alone.
#[test]
fn a_server_that_does_not_know_the_statements() {
    block_on(async {
        let Some(server) = shared(Kind::MariaDb) else { return };
        for text in ["OR @@binlog_format", "SKIP LOCKED"] {
            let url = server.database();
            let direct = store(&url).await;
            let proxy = Proxy::new(server.port()).await;
            let ours = store(&proxy.url(&url)).await;
            for n in 1..=20 {
                create(&*direct, &key(n), "old").await;
            }
            proxy.arm(text, Fault::Garble);
            let lock = Holder::of_all(&url).await;
            let mut saves = JoinSet::new();
            for n in 1..=20 {
                let ours = ours.clone();
                let saving =
                    async move { ours.replace(&key(n), &Version::payload(bytes("old")), bytes("new"), LATER).await };
                saves.spawn(saving);
            }
            proxy.happened().await;
            drop(lock);
            while let Some(saved) = saves.join_next().await {
                assert!(matches!(saved.unwrap(), Ok(Replaced::Replaced(_))));
            }
        }
    });
}

/// An application's own pool, on a server whose log of statements would make its replicas differ: each goes alone.
#[test]
fn a_log_of_statements() {
    block_on(async {
        let options = Options::new(Kind::MariaDb).args(["--log-bin=log", "--binlog-format=STATEMENT", "--server-id=1"]);
        let Some(server) = options.require_or_skip() else { return };
        let pool = MySqlPoolOptions::new().max_connections(2).connect(&server.database()).await.unwrap();
        let store = Arc::new(MySqlStore::from_pool(pool, clock()));
        store.migrations().apply().await.unwrap();
        let mut work = JoinSet::new();
        for n in 1..=50 {
            let store = store.clone();
            work.spawn(async move {
                let version = create(&*store, &key(n), "old").await;
                let saved = store.replace(&key(n), &version, bytes("new"), LATER).await;
                assert!(matches!(saved, Ok(Replaced::Replaced(_))), "{saved:?}");
            });
        }
        while let Some(done) = work.join_next().await {
            done.unwrap();
        }
        let count =
            "SELECT variable_value FROM information_schema.global_status WHERE variable_name = 'COM_INSERT_SELECT'";
        assert_eq!(server.sql("mysql", count).trim(), "0");
    });
}

/// Many that are small enough each, and too much for one statement.
#[test]
fn more_than_the_server_takes_at_once() {
    block_on(async {
        let Some(server) = require_or_skip(Kind::MariaDb) else { return };
        server.sql("mysql", "SET GLOBAL max_allowed_packet = 262144");
        let url = server.database();
        let store = store(&url).await;
        let large = "x".repeat(30_000);
        for n in 1..=40 {
            create(&*store, &key(n), &large).await;
        }
        let lock = Holder::of_all(&url).await;
        let mut saves = JoinSet::new();
        for n in 1..=40 {
            let (store, expected) = (store.clone(), Version::payload(bytes(&large)));
            saves.spawn(async move { store.replace(&key(n), &expected, bytes("new"), LATER).await });
        }
        // Until they wait.
        tokio::time::sleep(Duration::from_millis(50)).await;
        drop(lock);
        while let Some(saved) = saves.join_next().await {
            assert!(matches!(saved.as_ref().unwrap(), Ok(Replaced::Replaced(_))), "{saved:?}");
        }
    });
}

/// However large the table is.
#[test]
fn every_statement_for_many_finds_its_rows_by_their_keys() {
    block_on(async {
        let Some(server) = shared(Kind::MariaDb) else { return };
        let url = server.database();
        store(&url).await;
        let mut conn = MySqlConnection::connect(&url).await.unwrap();
        let fill = "INSERT INTO django_session SELECT LPAD(seq, 32, '0'), 'x', '2040-01-01' FROM seq_1_to_20000";
        for preparation in ["DO 1", "INSERT INTO django_session VALUES ('abcdefgh', 'x', '2040-01-01')", fill] {
            conn.execute(preparation).await.unwrap();
            for kind in [Together::Load, Together::Replace, Together::Touch] {
                for rows in [1, 64] {
                    let statement = format!("EXPLAIN {}", MySql::together(kind, rows));
                    let mut query = sqlx::query(AssertSqlSafe(statement.clone()));
                    for n in 0..statement.matches('?').count() {
                        query = query.bind(if n % 64 < 60 { Some(format!("{n:032}")) } else { None });
                    }
                    let plan = query.fetch_all(&mut conn).await.unwrap();
                    assert_eq!(plan.len(), 1, "{kind:?}");
                    let column = |name| plan[0].get::<Option<String>, _>(name).unwrap_or_default();
                    assert_eq!((&*column("type"), &*column("key")), ("range", "PRIMARY"), "{kind:?} of {rows}");
                }
            }
        }
    });
}
