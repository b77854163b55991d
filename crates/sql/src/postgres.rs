//! The PostgreSQL dialect.

mod listener;
mod trigger;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cloakroom_core::near::NearCache;
use cloakroom_core::sweep::Turn;
use cloakroom_core::{Clock, Error, ErrorKind, Result, Timestamp};
use sqlx::encode::{Encode, IsNull};
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{
    PgArgumentBuffer, PgArguments, PgConnectOptions, PgPool, PgQueryResult, PgRow, PgSslMode, PgTypeInfo,
};
use sqlx::{Arguments, Row, Type};

use crate::dialect::{Dialect, Failed, Param, Pools, Schema, Statements, Together};
use crate::server::{Server, ServerOptions, SslMode, is_broken, turn};
use crate::store::SqlStore;
use listener::Ear;
pub use trigger::NearCacheTrigger;

/// Sessions in a PostgreSQL database, in Django's own table.
///
/// Dates are moments (`timestamp with time zone`): neither Django's `USE_TZ` nor the time zone of a connection matters.
/// The sweep skips rows that others are changing, and never waits for them.
pub type PostgresStore = SqlStore<Postgres>;

/// The PostgreSQL dialect of a [`SqlStore`].
#[derive(Debug)]
pub struct Postgres {
    server: Arc<Server<sqlx::Postgres>>,
    near: Option<Arc<NearCache>>,
    /// What hears of changes for the near cache.
    ear: Option<Ear>,
}

impl SqlStore<Postgres> {
    /// Opens a database.
    ///
    /// A server that cannot be reached now is not an error yet: each operation tries again. Whether the table exists is
    /// not looked at either; see [`migrations`](Self::migrations).
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] for what waiting does not mend: a wrong password or database name, encryption that
    /// the server does not offer, options that are none of PostgreSQL's.
    pub async fn open(options: ServerOptions, clock: Clock) -> Result<Self> {
        let mut connect: PgConnectOptions = options.parse("postgres")?;
        connect = connect.extra_float_digits(None).statement_cache_capacity(options.statement_cache);
        if connect.get_application_name().is_none() {
            connect = connect.application_name("cloakroom");
        }
        connect = connect.ssl_mode(match options.ssl_mode {
            SslMode::Disable => PgSslMode::Disable,
            SslMode::Prefer => PgSslMode::Prefer,
            SslMode::Require => PgSslMode::Require,
            SslMode::VerifyCa => PgSslMode::VerifyCa,
            SslMode::VerifyFull => PgSslMode::VerifyFull,
        });
        if let Some(path) = &options.ssl_root_cert {
            connect = connect.ssl_root_cert(path);
        }
        if let Some(path) = &options.ssl_cert {
            connect = connect.ssl_client_cert(path);
        }
        if let Some(path) = &options.ssl_key {
            connect = connect.ssl_client_key(path);
        }
        if let Some(timeout) = options.statement_timeout {
            connect = connect.options([("statement_timeout", timeout.as_millis().max(1).to_string())]);
        }
        let pool = Server::pool_options(&options).connect_lazy_with(connect);
        let server = Arc::new(Server::new(pool, &options, options.place.clone()));
        let dialect = Postgres { server, near: None, ear: None };
        dialect.server.try_out(|e| dialect.error("open the database", e)).await?;
        Ok(Self::with_dialect(dialect, clock).with_near_cache(options.near_cache, options.near_cache_staleness))
    }

    /// A store on an application's own pool. Its size and time-outs are the pool's; a statement that has no answer
    /// after 6 seconds is given up, with its connection. Best with `test_before_acquire(false)`: broken connections are
    /// replaced as it is, without another round trip for each operation.
    pub fn from_pool(pool: PgPool, clock: Clock) -> Self {
        let server = Arc::new(Server::of(pool, "the PostgreSQL database"));
        Self::with_dialect(Postgres { server, near: None, ear: None }, clock)
    }

    /// Keeps sessions that were read in up to so many bytes of this process, and serves them from there until the server
    /// tells that they changed: as [`ServerOptions::near_cache`] says. Zero bytes, the default, are none.
    #[must_use]
    pub fn with_near_cache(self, bytes: usize, staleness: Duration) -> Self {
        let (server, clock) = (self.dialect.server.clone(), self.clock().clone());
        let ear = (bytes > 0).then(|| Ear::new(bytes, staleness, &server, clock.clone()));
        let near = ear.as_ref().map(Ear::cache);
        Self::with_dialect(Postgres { server, near, ear }, clock)
    }

    /// Whether sessions that were read are kept in this process.
    pub fn has_near_cache(&self) -> bool {
        self.dialect.near.is_some()
    }

    /// The trigger without which a near cache stays off.
    pub fn near_cache_trigger(&self) -> NearCacheTrigger<'_> {
        NearCacheTrigger::new(self)
    }
}

