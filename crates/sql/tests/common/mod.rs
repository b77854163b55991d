//! What the tests of the stores share.
#![allow(dead_code, unreachable_pub, reason = "each test program uses a part")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use cloakroom_core::{Clock, SessionKey, Timestamp};
use cloakroom_sql::{SqliteOptions, SqliteStore};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, Connection, Row};

/// Now, in tests.
pub const NOW: Timestamp = Timestamp::from_secs(1_900_000_000);
/// A moment that is later.
pub const LATER: Timestamp = Timestamp::from_secs(1_900_003_600);

pub fn clock() -> Clock {
    Clock::manual(NOW)
}

/// A directory, and the path of a database in it that does not exist yet.
pub fn place() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("db.sqlite3");
    (directory, path)
}

/// A store on a database that is made and migrated where there is none.
pub async fn store(path: &Path) -> SqliteStore {
    store_at(path, clock()).await
}

pub async fn store_at(path: &Path, clock: Clock) -> SqliteStore {
    let store = SqliteStore::open(options(path).create_if_missing(true), clock).await.unwrap();
    store.migrations().apply().await.unwrap();
    store
}

pub fn options(path: &Path) -> SqliteOptions {
    SqliteOptions::new(path).busy_timeout(Duration::from_millis(100))
}

pub fn key(n: u32) -> SessionKey {
    SessionKey::presented(&format!("{n:032}")).unwrap()
}

pub fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// A few connections, for a server that many tests share.
#[cfg(any(feature = "postgres", feature = "mysql"))]
pub fn server_options(url: &str) -> cloakroom_sql::ServerOptions {
    cloakroom_sql::ServerOptions::from_url(url).unwrap().pool_size(5)
}

/// A connection of another program.
pub async fn stranger(path: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
    SqliteConnection::connect_with(&options).await.unwrap()
}

pub async fn run(conn: &mut SqliteConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(conn).await.unwrap();
}

/// The first column of all rows, as text.
pub async fn column(conn: &mut SqliteConnection, sql: &str) -> Vec<String> {
    let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(conn).await.unwrap();
    rows.iter().map(|row| String::from_utf8(row.get_unchecked(0)).unwrap()).collect()
}
