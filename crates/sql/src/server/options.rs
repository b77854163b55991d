//! Where a database on a server is, and how it is reached.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use cloakroom_core::wire::expiry::TimeZone;
use cloakroom_core::{Error, ErrorKind, Result};

use crate::url::{Url, percent_decode};

/// How a connection is encrypted; the names are PostgreSQL's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum SslMode {
    /// Not at all.
    Disable,
    /// If the server can; whose server it is is not looked at. The default, as in Django's drivers.
    #[default]
    Prefer,
    /// Or not at all; whose server it is is not looked at, unless a root certificate is given.
    Require,
    /// And the server's certificate has to come from an authority that we trust.
    VerifyCa,
    /// And the certificate has to name the host that was asked for.
    VerifyFull,
}

/// Where a database on a server is, and how [`PostgresStore::open`](crate::SqlStore) and
/// [`MySqlStore::open`](crate::SqlStore) reach it.
///
/// `Debug` shows neither password nor parameters.
#[derive(Clone)]
pub struct ServerOptions {
    /// `SCHEME://USER:PASSWORD@HOST:PORT/DATABASE`, with those parameters that are the driver's own.
    pub(crate) url: String,
    pub(crate) place: String,
    pub(crate) socket: Option<PathBuf>,
    pub(crate) ssl_mode: SslMode,
    pub(crate) ssl_root_cert: Option<PathBuf>,
    pub(crate) ssl_cert: Option<PathBuf>,
    pub(crate) ssl_key: Option<PathBuf>,
    pub(crate) pool_size: u32,
    pub(crate) acquire_timeout: Duration,
    pub(crate) statement_timeout: Option<Duration>,
    pub(crate) statement_cache: usize,
    pub(crate) zone: Option<TimeZone>,
    /// In bytes; none if zero.
    pub(crate) near_cache: usize,
    pub(crate) near_cache_staleness: Duration,
}

/// The longest that the server may take for a statement, if nothing else is said.
pub(super) const STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a near cache goes by what it heard last, if nothing else is said.
const STALENESS: Duration = Duration::from_secs(1);

/// A week. Servers count milliseconds in 31 bits.
const MAX_SECONDS: f64 = 604_800.0;

/// Parameters that PostgreSQL's driver reads itself.
const PASSED_ON: [&str; 7] = ["host", "port", "dbname", "user", "password", "application_name", "options"];

