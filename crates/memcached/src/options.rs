//! Which servers, and how to talk to them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cloakroom_core::settings::{CacheBackend, CacheConfig, SettingValue};
use cloakroom_core::wire::pickle::Protocol;
use cloakroom_core::wire::session_data::Codec;
use cloakroom_core::{Error, ErrorKind, Result};

/// Options of pymemcache that change neither where nor how a session is stored.
const NO_MATTER_TO_PYMEMCACHE: &[&str] = &[
    "no_delay",
    "socket_keepalive",
    "pool_idle_timeout",
    "use_pooling",
    "retry_attempts",
    "retry_timeout",
    "dead_timeout",
    "ignore_exc",
    "allow_unicode_keys",
    "default_noreply",
    "encoding",
];
/// The same of pylibmc's behaviors, without the underscore that some begin with.
const NO_MATTER: &[&str] = &[
    "no_block",
    "tcp_nodelay",
    "tcp_keepalive",
    "cas",
    "buffer_requests",
    "verify_keys",
    "retry_timeout",
    "dead_timeout",
    "failure_limit",
    "io_msg_watermark",
    "io_bytes_watermark",
    "io_key_prefetch",
    "noreply",
    "poll_timeout",
    "socket_send_size",
    "socket_recv_size",
    "pickle_protocol",
];
/// Behaviors that matter as soon as there are several servers.
const SPREADING: &[&str] = &[
    "hash",
    "ketama_hash",
    "ketama",
    "ketama_weighted",
    "distribution",
    "num_replicas",
    "auto_eject",
    "remove_failed",
    "hash_with_prefix_key",
    "sort_hosts",
];

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}

impl Address {
    /// Reads `host:port`, `host` (port 11211), `[IPv6]:port`, `unix:/path`, `/path`.
    fn parse(location: &str) -> Result<Self> {
        let wrong = |what: &str| {
            Err(configuration(format!(
                "LOCATION of CACHES: {location:?} {what}; write \"HOST:PORT\", or \"unix:/PATH\" for a socket"
            )))
        };
        if let Some(path) = location.strip_prefix("unix:").or_else(|| location.starts_with('/').then_some(location)) {
            return match path.is_empty() {
                true => wrong("names no socket"),
                false => Ok(Self::Unix(Path::new(path).to_owned())),
            };
        }
        if location.contains("://") || location.starts_with("udp:") || location.contains('@') {
            return wrong("is none of the forms that Memcached's clients know");
        }
        let (host, port) = match location.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, port)) => (host, port.strip_prefix(':').or(Some("?"))),
            None => match location.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (location, None),
            },
        };
        if host.is_empty() {
            return wrong("names no host");
        }
        match port.map_or(Ok(11_211), str::parse) {
            Ok(port) if port > 0 => Ok(Self::Tcp { host: host.to_owned(), port }),
            _ => wrong("has no port number after its colon"),
        }
    }

    /// The name by which pymemcache tells servers apart.
    pub(crate) fn node(&self) -> String {
        match self {
            Self::Tcp { host, port } => format!("{host}:{port}"),
            Self::Unix(path) => path.display().to_string(),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// How keys are spread over several servers. Both sides must do it alike, or they do not find each other's sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Distribution {
    /// As pymemcache does unless told otherwise: rendezvous hashing with MurmurHash3. A server that is added or
    /// removed moves its own share of the keys only.
    #[default]
    Rendezvous,
    /// As libmemcached, and with it pylibmc, does unless told otherwise: the one-at-a-time hash, modulo the number of
    /// servers. A server that is added or removed moves nearly all keys.
    Modulo,
}

/// How sessions are written. The client flags of each item say it too, and what bears others is not read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Serializer {
    /// Python's pickle, as Django's back ends write it.
    #[default]
    Pickle,
    /// JSON, for sites without Django: its back ends cannot read that.
    Json,
}

impl Serializer {
    /// The client flags, in the convention of python-memcached, pymemcache and pylibmc: a pickle, or text.
    pub(crate) fn flags(self) -> u32 {
        match self {
            Self::Pickle => 1,
            Self::Json => 16,
        }
    }
}

/// The servers of a [`MemcachedStore`](crate::MemcachedStore), and how to talk to them.
#[derive(Clone, Debug)]
pub struct MemcachedOptions {
    pub(crate) addresses: Vec<Address>,
    pub(crate) distribution: Distribution,
    pub(crate) serializer: Serializer,
    pub(crate) connect_timeout: Duration,
    pub(crate) timeout: Duration,
    pub(crate) max_connections: usize,
}

