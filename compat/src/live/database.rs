//! A database seen from outside, through a connection of its own, which stays open from the first question on.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use sqlx::mysql::MySqlConnection;
use sqlx::postgres::PgConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ColumnIndex, ConnectOptions, Connection as _, Decode, Row, Type};
use tokio::runtime::Runtime;

/// A row of `django_session` as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// `session_key`
    pub key: String,
    /// `session_data`
    pub data: String,
    /// `expire_date`, in UTC where the column has a time zone.
    pub expires: String,
}

/// A database on SQLite, PostgreSQL or MariaDB.
pub struct Database {
    url: String,
    kept: Mutex<Option<Kept>>,
}

/// A connection, and the runtime that drives it.
struct Kept {
    connection: Connection,
    runtime: Runtime,
}

enum Connection {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
    MySql(MySqlConnection),
}

impl Database {
    /// Names a database by `sqlite:///PATH`, `postgres://…` or `mysql://…`; nothing is opened yet.
    pub fn at(url: impl Into<String>) -> Database {
        Database { url: url.into(), kept: Mutex::default() }
    }

    /// What `DATABASE_URL` is to be.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The path of a file of SQLite.
    pub fn path(&self) -> &Path {
        Path::new(self.url.strip_prefix("sqlite://").expect("a file of SQLite"))
    }

    /// Every session, by key.
    pub fn sessions(&self) -> Vec<Stored> {
        let (scheme, _) = self.url.split_once(':').expect("a URL");
        let expires = match scheme {
            "sqlite" => "expire_date",
            "postgres" => "to_char(expire_date AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')",
            _ => "CAST(expire_date AS CHAR)",
        };
        let rows = self.rows(&format!("SELECT session_key, session_data, {expires} FROM django_session"));
        let row = |row: Vec<String>| {
            let [key, data, expires] = <[String; 3]>::try_from(row).expect("three columns");
            Stored { key, data, expires }
        };
        let mut sessions: Vec<Stored> = rows.into_iter().map(row).collect();
        sessions.sort_by(|one, other| one.key.cmp(&other.key));
        sessions
    }

    /// One session.
    pub fn session(&self, key: &str) -> Option<Stored> {
        self.sessions().into_iter().find(|stored| stored.key == key)
    }

    /// Every row that a query gives, as texts.
    pub fn rows(&self, sql: &str) -> Vec<Vec<String>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let Kept { connection, runtime } = kept.get_or_insert_with(|| {
            let runtime = runtime();
            Kept { connection: runtime.block_on(Connection::open(&self.url)), runtime }
        });
        let rows = runtime.block_on(connection.rows(sql));
        rows.unwrap_or_else(|problem| panic!("{}: {sql}: {problem}", self.url))
    }

    /// The first column of every row that a query gives.
    pub fn column(&self, sql: &str) -> Vec<String> {
        self.rows(sql).into_iter().map(|row| row.into_iter().next().expect("at least one column")).collect()
    }

    /// On SQLite: runs a statement with texts in the place of its question marks; how many rows it changed.
    pub fn execute(&self, sql: &str, values: &[&str]) -> u64 {
        runtime().block_on(async {
            let mut connection = open_file(self.path()).await;
            let mut query = sqlx::query(AssertSqlSafe(sql.to_owned()));
            for value in values {
                query = query.bind(value.to_string());
            }
            let done = query.execute(&mut connection).await.unwrap_or_else(|problem| panic!("{sql}: {problem}"));
            connection.close().await.expect("close");
            done.rows_affected()
        })
    }

    /// On SQLite: takes the write lock, runs `during`, and gives the lock back without having written.
    pub fn while_locked<T>(&self, during: impl FnOnce() -> T) -> T {
        runtime().block_on(async {
            let mut connection = open_file(self.path()).await;
            sqlx::query("BEGIN IMMEDIATE").execute(&mut connection).await.expect("the write lock");
            let result = during();
            sqlx::query("ROLLBACK").execute(&mut connection).await.expect("the end of the transaction");
            connection.close().await.expect("close");
            result
        })
    }
}

impl Connection {
    async fn open(url: &str) -> Connection {
        let opened = match url.split_once("://") {
            Some(("sqlite", path)) => Ok(Connection::Sqlite(open_file(Path::new(path)).await)),
            Some(("postgres", _)) => PgConnection::connect(url).await.map(Connection::Postgres),
            _ => MySqlConnection::connect(url).await.map(Connection::MySql),
        };
        opened.unwrap_or_else(|problem| panic!("{url}: {problem}"))
    }

    async fn rows(&mut self, sql: &str) -> sqlx::Result<Vec<Vec<String>>> {
        let query = AssertSqlSafe(sql.to_owned());
        Ok(match self {
            Connection::Sqlite(connection) => texts(&sqlx::query(query).fetch_all(connection).await?),
            Connection::Postgres(connection) => texts(&sqlx::query(query).fetch_all(connection).await?),
            Connection::MySql(connection) => texts(&sqlx::query(query).fetch_all(connection).await?),
        })
    }
}

fn texts<R: Row>(rows: &[R]) -> Vec<Vec<String>>
where
    usize: ColumnIndex<R>,
    for<'r> String: Decode<'r, R::Database> + Type<R::Database>,
{
    rows.iter().map(|row| (0..row.len()).map(|column| row.get(column)).collect()).collect()
}

async fn open_file(path: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(path).busy_timeout(std::time::Duration::from_secs(30));
    options.connect().await.unwrap_or_else(|problem| panic!("{}: {problem}", path.display()))
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}
