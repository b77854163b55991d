//! Where a Redis server is, and how it is talked to.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use cloakroom_core::wire::cache_key::{CACHE_ENGINE, CacheKeys};
use cloakroom_core::{Error, ErrorKind, Result};
use redis::{
    Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion, RedisConnectionInfo,
    RedisError, TlsCertificates,
};

use crate::caches;

/// In which unit the server is told how long a session lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum TimeUnit {
    /// Whole seconds, a fraction cut off: what Django's own back end does.
    #[default]
    Seconds,
    /// Whole milliseconds: what django-redis does.
    Milliseconds,
}

/// How much of a server's certificate is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verify {
    /// That a known authority signed it, for this host.
    All,
    /// That a known authority signed it.
    AnyHost,
    /// Nothing.
    Nothing,
}

/// Where the server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Tcp { host: String, port: u16, tls: bool },
    Unix(PathBuf),
}

/// Where a Redis server is, and how [`RedisStore::open`](crate::RedisStore::open) talks to it.
#[derive(Clone)]
pub struct RedisOptions {
    pub(crate) place: Place,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) database: i64,
    pub(crate) keys: CacheKeys,
    pub(crate) unit: TimeUnit,
    pub(crate) connect_timeout: Duration,
    pub(crate) response_timeout: Duration,
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) certificate: Option<PathBuf>,
    pub(crate) private_key: Option<PathBuf>,
    pub(crate) verify: Verify,
    pub(crate) sentinels: Vec<Place>,
    pub(crate) sentinel_username: Option<String>,
    pub(crate) sentinel_password: Option<String>,
    pub(crate) sentinel_tls: bool,
    pub(crate) protocol: ProtocolVersion,
    /// In bytes; none if zero.
    pub(crate) near_cache: usize,
    pub(crate) near_cache_staleness: Duration,
}

impl std::fmt::Debug for RedisOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the password.
        f.debug_struct("RedisOptions")
            .field("address", &self.address())
            .field("database", &self.database)
            .field("prefix", &self.keys.prefix())
            .field("unit", &self.unit)
            .field("connect_timeout", &self.connect_timeout)
            .field("response_timeout", &self.response_timeout)
            .finish_non_exhaustive()
    }
}

const DEFAULT_PORT: u16 = 6379;
pub(crate) const SENTINEL_PORT: u16 = 26379;
/// Long enough for a server that forks to save its data, short enough for a visitor who waits.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long a near cache goes by what it heard last.
pub(crate) const STALENESS: Duration = Duration::from_secs(1);

const URL_HINT: &str = "write redis://HOST:6379/0, rediss://HOST:6379/0 for TLS, or unix:///PATH/OF/SOCKET?db=0; user and \
                        password stand before the host, as in redis://USER:PASSWORD@HOST:6379/0, and characters such as \
                        `/`, `#` and `?` in them are percent-encoded";

impl RedisOptions {
    /// The server that a URL names, with keys and times as Django's back end has them under default settings.
    ///
    /// | URL | server |
    /// |---|---|
    /// | `redis://USER:PASSWORD@HOST:PORT/DB` | over TCP; all but the host may be left out |
    /// | `rediss://…` | the same over TLS |
    /// | `unix://USER:PASSWORD@/PATH?db=DB` | a socket in the file system |
    ///
    /// `valkey://`, `valkeys://` and `redis+unix://` mean the same. What Python's client takes as parameters after
    /// `?` is taken here: `db`, `username`, `password`, `socket_timeout`, `socket_connect_timeout`, `ssl_ca_certs`,
    /// `ssl_certfile`, `ssl_keyfile`, `ssl_cert_reqs`, `ssl_check_hostname`.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] that says what is wrong and what is right. It does not show the URL, which may hold
    /// a password.
    pub fn from_url(url: &str) -> Result<Self> {
        let mut options = Self::nowhere();
        options.read_url(url)?;
        Ok(options)
    }

    /// What holds unless it is said otherwise; the place is still to come.
    pub(crate) fn nowhere() -> Self {
        Self {
            place: Place::Unix(PathBuf::new()),
            username: None,
            password: None,
            database: 0,
            keys: CacheKeys::new("", 1, CACHE_ENGINE),
            unit: TimeUnit::Seconds,
            connect_timeout: PATIENCE,
            response_timeout: PATIENCE,
            ca_file: None,
            certificate: None,
            private_key: None,
            verify: Verify::All,
            sentinels: Vec::new(),
            sentinel_username: None,
            sentinel_password: None,
            sentinel_tls: false,
            protocol: ProtocolVersion::RESP2,
            near_cache: 0,
            near_cache_staleness: STALENESS,
        }
    }