/// Text in the bytes that we have; the server says whether they are text.
struct Utf8<'a>(&'a [u8]);

impl Type<sqlx::Postgres> for Utf8<'_> {
    fn type_info() -> PgTypeInfo {
        <str as Type<sqlx::Postgres>>::type_info()
    }
}

impl Encode<'_, sqlx::Postgres> for Utf8<'_> {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        buffer.extend_from_slice(self.0);
        Ok(IsNull::No)
    }
}

/// A `timestamp with time zone`: microseconds since 2000 began.
struct Moment(i64);

/// 2000-01-01 00:00:00 UTC, in microseconds since 1970 began.
const YEAR_2000: i64 = 946_684_800_000_000;

fn micros(moment: Timestamp) -> i64 {
    moment.clamp(Timestamp::MIN, Timestamp::MAX).as_micros() - YEAR_2000
}

/// The number by which PostgreSQL knows the type.
const TIMESTAMPTZ: Oid = Oid(1184);

impl Type<sqlx::Postgres> for Moment {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(TIMESTAMPTZ)
    }
}

impl Encode<'_, sqlx::Postgres> for Moment {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        buffer.extend_from_slice(&self.0.to_be_bytes());
        Ok(IsNull::No)
    }
}

/// A column of many rows of parameters, as an array.
struct Column<'a> {
    /// The parameters from the column's first one on.
    params: &'a [Param<'a>],
    /// How far it is from one row to the next.
    width: usize,
    rows: usize,
}

impl Column<'_> {
    /// The numbers by which PostgreSQL knows the types of the elements and of the array.
    fn types(&self) -> (u32, u32) {
        match self.params[0] {
            Param::Key(_) | Param::Text(_) | Param::Payload(_) => (25, 1009),
            Param::Moment(_) => (TIMESTAMPTZ.0, 1185),
            Param::Count(_) => (20, 1016),
        }
    }
}

impl Type<sqlx::Postgres> for Column<'_> {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Oid(1009))
    }
}

impl Encode<'_, sqlx::Postgres> for Column<'_> {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        // One dimension, no NULL, the type of the elements, how many there are, and the index of the first.
        let (element, _) = self.types();
        for number in [1, 0, element, u32::try_from(self.rows)?, 1] {
            buffer.extend_from_slice(&number.to_be_bytes());
        }
        for param in self.params.iter().step_by(self.width) {
            let mut element = |bytes: &[u8]| -> Result<(), BoxDynError> {
                buffer.extend_from_slice(&i32::try_from(bytes.len())?.to_be_bytes());
                buffer.extend_from_slice(bytes);
                Ok(())
            };
            match *param {
                Param::Key(text) | Param::Text(text) => element(text.as_bytes())?,
                Param::Payload(payload) => element(payload)?,
                Param::Moment(moment) => element(&micros(moment).to_be_bytes())?,
                Param::Count(count) => element(&count.to_be_bytes())?,
            }
        }
        Ok(IsNull::No)
    }

    fn produces(&self) -> Option<PgTypeInfo> {
        let (_, array) = self.types();
        Some(PgTypeInfo::with_oid(Oid(array)))
    }
}

impl Dialect for Postgres {
    type Db = sqlx::Postgres;

