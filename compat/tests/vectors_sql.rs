//! The database engine's table and statements on SQLite, alone and behind a cache, case by case.
//!
//! What Django did was recorded as statements with literal values. They are run again on one database, our operations
//! on another, and after each operation the two tables have to hold the same rows, byte for byte.
//!
//! The other databases in the file are the matter of their own tests.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use cloakroom_compat::{Report, Vectors, moment, secret, text};
use cloakroom_core::engine::cached::{CacheForm, CachedStore};
use cloakroom_core::engine::memory::MemoryStore;
use cloakroom_core::store::{Created, Deleted, Replaced, Store};
use cloakroom_core::wire::expiry::{DateTime, EXPIRY_KEY, ExpiryRules, TimeZone};
use cloakroom_core::wire::session_data::Codec;
use cloakroom_core::wire::signing::Secrets;
use cloakroom_core::{Clock, SessionKey, Timestamp};
use cloakroom_sql::SqliteStore;
use cloakroom_test_servers::statements;
use serde_json::Value;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions};
use sqlx::{AssertSqlSafe, Row};

const DAY: i64 = 86_400_000_000;
const DEPARTURE: &str = "SQL-ONE-STATEMENT";

/// One test at a time, so that each counts its own statements.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    let turn = TURN.lock().unwrap_or_else(|e| e.into_inner());
    statements().clear();
    turn
}

fn first_word(statement: &str) -> String {
    statement.split_whitespace().next().unwrap_or_default().to_owned()
}

/// A database in memory, with its store.
struct Database {
    pool: SqlitePool,
    clock: Clock,
    store: Arc<SqliteStore>,
}

impl Database {
    async fn new(now: Timestamp, zone: Option<TimeZone>) -> Self {
        // One connection that lives as long as the pool: the database lives as long as it.
        let memory = SqliteConnectOptions::new().filename(":memory:").in_memory(true);
        let pool = SqlitePoolOptions::new().max_connections(1).idle_timeout(None).max_lifetime(None);
        let pool = pool.connect_with(memory).await.unwrap();
        let clock = Clock::manual(now);
        let store = SqliteStore::from_pool(pool.clone(), clock.clone()).with_time_zone(zone);
        store.migrations().apply().await.unwrap();
        Self { pool, clock, store: Arc::new(store) }
    }

    async fn run(&self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&self.pool).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    }

    /// All cells of an answer as text.
    async fn cells(&self, sql: &str) -> Vec<Vec<String>> {
        let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(&self.pool).await.unwrap();
        let cell = |row: &sqlx::sqlite::SqliteRow, at| String::from_utf8(row.get_unchecked::<Vec<u8>, _>(at)).unwrap();
        rows.iter().map(|row| (0..row.len()).map(|at| cell(row, at)).collect()).collect()
    }

    async fn rows(&self) -> Vec<Vec<String>> {
        self.cells("SELECT session_key, session_data, expire_date, typeof(session_data) FROM django_session ORDER BY 1")
            .await
    }
}

/// The text literals of a statement, in order.
fn literals(sql: &str) -> Vec<String> {
    let mut literals = Vec::new();
    let mut rest = sql;
    while let Some((_, opened)) = rest.split_once('\'') {
        let mut literal = String::new();
        rest = opened;
        while let Some((part, more)) = rest.split_once('\'') {
            literal.push_str(part);
            rest = more;
            match more.strip_prefix('\'') {
                Some(more) => {
                    literal.push('\'');
                    rest = more;
                }
                None => break,
            }
        }
        literals.push(literal);
    }
    literals
}

fn key(text: &str) -> SessionKey {
    SessionKey::presented(text).unwrap_or_else(|| panic!("{text:?} is too short a key"))
}

