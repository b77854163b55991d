//! What differs between databases: one [`Dialect`] each. The store's body and the migrations know nothing else.

use std::borrow::Cow;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cloakroom_core::sweep::Turn;
use cloakroom_core::{Error, Result, SessionKey, Timestamp};
use sqlx::error::BoxDynError;
use sqlx::{Database, Executor, IntoArguments};

use crate::lease::Connections;
use crate::near::Near;

/// A database as the [store](crate::SqlStore) sees it.
///
/// It holds no policy: texts of statements, how parameters and columns travel, and what an error of the driver means.
pub trait Dialect: Send + Sync + 'static {
    /// The database in sqlx.
    type Db: Run;

    /// The statements of the store, each one round trip.
    const STATEMENTS: Statements;

    /// The statements of the migration.
    const SCHEMA: Schema;

    /// How many statements of a kind are under way at a time, before others wait for them and then go together.
    const LANES: usize;

    /// A statement that does for `rows` rows of parameters at least what one of [`STATEMENTS`](Self::STATEMENTS) does
    /// for one. It gives a row for each that matches, with its key, which for a load is the third column after the usual
    /// ones; the row of a load may stand for all that ask for it. It passes rows that others hold, if there can be several
    /// [lanes](Self::LANES). A record that has expired for some members only may match, if it is a load, or not, if it
    /// is not.
    fn together(kind: Together, rows: usize) -> &'static str;

    /// Whether the server takes the statements of [`together`](Self::together), as far as is known.
    fn goes_together(&self) -> bool {
        true
    }

    /// What to ask the server before the first of these statements: it gives a row if it takes them. `None` if that is
    /// known.
    fn question(&self) -> Option<&'static str> {
        None
    }

    /// What the server answered, or did: whether it takes them.
    fn answered(&self, _takes: bool) {}

    /// Parameters for [`together`](Self::together): so many rows, one after the other.
    ///
    /// # Errors
    /// Whatever the driver says of a parameter it cannot carry.
    fn arguments_together(
        &self,
        kind: Together,
        params: &[Param<'_>],
        rows: usize,
    ) -> Result<<Self::Db as Database>::Arguments, BoxDynError>;

    /// The pools to use for the next operation. It is asked before each, so this is where a dialect notices that its
    /// database moved.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`](cloakroom_core::ErrorKind::Unavailable) if there is no database to talk to.
    fn pools(&self) -> impl Future<Output = Result<Pools<Self::Db>>> + Send;

    /// The live record of a key, as [`record`](Self::record) tells it, if the caller's thread can read it by itself and
    /// without waiting for anything. `None` says that it cannot, and nothing of the record.
    fn glance(&self, _key: &SessionKey, _now: Timestamp) -> Option<Option<(Bytes, Option<Timestamp>)>> {
        None
    }

    /// Whether changes of rows go by [`write`](Self::write).
    fn writes(&self) -> bool {
        false
    }

    /// Changes rows in a way of the dialect's own, for the number of rows that match: none if a row would get a key that is
    /// taken. `None` if the dialect has no such way, and nothing was done.
    fn write(
        &self,
        _doing: &'static str,
        _sql: &'static str,
        _params: &[Param<'_>],
    ) -> impl Future<Output = Option<Result<u64>>> + Send {
        async { None }
    }

    /// Parameters in the driver's form, in the order given.
    ///
    /// # Errors
    /// Whatever the driver says of a parameter it cannot carry.
    fn arguments(&self, params: &[Param<'_>]) -> Result<<Self::Db as Database>::Arguments, BoxDynError>;

    /// The payload and the expiry of a row of the statements [`load`](Statements::load) and
    /// [`find`](Statements::find). An expiry that cannot be read is `None`: the database found the row to be alive.
    ///
    /// # Errors
    /// If the row does not have these columns.
    fn record(&self, row: &<Self::Db as Database>::Row) -> sqlx::Result<(Bytes, Option<Timestamp>)>;

    /// A column of text; bytes that are not UTF-8 are replaced.
    ///
    /// # Errors
    /// If the row has no such column.
    fn text<'r>(&self, row: &'r <Self::Db as Database>::Row, column: usize) -> sqlx::Result<Cow<'r, str>>;

    /// How many rows a statement matched (not: changed).
    fn matched(result: &<Self::Db as Database>::QueryResult) -> u64;

    /// The longest that a statement may take, answer included; then its connection is given up. `None` if the
    /// database itself never keeps silent, being a part of this process.
    fn patience(&self) -> Option<Duration>;

    /// How a statement failed, as far as trying again is concerned.
    fn failed(error: &sqlx::Error) -> Failed;

    /// What a failure of the driver means, while `doing` something ("load a session").
    fn error(&self, doing: &'static str, error: sqlx::Error) -> Error;

    /// What it means that a statement took longer than the [`patience`](Self::patience).
    fn silence(&self, doing: &'static str) -> Error;

    /// How many bytes a statement may have at most, if the server breaks the connection of a longer one.
    fn longest_statement(&self) -> impl Future<Output = Option<u64>> + Send {
        async { None }
    }

    /// What records that were read are kept in, in this process, until the database tells that they changed; `()` where
    /// none are.
    type Near: Near;

    /// The records that are kept.
    fn near(&self) -> &Self::Near;

    /// The turn to sweep in the background, `None` if another node has it.
    fn turn(&self) -> impl Future<Output = Result<Option<Box<dyn Turn>>>> + Send;
}

/// How a statement failed, as far as trying again is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    /// The connection broke: nobody knows whether the statement was carried out. Connections that waited in the pool
    /// break when their server is restarted, so another one may do.
    Lost,
    /// The database took the statement back, to resolve a conflict with others: it may be repeated.
    Undone,
    /// For good.
    Finally,
}

/// The connections of a store. A database that has one writer at a time, as SQLite, keeps them apart; elsewhere both
/// are the same pool.
#[derive(Debug)]
pub struct Pools<DB: Database> {
    /// For statements that only read.
    pub(crate) read: Arc<Connections<DB>>,
    /// For statements that change something.
    pub(crate) write: Arc<Connections<DB>>,
}

impl<DB: Database> Pools<DB> {
    /// One pool for everything.
    pub(crate) fn one(connections: Arc<Connections<DB>>) -> Self {
        Self { read: connections.clone(), write: connections }
    }
}

impl<DB: Database> Clone for Pools<DB> {
    fn clone(&self) -> Self {
        Self { read: self.read.clone(), write: self.write.clone() }
    }
}

/// A parameter of a statement.
#[derive(Clone, Copy, Debug)]
pub enum Param<'a> {
    /// The key of the row that a statement is about. A dialect may bind it more than once, in a row: where text
    /// compares equal that is not the same, the key is compared twice, by the index and byte for byte.
    Key(&'a str),
    /// Other text: the key of a new row, a name.
    Text(&'a str),
    /// What a session record holds. Text in all that Django and we write, bound as text if it is UTF-8.
    Payload(&'a Bytes),
    /// A moment, in the form of the column `expire_date`.
    Moment(Timestamp),
    /// A number of rows.
    Count(i64),
}

impl Param<'_> {
    /// How many bytes it carries; the small change of numbers and dates does not count.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Key(text) | Self::Text(text) => text.len(),
            Self::Payload(bytes) => bytes.len(),
            Self::Moment(_) | Self::Count(_) => 0,
        }
    }
}

/// What many can do by one statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Together {
    /// [`Statements::load`].
    Load,
    /// [`Statements::create`].
    Create,
    /// [`Statements::replace`].
    Replace,
    /// [`Statements::touch`].
    Touch,
}

/// The texts of the store's statements. Parameters come in the order in which each line names them.
#[derive(Clone, Copy, Debug)]
pub struct Statements {
    /// Key, now → `session_data`, `expire_date` of the live row.
    pub load: &'static str,
    /// Key → the same two columns, expired or not.
    pub find: &'static str,
    /// Key, payload, expiry → matches no row if the key is taken.
    pub create: &'static str,
    /// Payload, expiry, key, expected payload: compare and swap.
    pub replace: &'static str,
    /// New key, payload, expiry, old key, expected payload: compare and swap that moves the row to another key.
    pub rotate: &'static str,
    /// Expiry, key, now: moves the expiry of a live row.
    pub touch: &'static str,
    /// Key.
    pub delete: &'static str,
    /// Key, expected payload.
    pub delete_version: &'static str,
    /// Now, count: deletes so many expired rows at most.
    pub clear_expired: &'static str,
    /// Now → as text, how many rows the sweep would delete.
    pub count_expired: &'static str,
    /// Count → keys in ascending order.
    pub list: &'static str,
    /// Key, count → keys after that one, in ascending order.
    pub list_after: &'static str,
}

/// The texts of the migration `sessions.0001_initial`.
#[derive(Clone, Copy, Debug)]
pub struct Schema {
    /// Begins a transaction.
    pub begin: &'static str,
    /// Waits until no other migration is under way, unless `begin` did: one row if so. Run inside the transaction,
    /// and held until the end of it or of the connection, which is closed after a migration that had to lock.
    pub lock: Option<&'static str>,
    /// Whether the database can take back a `CREATE TABLE`, so that `sqlmigrate` prints `BEGIN` and `COMMIT`.
    pub transactional: bool,
    /// The table and its indexes, as Django's migration makes them, in order, without semicolons.
    pub create: &'static [&'static str],
    /// One statement that makes the same. Used where the database cannot take back a `CREATE TABLE`, so that no
    /// interruption leaves half of it.
    pub create_at_once: Option<&'static str>,
    /// Table `django_migrations`, as Django makes it.
    pub create_recorder: &'static str,
    /// Name of a table → name and type of each of its columns, in order; no row if there is no such table.
    pub columns: &'static str,
    /// App, name → one row if that migration is recorded as applied.
    pub recorded: &'static str,
    /// App, name, now: records it.
    pub record: &'static str,
}

