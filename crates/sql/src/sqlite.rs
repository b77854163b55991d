//! The SQLite dialect.

mod crowd;
mod failure;
mod file;
mod glance;
mod options;
mod together;
mod writer;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cloakroom_core::sweep::Turn;
use cloakroom_core::wire::expiry::TimeZone;
use cloakroom_core::{Clock, Error, Result, SessionKey, Timestamp};
use sqlx::error::BoxDynError;
use sqlx::sqlite::{SqliteArguments, SqliteConnectOptions, SqlitePoolOptions, SqliteQueryResult, SqliteRow};
use sqlx::{Arguments, Row, SqlitePool};

use crate::date;
use crate::dialect::{Dialect, Failed, Param, Pools, Schema, Statements, Together};
use crate::lease::Connections;
use crate::sizes::padded;
use crate::store::SqlStore;
use file::File;
pub use options::{SqliteOptions, Synchronous};
use writer::Value;

/// Sessions in an SQLite database, in Django's own table.
///
/// Reads go through a small pool, writes through one connection, since SQLite has one writer at a time: so tasks of
/// this process never meet each other's locks, and wait for other processes (a Django beside us) as long as the
/// [busy timeout](SqliteOptions::busy_timeout) says.
///
/// A session is loaded by the thread that asks for it where that need not wait: a row that the system has in its memory
/// is found in a few microseconds, several times faster than another thread could be asked. A file that is locked is
/// read through the pool, and so is every session for a while after a read that took more than a millisecond because of
/// the disk. An application's [own pool](Self::from_pool) is used for everything.
///
/// The database is put into WAL mode, in which readers and the writer do not wait for each other. That is a lasting
/// property of the file; Django reads and writes such a file as any other. It needs `-wal` and `-shm` files beside the
/// database, so the directory must be writable, and must not be on a network file system.
///
/// # A file that is deleted or replaced under way
/// What is written to a deleted file is lost. Before each operation the store therefore looks whether the path still
/// leads to the file it has open. No file: the operation fails as unavailable. Another file: the store opens that one.
pub type SqliteStore = SqlStore<Sqlite>;

/// The SQLite dialect of a [`SqlStore`].
#[derive(Debug)]
pub struct Sqlite {
    source: Arc<Source>,
    zone: Option<TimeZone>,
}

#[derive(Debug)]
enum Source {
    /// Pools that are what they are: a user's own, or one in memory.
    Pools(Pools<sqlx::Sqlite>),
    /// Pools on a file that is watched.
    File(Box<File>),
}

