//! Databases with millions of sessions.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use cloakroom_core::Clock;
use cloakroom_sql::AnySqlStore;
use cloakroom_test_servers::{Kind, Options, Server};
use serde::Serialize;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row};

/// A kind of database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize)]
pub enum Database {
    /// SQLite, in WAL mode, `synchronous=FULL`
    #[serde(rename = "SQLite")]
    Sqlite,
    /// PostgreSQL
    #[serde(rename = "PostgreSQL")]
    Postgres,
    /// MariaDB
    #[serde(rename = "MariaDB")]
    Mariadb,
}

impl Database {
    /// The name that people know it by.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "SQLite",
            Self::Postgres => "PostgreSQL",
            Self::Mariadb => "MariaDB",
        }
    }

    /// What it is called on the command line.
    pub fn id(self) -> String {
        self.name().to_lowercase().replace("postgresql", "postgres")
    }
}

/// Whose table it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Library {
    /// Django's and Cloakroom's.
    Cloakroom,
    /// tower-sessions'.
    TowerSessions,
}

/// What a table is filled with.
#[derive(Clone, Copy, Debug)]
pub struct Fill {
    /// Sessions that have expired during the last month.
    pub expired: u64,
    /// Sessions that will expire during the next days.
    pub live: u64,
    /// The length of what each holds.
    pub payload: usize,
}

/// A database for as long as this lives; its files go with it.
#[derive(Debug)]
pub struct Place {
    /// Its URL.
    pub url: String,
    database: Database,
    library: Library,
    server: Option<Server>,
    _directory: Option<tempfile::TempDir>,
}

impl Place {
    /// Makes an empty one.
    ///
    /// # Errors
    /// If the database's server is not installed.
    pub fn make(database: Database, library: Library) -> anyhow::Result<Self> {
        let (kind, arguments) = match database {
            Database::Sqlite => {
                let directory = tempfile::tempdir().context("no temporary directory")?;
                let path = directory.path().join("sessions.sqlite3");
                let url = format!("sqlite://{}", path.display());
                return Ok(Self { url, database, library, server: None, _directory: Some(directory) });
            }
            Database::Postgres => (Kind::Postgres, ["-c", "shared_buffers=128MB"]),
            Database::Mariadb => (Kind::MariaDb, ["--innodb-buffer-pool-size=128M", "--innodb-log-file-size=96M"]),
        };
        let server = Options::new(kind).durable().args(arguments).start().context("install it, or leave it out")?;
        Ok(Self { url: server.database(), database, library, server: Some(server), _directory: None })
    }

