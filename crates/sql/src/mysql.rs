//! The dialect of MySQL and MariaDB.

mod together;

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use bytes::Bytes;
use cloakroom_core::sweep::Turn;
use cloakroom_core::wire::expiry::TimeZone;
use cloakroom_core::{Clock, Error, ErrorKind, Result, Timestamp};
use sqlx::error::BoxDynError;
use sqlx::mysql::{
    MySqlArguments, MySqlConnectOptions, MySqlDatabaseError, MySqlPool, MySqlQueryResult, MySqlRow, MySqlSslMode,
};
use sqlx::{Arguments, AssertSqlSafe, Executor, Row};

use crate::date;
use crate::dialect::{Dialect, Failed, Param, Pools, Schema, Statements, Together};
use crate::server::{Server, ServerOptions, SslMode, is_broken, turn};
use crate::store::SqlStore;

/// Sessions in a MySQL or MariaDB database, in Django's own table.
///
/// Keys and payloads are compared byte for byte, though the usual collations take upper for lower case, and text with
/// blanks at its end for text without.
///
/// On MariaDB from 10.6 on, operations that wait at the same moment go together. The database's user then needs INSERT,
/// SELECT and UPDATE, as Django's has them.
pub type MySqlStore = SqlStore<MySql>;

/// The dialect of MySQL and MariaDB of a [`SqlStore`].
#[derive(Debug)]
pub struct MySql {
    server: Arc<Server<sqlx::MySql>>,
    zone: Option<TimeZone>,
    /// Whether the server takes statements for many.
    many: AtomicU8,
}

/// Nobody has asked yet.
const UNKNOWN: u8 = 0;
const TAKEN: u8 = 1;
const REFUSED: u8 = 2;

impl SqlStore<MySql> {
    /// Opens a database.
    ///
    /// A server that cannot be reached now is not an error yet: each operation tries again. Whether the table exists is
    /// not looked at either; see [`migrations`](Self::migrations).
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] for what waiting does not mend: a wrong password or database name, encryption that
    /// the server does not offer, options that are none of MySQL's.
    pub async fn open(options: ServerOptions, clock: Clock) -> Result<Self> {
        let mut connect: MySqlConnectOptions = options.parse("mysql")?;
        connect = connect
            .statement_cache_capacity(options.statement_cache)
            .set_names(false)
            .timezone(None)
            .pipes_as_concat(false)
            .no_engine_substitution(false);
        connect = connect.ssl_mode(match options.ssl_mode {
            SslMode::Disable => MySqlSslMode::Disabled,
            SslMode::Prefer => MySqlSslMode::Preferred,
            SslMode::Require => MySqlSslMode::Required,
            SslMode::VerifyCa => MySqlSslMode::VerifyCa,
            SslMode::VerifyFull => MySqlSslMode::VerifyIdentity,
        });
        if let Some(path) = &options.socket {
            connect = connect.socket(path);
        }
        if let Some(path) = &options.ssl_root_cert {
            connect = connect.ssl_ca(path);
        }
        if let Some(path) = &options.ssl_cert {
            connect = connect.ssl_client_cert(path);
        }
        if let Some(path) = &options.ssl_key {
            connect = connect.ssl_client_key(path);
        }
        let prepare = preparation(options.statement_timeout);
        let pool = Server::<sqlx::MySql>::pool_options(&options).after_connect(move |connection, _| {
            let prepare = prepare.clone();
            Box::pin(async move {
                connection.execute(sqlx::raw_sql(AssertSqlSafe(prepare))).await?;
                Ok(())
            })
        });
        let server = Server::new(pool.connect_lazy_with(connect), &options, options.place.clone());
        let dialect = MySql { server: Arc::new(server), zone: options.zone, many: AtomicU8::new(UNKNOWN) };
        dialect.server.try_out(|e| dialect.error("open the database", e)).await?;
        Ok(Self::with_dialect(dialect, clock))
    }

    /// A store on an application's own pool. Its size and time-outs are the pool's, and so is the SQL mode, which should
    /// be strict; a statement that has no answer after 6 seconds is given up, with its connection. Best with
    /// `test_before_acquire(false)`: broken connections are replaced as it is, without another round trip for each
    /// operation.
    pub fn from_pool(pool: MySqlPool, clock: Clock) -> Self {
        let server = Arc::new(Server::of(pool, "the MySQL or MariaDB database"));
        Self::with_dialect(MySql { server, zone: None, many: AtomicU8::new(UNKNOWN) }, clock)
    }

    /// Dates as local time of `zone`, as a Django with `USE_TZ = False` and that `TIME_ZONE` stores them. `None`, the
    /// default, is UTC, as a Django with `USE_TZ = True` stores them, whatever its `TIME_ZONE`.
    #[must_use]
    pub fn with_time_zone(self, zone: Option<TimeZone>) -> Self {
        let server = self.dialect.server.clone();
        let many = AtomicU8::new(self.dialect.many.load(Ordering::Relaxed));
        Self::with_dialect(MySql { server, zone, many }, self.clock().clone())
    }
}