/// Does what Django was asked to do.
///
/// `known` is the key of the last session that was made: behind a cache, some operations ask the database nothing.
async fn operate(ours: &Database, store: &dyn Store, operation: &str, queries: &[String], known: &str, now: Timestamp) {
    let end = now.checked_add_micros(14 * DAY).unwrap();
    let of = |verb: &str| queries.iter().rfind(|query| query.starts_with(verb)).map(|query| literals(query));
    let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    let current = async |key: &SessionKey| store.load(key).await.unwrap().unwrap().version;
    match operation {
        "save of a new session" | "create on a new object" => {
            let new = of("INSERT").unwrap();
            let created = store.create(&key(&new[0]), bytes(&new[1]), end).await.unwrap();
            assert!(matches!(created, Created::Created(_)));
            let again = store.create(&key(&new[0]), bytes("other"), end).await.unwrap();
            assert_eq!(again, Created::Taken);
        }
        "save of an existing session" => {
            let saved = of("UPDATE").unwrap();
            let key = key(&saved[2]);
            let version = current(&key).await;
            statements().clear();
            let replaced = store.replace(&key, &version, bytes(&saved[0]), end).await.unwrap();
            assert!(matches!(replaced, Replaced::Replaced(_)));
        }
        "save of a deleted session" => {
            let saved = of("UPDATE").unwrap();
            let gone = key(&saved[2]);
            let Created::Created(version) = store.create(&gone, bytes(&saved[0]), end).await.unwrap() else {
                panic!("its key was free");
            };
            store.delete(&gone, None).await.unwrap();
            statements().clear();
            let replaced = store.replace(&gone, &version, bytes(&saved[0]), end).await.unwrap();
            assert!(matches!(replaced, Replaced::Gone));
        }
        "cycle_key" => {
            let (new, old) = (of("INSERT").unwrap(), of("DELETE").unwrap());
            let old = key(&old[0]);
            let version = current(&old).await;
            statements().clear();
            let created = store.create(&key(&new[0]), bytes(&new[1]), end).await.unwrap();
            assert!(matches!(created, Created::Created(_)));
            assert!(matches!(store.delete(&old, Some(&version)).await.unwrap(), Deleted::Deleted));
        }
        "flush" => {
            let old = key(&of("DELETE").unwrap()[0]);
            assert!(matches!(store.delete(&old, None).await.unwrap(), Deleted::Deleted));
        }
        "load by key" => {
            let key = key(known);
            let stored = store.load(&key).await.unwrap().unwrap();
            let rows = ours.rows().await;
            let row = rows.iter().find(|row| row[0] == key.as_str()).unwrap();
            assert_eq!(stored.payload, row[1].as_bytes());
            assert_eq!(stored.expiry, end);
            statements().truncate(1);
        }
        "load of an unknown key" | "load of a 41-character key" => {
            assert!(store.load(&key(&of("SELECT").unwrap()[1])).await.unwrap().is_none());
        }
        "load of a key with NUL" => {
            let presented = key("nul\0nul\0nul");
            assert!(!presented.is_storable(), "so the framework does not even ask");
            assert!(store.load(&presented).await.unwrap().is_none());
        }
        // There is no such operation: an INSERT finds out. Keys that exist and keys that do not are told apart above.
        "exists" | "exists of an unknown key" => {}
        "delete without a key" => assert!(queries.is_empty()),
        "clear_expired" => while store.clear_expired(1_000).await.unwrap().more {},
        other => panic!("an operation that is not known here: {other}"),
    }
}

async fn check_operations(entry: &Value, engine: &str, report: &mut Report) {
    let now = moment(entry, "now");
    let (theirs, ours) = (Database::new(now, None).await, Database::new(now, None).await);
    let store: Arc<dyn Store> = match engine {
        "db" => ours.store.clone(),
        "cached_db" => {
            let cache = Arc::new(MemoryStore::new(ours.clock.clone()));
            let form = CacheForm::Private { max_age: Duration::MAX };
            let codec = Codec::signed_json(&Secrets::new("not asked for in this form"));
            Arc::new(CachedStore::new("default", cache, form, ours.store.clone(), codec, ours.clock.clone()))
        }
        other => panic!("no engine {other}"),
    };
    let mut known = String::new();
    for case in entry["operations"].as_array().into_iter().flatten() {
        if text(case, "engine") != engine {
            continue;
        }
        let operation = text(case, "op");
        let queries: Vec<String> =
            case["queries"].as_array().unwrap().iter().map(|q| q.as_str().unwrap().into()).collect();
        for query in &queries {
            theirs.run(query).await;
        }
        if let Some(made) = queries.iter().find(|query| query.starts_with("INSERT")) {
            known = literals(made)[0].clone();
        }
        statements().clear();
        operate(&ours, &*store, operation, &queries, &known, now).await;
        let mut used = std::mem::take(&mut *statements());
        if queries.iter().any(|query| query.starts_with("INSERT")) && operation != "cycle_key" {
            assert_eq!(used.pop().as_deref(), Some("INSERT"), "the second attempt under the same key");
        }
        let (expected, found) = (theirs.rows().await, ours.rows().await);
        if expected != found {
            report.fail(operation, format!("expected {expected:?}, found {found:?}"));
            continue;
        }
        let transaction = ["BEGIN", "COMMIT", "ROLLBACK"];
        let recorded: Vec<_> =
            queries.iter().map(|q| first_word(q)).filter(|verb| !transaction.contains(&verb.as_str())).collect();
        match recorded == used {
            true => report.checked(),
            false => report.departure(DEPARTURE),
        }
    }
}

async fn check_boundary(case: &Value, now: Timestamp) {
    let ours = Database::new(now, None).await;
    let key = key("boundary00");
    let offset = moment(case, "expire_date_minus_now_s");
    let expiry = now.checked_add_micros(offset.as_micros()).unwrap();
    ours.store.create(&key, Bytes::from_static(b"x"), expiry).await.unwrap();
    assert_eq!(ours.store.load(&key).await.unwrap().is_some(), case["loads"] == true);
    ours.store.clear_expired(10).await.unwrap();
    assert_eq!(!ours.rows().await.is_empty(), case["kept_by_clear_expired"] == true);
}

