//! A database file that is watched: deleted or replaced, it is noticed before the next operation.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use cloakroom_core::sweep::{Turn, turn_in};
use cloakroom_core::{Error, ErrorKind, Result};
use rusqlite::{Connection, OpenFlags};
use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use tokio::sync::Mutex;

use super::failure::{code, primary_code};
use super::glance::Glances;
use super::options::{SqliteOptions, Synchronous};
use super::writer::{Value, Writer};
use super::{failure, pool_options};
use crate::dialect::Pools;
use crate::lease::Connections;

/// A database file, and what was opened on it.
#[derive(Debug)]
pub(super) struct File {
    path: PathBuf,
    options: SqliteOptions,
    opened: RwLock<Arc<Opened>>,
    /// Held while the pools are opened anew, so that one task does it and the others wait.
    reopening: Mutex<()>,
}

/// What is open on a file, and what the file was then.
#[derive(Debug)]
struct Opened {
    file: Identity,
    /// The `-wal` and `-shm` files that belong to it.
    beside: [Option<Identity>; 2],
    pools: Pools<sqlx::Sqlite>,
    glances: Glances,
    writer: Writer,
}

/// The suffixes of what SQLite keeps beside a database in WAL mode.
const BESIDE: [&str; 2] = ["-wal", "-shm"];