    /// Takes what a URL says, and leaves what it does not mention.
    pub(crate) fn read_url(&mut self, url: &str) -> Result<()> {
        let (scheme, rest) =
            url.split_once("://").ok_or_else(|| wrong(format!("the location is no URL; {URL_HINT}")))?;
        let (rest, _fragment) = rest.split_once('#').unwrap_or((rest, ""));
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (login, host) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (username, password) = login.split_once(':').unwrap_or((login, ""));
        let path = decode(path)?;
        self.place = match scheme {
            "redis" | "valkey" | "rediss" | "valkeys" => {
                let number = path.trim_matches('/');
                if !number.is_empty() {
                    self.database = number.parse().map_err(|_| {
                        wrong(format!("what follows the host in the URL is no database number; {URL_HINT}"))
                    })?;
                }
                let (host, port) = host_and_port(host, DEFAULT_PORT)?;
                Place::Tcp { host, port, tls: matches!(scheme, "rediss" | "valkeys") }
            }
            "unix" | "redis+unix" | "valkey+unix" if path.is_empty() => {
                return Err(wrong(format!("the URL names no socket; {URL_HINT}")));
            }
            "unix" | "redis+unix" | "valkey+unix" => Place::Unix(path.into()),
            other => return Err(wrong(format!("there is no {other:?} server here; {URL_HINT}"))),
        };
        if !username.is_empty() {
            self.username = Some(decode(username)?);
        }
        if !password.is_empty() {
            self.password = Some(decode(password)?);
        }
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode(name)?;
            if caches::is_of_the_codec(&name) {
                return Err(wrong(format!("`{name}` has no place in a URL: write it into OPTIONS of the cache")));
            }
            self.set(&name, &decode(&value.replace('+', " "))?.into())?;
        }
        Ok(())
    }

    /// The names under which sessions stand, `KEY_PREFIX:VERSION:ENGINE` and the session key.
    #[must_use]
    pub fn keys(mut self, keys: CacheKeys) -> Self {
        self.keys = keys;
        self
    }

    /// The unit in which the server is told how long a session lives.
    #[must_use]
    pub fn time_unit(mut self, unit: TimeUnit) -> Self {
        self.unit = unit;
        self
    }

    /// The user.
    #[must_use]
    pub fn username(mut self, username: impl Into<String>) -> Self {
        self.username = Some(username.into());
        self
    }

    /// The password.
    #[must_use]
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// The number of the database.
    #[must_use]
    pub fn database(mut self, number: u32) -> Self {
        self.database = number.into();
        self
    }

    /// How long to wait for a connection, with TLS, login and all. One second unless set.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long to wait for an answer. One second unless set.
    #[must_use]
    pub fn response_timeout(mut self, timeout: Duration) -> Self {
        self.response_timeout = timeout;
        self
    }

    /// The authority that signed the server's certificate, in PEM. Unless set, those that the system knows.
    #[must_use]
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.ca_file = Some(path.into());
        self
    }

    /// Our own certificate and its private key, in PEM, for servers that want one.
    #[must_use]
    pub fn client_certificate(mut self, certificate: impl Into<PathBuf>, private_key: impl Into<PathBuf>) -> Self {
        self.certificate = Some(certificate.into());
        self.private_key = Some(private_key.into());
        self
    }

    /// Sentinels, as `HOST:PORT`, that are asked which server is the primary of the service: its name stands in the
    /// URL in the place of a host. They are asked anew for every connection.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] if one of them is not written so.
    pub fn sentinels(mut self, sentinels: impl IntoIterator<Item: AsRef<str>>) -> Result<Self> {
        for sentinel in sentinels {
            let (host, port) = host_and_port(sentinel.as_ref(), SENTINEL_PORT)?;
            self.sentinels.push(Place::Tcp { host, port, tls: false });
        }
        Ok(self)
    }

    /// The user and the password of the sentinels, where they want them.
    #[must_use]
    pub fn sentinel_login(mut self, username: Option<String>, password: Option<String>) -> Self {
        self.sentinel_username = username;
        self.sentinel_password = password;
        self
    }

    /// Keeps sessions that were read in up to so many bytes of this process, and serves them from there until the server
    /// says that they changed. Off unless set.
    ///
    /// What is served stood on the server no longer than `staleness` ago, even if the connection hangs; while it works,
    /// no longer than a message takes. What this process changes, it sees at once. A save is a compare-and-swap on the
    /// server, as ever: it merges with what others have stored. A second is a good staleness: the server is asked at
    /// least twice in that time, as long as there are requests.
    ///
    /// It takes Redis 6 or Valkey, and a user who is allowed `CLIENT TRACKING`, `CLIENT CACHING` and `PTTL`. Elsewhere it
    /// stays empty, with one warning in the log.
    #[must_use]
    pub fn near_cache(mut self, bytes: usize, staleness: Duration) -> Self {
        self.near_cache = bytes;
        self.near_cache_staleness = staleness;
        self
    }

    /// `HOST:PORT`, the path of the socket, or the name of the service: no login.
    pub(crate) fn address(&self) -> String {
        match &self.place {
            Place::Tcp { host, .. } if !self.sentinels.is_empty() => format!("{host} (by Sentinel)"),
            Place::Tcp { host, port, .. } if host.contains(':') => format!("[{host}]:{port}"),
            Place::Tcp { host, port, .. } => format!("{host}:{port}"),
            Place::Unix(path) => path.display().to_string(),
        }
    }

    /// The name of the service that the sentinels watch over.
    pub(crate) fn service(&self) -> Result<&str> {
        match &self.place {
            Place::Tcp { host, .. } => Ok(host),
            Place::Unix(_) => Err(wrong(
                "SENTINELS are given, so LOCATION has to be redis://NAME/DB, with the name of the service that they watch",
            )),
        }
    }

    /// The options for a server of the service.
    pub(crate) fn for_server(&self, host: String, port: u16) -> Self {
        let tls = matches!(self.place, Place::Tcp { tls: true, .. });
        Self { place: Place::Tcp { host, port, tls }, sentinels: Vec::new(), ..self.clone() }
    }

    /// The options for each sentinel.
    pub(crate) fn for_sentinels(&self) -> impl Iterator<Item = Self> {
        self.sentinels.iter().filter_map(|place| match place {
            Place::Tcp { host, port, .. } => Some(Self {
                place: Place::Tcp { host: host.clone(), port: *port, tls: self.sentinel_tls },
                username: self.sentinel_username.clone(),
                password: self.sentinel_password.clone(),
                database: 0,
                sentinels: Vec::new(),
                protocol: ProtocolVersion::RESP2,
                ..self.clone()
            }),
            Place::Unix(_) => None,
        })
    }

    /// The driver's client, which connects later.
    pub(crate) fn client(&self) -> Result<Client> {
        let mut login =
            RedisConnectionInfo::default().set_db(self.database).set_lib_name("cloakroom", env!("CARGO_PKG_VERSION"));
        login = login.set_protocol(self.protocol);
        if let Some(username) = &self.username {
            login = login.set_username(username);
        }
        if let Some(password) = &self.password {
            login = login.set_password(password);
        }
        let place = match &self.place {
            Place::Unix(path) => ConnectionAddr::Unix(path.clone()),
            Place::Tcp { host, port, tls: false } => ConnectionAddr::Tcp(host.clone(), *port),
            Place::Tcp { host, port, tls: true } => {
                let insecure = self.verify == Verify::Nothing;
                ConnectionAddr::TcpTls { host: host.clone(), port: *port, insecure, tls_params: None }
            }
        };
        let refused = |error: RedisError| wrong("the driver refuses the location").with_source(error);
        let info = place.into_connection_info().map_err(refused)?.set_redis_settings(login);
        match self.place {
            Place::Tcp { tls: true, .. } => self.tls_client(info),
            _ => Client::open(info).map_err(refused),
        }
    }

    fn tls_client(&self, info: ConnectionInfo) -> Result<Client> {
        provide_cryptography();
        let client_tls = match (&self.certificate, &self.private_key) {
            (None, None) => None,
            (Some(certificate), key) => Some(ClientTlsConfig {
                client_cert: read(certificate, "ssl_certfile", CERTIFICATE)?,
                // As in Python, one file may hold both.
                client_key: read(key.as_ref().unwrap_or(certificate), "ssl_keyfile", PRIVATE_KEY)?,
            }),
            (None, Some(_)) => return Err(wrong("`ssl_keyfile` is the key of a certificate: give `ssl_certfile` too")),
        };
        let root_cert = self.ca_file.as_ref().map(|path| read(path, "ssl_ca_certs", CERTIFICATE)).transpose()?;
        let bad = |error: RedisError| {
            wrong("the certificates of `ssl_ca_certs`, `ssl_certfile` and `ssl_keyfile` are not in the PEM format")
                .with_source(error)
        };
        let client = Client::build_with_tls(info, TlsCertificates { client_tls, root_cert }).map_err(bad)?;
        if self.verify != Verify::AnyHost {
            return Ok(client);
        }
        let info = client.get_connection_info().clone();
        let mut place = info.addr().clone();
        place.set_danger_accept_invalid_hostnames(true);
        Client::open(info.set_addr(place)).map_err(bad)
    }
}

