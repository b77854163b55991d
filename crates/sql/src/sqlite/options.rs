//! Where an SQLite database is, and how it is opened.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use cloakroom_core::wire::expiry::TimeZone;
use cloakroom_core::{Error, ErrorKind, Result};

use crate::url::{Url, percent_decode};

/// When SQLite tells the disk to make sure: what of the acknowledged writes outlives a loss of power. All of them
/// outlive a killed process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Synchronous {
    /// After each write, before it is acknowledged: nothing acknowledged is lost. The default.
    #[default]
    Full,
    /// Now and then: a loss of power may undo the last writes, but damages nothing. Several times faster.
    Normal,
    /// Never: a loss of power may destroy the database. For throw-away databases.
    Off,
}

/// Where an SQLite database is, and how [`SqliteStore::open`](crate::SqliteStore) opens it.
#[derive(Clone, Debug)]
pub struct SqliteOptions {
    /// `None` is a database in memory.
    pub(super) path: Option<PathBuf>,
    pub(super) create_if_missing: bool,
    pub(super) read_only: bool,
    pub(super) synchronous: Synchronous,
    pub(super) busy_timeout: Duration,
    pub(super) pool_size: u32,
    pub(super) zone: Option<TimeZone>,
}

impl SqliteOptions {
    /// A database in a file. A relative path starts at the directory in which the process is when it opens the store.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: Some(path.into()), ..Self::in_memory() }
    }

    /// A database in memory, over one connection. It ends with the store.
    pub fn in_memory() -> Self {
        Self {
            path: None,
            create_if_missing: false,
            read_only: false,
            synchronous: Synchronous::Full,
            busy_timeout: Duration::from_secs(5),
            pool_size: 4,
            zone: None,
        }
    }

    /// Reads a `DATABASE_URL`.
    ///
    /// | URL | database |
    /// |---|---|
    /// | `sqlite:///srv/site/db.sqlite3` | the file `/srv/site/db.sqlite3` |
    /// | `sqlite://db.sqlite3`, `sqlite:db.sqlite3` | the file `db.sqlite3` in the working directory |
    /// | `sqlite::memory:`, `sqlite://:memory:` | in memory |
    ///
    /// Characters of the path may be percent-encoded; `%`, `?` and `&` must be. Options follow after `?`, joined
    /// by `&`:
    ///
    /// | option | meaning |
    /// |---|---|
    /// | `mode=rw`, `ro`, `rwc`, `memory` | open (the default), for reading only, create if missing, in memory |
    /// | `synchronous=full`, `normal`, `off` | [`Synchronous`] |
    /// | `busy_timeout=5` | seconds to wait for another writer; fractions are allowed |
    /// | `pool=4` | number of connections that read |
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] that says what is wrong and what is right.
    pub fn from_url(url: &str) -> Result<Self> {
        let parts = Url::split(url);
        if !matches!(parts.scheme, "sqlite" | "sqlite3") {
            // Not the whole URL: another database's may hold a password.
            let scheme = parts.scheme;
            return Err(wrong(format!("the URL {scheme:?}… is none of SQLite; write sqlite:///absolute/path.db")));
        }
        let path = parts.rest.strip_prefix("//").unwrap_or(parts.rest);
        let path = percent_decode(path).ok_or_else(|| wrong(format!("the URL {url:?} has a broken % sequence")))?;
        let mut options = match path.as_str() {
            "" => return Err(wrong(format!("the URL {url:?} names no file; write sqlite:///absolute/path.db"))),
            ":memory:" => Self::in_memory(),
            _ => Self::new(path),
        };
        for (name, value) in parts.parameters() {
            let bad = |right: &str| wrong(format!("the URL {url:?} has {name}={value}; write {name}={right}"));
            match (name, value) {
                ("mode", "rw") => {}
                ("mode", "ro") => options.read_only = true,
                ("mode", "rwc") => options.create_if_missing = true,
                ("mode", "memory") => options.path = None,
                ("mode", _) => return Err(bad("rw, ro, rwc or memory")),
                ("synchronous", "full") => options.synchronous = Synchronous::Full,
                ("synchronous", "normal") => options.synchronous = Synchronous::Normal,
                ("synchronous", "off") => options.synchronous = Synchronous::Off,
                ("synchronous", _) => return Err(bad("full, normal or off")),
                ("busy_timeout", _) => {
                    let seconds = value.parse().ok().filter(|s| (0.0..=MAX_BUSY_TIMEOUT).contains(s));
                    let seconds: f64 = seconds.ok_or_else(|| bad("5, a number of seconds, at most a day"))?;
                    options.busy_timeout = Duration::from_secs_f64(seconds);
                }
                ("pool", _) => {
                    let size = value.parse().ok().filter(|size| (1..=1_000).contains(size));
                    options.pool_size = size.ok_or_else(|| bad("4, a number of connections from 1 to 1000"))?;
                }
                ("near_cache_megabytes" | "near_cache_seconds", _) => {
                    return Err(wrong(format!(
                        "the URL {url:?} has {name}, and SQLite has no near cache, since it tells nobody what changes: \
                         leave it out, or use PostgreSQL"
                    )));
                }
                _ => {
                    return Err(wrong(format!(
                        "the URL {url:?} has an unknown option {name:?}; known are mode, synchronous, busy_timeout, pool"
                    )));
                }
            }
        }
        Ok(options)
    }

    /// The file's path as given; `None` for a database in memory.
    pub fn path(&self) -> Option<&std::path::Path> {
        self.path.as_deref()
    }

    /// Whether a missing file is made on opening. Off by default: a mistyped path should be an error, not a site
    /// whose sessions are all gone. `cloakroom migrate` switches it on.
    #[must_use]
    pub fn create_if_missing(mut self, create: bool) -> Self {
        self.create_if_missing = create;
        self
    }

    /// Whether the database is opened for reading only; saving then fails. Off by default.
    #[must_use]
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// What outlives a loss of power; [`Synchronous::Full`] by default.
    #[must_use]
    pub fn synchronous(mut self, synchronous: Synchronous) -> Self {
        self.synchronous = synchronous;
        self
    }

    /// How long to wait for another program that writes, before the database counts as unavailable; 5 s by default,
    /// as in Django. A day at most.
    #[must_use]
    pub fn busy_timeout(mut self, timeout: Duration) -> Self {
        self.busy_timeout = timeout.min(Duration::from_secs_f64(MAX_BUSY_TIMEOUT));
        self
    }

    /// The number of connections that read, each with a thread of its own; 4 by default, 1 at least. As many may be used
    /// on the threads that ask, and there is one more, which writes.
    #[must_use]
    pub fn pool_size(mut self, connections: u32) -> Self {
        self.pool_size = connections.max(1);
        self
    }

    /// Dates as local time, as with [`SqliteStore::with_time_zone`](crate::SqlStore::with_time_zone).
    #[must_use]
    pub fn time_zone(mut self, zone: Option<TimeZone>) -> Self {
        self.zone = zone;
        self
    }
}