impl ServerOptions {
    /// Reads a `DATABASE_URL`: `postgres://user:password@host:5432/database` (also `postgresql`, `pgsql`), or
    /// `mysql://user:password@host:3306/database` (also `mariadb`).
    ///
    /// Characters of user, password and database other than letters and digits may be percent-encoded; `@ : / ? # %`
    /// must be. Options follow after `?`, joined by `&`:
    ///
    /// | option | meaning |
    /// |---|---|
    /// | `sslmode=prefer` | [`SslMode`]: `disable`, `prefer`, `require`, `verify-ca` or `verify-full` |
    /// | `sslrootcert=/path` | a PEM file with the authority that signs the server's certificate; those that browsers trust are known. With `require` it means `verify-ca`. |
    /// | `sslcert=/path`, `sslkey=/path` | PEM files with a certificate and key of our own |
    /// | `socket=/path` | MySQL and MariaDB: the server's socket. PostgreSQL: `host=/directory` with its sockets |
    /// | `pool=10` | number of connections at most |
    /// | `acquire_timeout=5` | seconds to wait for a connection, be it for a free one or for a new one, before an operation fails as [`Unavailable`](ErrorKind::Unavailable); `connect_timeout` is another name for it |
    /// | `statement_timeout=5` | seconds that the server gives a statement; a second later we give up the connection too. 0 is no limit. |
    /// | `statement_cache=100` | prepared statements for each connection; 0 for a PgBouncer in transaction mode, together with `statement_timeout=0` |
    /// | `near_cache_megabytes=64` | PostgreSQL: how much memory the [near cache](Self::near_cache) may take; 0, the default, is none |
    /// | `near_cache_seconds=1` | how old at most is what it serves |
    /// | `application_name`, `options`, `host`, `port`, `user`, `password`, `dbname` | PostgreSQL: as its own programs understand them |
    ///
    /// Seconds may have fractions. The environment variables and the password file of PostgreSQL's own programs
    /// (`PGPASSWORD`, `~/.pgpass`) fill in what the URL leaves out.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] that says what is wrong and what is right, and shows no password.
    pub fn from_url(url: &str) -> Result<Self> {
        let url = Url::split(url);
        let scheme = match url.scheme {
            "postgres" | "postgresql" | "pgsql" if cfg!(feature = "postgres") => "postgres",
            "mysql" | "mariadb" if cfg!(feature = "mysql") => "mysql",
            other => {
                return Err(wrong(format!(
                    "DATABASE_URL: there is no server to reach with the scheme {other:?}; known are {SCHEMES}"
                )));
            }
        };
        let rest = url.rest.strip_prefix("//").ok_or_else(|| {
            wrong(format!("DATABASE_URL: after {}: come two slashes, as in {}", url.scheme, example(scheme)))
        })?;
        if url.parameters().any(|(name, value)| name.contains('@') || value.contains('@')) && !rest.contains('@') {
            // Not told what it is: these are the pieces of a password.
            return Err(unreadable(scheme));
        }
        let mut options = Self {
            url: format!("{scheme}://{rest}"),
            place: place(scheme, rest),
            socket: None,
            ssl_mode: SslMode::default(),
            ssl_root_cert: None,
            ssl_cert: None,
            ssl_key: None,
            pool_size: 10,
            acquire_timeout: Duration::from_secs(5),
            statement_timeout: Some(STATEMENT_TIMEOUT),
            statement_cache: 100,
            zone: None,
            near_cache: 0,
            near_cache_staleness: STALENESS,
        };
        let mut passed_on = Vec::new();
        for (name, raw) in url.parameters() {
            let bad = |right: &str| wrong(format!("DATABASE_URL has {name}={raw}; write {name}={right}"));
            let value = percent_decode(raw).ok_or_else(|| bad("… with % written as %25"))?;
            let seconds = || {
                let seconds = value.parse().ok().filter(|seconds| (0.0..=MAX_SECONDS).contains(seconds));
                seconds.map(Duration::from_secs_f64).ok_or_else(|| bad("5, a number of seconds, at most a week"))
            };
            match name {
                "sslmode" | "ssl-mode" => {
                    let modes = "disable, prefer, require, verify-ca or verify-full";
                    options.ssl_mode = SslMode::parse(&value).ok_or_else(|| bad(modes))?;
                }
                "sslrootcert" | "ssl-ca" => options.ssl_root_cert = Some(value.into()),
                "sslcert" | "ssl-cert" => options.ssl_cert = Some(value.into()),
                "sslkey" | "ssl-key" => options.ssl_key = Some(value.into()),
                "socket" if scheme == "mysql" => options.socket = Some(value.into()),
                "pool" => {
                    let size = value.parse().ok().filter(|size| (1..=10_000).contains(size));
                    options.pool_size = size.ok_or_else(|| bad("10, a number of connections from 1 to 10000"))?;
                }
                "acquire_timeout" | "connect_timeout" => {
                    options.acquire_timeout = seconds()?;
                    if options.acquire_timeout.is_zero() {
                        return Err(bad("5, a number of seconds"));
                    }
                }
                "statement_timeout" => options.statement_timeout = Some(seconds()?).filter(|t| !t.is_zero()),
                "statement_cache" => {
                    options.statement_cache = value.parse().map_err(|_| bad("100, a number of statements"))?;
                }
                "near_cache_megabytes" | "near_cache_seconds" if scheme != "postgres" => {
                    return Err(no_near_cache(name));
                }
                "near_cache_megabytes" => {
                    let bytes = value.parse::<usize>().ok().and_then(|megabytes| megabytes.checked_mul(1 << 20));
                    options.near_cache = bytes.ok_or_else(|| bad("64, a whole number, or 0 for none"))?;
                }
                "near_cache_seconds" => {
                    options.near_cache_staleness = seconds()?;
                    if options.near_cache_staleness.is_zero() {
                        return Err(bad("1, a number of seconds"));
                    }
                }
                _ if scheme == "postgres" && PASSED_ON.contains(&name) => passed_on.push(format!("{name}={raw}")),
                _ => {
                    let own = match scheme {
                        "mysql" => "socket",
                        _ => "near_cache_megabytes, near_cache_seconds, application_name, options, host, port, dbname",
                    };
                    return Err(wrong(format!(
                        "DATABASE_URL has an unknown option {name:?}; known are sslmode, sslrootcert, sslcert, sslkey, \
                         pool, acquire_timeout, statement_timeout, statement_cache, {own}"
                    )));
                }
            }
        }
        if !passed_on.is_empty() {
            options.url = format!("{}?{}", options.url, passed_on.join("&"));
        }
        if options.ssl_mode == SslMode::Require && options.ssl_root_cert.is_some() {
            options.ssl_mode = SslMode::VerifyCa;
        }
        Ok(options)
    }

    /// How the connection is encrypted.
    #[must_use]
    pub fn ssl_mode(mut self, mode: SslMode) -> Self {
        self.ssl_mode = mode;
        self
    }