    // Payloads are compared under the collation "C", byte for byte, whatever a column's own collation calls equal. The
    // sweep's inner query stands in an array, since a planner may run a mere subquery more than once, each time with new
    // rows; and what is listed is in the order of bytes, for which there is Django's own index.
    const STATEMENTS: Statements = Statements {
        load: r#"SELECT "django_session"."session_data", "django_session"."expire_date" FROM "django_session" WHERE "django_session"."session_key" = $1 AND "django_session"."expire_date" > $2"#,
        find: r#"SELECT "django_session"."session_data", "django_session"."expire_date" FROM "django_session" WHERE "django_session"."session_key" = $1"#,
        create: r#"INSERT INTO "django_session" ("session_key", "session_data", "expire_date") VALUES ($1, $2, $3) ON CONFLICT DO NOTHING"#,
        replace: r#"UPDATE "django_session" SET "session_data" = $1, "expire_date" = $2 WHERE "django_session"."session_key" = $3 AND "django_session"."session_data" = $4 COLLATE "C""#,
        rotate: r#"UPDATE "django_session" SET "session_key" = $1, "session_data" = $2, "expire_date" = $3 WHERE "django_session"."session_key" = $4 AND "django_session"."session_data" = $5 COLLATE "C""#,
        touch: r#"UPDATE "django_session" SET "expire_date" = $1 WHERE "django_session"."session_key" = $2 AND "django_session"."expire_date" > $3"#,
        delete: r#"DELETE FROM "django_session" WHERE "django_session"."session_key" = $1"#,
        delete_version: r#"DELETE FROM "django_session" WHERE "django_session"."session_key" = $1 AND "django_session"."session_data" = $2 COLLATE "C""#,
        clear_expired: r#"DELETE FROM "django_session" WHERE "django_session"."session_key" = ANY (ARRAY(SELECT "expired"."session_key" FROM "django_session" AS "expired" WHERE "expired"."expire_date" < $1 ORDER BY "expired"."expire_date" LIMIT $2 FOR UPDATE SKIP LOCKED))"#,
        count_expired: r#"SELECT COUNT(*)::text FROM "django_session" WHERE "django_session"."expire_date" < $1"#,
        list: r#"SELECT "django_session"."session_key" FROM "django_session" WHERE LENGTH("django_session"."session_key") >= 8 ORDER BY "django_session"."session_key" USING ~<~ LIMIT $1"#,
        list_after: r#"SELECT "django_session"."session_key" FROM "django_session" WHERE "django_session"."session_key" ~>~ $1 AND LENGTH("django_session"."session_key") >= 8 ORDER BY "django_session"."session_key" USING ~<~ LIMIT $2"#,
    };

    const SCHEMA: Schema = Schema {
        begin: "BEGIN",
        // The number is arbitrary, and ours.
        lock: Some("SELECT 1 FROM (SELECT pg_advisory_xact_lock(5566776983327240019)) AS locked"),
        transactional: true,
        create: &[
            r#"CREATE TABLE "django_session" ("session_key" varchar(40) NOT NULL PRIMARY KEY, "session_data" text NOT NULL, "expire_date" timestamp with time zone NOT NULL)"#,
            r#"CREATE INDEX "django_session_session_key_c0390e0f_like" ON "django_session" ("session_key" varchar_pattern_ops)"#,
            r#"CREATE INDEX "django_session_expire_date_a5c62663" ON "django_session" ("expire_date")"#,
        ],
        create_at_once: None,
        create_recorder: r#"CREATE TABLE "django_migrations" ("id" bigint NOT NULL PRIMARY KEY GENERATED BY DEFAULT AS IDENTITY, "app" varchar(255) NOT NULL, "name" varchar(255) NOT NULL, "applied" timestamp with time zone NOT NULL)"#,
        columns: "SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = to_regclass(quote_ident($1)) AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
        recorded: r#"SELECT 1 FROM "django_migrations" WHERE "django_migrations"."app" = $1 AND "django_migrations"."name" = $2 LIMIT 1"#,
        record: r#"INSERT INTO "django_migrations" ("app", "name", "applied") VALUES ($1, $2, $3)"#,
    };

    async fn pools(&self) -> Result<Pools<sqlx::Postgres>> {
        Ok(self.server.pools())
    }