impl FromStr for SqliteOptions {
    type Err = Error;

    fn from_str(url: &str) -> Result<Self> {
        Self::from_url(url)
    }
}

/// Seconds. SQLite counts milliseconds in 31 bits.
const MAX_BUSY_TIMEOUT: f64 = 86_400.0;

fn wrong(message: String) -> Error {
    Error::new(ErrorKind::Configuration, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_files() {
        for (url, path) in [
            ("sqlite:///srv/a%20b/db%3f.sqlite3", Some("/srv/a b/db?.sqlite3")),
            ("sqlite://db.sqlite3", Some("db.sqlite3")),
            ("sqlite:db.sqlite3", Some("db.sqlite3")),
            ("sqlite:sub/db.sqlite3?mode=rwc", Some("sub/db.sqlite3")),
            ("sqlite::memory:", None),
            ("sqlite://:memory:", None),
        ] {
            let options = SqliteOptions::from_url(url).unwrap();
            assert_eq!(options.path.as_deref(), path.map(std::path::Path::new), "{url}");
        }
    }

    #[test]
    fn urls_carry_options() {
        let options: SqliteOptions = "sqlite:x?synchronous=normal&busy_timeout=0.25&pool=7&mode=ro".parse().unwrap();
        assert_eq!(options.synchronous, Synchronous::Normal);
        assert_eq!(options.busy_timeout, Duration::from_millis(250));
        assert_eq!(options.pool_size, 7);
        assert!(options.read_only);
    }

    #[test]
    fn wrong_urls_are_told() {
        for (url, part) in [
            ("postgres://x", "sqlite:///absolute/path.db"),
            ("sqlite://", "names no file"),
            ("sqlite:a%2", "broken %"),
            ("sqlite:a%ff", "broken %"),
            ("sqlite:a?pool=0", "pool=4"),
            ("sqlite:a?busy_timeout=-1", "busy_timeout=5"),
            ("sqlite:a?busy_timeout=NaN", "busy_timeout=5"),
            ("sqlite:a?synchronous=maybe", "full, normal or off"),
            ("sqlite:a?timeout=3", "known are mode"),
            ("sqlite:a?near_cache_megabytes=64", "SQLite has no near cache"),
        ] {
            let error = SqliteOptions::from_url(url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Configuration);
            assert!(error.to_string().contains(part), "{url}: {error}");
        }
    }
}