impl SqlStore<Sqlite> {
    /// Opens a database.
    ///
    /// A file that is locked or cannot be written now is not an error yet: it becomes one of each operation until
    /// that is mended. Whether the table exists is not looked at either; see [`migrations`](Self::migrations).
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`](cloakroom_core::ErrorKind::Configuration) if the file does not exist (and is not to be
    /// created) or is no file, and [`ErrorKind::Unavailable`](cloakroom_core::ErrorKind::Unavailable) if it is not an SQLite
    /// database. Both name it.
    pub async fn open(options: SqliteOptions, clock: Clock) -> Result<Self> {
        let zone = options.zone.clone();
        let source = match &options.path {
            Some(_) => Source::File(Box::new(File::open(options).await?)),
            None => Source::Pools(in_memory().await?),
        };
        Ok(Self::with_dialect(Sqlite { source: Arc::new(source), zone }, clock))
    }

    /// A store on an application's own pool, for reading and writing. Journal mode, time-outs and size are the
    /// pool's; whether its file is deleted or replaced is not watched.
    pub fn from_pool(pool: SqlitePool, clock: Clock) -> Self {
        let pools = Pools::one(Connections::of_others(pool));
        Self::with_dialect(Sqlite { source: Arc::new(Source::Pools(pools)), zone: None }, clock)
    }

    /// Dates as local time of `zone`, as a Django with `USE_TZ = False` and that `TIME_ZONE` stores them. `None`, the
    /// default, is UTC, as a Django with `USE_TZ = True` stores them, whatever its `TIME_ZONE`.
    #[must_use]
    pub fn with_time_zone(self, zone: Option<TimeZone>) -> Self {
        let source = self.dialect.source.clone();
        Self::with_dialect(Sqlite { source, zone }, self.clock().clone())
    }
}

/// A database in memory lives as long as its one connection, which is therefore never closed.
async fn in_memory() -> Result<Pools<sqlx::Sqlite>> {
    let options = SqliteConnectOptions::new().filename(":memory:").in_memory(true);
    let pool =
        pool_options(1).connect_with(options).await.map_err(|e| failure::of_sqlx("open a database", IN_MEMORY, e))?;
    Ok(Pools::one(Connections::of_our_own(pool)))
}

const IN_MEMORY: &str = "the SQLite database in memory";

/// Connections to a file do not go bad while they are idle, so they are neither tested nor renewed; and as long as
/// one is open, no new file can take over the number of the one it has open.
fn pool_options(size: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new().max_connections(size).test_before_acquire(false).idle_timeout(None).max_lifetime(None)
}

impl Sqlite {
    /// A parameter for the thread that writes.
    fn value(&self, param: &Param<'_>) -> Value {
        match *param {
            Param::Key(text) | Param::Text(text) => Value::Text(text.into()),
            Param::Payload(payload) => Value::Payload(payload.clone()),
            Param::Moment(moment) => Value::Text(date::format(moment, self.zone.as_ref()).into()),
            Param::Count(count) => Value::Count(count),
        }
    }
}

impl Dialect for Sqlite {
    type Db = sqlx::Sqlite;

    // Names are quoted and qualified as Django does. Qualified they must be: a quoted name alone that is no column SQLite
    // reads as a text literal, and a table that is not Django's would seem to answer. Payloads are compared as bytes, so
    // that a row which another program filled with a BLOB, or with text that is not UTF-8, is compared like any other.
    const STATEMENTS: Statements = Statements {
        load: r#"SELECT "django_session"."session_data", "django_session"."expire_date" FROM "django_session" WHERE "django_session"."session_key" = ? AND "django_session"."expire_date" > ?"#,
        find: r#"SELECT "django_session"."session_data", "django_session"."expire_date" FROM "django_session" WHERE "django_session"."session_key" = ?"#,
        create: r#"INSERT INTO "django_session" ("session_key", "session_data", "expire_date") VALUES (?, ?, ?) ON CONFLICT DO NOTHING"#,
        replace: r#"UPDATE "django_session" SET "session_data" = ?, "expire_date" = ? WHERE "django_session"."session_key" = ? AND CAST("django_session"."session_data" AS BLOB) = CAST(? AS BLOB)"#,
        rotate: r#"UPDATE "django_session" SET "session_key" = ?, "session_data" = ?, "expire_date" = ? WHERE "django_session"."session_key" = ? AND CAST("django_session"."session_data" AS BLOB) = CAST(? AS BLOB)"#,
        touch: r#"UPDATE "django_session" SET "expire_date" = ? WHERE "django_session"."session_key" = ? AND "django_session"."expire_date" > ?"#,
        delete: r#"DELETE FROM "django_session" WHERE "django_session"."session_key" = ?"#,
        delete_version: r#"DELETE FROM "django_session" WHERE "django_session"."session_key" = ? AND CAST("django_session"."session_data" AS BLOB) = CAST(? AS BLOB)"#,
        clear_expired: r#"DELETE FROM "django_session" WHERE "django_session"."rowid" IN (SELECT "expired"."rowid" FROM "django_session" AS "expired" WHERE "expired"."expire_date" < ? LIMIT ?)"#,
        count_expired: r#"SELECT CAST(COUNT(*) AS TEXT) FROM "django_session" WHERE "django_session"."expire_date" < ?"#,
        list: r#"SELECT "django_session"."session_key" FROM "django_session" WHERE LENGTH("django_session"."session_key") >= 8 ORDER BY "django_session"."session_key" LIMIT ?"#,
        list_after: r#"SELECT "django_session"."session_key" FROM "django_session" WHERE "django_session"."session_key" > ? AND LENGTH("django_session"."session_key") >= 8 ORDER BY "django_session"."session_key" LIMIT ?"#,
    };

    const SCHEMA: Schema = Schema {
        begin: "BEGIN IMMEDIATE",
        lock: None,
        transactional: true,
        create: &[
            r#"CREATE TABLE "django_session" ("session_key" varchar(40) NOT NULL PRIMARY KEY, "session_data" text NOT NULL, "expire_date" datetime NOT NULL)"#,
            r#"CREATE INDEX "django_session_expire_date_a5c62663" ON "django_session" ("expire_date")"#,
        ],
        create_at_once: None,
        create_recorder: r#"CREATE TABLE "django_migrations" ("id" integer NOT NULL PRIMARY KEY AUTOINCREMENT, "app" varchar(255) NOT NULL, "name" varchar(255) NOT NULL, "applied" datetime NOT NULL)"#,
        columns: "SELECT name, type FROM pragma_table_info(?) ORDER BY cid",
        recorded: r#"SELECT 1 FROM "django_migrations" WHERE "django_migrations"."app" = ? AND "django_migrations"."name" = ? LIMIT 1"#,
        record: r#"INSERT INTO "django_migrations" ("app", "name", "applied") VALUES (?, ?, ?)"#,
    };

    async fn pools(&self) -> Result<Pools<sqlx::Sqlite>> {
        match &*self.source {
            Source::Pools(pools) => Ok(pools.clone()),
            Source::File(file) => file.pools().await,
        }
    }

    fn glance(&self, key: &SessionKey, now: Timestamp) -> Option<Option<(Bytes, Option<Timestamp>)>> {
        let Source::File(file) = &*self.source else { return None };
        let zone = self.zone.as_ref();
        let record = |payload: &[u8], expiry: &[u8]| {
            (Bytes::copy_from_slice(payload), date::parse(&String::from_utf8_lossy(expiry), zone))
        };
        file.glance(|glances| glances.read(Self::STATEMENTS.load, key.as_str(), &date::format(now, zone), record))
    }

    fn writes(&self) -> bool {
        matches!(&*self.source, Source::File(_))
    }

    async fn write(&self, doing: &'static str, sql: &'static str, params: &[Param<'_>]) -> Option<Result<u64>> {
        let Source::File(file) = &*self.source else { return None };
        Some(file.write(doing, sql, params.iter().map(|param| self.value(param)).collect()).await)
    }

    fn arguments(&self, params: &[Param<'_>]) -> Result<SqliteArguments, BoxDynError> {
        let mut arguments = SqliteArguments::default();
        arguments.reserve(params.len(), 0);
        for param in params {
            match *param {
                Param::Key(text) | Param::Text(text) => arguments.add(text)?,
                Param::Payload(payload) => match std::str::from_utf8(payload) {
                    Ok(text) => arguments.add(text)?,
                    Err(_) => arguments.add(&payload[..])?,
                },
                Param::Moment(moment) => arguments.add(date::format(moment, self.zone.as_ref()))?,
                Param::Count(count) => arguments.add(count)?,
            }
        }
        Ok(arguments)
    }

    const LANES: usize = 1;

    fn together(kind: Together, rows: usize) -> &'static str {
        together::MANY.text(kind, rows)
    }

    fn arguments_together(
        &self,
        _: Together,
        params: &[Param<'_>],
        rows: usize,
    ) -> Result<SqliteArguments, BoxDynError> {
        let mut arguments = self.arguments(params)?;
        for _ in params.len()..padded(rows) * (params.len() / rows) {
            arguments.add(None::<&str>)?;
        }
        Ok(arguments)
    }

    fn record(&self, row: &SqliteRow) -> sqlx::Result<(Bytes, Option<Timestamp>)> {
        // Unchecked, since a column of SQLite holds what was put there, whatever its declared type.
        let payload: &[u8] = row.try_get_unchecked(0)?;
        Ok((Bytes::copy_from_slice(payload), date::parse(&self.text(row, 1)?, self.zone.as_ref())))
    }

    fn text<'r>(&self, row: &'r SqliteRow, column: usize) -> sqlx::Result<Cow<'r, str>> {
        let bytes: &[u8] = row.try_get_unchecked(column)?;
        Ok(String::from_utf8_lossy(bytes))
    }

    fn matched(result: &SqliteQueryResult) -> u64 {
        result.rows_affected()
    }

    fn patience(&self) -> Option<Duration> {
        None
    }

    fn failed(_: &sqlx::Error) -> Failed {
        Failed::Finally
    }

    fn silence(&self, doing: &'static str) -> Error {
        self.error(doing, sqlx::Error::PoolTimedOut)
    }

    fn error(&self, doing: &'static str, error: sqlx::Error) -> Error {
        match &*self.source {
            Source::Pools(_) => failure::of_sqlx(doing, "the SQLite database", error),
            Source::File(file) => failure::of_sqlx(doing, &file.name(), error),
        }
    }

    type Near = ();

    fn near(&self) -> &() {
        &()
    }

    async fn turn(&self) -> Result<Option<Box<dyn Turn>>> {
        match &*self.source {
            Source::Pools(_) => Ok(Some(Box::new(Alone))),
            Source::File(file) => file.turn(),
        }
    }
}

/// A turn that nobody else can have.
struct Alone;

#[async_trait]
impl Turn for Alone {
    async fn end(self: Box<Self>) {}
}