/// What a new connection is told, in one exchange, where the driver would take two. Strict, or a value that does not fit
/// is cut off in silence; each statement sees what is committed, as Django asks for too, and locks no gaps.
fn preparation(statement_timeout: Option<Duration>) -> String {
    let strict = "SET NAMES utf8mb4, SESSION sql_mode = CONCAT(@@sql_mode, ',STRICT_TRANS_TABLES')";
    let isolation = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED";
    let Some(timeout) = statement_timeout else { return format!("{strict}; {isolation}") };
    let (seconds, millis) = (timeout.as_secs_f64(), timeout.as_millis().max(1));
    // Locks are waited for in whole seconds. MariaDB alone reads the first kind of comment, MySQL (from 5.7.8) alone
    // the second: to MariaDB that is a version which it never had.
    let locks = (timeout.as_secs_f64().ceil() as u64).max(1);
    format!(
        "{strict}, SESSION innodb_lock_wait_timeout = {locks}, SESSION lock_wait_timeout = {locks}\
         /*M!, SESSION max_statement_time = {seconds} *//*!50708 , SESSION max_execution_time = {millis} */; {isolation}"
    )
}

impl Dialect for MySql {
    type Db = sqlx::MySql;

    // A key is compared as the index has it, and then as bytes. So is a payload: the bytes in which it travels, whatever
    // character set the table has. Dates travel as text: so they are told apart from NULL and from dates
    // that do not exist, which this database may hold.
    const STATEMENTS: Statements = Statements {
        load: "SELECT `session_data`, CAST(`expire_date` AS CHAR) FROM `django_session` WHERE `session_key` = ? AND CAST(CONVERT(`session_key` USING utf8mb4) AS BINARY) = ? AND `expire_date` > ?",
        find: "SELECT `session_data`, CAST(`expire_date` AS CHAR) FROM `django_session` WHERE `session_key` = ? AND CAST(CONVERT(`session_key` USING utf8mb4) AS BINARY) = ?",
        create: "INSERT INTO `django_session` (`session_key`, `session_data`, `expire_date`) VALUES (?, ?, ?)",
        replace: "UPDATE `django_session` SET `session_data` = ?, `expire_date` = ? WHERE `session_key` = ? AND CAST(CONVERT(`session_key` USING utf8mb4) AS BINARY) = ? AND CAST(CONVERT(`session_data` USING utf8mb4) AS BINARY) = ?",
        rotate: "UPDATE `django_session` SET `session_key` = ?, `session_data` = ?, `expire_date` = ? WHERE `session_key` = ? AND CAST(CONVERT(`session_key` USING utf8mb4) AS BINARY) = ? AND CAST(CONVERT(`session_data` USING utf8mb4) AS BINARY) = ?",
        touch: "UPDATE `django_session` SET `expire_date` = ? WHERE `session_key` = ? AND CAST(CONVERT(`session_key` USING utf8mb4) AS BINARY) = ? AND `expire_date` > ?",
        delete: "DELETE FROM `django_session` WHERE `session_key` = ? AND CAST(CONVERT(`session_key` USING utf8mb4) AS BINARY) = ?",
        delete_version: "DELETE FROM `django_session` WHERE `session_key` = ? AND CAST(CONVERT(`session_key` USING utf8mb4) AS BINARY) = ? AND CAST(CONVERT(`session_data` USING utf8mb4) AS BINARY) = ?",
        clear_expired: "DELETE FROM `django_session` WHERE `expire_date` < ? ORDER BY `expire_date` LIMIT ?",
        count_expired: "SELECT CAST(COUNT(*) AS CHAR) FROM `django_session` WHERE `expire_date` < ?",
        list: "SELECT `session_key` FROM `django_session` WHERE CHAR_LENGTH(`session_key`) >= 8 ORDER BY `session_key` LIMIT ?",
        list_after: "SELECT `session_key` FROM `django_session` WHERE `session_key` > ? AND CHAR_LENGTH(`session_key`) >= 8 ORDER BY `session_key` LIMIT ?",
    };