    /// How many connections there are at most; 10 by default.
    ///
    /// # Panics
    /// If it is 0.
    #[must_use]
    pub fn pool_size(mut self, connections: u32) -> Self {
        assert!(connections > 0, "a pool has at least one connection");
        self.pool_size = connections;
        self
    }

    /// How long an operation waits for a connection, free or new, before it fails as unavailable; 5 seconds by default.
    #[must_use]
    pub fn acquire_timeout(mut self, timeout: Duration) -> Self {
        self.acquire_timeout = timeout;
        self
    }

    /// How long a statement may take; 5 seconds by default. `None` is no limit: then a server that falls silent holds
    /// requests up as long as it likes.
    #[must_use]
    pub fn statement_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.statement_timeout = timeout;
        self
    }

    /// MySQL and MariaDB: dates as local time of `zone`, as a Django with `USE_TZ = False` and that `TIME_ZONE` stores
    /// them. `None`, the default, is UTC, as a Django with `USE_TZ = True` stores them. PostgreSQL stores moments, and
    /// needs no zone.
    #[must_use]
    pub fn time_zone(mut self, zone: Option<TimeZone>) -> Self {
        self.zone = zone;
        self
    }

    /// PostgreSQL: keeps sessions that were read in up to so many bytes of this process, and serves them from there until
    /// the server tells that they changed. Off unless set.
    ///
    /// What is served stood in the database no longer than `staleness` ago, even if the connection hangs; while it works,
    /// no longer than a message takes. What this process changes, it sees at once. A save is a compare-and-swap in the
    /// database, as ever: it merges with what others have stored. A second is a good staleness: the server is asked at
    /// least twice in that time, as long as there are requests, by one small statement.
    ///
    /// It takes the [trigger](crate::NearCacheTrigger), which `cloakroom migrate --near-cache` installs, one more connection,
    /// which listens, and a URL that leads to the server itself. Elsewhere it stays empty, with one warning in the log.
    ///
    /// It is none for the database behind a [`CachedStore`](cloakroom_core::engine::cached::CachedStore): what is read from
    /// there goes into a cache that others share, and would be believed for longer.
    #[must_use]
    pub fn near_cache(mut self, bytes: usize, staleness: Duration) -> Self {
        self.near_cache = bytes;
        self.near_cache_staleness = staleness;
        self
    }

    /// The URL for the driver.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`], of a URL that it cannot read. The driver's own message may quote the URL.
    pub(crate) fn parse<T: FromStr>(&self, scheme: &'static str) -> Result<T> {
        let wrong_kind = || wrong(format!("DATABASE_URL is not one of {scheme}; write {}", example(scheme)));
        if !self.url.starts_with(&format!("{scheme}:")) {
            return Err(wrong_kind());
        }
        self.url.parse().map_err(|_| unreadable(scheme))
    }
}

impl fmt::Debug for ServerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerOptions")
            .field("place", &self.place)
            .field("ssl_mode", &self.ssl_mode)
            .field("pool_size", &self.pool_size)
            .field("acquire_timeout", &self.acquire_timeout)
            .field("statement_timeout", &self.statement_timeout)
            .finish_non_exhaustive()
    }
}

impl FromStr for ServerOptions {
    type Err = Error;

    fn from_str(url: &str) -> Result<Self> {
        Self::from_url(url)
    }
}

impl SslMode {
    /// The mode of a name, PostgreSQL's or MySQL's.
    fn parse(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "disable" | "disabled" => Self::Disable,
            "prefer" | "preferred" => Self::Prefer,
            "require" | "required" => Self::Require,
            "verify-ca" | "verify_ca" => Self::VerifyCa,
            "verify-full" | "verify_identity" => Self::VerifyFull,
            _ => return None,
        })
    }
}

#[cfg(all(feature = "postgres", feature = "mysql"))]
const SCHEMES: &str = "postgres and mysql";
#[cfg(all(feature = "postgres", not(feature = "mysql")))]
const SCHEMES: &str = "postgres";
#[cfg(not(feature = "postgres"))]
const SCHEMES: &str = "mysql";

fn example(scheme: &str) -> String {
    let port = if scheme == "mysql" { 3306 } else { 5432 };
    format!("{scheme}://user:password@host:{port}/database")
}

/// The database as messages name it: without user and password.
fn place(scheme: &str, rest: &str) -> String {
    let name = if scheme == "mysql" { "the MySQL or MariaDB database" } else { "the PostgreSQL database" };
    let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    let (host, database) = rest.split_once('/').unwrap_or((rest, ""));
    let host = if host.is_empty() { "this machine" } else { host };
    if database.is_empty() { format!("{name} on {host}") } else { format!("{name} {database:?} on {host}") }
}

fn no_near_cache(option: &str) -> Error {
    wrong(format!(
        "DATABASE_URL has {option}, and MySQL and MariaDB have no near cache, since they tell nobody what changes: leave it \
         out, or use PostgreSQL"
    ))
}