    fn arguments(&self, params: &[Param<'_>]) -> Result<PgArguments, BoxDynError> {
        Self::parameters(params)
    }

    // The second goes on while the first waits for a row.
    const LANES: usize = 2;

    // The inner query of each finds one row by its key, and cannot be turned into anything else: not even a plan that was
    // made while the table was small reads all of it. A change passes rows that others hold: waiting for one of them, all
    // members would wait, and two such statements could wait for each other. LIMIT is not reached; its purpose is to be
    // unknown to the planner, which then expects a row, and looks it up by its place.
    fn together(kind: Together, _: usize) -> &'static str {
        match kind {
            Together::Load => {
                r#"SELECT "found"."session_data", "found"."expire_date", "wanted"."key" FROM unnest($1::text[], $2::timestamptz[]) AS "wanted" ("key", "now") CROSS JOIN LATERAL (SELECT "django_session"."session_data", "django_session"."expire_date" FROM "django_session" WHERE "django_session"."session_key" = "wanted"."key" AND "django_session"."expire_date" > "wanted"."now" LIMIT 1) AS "found""#
            }
            Together::Create => {
                r#"INSERT INTO "django_session" ("session_key", "session_data", "expire_date") SELECT "new"."key", "new"."payload", "new"."expiry" FROM unnest($1::text[], $2::text[], $3::timestamptz[]) AS "new" ("key", "payload", "expiry") ON CONFLICT DO NOTHING RETURNING "session_key""#
            }
            Together::Replace => {
                r#"WITH "held" AS (SELECT "found"."ctid", "new"."payload", "new"."expiry" FROM unnest($1::text[], $2::timestamptz[], $3::text[], $4::text[]) AS "new" ("payload", "expiry", "key", "expected") CROSS JOIN LATERAL (SELECT "django_session"."ctid" FROM "django_session" WHERE "django_session"."session_key" = "new"."key" AND "django_session"."session_data" = "new"."expected" COLLATE "C" FOR UPDATE SKIP LOCKED) AS "found" LIMIT (SELECT 1000)) UPDATE "django_session" SET "session_data" = "held"."payload", "expire_date" = "held"."expiry" FROM "held" WHERE "django_session"."ctid" = "held"."ctid" RETURNING "django_session"."session_key""#
            }
            Together::Touch => {
                r#"WITH "held" AS (SELECT "found"."ctid", "new"."expiry" FROM unnest($1::timestamptz[], $2::text[], $3::timestamptz[]) AS "new" ("expiry", "key", "now") CROSS JOIN LATERAL (SELECT "django_session"."ctid" FROM "django_session" WHERE "django_session"."session_key" = "new"."key" AND "django_session"."expire_date" > "new"."now" FOR UPDATE SKIP LOCKED) AS "found" LIMIT (SELECT 1000)) UPDATE "django_session" SET "expire_date" = "held"."expiry" FROM "held" WHERE "django_session"."ctid" = "held"."ctid" RETURNING "django_session"."session_key""#
            }
        }
    }

    fn arguments_together(&self, _: Together, params: &[Param<'_>], rows: usize) -> Result<PgArguments, BoxDynError> {
        let mut arguments = PgArguments::default();
        let width = params.len() / rows;
        arguments.reserve(width, 0);
        for first in 0..width {
            arguments.add(Column { params: &params[first..], width, rows })?;
        }
        Ok(arguments)
    }

    fn record(&self, row: &PgRow) -> sqlx::Result<(Bytes, Option<Timestamp>)> {
        let payload: &[u8] = row.try_get_unchecked(0)?;
        let date = row.try_get_raw(1)?.as_bytes().ok().and_then(|bytes| bytes.try_into().ok());
        // "infinity" is the greatest number there is.
        let moment = date.map(|bytes| Timestamp::from_micros(i64::from_be_bytes(bytes).saturating_add(YEAR_2000)));
        Ok((Bytes::copy_from_slice(payload), moment.map(|moment| moment.clamp(Timestamp::MIN, Timestamp::MAX))))
    }

    fn text<'r>(&self, row: &'r PgRow, column: usize) -> sqlx::Result<Cow<'r, str>> {
        let bytes: &[u8] = row.try_get_unchecked(column)?;
        Ok(String::from_utf8_lossy(bytes))
    }

    fn matched(result: &PgQueryResult) -> u64 {
        result.rows_affected()
    }

    fn patience(&self) -> Option<Duration> {
        self.server.patience()
    }

    fn failed(error: &sqlx::Error) -> Failed {
        match state(error).as_deref() {
            // Connections that the server ended: exceptions of the connection, shutdown, a crash, idle for too long.
            Some("57P01" | "57P02" | "57P05" | "25P03") => Failed::Lost,
            Some(state) if state.starts_with("08") => Failed::Lost,
            Some("40001" | "40P01") => Failed::Undone,
            None if is_broken(error) => Failed::Lost,
            _ => Failed::Finally,
        }
    }

    fn silence(&self, doing: &'static str) -> Error {
        self.server.silence(doing)
    }

    type Near = Option<Arc<NearCache>>;

    fn near(&self) -> &Option<Arc<NearCache>> {
        self.ear.iter().for_each(Ear::listen);
        &self.near
    }

    /// The lock belongs to a transaction, so that it works behind a PgBouncer too. Between its statements such a
    /// transaction holds up nothing. The first number is arbitrary, and ours.
    async fn turn(&self) -> Result<Option<Box<dyn Turn>>> {
        const LOCK: &str = r#"SELECT 1 FROM (SELECT pg_try_advisory_xact_lock(1296126803, '"django_session"'::regclass::oid::int4) AS ours) AS locked WHERE ours"#;
        turn::lock(self, &["BEGIN", LOCK]).await
    }

    fn error(&self, doing: &'static str, error: sqlx::Error) -> Error {
        let (kind, what) = self.server.failure(&error).unwrap_or_else(|| self.refusal(doing, &error));
        Error::new(kind, format!("could not {doing}: {what}")).with_source(error)
    }
}

