//! The session table seen from outside, through a connection of its own.

use std::path::{Path, PathBuf};

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row};

/// A row of `django_session` as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// `session_key`
    pub key: String,
    /// `session_data`
    pub data: String,
    /// `expire_date`
    pub expires: String,
}

/// A database file.
pub struct Database(PathBuf);

impl Database {
    /// Names a file; nothing is opened yet.
    pub fn at(path: impl Into<PathBuf>) -> Database {
        Database(path.into())
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Every session, by key.
    pub fn sessions(&self) -> Vec<Stored> {
        run(async {
            let mut connection = self.connect().await;
            let select = "SELECT session_key, session_data, expire_date FROM django_session ORDER BY session_key";
            let rows = sqlx::query(select).fetch_all(&mut connection).await.expect("a session table");
            connection.close().await.expect("close");
            let stored =
                |row: &sqlx::sqlite::SqliteRow| Stored { key: row.get(0), data: row.get(1), expires: row.get(2) };
            rows.iter().map(stored).collect()
        })
    }

    /// One session.
    pub fn session(&self, key: &str) -> Option<Stored> {
        self.sessions().into_iter().find(|stored| stored.key == key)
    }

    /// Runs a statement with texts in the place of its question marks; how many rows it changed.
    pub fn execute(&self, sql: &str, values: &[&str]) -> u64 {
        run(async {
            let mut connection = self.connect().await;
            let mut query = sqlx::query(AssertSqlSafe(sql.to_owned()));
            for value in values {
                query = query.bind(value.to_string());
            }
            let done = query.execute(&mut connection).await.unwrap_or_else(|problem| panic!("{sql}: {problem}"));
            connection.close().await.expect("close");
            done.rows_affected()
        })
    }

    /// The first column of every row that a query gives, as text.
    pub fn column(&self, sql: &str) -> Vec<String> {
        run(async {
            let mut connection = self.connect().await;
            let rows = sqlx::query(AssertSqlSafe(sql.to_owned())).fetch_all(&mut connection).await;
            connection.close().await.expect("close");
            rows.unwrap_or_else(|problem| panic!("{sql}: {problem}")).iter().map(|row| row.get(0)).collect()
        })
    }

    /// Takes the write lock, runs `during`, and gives the lock back without having written.
    pub fn while_locked<T>(&self, during: impl FnOnce() -> T) -> T {
        run(async {
            let mut connection = self.connect().await;
            sqlx::query("BEGIN IMMEDIATE").execute(&mut connection).await.expect("the write lock");
            let result = during();
            sqlx::query("ROLLBACK").execute(&mut connection).await.expect("the end of the transaction");
            connection.close().await.expect("close");
            result
        })
    }

    async fn connect(&self) -> SqliteConnection {
        let options = SqliteConnectOptions::new().filename(&self.0).busy_timeout(std::time::Duration::from_secs(30));
        options.connect().await.unwrap_or_else(|problem| panic!("{}: {problem}", self.0.display()))
    }
}

fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(work)
}