pub(crate) type Running<'c, T> = Pin<Box<dyn Future<Output = sqlx::Result<T>> + Send + 'c>>;

/// Running a statement on a connection. Implemented for every database of sqlx.
///
/// It exists to state sqlx's bounds once: they involve a lifetime, and would otherwise stand at every function that
/// is generic over databases.
pub trait Run: Database {
    /// Runs a statement for its effect.
    fn execute<'c>(
        conn: &'c mut Self::Connection,
        sql: &'static str,
        arguments: Self::Arguments,
    ) -> Running<'c, Self::QueryResult>;

    /// Runs a statement for its first row, if any.
    fn fetch_optional<'c>(
        conn: &'c mut Self::Connection,
        sql: &'static str,
        arguments: Self::Arguments,
    ) -> Running<'c, Option<Self::Row>>;

    /// Runs a statement for all its rows.
    fn fetch_all<'c>(
        conn: &'c mut Self::Connection,
        sql: &'static str,
        arguments: Self::Arguments,
    ) -> Running<'c, Vec<Self::Row>>;
}

impl<DB> Run for DB
where
    DB: Database,
    DB::Arguments: IntoArguments<DB> + 'static,
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
{
    fn execute<'c>(
        conn: &'c mut DB::Connection,
        sql: &'static str,
        arguments: DB::Arguments,
    ) -> Running<'c, DB::QueryResult> {
        Executor::execute(conn, sqlx::query_with(sql, arguments))
    }

    fn fetch_optional<'c>(
        conn: &'c mut DB::Connection,
        sql: &'static str,
        arguments: DB::Arguments,
    ) -> Running<'c, Option<DB::Row>> {
        Executor::fetch_optional(conn, sqlx::query_with(sql, arguments))
    }

    fn fetch_all<'c>(
        conn: &'c mut DB::Connection,
        sql: &'static str,
        arguments: DB::Arguments,
    ) -> Running<'c, Vec<DB::Row>> {
        Executor::fetch_all(conn, sqlx::query_with(sql, arguments))
    }
}