impl Postgres {
    fn parameters(params: &[Param<'_>]) -> Result<PgArguments, BoxDynError> {
        let mut arguments = PgArguments::default();
        arguments.reserve(params.len(), 0);
        for param in params {
            match *param {
                Param::Key(text) | Param::Text(text) => arguments.add(text)?,
                Param::Payload(payload) => arguments.add(Utf8(payload))?,
                Param::Moment(moment) => arguments.add(Moment(micros(moment)))?,
                Param::Count(count) => arguments.add(count)?,
            }
        }
        Ok(arguments)
    }

    /// What an error means that the server gave.
    fn refusal(&self, doing: &str, error: &sqlx::Error) -> (ErrorKind, String) {
        use ErrorKind::{Configuration, Contended, Corrupted, NotMigrated, TooLarge, Unavailable, Unrepresentable};

        let place = self.server.place();
        let said = error.as_database_error().map(|e| e.message()).unwrap_or_default();
        // <https://www.postgresql.org/docs/current/errcodes-appendix.html>
        match state(error).as_deref().unwrap_or_default() {
            "42P01" => (NotMigrated, format!("{place} has no session table ({said}): run `cloakroom migrate`")),
            "42703" | "42804" | "42883" | "23502" => {
                (Configuration, format!("the session table in {place} is not Django's ({said})"))
            }
            "28P01" | "28000" => {
                (Configuration, format!("{place} refuses the user or password of DATABASE_URL ({said})"))
            }
            "3D000" => (Configuration, format!("DATABASE_URL names a database that does not exist: {place} ({said})")),
            "42501" => (Configuration, format!("the user of DATABASE_URL may not do that in {place} ({said})")),
            "25006" => {
                (Unavailable, format!("{place} is read-only ({said}): DATABASE_URL must name the primary server"))
            }
            "57014" => (Unavailable, format!("{place} took longer than the statement timeout ({said})")),
            "53300" => (Unavailable, format!("{place} has no connection left ({said}): see pool in DATABASE_URL")),
            "53100" => (Unavailable, format!("the disk of {place} is full ({said})")),
            "40001" | "40P01" => (Contended, format!("others kept changing the same rows of {place} ({said})")),
            "54000" | "22001" => (TooLarge, format!("{place} cannot hold so much ({said})")),
            // The parameters of a load are plain: it is the row that is not text, as a database in SQL_ASCII may hold.
            "22021" if doing == "load a session" => {
                (Corrupted, format!("{place} holds a session record that is not text ({said})"))
            }
            "22021" | "22P05" | "22P02" => (Unrepresentable, format!("{place} cannot hold the value ({said})")),
            _ => (Unavailable, format!("{place} failed: {said}")),
        }
    }
}

/// The state that PostgreSQL gave an error.
fn state(error: &sqlx::Error) -> Option<String> {
    error.as_database_error()?.code().map(Into::into)
}