    fn table(&self) -> &'static str {
        match (self.library, self.database) {
            (Library::Cloakroom, _) => "django_session",
            (Library::TowerSessions, Database::Postgres) => "tower_sessions.session",
            (Library::TowerSessions, _) => "tower_sessions",
        }
    }

    /// Makes Cloakroom's table.
    ///
    /// # Errors
    /// If the database refuses.
    pub async fn migrate(&self) -> anyhow::Result<()> {
        AnySqlStore::open(&self.url, true, None, Clock::system()).await?.migrate().await?;
        Ok(())
    }

    /// Fills the table, expired and live sessions mixed, with keys at random.
    ///
    /// # Errors
    /// If the database refuses.
    pub async fn fill(&self, fill: Fill) -> anyhow::Result<()> {
        let Fill { expired, live, payload } = fill;
        let all = expired + live;
        let text = "x".repeat(payload.saturating_sub(32));
        let is_live = |i: &str, div: &str| format!("{i} * {live} {div} {all} > ({i} - 1) * {live} {div} {all}");
        let table = self.table();
        match &self.server {
            None => {
                let form = match self.library {
                    Library::Cloakroom => "%Y-%m-%d %H:%M:%S",
                    Library::TowerSessions => "%Y-%m-%dT%H:%M:%SZ",
                };
                let is_live = is_live("i", "/");
                let sql = format!(
                    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {all})
                     INSERT INTO {table} SELECT lower(hex(randomblob(16))), lower(hex(randomblob(16))) || '{text}',
                     strftime('{form}', 'now', CASE WHEN {is_live}
                     THEN '+' || (86400 + i % 864000) ELSE '-' || (1 + abs(random()) % 2592000) END || ' seconds') FROM n"
                );
                let mut connection = self.sqlite().await?;
                // Keys at random need the whole index at hand. Nothing has to outlive a crash yet.
                for statement in ["PRAGMA cache_size = -3000000", "PRAGMA synchronous = OFF"] {
                    sqlx::raw_sql(statement).execute(&mut connection).await?;
                }
                without_journal(&mut connection).await?;
                sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await?;
                sqlx::raw_sql("PRAGMA journal_mode = WAL").execute(&mut connection).await?;
                connection.close().await?;
            }
            Some(server) if self.database == Database::Postgres => {
                let data = match self.library {
                    Library::Cloakroom => format!("md5(random()::text) || '{text}'"),
                    Library::TowerSessions => format!("convert_to(md5(random()::text) || '{text}', 'UTF8')"),
                };
                let is_live = is_live("i", "/");
                let insert = format!(
                    "INSERT INTO {table} SELECT md5(i::text), {data},
                     now() + CASE WHEN {is_live} THEN 86400 + i % 864000 ELSE -1 - random() * 2592000 END * interval '1 second'
                     FROM generate_series(1::bigint, {all}) AS i"
                );
                // Indexes are made much faster at once than row by row.
                let relation = table.rsplit('.').next().unwrap_or(table);
                let saved = server.sql(
                    &self.url,
                    &format!("SELECT indexname, indexdef, schemaname FROM pg_indexes WHERE tablename = '{relation}'"),
                );
                let (mut before, mut after) = (String::new(), String::new());
                for line in saved.lines() {
                    let [name, definition, schema] = line.split('\t').collect::<Vec<_>>()[..] else { continue };
                    if name.ends_with("_pkey") {
                        let column = definition.rsplit_once('(').map_or("", |(_, column)| column.trim_end_matches(')'));
                        before += &format!("ALTER TABLE {table} DROP CONSTRAINT {name};");
                        after += &format!("ALTER TABLE {table} ADD CONSTRAINT {name} PRIMARY KEY ({column});");
                    } else {
                        before += &format!("DROP INDEX {schema}.{name};");
                        after += &format!("{definition};");
                    }
                }
                server.sql(&self.url, &format!("SET maintenance_work_mem = '512MB'; {before} {insert}; {after}"));
                server.sql(&self.url, &format!("VACUUM ANALYZE {table}"));
                server.sql(&self.url, "CHECKPOINT");
            }
            Some(server) => {
                let is_live = is_live("seq", "DIV");
                let sql = format!(
                    "INSERT INTO {table} SELECT md5(seq), CONCAT(md5(rand()), '{text}'), UTC_TIMESTAMP(6) + INTERVAL CASE
                     WHEN {is_live} THEN 86400 + seq % 864000 ELSE -1 - rand() * 2592000 END SECOND FROM seq_1_to_{all}"
                );
                server.sql(&self.url, &sql);
                server.sql(&self.url, &format!("ANALYZE TABLE {table}"));
            }
        }
        let rows = self.rows().await?;
        ensure!(rows == all, "the table was to hold {all} sessions, and holds {rows}");
        Ok(())
    }

    async fn sqlite(&self) -> anyhow::Result<sqlx::SqliteConnection> {
        let options: SqliteConnectOptions = self.url.parse()?;
        Ok(options.connect().await?)
    }

    /// How many sessions stand in the table.
    ///
    /// # Errors
    /// If the database refuses.
    pub async fn rows(&self) -> anyhow::Result<u64> {
        let sql = format!("SELECT count(*) FROM {}", self.table());
        Ok(match &self.server {
            None => {
                let row = sqlx::query(AssertSqlSafe(sql)).fetch_one(&mut self.sqlite().await?).await?;
                u64::try_from(row.try_get::<i64, _>(0)?)?
            }
            Some(server) => server.sql(&self.url, &sql).trim().parse()?,
        })
    }

    /// How much of the disk the table takes with its indexes, in bytes. Not for MariaDB.
    ///
    /// # Errors
    /// If the database refuses.
    pub fn size(&self) -> anyhow::Result<u64> {
        match &self.server {
            None => {
                let path = self.url.trim_start_matches("sqlite://");
                Ok(std::fs::metadata(Path::new(path))?.len())
            }
            Some(server) => {
                let sql = format!("SELECT pg_total_relation_size('{}')", self.table());
                Ok(server.sql(&self.url, &sql).trim().parse()?)
            }
        }
    }

    /// What the server says that it is.
    pub fn version(&self) -> Option<String> {
        let server = self.server.as_ref()?;
        let (database, sql) = match self.database {
            Database::Postgres => ("postgres", "SHOW server_version"),
            _ => ("mysql", "SELECT version()"),
        };
        let told = server.sql(database, sql);
        let number = told.split(['-', ' ', '\n']).next().unwrap_or_default();
        Some(format!("{} {number}", self.database.name()))
    }
}

/// Has SQLite write no journal, for which it wants the database for itself, and does not wait: whoever made the table
/// may still be closing its connections.
async fn without_journal(connection: &mut sqlx::SqliteConnection) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match sqlx::raw_sql("PRAGMA journal_mode = OFF").execute(&mut *connection).await {
            Err(error) if Instant::now() < deadline && error.as_database_error().is_some() => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            outcome => return Ok(outcome.map(drop)?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn tables_are_filled() {
        for database in [Database::Sqlite, Database::Postgres, Database::Mariadb] {
            let Ok(place) = Place::make(database, Library::Cloakroom) else {
                assert!(std::env::var_os("CLOAKROOM_REQUIRE").is_none(), "{database:?} is not installed");
                continue;
            };
            place.migrate().await.unwrap();
            place.fill(Fill { expired: 90, live: 10, payload: 100 }).await.unwrap();
            let store = AnySqlStore::open(&place.url, false, None, Clock::system()).await.unwrap();
            assert_eq!((place.rows().await.unwrap(), store.count_expired().await.unwrap()), (100, 90), "{database:?}");
            assert!(store.is_migrated().await.unwrap(), "{database:?}");
            if database != Database::Mariadb {
                assert!(place.size().unwrap() > 10_000);
            }
        }
    }

    #[test]
    fn databases_have_names() {
        let names = [Database::Sqlite, Database::Postgres, Database::Mariadb].map(Database::id);
        assert_eq!(names, ["sqlite", "postgres", "mariadb"]);
    }
}