/// The text in `expire_date` of a record that ends then, and that it reads back as the same moment.
async fn stored_date(expiry: Timestamp, zone: Option<TimeZone>) -> String {
    let ours = Database::new(Timestamp::MIN, zone).await;
    let key = key("datedate00");
    ours.store.create(&key, Bytes::from_static(b"x"), expiry).await.unwrap();
    assert_eq!(ours.store.load(&key).await.unwrap().unwrap().expiry, expiry);
    ours.rows().await.remove(0).remove(2)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn vectors_sql_sqlite() {
    let _turn = turn();
    let runtime = runtime();
    let vectors = Vectors::load("sql");
    let entries: Vec<_> = vectors.section("databases").iter().filter(|entry| entry["vendor"] == "sqlite").collect();
    let count = |entry: &Value, list: &str| entry[list].as_array().map_or(0, Vec::len);
    let total = entries.iter().map(|entry| {
        2 + count(entry, "operations") + count(entry, "expiry_boundary") + count(entry, "dates_use_tz_true")
    });
    let zones = vectors.section("time_zones");
    let mut report = Report::new("sql (SQLite)", total.sum::<usize>() + zones.len());
    for entry in entries {
        let now = moment(entry, "now");
        report.case("sqlmigrate", || {
            let made = runtime.block_on(Database::new(now, None));
            assert_eq!(Value::from(made.store.migrations().sql()), entry["sqlmigrate"]);
        });
        report.case("schema", || {
            let made = runtime.block_on(Database::new(now, None));
            let schema = "SELECT sql FROM sqlite_master WHERE tbl_name = 'django_session' AND sql IS NOT NULL \
                          ORDER BY type DESC, name";
            assert_eq!(Value::from(runtime.block_on(made.cells(schema)).concat()), entry["schema"]);
        });
        for engine in ["db", "cached_db"] {
            runtime.block_on(check_operations(entry, engine, &mut report));
        }
        for (n, case) in entry["expiry_boundary"].as_array().into_iter().flatten().enumerate() {
            report.case(&format!("expiry_boundary {n}"), || runtime.block_on(check_boundary(case, now)));
        }
        for (n, case) in entry["dates_use_tz_true"].as_array().into_iter().flatten().enumerate() {
            report.case(&format!("dates_use_tz_true {n}"), || {
                let expiry = DateTime::parse_iso(text(case, "utc")).unwrap().moment(&TimeZone::UTC);
                assert_eq!(runtime.block_on(stored_date(expiry, None)), text(case, "stored_text"));
            });
        }
    }
    for (n, case) in zones.iter().enumerate() {
        report.case(&format!("time_zones {n}"), || {
            assert_eq!(text(case, "set_expiry"), "1 hour");
            let expiry = moment(case, "now_unix").checked_add_micros(3_600_000_000).unwrap();
            let zone = (case["USE_TZ"] == false).then(|| TimeZone::named(text(case, "TIME_ZONE")).unwrap());
            assert_eq!(runtime.block_on(stored_date(expiry, zone)), text(case, "expire_date_sqlite_text"));
        });
    }
    report.finish();
}

#[test]
fn vectors_sql_session_data_rows() {
    let _turn = turn();
    let runtime = runtime();
    let vectors = Vectors::load("session_data");
    let mut report = vectors.report(&["rows"]);
    for (n, case) in vectors.section("rows").iter().enumerate() {
        report.case(&format!("rows[{n}] {}", case["name"]), || {
            let (now, data) = (moment(case, "now"), text(case, "session_data"));
            let values = Codec::signed_json(&Secrets::new(secret(&case["secret"]))).decode(data.as_bytes()).unwrap();
            let cookie_age = case["session_cookie_age"].as_i64().unwrap();
            let rules = ExpiryRules { cookie_age, ..ExpiryRules::default() };
            let expiry = rules.expires_at(values.get_raw(EXPIRY_KEY), now).unwrap();
            let aware = DateTime::parse_iso(text(case, "expire_date_utc")).unwrap();
            assert_eq!(expiry, aware.moment(&TimeZone::UTC));
            let key = key(text(case, "session_key"));
            runtime.block_on(async {
                let ours = Database::new(now, None).await;
                ours.store.create(&key, Bytes::copy_from_slice(data.as_bytes()), expiry).await.unwrap();
                let expected = [key.as_str(), data, text(case, "expire_date_sqlite_text"), "text"];
                assert_eq!(ours.rows().await, [expected]);
                let loaded = ours.store.load(&key).await.unwrap();
                assert_eq!(loaded.is_some(), expiry > now);
                ours.clock.set(expiry);
                assert!(ours.store.load(&key).await.unwrap().is_none());
            });
        });
    }
    report.finish();
}
