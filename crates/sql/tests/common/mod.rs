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

/// Text that no compression makes shorter than half of it.
pub fn random(length: usize) -> String {
    let draw = || cloakroom_core::KeySource::system().draw().unwrap();
    let mut text = String::with_capacity(length + 32);
    while text.len() < length {
        text += draw().as_str();
    }
    text.truncate(length);
    text
}

/// A small file system in memory, for as long as this lives.
#[cfg(unix)]
pub struct SmallDisk(PathBuf);

#[cfg(unix)]
impl SmallDisk {
    /// Mounts it at a new directory, which then belongs to whom `like` belongs to; `None`, with a word about it, where
    /// the user may not mount.
    pub fn mount(directory: &Path, options: &str, like: Option<&Path>) -> Option<Self> {
        use std::os::unix::fs::MetadataExt;

        std::fs::create_dir(directory).unwrap();
        let owner = like.map(|like| std::fs::metadata(like).unwrap());
        let owner = owner.map(|like| format!(",uid={},gid={}", like.uid(), like.gid())).unwrap_or_default();
        let mut command = std::process::Command::new("mount");
        let command = command.args(["-t", "tmpfs", "-o", &format!("{options}{owner}"), "none"]).arg(directory);
        match command.output() {
            Ok(output) if output.status.success() => Some(Self(directory.to_owned())),
            other => {
                println!("skipped: no file system could be mounted: {other:?}");
                None
            }
        }
    }
}

#[cfg(unix)]
impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
    }
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