    const SCHEMA: Schema = Schema {
        begin: "BEGIN",
        // Names of locks hold for the whole server.
        lock: Some("SELECT 1 FROM DUAL WHERE GET_LOCK(CONCAT('cloakroom.', MD5(DATABASE())), 4) = 1"),
        transactional: false,
        create: &[
            "CREATE TABLE `django_session` (`session_key` varchar(40) NOT NULL PRIMARY KEY, `session_data` longtext NOT NULL, `expire_date` datetime(6) NOT NULL)",
            "CREATE INDEX `django_session_expire_date_a5c62663` ON `django_session` (`expire_date`)",
        ],
        create_at_once: Some(
            "CREATE TABLE `django_session` (`session_key` varchar(40) NOT NULL PRIMARY KEY, `session_data` longtext NOT NULL, `expire_date` datetime(6) NOT NULL, INDEX `django_session_expire_date_a5c62663` (`expire_date`))",
        ),
        create_recorder: "CREATE TABLE `django_migrations` (`id` bigint AUTO_INCREMENT NOT NULL PRIMARY KEY, `app` varchar(255) NOT NULL, `name` varchar(255) NOT NULL, `applied` datetime(6) NOT NULL)",
        columns: "SELECT `column_name`, `column_type` FROM `information_schema`.`columns` WHERE `table_schema` = DATABASE() AND `table_name` = ? ORDER BY `ordinal_position`",
        recorded: "SELECT 1 FROM `django_migrations` WHERE `app` = ? AND `name` = ? LIMIT 1",
        record: "INSERT INTO `django_migrations` (`app`, `name`, `applied`) VALUES (?, ?, ?)",
    };

    async fn pools(&self) -> Result<Pools<sqlx::MySql>> {
        Ok(self.server.pools())
    }