impl MemcachedOptions {
    /// How long to wait for a connection unless told otherwise: 1 second.
    pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
    /// How long to wait for an answer unless told otherwise: half a second.
    pub const TIMEOUT: Duration = Duration::from_millis(500);
    /// How many connections each server gets at most unless told otherwise. One serves some ten thousand requests a
    /// second.
    pub const MAX_CONNECTIONS: usize = 32;

    /// The servers at these locations: `host:port`, `host` (port 11211), `[IPv6]:port`, `unix:/path`.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] if there is none, or one cannot be read.
    pub fn new<L: AsRef<str>>(locations: impl IntoIterator<Item = L>) -> Result<Self> {
        let addresses = locations.into_iter().map(|location| Address::parse(location.as_ref()));
        let addresses = addresses.collect::<Result<Vec<_>>>()?;
        if addresses.is_empty() {
            return Err(configuration("LOCATION of CACHES is missing: write where Memcached listens, \"HOST:11211\""));
        }
        Ok(Self {
            addresses,
            distribution: Distribution::default(),
            serializer: Serializer::default(),
            connect_timeout: Self::CONNECT_TIMEOUT,
            timeout: Self::TIMEOUT,
            max_connections: Self::MAX_CONNECTIONS,
        })
    }

    /// What an entry of `CACHES` for pymemcache or pylibmc says.
    ///
    /// Of `OPTIONS`, `connect_timeout` and `timeout` (seconds) and `max_pool_size` are taken as pymemcache means them,
    /// and for pylibmc `connect_timeout` (milliseconds), `receive_timeout` and `send_timeout` (microseconds) among
    /// its `behaviors`. `serializer` is ours: `json` for sessions that Django need not read. What only matters to those libraries is passed over. What would make Django store sessions
    /// elsewhere, or in another form, is refused.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] that names the option, and what to write.
    pub fn from_cache(cache: &CacheConfig) -> Result<Self> {
        let mut options = Self::new(&cache.locations)?;
        let pylibmc = match cache.backend {
            CacheBackend::PyMemcache => false,
            CacheBackend::PyLibMc => true,
            ref other => return Err(configuration(format!("CACHES: {other:?} is no back end for Memcached"))),
        };
        if pylibmc {
            options.distribution = Distribution::Modulo;
        }
        for (name, value) in &cache.options {
            match (name.as_str(), value) {
                (_, SettingValue::None) => {}
                ("connect_timeout", value) => options.connect_timeout = duration(name, value, 1.0)?,
                ("timeout", value) => options.timeout = duration(name, value, 1.0)?,
                ("max_pool_size", SettingValue::Int(size @ 1..=65_535)) => options.max_connections = *size as usize,
                ("max_pool_size", value) => return Err(bad(name, value, "a number of connections from 1 to 65535")),
                ("serializer", SettingValue::Text(form)) if form == "json" => options.serializer = Serializer::Json,
                ("serializer", SettingValue::Text(form)) if form == "pickle" => {}
                ("serializer", value) => return Err(bad(name, value, "\"pickle\", which Django reads, or \"json\"")),
                ("serde", SettingValue::Text(form)) if !pylibmc && form == "pymemcache.serde.pickle_serde" => {}
                ("serde", value) if !pylibmc => {
                    let wanted =
                        "\"pymemcache.serde.pickle_serde\", or leave it out: other Python code cannot be run here";
                    return Err(bad(name, value, wanted));
                }
                // Of `CACHES` in general.
                ("MAX_ENTRIES" | "CULL_FREQUENCY", _) => {}
                ("binary", _) if pylibmc => {}
                ("behaviors", SettingValue::Table(behaviors)) if pylibmc => options.behave(behaviors)?,
                ("username" | "password", _) if pylibmc => {
                    return Err(configuration(format!(
                        "CACHES: OPTIONS.{name} asks for SASL, which Memcached offers in its binary protocol only, \
                         and that is not spoken here; protect Memcached by its address or a socket instead"
                    )));
                }
                (name, _) if !pylibmc && NO_MATTER_TO_PYMEMCACHE.contains(&name) => {}
                _ => return Err(unknown(name)),
            }
        }
        Ok(options)
    }