/// The driver takes the process's default cryptography, and panics if there is none.
fn provide_cryptography() {
    static PROVIDED: OnceLock<()> = OnceLock::new();
    PROVIDED.get_or_init(|| {
        // An application that has chosen another one before keeps it.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

const CERTIFICATE: &str = "CERTIFICATE-----";
const PRIVATE_KEY: &str = "PRIVATE KEY-----";

/// The content of a PEM file. The driver would pass over one in which nothing of the kind stands.
fn read(path: &std::path::Path, option: &str, kind: &str) -> Result<Vec<u8>> {
    let content = std::fs::read(path).map_err(|error| {
        wrong(format!("`{option}` is {}, which cannot be read: {error}", path.display())).with_source(error)
    })?;
    let begins = |line: &[u8]| line.starts_with(b"-----BEGIN ") && line.trim_ascii_end().ends_with(kind.as_bytes());
    if !content.split(|&byte| byte == b'\n').any(begins) {
        return Err(wrong(format!(
            "`{option}` is {}, in which nothing ends with {kind}: it has to be in the PEM format",
            path.display()
        )));
    }
    Ok(content)
}

pub(crate) fn host_and_port(text: &str, default: u16) -> Result<(String, u16)> {
    let bad = || wrong(format!("the URL has no host, or a port that is none; {URL_HINT}"));
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) => (host, port.strip_prefix(':').unwrap_or(port)),
        None => text.rsplit_once(':').unwrap_or((text, "")),
    };
    let port = if port.is_empty() { default } else { port.parse().map_err(|_| bad())? };
    let host = decode(host)?;
    if host.contains(':') && !text.starts_with('[') {
        return Err(bad());
    }
    // Python's client takes a missing host for this machine.
    Ok((if host.is_empty() { "localhost".into() } else { host }, port))
}

/// Percent sequences to what they stand for.
fn decode(text: &str) -> Result<String> {
    let bad = || wrong(format!("the URL has a broken % sequence; {URL_HINT}"));
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        if first != b'%' {
            bytes.push(first);
            rest = after;
            continue;
        }
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok()).ok_or_else(bad)?;
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| bad())?);
        rest = &after[2..];
    }
    String::from_utf8(bytes).map_err(|_| bad())
}