    fn arguments(&self, params: &[Param<'_>]) -> Result<MySqlArguments, BoxDynError> {
        let mut arguments = MySqlArguments::default();
        arguments.reserve(params.len(), 0);
        for param in params {
            match *param {
                Param::Key(text) => {
                    arguments.add(text)?;
                    arguments.add(text.as_bytes())?;
                }
                Param::Text(text) => arguments.add(text)?,
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

    // With fewer, a few loads at a time take twice as long. In a crowd it makes no difference.
    const LANES: usize = 4;

    fn together(kind: Together, rows: usize) -> &'static str {
        together::MANY.text(kind, rows)
    }

    fn goes_together(&self) -> bool {
        self.many.load(Ordering::Relaxed) != REFUSED
    }

    fn question(&self) -> Option<&'static str> {
        (self.many.load(Ordering::Relaxed) == UNKNOWN).then_some(together::QUESTION)
    }

    fn answered(&self, takes: bool) {
        self.many.store(if takes { TAKEN } else { REFUSED }, Ordering::Relaxed);
    }

    fn arguments_together(
        &self,
        kind: Together,
        params: &[Param<'_>],
        rows: usize,
    ) -> Result<MySqlArguments, BoxDynError> {
        together::arguments(kind, params, rows, |moment| date::format(moment, self.zone.as_ref()))
    }

    fn record(&self, row: &MySqlRow) -> sqlx::Result<(Bytes, Option<Timestamp>)> {
        let payload: &[u8] = row.try_get_unchecked(0)?;
        let date: Option<&[u8]> = row.try_get_unchecked(1)?;
        let date = date.and_then(|bytes| std::str::from_utf8(bytes).ok());
        let moment = date.and_then(|text| date::parse(text, self.zone.as_ref()));
        Ok((Bytes::copy_from_slice(payload), moment))
    }

    fn text<'r>(&self, row: &'r MySqlRow, column: usize) -> sqlx::Result<Cow<'r, str>> {
        let bytes: &[u8] = row.try_get_unchecked(column)?;
        Ok(String::from_utf8_lossy(bytes))
    }

    fn matched(result: &MySqlQueryResult) -> u64 {
        // Matched, not changed: sqlx asks the server to count so.
        result.rows_affected()
    }

    fn patience(&self) -> Option<Duration> {
        self.server.patience()
    }

    fn failed(error: &sqlx::Error) -> Failed {
        match number(error) {
            // Connections that the server ended: shutdown, killed, idle for too long.
            Some(1053 | 1927 | 4031) => Failed::Lost,
            Some(1213) => Failed::Undone,
            None if is_broken(error) => Failed::Lost,
            _ => Failed::Finally,
        }
    }

    fn silence(&self, doing: &'static str) -> Error {
        self.server.silence(doing)
    }

    async fn longest_statement(&self) -> Option<u64> {
        let pools = self.server.pools();
        sqlx::query_scalar("SELECT @@max_allowed_packet").fetch_one(pools.write.pool()).await.ok()
    }

    type Near = ();

    fn near(&self) -> &() {
        &()
    }

    async fn turn(&self) -> Result<Option<Box<dyn Turn>>> {
        // Names of locks hold for the whole server.
        const LOCK: &str = "SELECT 1 FROM DUAL WHERE GET_LOCK(CONCAT('cloakroom.sweep.', MD5(DATABASE())), 0) = 1";
        turn::lock(self, &[LOCK]).await
    }

    fn error(&self, doing: &'static str, error: sqlx::Error) -> Error {
        let (kind, what) = self.server.failure(&error).unwrap_or_else(|| self.refusal(&error));
        Error::new(kind, format!("could not {doing}: {what}")).with_source(error)
    }
}

impl MySql {
    /// What an error means that the server gave.
    fn refusal(&self, error: &sqlx::Error) -> (ErrorKind, String) {
        use ErrorKind::{Configuration, Contended, NotMigrated, TooLarge, Unavailable, Unrepresentable, Unsupported};

        let place = self.server.place();
        let said = error.as_database_error().map(|e| e.message()).unwrap_or_default();
        // <https://mariadb.com/kb/en/mariadb-error-code-reference/>
        match number(error).unwrap_or_default() {
            1146 => (NotMigrated, format!("{place} has no session table ({said}): run `cloakroom migrate`")),
            1054 | 1364 => (Configuration, format!("the session table in {place} is not Django's ({said})")),
            1045 | 1698 => (Configuration, format!("{place} refuses the user or password of DATABASE_URL ({said})")),
            1049 => (Configuration, format!("DATABASE_URL names a database that does not exist: {place} ({said})")),
            1046 => (Configuration, format!("DATABASE_URL names no database; write {place} after a slash ({said})")),
            1044 | 1142 | 1143 | 1227 => {
                (Configuration, format!("the user of DATABASE_URL may not do that in {place} ({said})"))
            }
            1290 | 1792 | 1836 => {
                (Unavailable, format!("{place} is read-only ({said}): DATABASE_URL must name the primary server"))
            }
            1205 | 1969 | 3024 => (Unavailable, format!("{place} took longer than the statement timeout ({said})")),
            1040 | 1203 | 1226 => {
                (Unavailable, format!("{place} has no connection left ({said}): see pool in DATABASE_URL"))
            }
            1021 | 1114 => (Unavailable, format!("{place} is full ({said})")),
            // The key of one of many. That of one alone is no error.
            1062 => (Contended, format!("a key is taken in {place} ({said})")),
            1064 => (Unsupported, format!("{place} does not know the statement ({said})")),
            1213 => (Contended, format!("others kept changing the same rows of {place} ({said})")),
            1153 | 1301 | 1406 => (TooLarge, format!("{place} cannot hold so much ({said})")),
            1300 | 1366 | 3854 => (Unrepresentable, format!("{place} cannot hold the value ({said})")),
            _ => (Unavailable, format!("{place} failed: {said}")),
        }
    }
}

/// The number that the server gave an error.
fn number(error: &sqlx::Error) -> Option<u16> {
    Some(error.as_database_error()?.try_downcast_ref::<MySqlDatabaseError>()?.number())
}