impl File {
    pub(super) async fn open(options: SqliteOptions) -> Result<Self> {
        let given = options.path.clone().unwrap_or_default();
        // Absolute, so that neither a change of directory nor a name that looks like a URI leads elsewhere.
        let path = std::path::absolute(&given).map_err(|e| {
            Error::new(ErrorKind::Configuration, format!("{} is no path", given.display())).with_source(e)
        })?;
        match std::fs::metadata(&path) {
            Ok(found) if found.is_dir() => {
                return Err(Error::new(
                    ErrorKind::Configuration,
                    format!("{} is a directory: DATABASE_URL must name a database file", path.display()),
                ));
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound && !options.create_if_missing => {
                return Err(Error::new(
                    ErrorKind::Configuration,
                    format!(
                        "the database file {} does not exist: run `cloakroom migrate` to create it, or correct DATABASE_URL",
                        path.display()
                    ),
                )
                .with_source(e));
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound && !path.parent().is_some_and(Path::is_dir) => {
                return Err(Error::new(
                    ErrorKind::Configuration,
                    format!("cannot create the database file {}: its directory does not exist", path.display()),
                )
                .with_source(e));
            }
            _ => {}
        }
        let opened = open_file(&path, &options).await?;
        // Once made, a file that disappears is never silently made again: its sessions would all be gone.
        let options = options.create_if_missing(false);
        Ok(Self { path, options, opened: RwLock::new(Arc::new(opened)), reopening: Mutex::new(()) })
    }

    pub(super) fn name(&self) -> String {
        name(&self.path)
    }

    /// The pools, on the file to which the path leads now.
    pub(super) async fn pools(&self) -> Result<Pools<sqlx::Sqlite>> {
        Ok(self.opened().await?.pools.clone())
    }

    /// Changes rows of the file to which the path leads now, for the number of rows that match.
    pub(super) async fn write(&self, doing: &'static str, sql: &'static str, values: Vec<Value>) -> Result<u64> {
        let opened = self.opened().await?;
        opened.writer.change(sql, values).await.map_err(|e| failure::of_rusqlite(doing, &self.name(), e))
    }

    /// Reads on this thread, on the file to which the path leads now. `None` says that this cannot be done, for whatever
    /// reason: the same statement through the pools tells it.
    pub(super) fn glance<T>(&self, read: impl FnOnce(&Glances) -> Option<T>) -> Option<T> {
        read(&self.current().ok()??.glances)
    }

    async fn opened(&self) -> Result<Arc<Opened>> {
        match self.current()? {
            Some(opened) => Ok(opened),
            // In a box: an operation does not carry along what is hardly ever needed.
            None => Box::pin(self.reopen()).await,
        }
    }

    async fn reopen(&self) -> Result<Arc<Opened>> {
        let _reopening = self.reopening.lock().await;
        if let Some(opened) = self.current()? {
            return Ok(opened);
        }
        tracing::warn!(path = %self.path.display(), "the database file was replaced by another: opening that one");
        let left_behind = self.opened.read().unwrap_or_else(PoisonError::into_inner).beside;
        set_aside(&self.path, &left_behind)?;
        let opened = Arc::new(open_file(&self.path, &self.options).await?);
        *self.opened.write().unwrap_or_else(PoisonError::into_inner) = opened.clone();
        Ok(opened)
    }

    /// The turn to sweep among the processes of this machine, which are all that can use the file. SQLite's own locks
    /// are the file's, and none of them would leave the site its writes.
    pub(super) fn turn(&self) -> Result<Option<Box<dyn Turn>>> {
        turn_in(self.path.parent().unwrap_or(Path::new("."))).map_err(|e| {
            let what = format!("the directory of {} cannot be locked to sweep", self.name());
            Error::new(ErrorKind::Unavailable, what).with_source(e)
        })
    }

    /// What is open, unless that is another file than the path leads to.
    fn current(&self) -> Result<Option<Arc<Opened>>> {
        let found = identity(&self.path).map_err(|e| {
            let what = if e.kind() == io::ErrorKind::NotFound { "is gone" } else { "cannot be looked at" };
            Error::new(ErrorKind::Unavailable, format!("{} {what}: nothing can be stored", self.name())).with_source(e)
        })?;
        let opened = self.opened.read().unwrap_or_else(PoisonError::into_inner);
        Ok((opened.file == found).then(|| opened.clone()))
    }
}

async fn open_file(path: &Path, options: &SqliteOptions) -> Result<Opened> {
    const DOING: &str = "open the database";
    let failed = |e| failure::of_sqlx(DOING, &name(path), e);
    let base = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(options.create_if_missing)
        .read_only(options.read_only)
        .busy_timeout(options.busy_timeout);
    // A waiting task has the busy timeout of the task before it to wait out, and a little for its own turn.
    let patience = options.busy_timeout.max(Duration::from_secs(5)) + Duration::from_secs(1);
    let writer = pool_options(1).acquire_timeout(patience);
    let readers = pool_options(options.pool_size).acquire_timeout(patience);
    let writing = if options.read_only {
        base.clone()
    } else {
        base.clone().journal_mode(SqliteJournalMode::Wal).synchronous(match options.synchronous {
            Synchronous::Full => SqliteSynchronous::Full,
            Synchronous::Normal => SqliteSynchronous::Normal,
            Synchronous::Off => SqliteSynchronous::Off,
        })
    };
    // The writer first: it sets the journal mode, for which no other connection may be reading.
    let write = match connect(writer.clone(), writing.clone()).await {
        Ok(pool) => pool,
        // These pass, or concern writers alone: reading may work. Each operation says how it is then.
        Err(e) if matches!(primary_code(&e), Some(code::BUSY | code::LOCKED | code::READONLY | code::CANTOPEN)) => {
            let error = failed(e);
            tracing::warn!(%error, "the database cannot be written now");
            writer.connect_lazy_with(writing)
        }
        Err(e) => return Err(failed(e)),
    };
    let read = readers.connect_lazy_with(base.create_if_missing(false));
    let file = identity(path).map_err(|e| {
        Error::new(ErrorKind::Unavailable, format!("{} cannot be looked at", name(path))).with_source(e)
    })?;
    let beside = BESIDE.map(|suffix| identity(&with_suffix(path, suffix)).ok());
    Ok(Opened {
        file,
        beside,
        pools: Pools { read: Connections::of_our_own(read), write: Connections::of_our_own(write) },
        glances: Glances::new(path, options.read_only, options.pool_size),
        writer: start_writer(path, options)?,
    })
}

/// A connection without sqlx, which waits so long for other programs.
pub(super) fn connection(path: &Path, read_only: bool, busy_timeout: Duration) -> rusqlite::Result<Connection> {
    let access = if read_only { OpenFlags::SQLITE_OPEN_READ_ONLY } else { OpenFlags::SQLITE_OPEN_READ_WRITE };
    let connection = Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(busy_timeout)?;
    Ok(connection)
}

/// The one that writes, as that of the pool.
fn writing(path: &Path, options: &SqliteOptions) -> rusqlite::Result<Connection> {
    let connection = connection(path, options.read_only, options.busy_timeout)?;
    if !options.read_only {
        let synchronous = match options.synchronous {
            Synchronous::Full => "full",
            Synchronous::Normal => "normal",
            Synchronous::Off => "off",
        };
        connection.pragma_update(None, "journal_mode", "wal")?;
        connection.pragma_update(None, "synchronous", synchronous)?;
    }
    Ok(connection)
}

fn start_writer(path: &Path, options: &SqliteOptions) -> Result<Writer> {
    let (file, options) = (path.to_owned(), options.clone());
    Writer::start(move || writing(&file, &options)).map_err(|e| {
        let what = format!("no thread can be started that writes to {}", name(path));
        Error::new(ErrorKind::Unavailable, what).with_source(e)
    })
}

/// Opens a connection and makes it read the file, which SQLite puts off until it has to: that tells whether it is a
/// database, and makes the files beside it.
async fn connect(options: SqlitePoolOptions, file: SqliteConnectOptions) -> sqlx::Result<SqlitePool> {
    let pool = options.connect_with(file).await?;
    sqlx::query("SELECT 1 FROM sqlite_master LIMIT 1").fetch_optional(&pool).await?;
    Ok(pool)
}

/// Moves what SQLite kept beside the file that is no longer there out of the new file's way.
///
/// Changes that SQLite finds in a `-wal` file it applies to the database of that name: those of the old one would
/// damage the new one. Files that were not there when the old database was opened came with the new one, and stay.
fn set_aside(path: &Path, left_behind: &[Option<Identity>; 2]) -> Result<()> {
    for (suffix, left_behind) in BESIDE.iter().zip(left_behind) {
        let file = with_suffix(path, suffix);
        if left_behind.is_none() || identity(&file).ok() != *left_behind {
            continue;
        }
        let to = with_suffix(&file, ".replaced");
        tracing::warn!(from = %file.display(), to = %to.display(), "moving a file of the replaced database");
        std::fs::rename(&file, &to).map_err(|e| {
            let what = format!("{} belongs to a database that was replaced, and cannot be moved away", file.display());
            Error::new(ErrorKind::Unavailable, what).with_source(e)
        })?;
    }
    Ok(())
}

fn name(path: &Path) -> String {
    format!("the database file {}", path.display())
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// What makes a file the same file, whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity(u64, u64);

#[cfg(unix)]
fn identity(path: &Path) -> io::Result<Identity> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).map(|found| Identity(found.dev(), found.ino()))
}

/// Elsewhere an open file can neither be deleted nor replaced; that it is there is all there is to see.
#[cfg(not(unix))]
fn identity(path: &Path) -> io::Result<Identity> {
    std::fs::metadata(path).map(|_| Identity(0, 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sqlx::Row;

    /// What the documentation promises of each choice.
    #[tokio::test]
    async fn the_writer_is_in_wal_mode_and_as_synchronous_as_it_was_told() {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}?mode=rwc", directory.path().join("db.sqlite3").display());
        for (choice, number) in [("", 2), ("&synchronous=full", 2), ("&synchronous=normal", 1), ("&synchronous=off", 0)]
        {
            let options = SqliteOptions::from_url(&format!("{url}{choice}")).unwrap();
            let file = File::open(options.clone()).await.unwrap();
            let pools = file.pools().await.unwrap();
            let synchronous = sqlx::query("PRAGMA synchronous").fetch_one(pools.write.pool()).await.unwrap();
            assert_eq!(synchronous.get::<i64, _>(0), number, "{choice}");
            let mode = sqlx::query("PRAGMA journal_mode").fetch_one(pools.write.pool()).await.unwrap();
            assert_eq!(mode.get::<String, _>(0), "wal", "{choice}");
            let connection = writing(&file.path, &options).unwrap();
            assert_eq!(connection.pragma_query_value(None, "synchronous", |row| row.get::<_, i64>(0)).unwrap(), number);
            let mode: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
            assert_eq!(mode, "wal", "{choice}");
        }
    }
}