    /// pylibmc's `behaviors`.
    fn behave(&mut self, behaviors: &[(String, SettingValue)]) -> Result<()> {
        let alone = self.addresses.len() == 1;
        for (name, value) in behaviors {
            let full = format!("behaviors.{name}");
            let off = matches!(value, SettingValue::None | SettingValue::Bool(false) | SettingValue::Int(0));
            match (name.trim_start_matches('_'), value.as_text()) {
                _ if off => {}
                ("connect_timeout", _) => self.connect_timeout = duration(&full, value, 1e3)?,
                ("receive_timeout" | "send_timeout", _) => self.timeout = duration(&full, value, 1e6)?,
                ("hash", Some("default")) | ("distribution", Some("modula")) => {}
                (name, _) if NO_MATTER.contains(&name) => {}
                (name, _) if SPREADING.contains(&name) && alone => {}
                (name, _) if SPREADING.contains(&name) => {
                    return Err(configuration(format!(
                        "CACHES: OPTIONS.{full} spreads sessions over several servers in a way that is not known here; \
                         leave it out, on both sides, or name one server"
                    )));
                }
                _ => return Err(unknown(&full)),
            }
        }
        Ok(())
    }

    /// How keys are spread over several servers.
    #[must_use]
    pub fn distribution(mut self, distribution: Distribution) -> Self {
        self.distribution = distribution;
        self
    }

    /// How sessions are written.
    #[must_use]
    pub fn serializer(mut self, serializer: Serializer) -> Self {
        self.serializer = serializer;
        self
    }

    /// The codec for what the store keeps.
    pub fn codec(&self) -> Codec {
        match self.serializer {
            Serializer::Pickle => Codec::pickle(Protocol::DJANGO),
            Serializer::Json => Codec::json(),
        }
    }

    /// How long to wait for a connection, from the pool or a new one each.
    #[must_use]
    pub fn connect_timeout(mut self, connect_timeout: Duration) -> Self {
        self.connect_timeout = connect_timeout;
        self
    }

    /// How long to wait for an answer.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How many connections each server gets at most; at least one.
    #[must_use]
    pub fn max_connections(mut self, max_connections: usize) -> Self {
        self.max_connections = max_connections.max(1);
        self
    }
}

/// A duration in parts of a second, of which there are `parts`.
fn duration(name: &str, value: &SettingValue, parts: f64) -> Result<Duration> {
    let number = match value {
        SettingValue::Int(number) => Some(*number as f64),
        SettingValue::Float(number) => Some(*number),
        _ => None,
    };
    let unit = match parts {
        1.0 => "seconds",
        1e3 => "milliseconds",
        _ => "microseconds",
    };
    number
        .map(|number| number / parts)
        .filter(|seconds| *seconds > 0.0 && *seconds <= 3_600.0)
        .map(Duration::from_secs_f64)
        .ok_or_else(|| bad(name, value, &format!("a number of {unit} above zero, up to an hour")))
}

fn unknown(name: &str) -> Error {
    configuration(format!(
        "CACHES: OPTIONS.{name} is not known here, and may change where or how Django stores sessions; leave it out, \
         on both sides"
    ))
}

fn bad(name: &str, value: &SettingValue, wanted: &str) -> Error {
    configuration(format!("CACHES: OPTIONS.{name} is {value}; write {wanted}"))
}

