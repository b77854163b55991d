//! Where Django's cache back ends keep a session, and what they tell the server about its end.

use std::fmt;
use std::sync::Arc;

use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::key::SessionKey;

/// What the `cache` engine puts in front of a session key.
pub const CACHE_ENGINE: &str = "django.contrib.sessions.cache";
/// What the `cached_db` engine puts in front of a session key.
pub const CACHED_DB_ENGINE: &str = "django.contrib.sessions.cached_db";
/// The longest key that Memcached takes, in bytes.
pub const MEMCACHED_MAX_KEY: usize = 250;

/// Makes the final keys of one cache for one engine: `KEY_PREFIX:VERSION:` and the engine's name, then the session key.
///
/// ```
/// use cloakroom_core::wire::cache_key::{CACHE_ENGINE, CacheKeys};
///
/// let keys = CacheKeys::new("app", 2, CACHE_ENGINE);
/// assert_eq!(keys.key("3f0c"), "app:2:django.contrib.sessions.cache3f0c");
/// assert_eq!(keys.session_key("app:2:django.contrib.sessions.cache3f0c"), Some("3f0c"));
/// ```
#[derive(Clone, Debug)]
pub struct CacheKeys(Arc<str>);

impl CacheKeys {
    /// The keys of a cache with this `KEY_PREFIX` and `VERSION` (a number or a text), for an engine:
    /// [`CACHE_ENGINE`], [`CACHED_DB_ENGINE`].
    pub fn new(key_prefix: &str, version: impl fmt::Display, engine: &str) -> Self {
        Self(format!("{key_prefix}:{version}:{engine}").into())
    }

    /// What all keys start with.
    pub fn prefix(&self) -> &str {
        &self.0
    }

    /// The final key of a session.
    pub fn key(&self, session_key: &str) -> String {
        let mut key = String::with_capacity(self.0.len() + session_key.len());
        key.push_str(&self.0);
        key.push_str(session_key);
        key
    }

    /// The session key in a final key, if it is one of these.
    pub fn session_key<'a>(&self, key: &'a str) -> Option<&'a str> {
        key.strip_prefix(&*self.0)
    }

    /// Checks once, at the start, that Memcached takes the keys of our sessions.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] if `KEY_PREFIX` or `VERSION` hold what Memcached refuses, or are too long.
    pub fn check_memcached(&self) -> Result<()> {
        memcached_fault(&self.key(&"k".repeat(SessionKey::GENERATED_LENGTH))).map_or(Ok(()), |fault| {
            let message = format!("Memcached does not take keys with this KEY_PREFIX and VERSION: {fault}");
            Err(Error::new(ErrorKind::Configuration, message))
        })
    }
}

/// Why Memcached would refuse a final key; `None` if it takes it.
///
/// Django's rule counts characters and leaves it to the server to refuse what is too long in bytes.
pub fn memcached_fault(key: &str) -> Option<&'static str> {
    if key.len() > MEMCACHED_MAX_KEY {
        Some("it is longer than 250 bytes")
    } else if key.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
        Some("it contains spaces or control characters")
    } else {
        None
    }
}

/// How long a cache keeps a session, in the units of the different servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeout {
    /// `None` for ever.
    micros: Option<i64>,
}

impl Timeout {
    /// No end. Sessions always have one.
    pub const NEVER: Self = Self { micros: None };

    /// So many microseconds, which may be zero or negative: the end has come.
    pub const fn from_micros(micros: i64) -> Self {
        Self { micros: Some(micros) }
    }

    /// From now to the end of a session.
    pub const fn until(expiry: Timestamp, now: Timestamp) -> Self {
        Self::from_micros(expiry.micros_since(now))
    }

    /// The argument of Redis' `EX` as Django's own back end computes it: whole seconds, cut. `None` for ever, zero for
    /// what has to be deleted instead.
    pub const fn redis_seconds(self) -> Option<u64> {
        self.cut_to(1_000_000)
    }

    /// The argument of Redis' `PX` as django-redis computes it: whole milliseconds, cut. `None` for ever, zero for
    /// what has to be deleted instead.
    pub const fn redis_millis(self) -> Option<u64> {
        self.cut_to(1_000)
    }

    const fn cut_to(self, unit: i64) -> Option<u64> {
        match self.micros {
            None => None,
            Some(micros) if micros <= 0 => Some(0),
            Some(micros) => Some((micros / unit) as u64),
        }
    }

    /// The expiry time for Memcached as Django's back ends compute it: 0 for ever, -1 or less for what expires at once,
    /// up to 30 days so many seconds, beyond that the Unix time of the end.
    pub const fn memcached(self, now: Timestamp) -> i64 {
        const THIRTY_DAYS: i64 = 2_592_000;
        match self.micros {
            None => 0,
            Some(micros) if micros / 1_000_000 == 0 => -1,
            Some(micros) if micros > THIRTY_DAYS * 1_000_000 => (micros / 1_000_000) + now.as_secs(),
            Some(micros) => micros / 1_000_000,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_djangos_form() {
        let keys = CacheKeys::new("", 1, CACHED_DB_ENGINE);
        assert_eq!(keys.key("abc"), ":1:django.contrib.sessions.cached_dbabc");
        assert_eq!(keys.session_key(":1:django.contrib.sessions.cached_dbabc"), Some("abc"));
        assert_eq!(keys.session_key(":1:django.contrib.sessions.cacheabc"), None);
        assert_eq!(CacheKeys::new("é:", "v", CACHE_ENGINE).prefix(), "é::v:django.contrib.sessions.cache");
    }

    #[test]
    fn memcached_takes_250_bytes_without_spaces() {
        assert_eq!(memcached_fault(&"k".repeat(250)), None);
        assert_eq!(memcached_fault("café"), None);
        for bad in [&*"k".repeat(251), &"é".repeat(126), "a b", "a\tb", "a\0b", "a\x7f"] {
            assert!(memcached_fault(bad).is_some(), "{bad:?}");
        }
        assert!(CacheKeys::new(&"p".repeat(186), 1, CACHE_ENGINE).check_memcached().is_ok());
        let error = CacheKeys::new(&"p".repeat(187), 1, CACHE_ENGINE).check_memcached().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration);
        assert!(CacheKeys::new("my site", 1, CACHE_ENGINE).check_memcached().is_err());
    }

    #[test]
    fn timeouts_are_cut_as_python_cuts() {
        let now = Timestamp::from_micros(1_000_999_999);
        let timeout = |secs: f64| Timeout::from_micros((secs * 1e6) as i64);
        assert_eq!(Timeout::NEVER.redis_seconds(), None);
        assert_eq!((timeout(10.9).redis_seconds(), timeout(10.9).redis_millis()), (Some(10), Some(10_900)));
        assert_eq!((timeout(-0.5).redis_seconds(), timeout(0.0004).redis_millis()), (Some(0), Some(0)));
        let memcached = [0.0, 0.5, -0.5, -10.5, 1.0, 2_592_000.0, 2_592_000.5, 2_592_001.0].map(timeout);
        assert_eq!(
            memcached.map(|timeout| timeout.memcached(now)),
            [-1, -1, -1, -10, 1, 2_592_000, 2_593_000, 2_593_001]
        );
        assert_eq!(Timeout::NEVER.memcached(now), 0);
        assert_eq!(Timeout::until(Timestamp::from_secs(1_003), now).redis_seconds(), Some(2));
    }
}