fn unreadable(scheme: &str) -> Error {
    wrong(format!(
        "DATABASE_URL cannot be read; write {}, and in user, password and database %40 for @, %3A for :, %2F for /, \
         %3F for ?, %23 for #, %25 for %",
        example(scheme)
    ))
}

fn wrong(message: String) -> Error {
    Error::new(ErrorKind::Configuration, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEME: &str = if cfg!(feature = "postgres") { "postgres" } else { "mysql" };

    fn read(rest: &str) -> Result<ServerOptions> {
        ServerOptions::from_url(&format!("{SCHEME}://{rest}"))
    }

    #[test]
    fn defaults_are_safe() {
        let options = read("me:s3cret@db.example/site").unwrap();
        assert_eq!(options.pool_size, 10);
        assert_eq!(options.acquire_timeout, Duration::from_secs(5));
        assert_eq!(options.statement_timeout, Some(Duration::from_secs(5)));
        assert_eq!(options.ssl_mode, SslMode::Prefer);
        assert!(options.place.ends_with("database \"site\" on db.example"));
        assert!(!format!("{options:?}").contains("s3cret"));
    }

    #[test]
    fn urls_carry_options() {
        let url = "h/d?sslmode=verify-full&sslrootcert=/a%20b.pem&pool=3&connect_timeout=0.5&statement_timeout=0";
        let options = read(url).unwrap();
        assert_eq!(options.ssl_mode, SslMode::VerifyFull);
        assert_eq!(options.ssl_root_cert, Some("/a b.pem".into()));
        assert_eq!(options.pool_size, 3);
        assert_eq!(options.acquire_timeout, Duration::from_millis(500));
        assert_eq!(options.statement_timeout, None);
        assert_eq!(options.url, format!("{SCHEME}://h/d"));
        assert_eq!(read("h/d?sslmode=REQUIRED").unwrap().ssl_mode, SslMode::Require);
        assert_eq!(read("h/d?sslmode=require&sslrootcert=x").unwrap().ssl_mode, SslMode::VerifyCa);
    }

    #[cfg(feature = "postgres")]
    #[test]
    fn the_near_cache() {
        let near = |url| read(url).map(|options| (options.near_cache, options.near_cache_staleness));
        assert_eq!(near("h/d").unwrap().0, 0, "off unless asked for");
        assert_eq!(near("h/d?near_cache_megabytes=64").unwrap(), (64 << 20, Duration::from_secs(1)));
        let both = near("h/d?near_cache_megabytes=1&near_cache_seconds=0.5");
        assert_eq!(both.unwrap(), (1 << 20, Duration::from_millis(500)));
        for (url, part) in [
            ("h/d?near_cache_megabytes=many", "near_cache_megabytes=64"),
            ("h/d?near_cache_megabytes=18446744073709551615", "near_cache_megabytes=64"),
            ("h/d?near_cache_seconds=0", "near_cache_seconds=1"),
            ("h/d?near_cache_seconds=x", "number of seconds"),
        ] {
            let error = near(url).unwrap_err().to_string();
            assert!(error.contains(part), "{url}: {error}");
        }
    }

    #[cfg(feature = "mysql")]
    #[test]
    fn no_near_cache_where_nobody_is_told() {
        for option in ["near_cache_megabytes=64", "near_cache_seconds=1"] {
            let error = ServerOptions::from_url(&format!("mysql://h/d?{option}")).unwrap_err();
            assert!(error.to_string().contains("MySQL and MariaDB have no near cache"), "{error}");
        }
    }

    #[test]
    fn wrong_urls_are_told_without_their_passwords() {
        for (url, part) in [
            ("sqlite:///x", "known are"),
            (&*format!("{SCHEME}:h/d"), "two slashes"),
            (&*format!("{SCHEME}://h/d?pool=0"), "pool=10"),
            (&*format!("{SCHEME}://h/d?acquire_timeout=0"), "acquire_timeout=5"),
            (&*format!("{SCHEME}://h/d?statement_timeout=soon"), "statement_timeout=5"),
            (&*format!("{SCHEME}://h/d?sslmode=maybe"), "verify-full"),
            (&*format!("{SCHEME}://me:s3cret@h/d?colour=blue"), "unknown option \"colour\""),
            (&*format!("{SCHEME}://me:a?s3cret@h/d"), "%3F for ?"),
            (&*format!("{SCHEME}://me:a?s3cret=b@h/d"), "%3F for ?"),
        ] {
            let error = ServerOptions::from_url(url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Configuration);
            assert!(error.to_string().contains(part) && !error.to_string().contains("s3cret"), "{url}: {error}");
        }
    }
}