fn configuration(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Configuration, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(backend: CacheBackend, locations: &[&str], options: &[(&str, SettingValue)]) -> CacheConfig {
        let mut cache = CacheConfig::new(backend);
        cache.locations = locations.iter().map(|location| location.to_string()).collect();
        cache.options = options.iter().map(|(name, value)| (name.to_string(), value.clone())).collect();
        cache
    }

    fn behaviors(items: &[(&str, SettingValue)]) -> (&'static str, SettingValue) {
        let items = items.iter().map(|(name, value)| (name.to_string(), value.clone())).collect();
        ("behaviors", SettingValue::Table(items))
    }

    #[test]
    fn locations_in_every_form() {
        for (location, shown, node) in [
            ("127.0.0.1:11212", "127.0.0.1:11212", "127.0.0.1:11212"),
            ("cache.example", "cache.example:11211", "cache.example:11211"),
            ("[::1]:11212", "[::1]:11212", "::1:11212"),
            ("[::1]", "[::1]:11211", "::1:11211"),
            ("unix:/run/m.sock", "unix:/run/m.sock", "/run/m.sock"),
            ("/run/m.sock", "unix:/run/m.sock", "/run/m.sock"),
        ] {
            let address = Address::parse(location).unwrap();
            assert_eq!((address.to_string().as_str(), address.node().as_str()), (shown, node), "{location}");
        }
        for bad in ["", ":11211", "unix:", "host:", "host:0", "host:70000", "host:11211:2", "host:a", "[::1]x", "[]:1"]
        {
            let error = Address::parse(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Configuration, "{bad}");
            assert!(error.to_string().contains("LOCATION"), "{error}");
        }
        for bad in ["memcached://host:11211", "udp:host:11211", "user@host:11211"] {
            assert!(Address::parse(bad).is_err(), "{bad}");
        }
        assert!(MemcachedOptions::new([] as [&str; 0]).is_err());
    }

    #[test]
    fn options_of_pymemcache() {
        let given = [
            ("connect_timeout", 2.into()),
            ("timeout", 0.25.into()),
            ("max_pool_size", 4.into()),
            ("use_pooling", true.into()),
            ("no_delay", true.into()),
            ("ignore_exc", true.into()),
            ("socket_keepalive", SettingValue::None),
            ("serde", "pymemcache.serde.pickle_serde".into()),
        ];
        let options = MemcachedOptions::from_cache(&cache(CacheBackend::PyMemcache, &["a:1", "b:2"], &given)).unwrap();
        assert_eq!(options.connect_timeout, Duration::from_secs(2));
        assert_eq!(options.timeout, Duration::from_millis(250));
        assert_eq!((options.max_connections, options.addresses.len()), (4, 2));
        assert_eq!(options.distribution, Distribution::Rendezvous);
        assert_eq!(options.serializer, Serializer::Pickle);
        let json = [("serializer", "json".into())];
        let options = MemcachedOptions::from_cache(&cache(CacheBackend::PyMemcache, &["a"], &json)).unwrap();
        assert_eq!(options.serializer, Serializer::Json);
        for (name, value) in [
            ("timeout", SettingValue::from(0)),
            ("timeout", "soon".into()),
            ("timeout", (-1.0).into()),
            ("timeout", f64::NAN.into()),
            ("connect_timeout", 1e9.into()),
            ("max_pool_size", 0.into()),
            ("serde", "some.Class".into()),
            ("hasher", "some.Class".into()),
            ("key_prefix", "x".into()),
            ("tls_context", "x".into()),
            ("behaviors", "x".into()),
            ("username", "x".into()),
            ("serializer", "yaml".into()),
        ] {
            let error = MemcachedOptions::from_cache(&cache(CacheBackend::PyMemcache, &["a"], &[(name, value)]));
            let error = error.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Configuration);
            assert!(error.to_string().contains(&format!("OPTIONS.{name}")), "{error}");
        }
        assert!(MemcachedOptions::from_cache(&cache(CacheBackend::PyMemcache, &[], &[])).is_err());
        assert!(MemcachedOptions::from_cache(&cache(CacheBackend::Redis, &["a"], &[])).is_err());
    }

    #[test]
    fn options_of_pylibmc() {
        let given = [
            ("binary", true.into()),
            behaviors(&[
                ("connect_timeout", 250.into()),
                ("receive_timeout", 750_000.into()),
                ("send_timeout", 0.into()),
                ("tcp_nodelay", true.into()),
                ("_poll_timeout", 100.into()),
                ("ketama", false.into()),
                ("hash", "default".into()),
                ("distribution", "modula".into()),
            ]),
        ];
        let options = MemcachedOptions::from_cache(&cache(CacheBackend::PyLibMc, &["a", "b"], &given)).unwrap();
        assert_eq!(options.connect_timeout, Duration::from_millis(250));
        assert_eq!((options.timeout, options.distribution), (Duration::from_millis(750), Distribution::Modulo));

        for (name, value) in [
            ("ketama", SettingValue::from(true)),
            ("hash", "md5".into()),
            ("distribution", "consistent".into()),
            ("remove_failed", 3.into()),
            ("_sort_hosts", true.into()),
        ] {
            let given = [behaviors(&[(name, value)])];
            let one = MemcachedOptions::from_cache(&cache(CacheBackend::PyLibMc, &["a"], &given));
            assert!(one.is_ok(), "{name}: with one server there is nothing to spread");
            let error = MemcachedOptions::from_cache(&cache(CacheBackend::PyLibMc, &["a", "b"], &given)).unwrap_err();
            assert!(error.to_string().contains(&format!("OPTIONS.behaviors.{name} spreads")), "{error}");
        }
        for given in [("username", "u".into()), behaviors(&[("namespace", "x".into())]), ("timeout_of", 1.into())] {
            let error = MemcachedOptions::from_cache(&cache(CacheBackend::PyLibMc, &["a"], &[given])).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Configuration);
        }
    }
}