pub(crate) fn wrong(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Configuration, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> RedisOptions {
        RedisOptions::from_url(url).unwrap_or_else(|error| panic!("{url}: {error}"))
    }

    fn tcp(host: &str, port: u16, tls: bool) -> Place {
        Place::Tcp { host: host.into(), port, tls }
    }

    #[test]
    fn urls_as_pythons_client_reads_them() {
        let options = read("redis://me:p%40ss%2Fw@cache.example.org:6380/3");
        assert_eq!(options.place, tcp("cache.example.org", 6380, false));
        assert_eq!((options.username.as_deref(), options.password.as_deref()), (Some("me"), Some("p@ss/w")));
        assert_eq!((options.database, options.address()), (3, "cache.example.org:6380".into()));
        assert_eq!(read("rediss://h").place, tcp("h", 6379, true));
        assert_eq!(read("valkeys://h:1/").place, tcp("h", 1, true));
        assert_eq!(read("redis://").place, tcp("localhost", 6379, false));
        let options = read("redis://[::1]:7000");
        assert_eq!((options.place.clone(), options.address()), (tcp("::1", 7000, false), "[::1]:7000".into()));
        assert_eq!(read("redis://:pw@h").password.as_deref(), Some("pw"));
        assert_eq!(read("redis://:pw@h").username, None);
        assert_eq!(read("redis://a@b:c@h").password.as_deref(), Some("c"), "the last @ ends the login");

        let options = read("unix://me:pw@/run/redis.sock?db=4");
        assert_eq!(options.place, Place::Unix("/run/redis.sock".into()));
        assert_eq!((options.username.as_deref(), options.database), (Some("me"), 4));
        assert_eq!(read("unix:///run/a%20b").address(), "/run/a b");

        let options = read("redis://h/1?db=2&socket_timeout=0.25&socket_connect_timeout=3&password=a%2Bb+c");
        assert_eq!(options.database, 2, "the parameter wins");
        assert_eq!(
            (options.response_timeout, options.connect_timeout),
            (Duration::from_millis(250), Duration::from_secs(3))
        );
        assert_eq!(options.password.as_deref(), Some("a+b c"));
    }

    #[test]
    fn wrong_urls_are_told_without_the_password() {
        for bad in [
            "h:6379",
            "http://h",
            "redis://h:port",
            "redis://h:99999",
            "redis://::1",
            "redis://h/name",
            "redis://h/-1x",
            "unix://",
            "redis://:hunter2@h/%zz",
            "redis://:hunter2@h/?db=x",
            "redis://:hunter2@h/?socket_timeout=0",
            "redis://:hunter2@h/?socket_timout=1",
            "redis://:hunter2@h/?SERIALIZER=json",
            "redis://:%ff@h",
        ] {
            let error = RedisOptions::from_url(bad).expect_err(bad);
            assert_eq!(error.kind(), ErrorKind::Configuration, "{bad}");
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        }
        assert!(!format!("{:?}", read("redis://me:hunter2@h")).contains("hunter2"));
    }
}
