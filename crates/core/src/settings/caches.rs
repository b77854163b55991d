//! `CACHES` and `CACHE_URL`: which caches there are, in Django's shape.

use super::names::mask_url;
use super::value::SettingValue;

/// How many sessions a cache in this process holds unless `OPTIONS.MAX_ENTRIES` says otherwise.
///
/// Django's default is 300, beyond which it drops every third entry: made for pages, and far too few for sessions,
/// whose loss signs visitors out.
pub const DEFAULT_MAX_ENTRIES: usize = 100_000;

/// The kind of a cache: Django's back ends, by dotted path or by a short name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CacheBackend {
    /// In this process: `django.core.cache.backends.locmem.LocMemCache`, `locmem`, `memory`.
    LocMem,
    /// Redis as Django itself uses it: `django.core.cache.backends.redis.RedisCache`, `redis`.
    Redis,
    /// Redis as the package django-redis uses it: `django_redis.cache.RedisCache`, `django_redis`.
    DjangoRedis,
    /// Memcached as pymemcache uses it: `django.core.cache.backends.memcached.PyMemcacheCache`, `pymemcache`.
    PyMemcache,
    /// Memcached as pylibmc uses it: `django.core.cache.backends.memcached.PyLibMCCache`, `pylibmc`.
    PyLibMc,
    /// One that sessions cannot be kept in here.
    Other(String),
}

impl CacheBackend {
    /// The kind of a name.
    pub fn parse(name: &str) -> Self {
        match name {
            "django.core.cache.backends.locmem.LocMemCache" | "locmem" | "memory" => Self::LocMem,
            "django.core.cache.backends.redis.RedisCache" | "redis" => Self::Redis,
            "django_redis.cache.RedisCache" | "django_redis" => Self::DjangoRedis,
            "django.core.cache.backends.memcached.PyMemcacheCache" | "pymemcache" | "memcached" => Self::PyMemcache,
            "django.core.cache.backends.memcached.PyLibMCCache" | "pylibmc" => Self::PyLibMc,
            other => Self::Other(other.to_owned()),
        }
    }

    /// Whether the cache lives in a server, which other processes can reach too.
    pub fn is_server(&self) -> bool {
        matches!(self, Self::Redis | Self::DjangoRedis | Self::PyMemcache | Self::PyLibMc)
    }
}

/// One entry of `CACHES`.
#[derive(Clone, PartialEq)]
pub struct CacheConfig {
    /// `BACKEND`.
    pub backend: CacheBackend,
    /// `LOCATION`: a name in this process, or servers.
    pub locations: Vec<String>,
    /// `KEY_PREFIX`.
    pub key_prefix: String,
    /// `VERSION`.
    pub version: i64,
    /// `TIMEOUT` in seconds, `None` for never. Sessions come with their own and do not use it.
    pub timeout: Option<i64>,
    /// `OPTIONS`, in their order.
    pub options: Vec<(String, SettingValue)>,
    /// `OPTIONS.MAX_ENTRIES`: how many entries a cache in this process holds at most.
    pub max_entries: usize,
    /// `KEY_FUNCTION` was given: Python code, which cannot be run here.
    pub(super) has_key_function: bool,
}

impl std::fmt::Debug for CacheConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Locations and options may hold passwords.
        let locations: Vec<String> = self.locations.iter().map(|location| mask_url(location)).collect();
        f.debug_struct("CacheConfig")
            .field("backend", &self.backend)
            .field("locations", &locations)
            .field("key_prefix", &self.key_prefix)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

impl CacheConfig {
    /// A cache of a kind, with Django's defaults.
    pub fn new(backend: CacheBackend) -> Self {
        Self {
            backend,
            locations: Vec::new(),
            key_prefix: String::new(),
            version: 1,
            timeout: Some(300),
            options: Vec::new(),
            max_entries: DEFAULT_MAX_ENTRIES,
            has_key_function: false,
        }
    }

    /// An option of `OPTIONS`.
    pub fn option(&self, name: &str) -> Option<&SettingValue> {
        self.options.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// Reads an entry of `CACHES`; a failure is what is wrong, and what to write.
    pub(super) fn from_value(value: &SettingValue) -> Result<Self, (String, String)> {
        let SettingValue::Table(items) = value else {
            return Err((
                format!("it is {}, not a table", value.kind()),
                "Write a table: [CACHES.default] and under it BACKEND = \"locmem\"".into(),
            ));
        };
        let wrong = |name: &str, value: &SettingValue, wanted: &str| {
            Err((format!("{name} is {}", value.kind()), format!("Write {wanted} for {name}")))
        };
        let mut cache = None;
        for (name, value) in items {
            if name == "BACKEND" {
                match value.as_text() {
                    Some(name) => cache = Some(Self::new(CacheBackend::parse(name))),
                    None => return wrong(name, value, "a name, such as \"redis\","),
                }
            }
        }
        let Some(mut cache) = cache else {
            return Err((
                "BACKEND is missing".into(),
                "Write BACKEND = \"locmem\", or \"redis\", or \"pymemcache\"".into(),
            ));
        };
        for (name, value) in items {
            match (name.as_str(), value) {
                ("LOCATION", SettingValue::Text(text)) => {
                    // As Django: several servers may stand in one text.
                    let one = !cache.backend.is_server();
                    cache.locations = match one {
                        true => vec![text.clone()],
                        false => text.split([',', ';']).map(|part| part.trim().to_owned()).collect(),
                    };
                }
                ("LOCATION", SettingValue::List(items)) => {
                    cache.locations = items.iter().filter_map(SettingValue::as_text).map(str::to_owned).collect();
                    if cache.locations.len() < items.len() {
                        return wrong(name, value, "text, or a list of texts,");
                    }
                }
                ("LOCATION", SettingValue::None) => {}
                ("KEY_PREFIX", SettingValue::Text(text)) => cache.key_prefix = text.clone(),
                ("KEY_PREFIX", SettingValue::None) => {}
                ("VERSION", SettingValue::Int(version)) => cache.version = *version,
                ("TIMEOUT", SettingValue::Int(timeout)) => cache.timeout = Some(*timeout),
                ("TIMEOUT", SettingValue::None) => cache.timeout = None,
                ("OPTIONS", SettingValue::Table(options)) => {
                    for (name, value) in options {
                        match value {
                            SettingValue::Int(max) if name == "MAX_ENTRIES" => {
                                cache.max_entries =
                                    usize::try_from(*max).ok().filter(|max| *max > 0).ok_or_else(|| {
                                        (format!("MAX_ENTRIES is {max}"), "Write a number above zero".into())
                                    })?;
                            }
                            _ if name == "MAX_ENTRIES" => return wrong(name, value, "a number"),
                            _ => {}
                        }
                    }
                    cache.options = options.clone();
                }
                ("KEY_FUNCTION", SettingValue::None) => {}
                ("KEY_FUNCTION", _) => cache.has_key_function = true,
                ("LOCATION" | "KEY_PREFIX", _) => return wrong(name, value, "text"),
                ("VERSION" | "TIMEOUT", _) => return wrong(name, value, "a whole number"),
                ("OPTIONS", _) => return wrong(name, value, "a table"),
                _ => {}
            }
        }
        Ok(cache)
    }

    /// Reads `CACHE_URL`: the back end as scheme, the server, and `key_prefix`, `version`, `max_entries` as parameters.
    pub(super) fn from_url(url: &str) -> Result<Self, (String, String)> {
        let hint = || "Write locmem://, redis://HOST:PORT/NUMBER or memcached://HOST:PORT".to_owned();
        let Some((scheme, rest)) = url.split_once("://") else {
            return Err(("it is not a URL".into(), hint()));
        };
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (backend, prefix) = match scheme.to_ascii_lowercase().as_str() {
            "locmem" | "locmemcache" | "memory" => (CacheBackend::LocMem, ""),
            "redis" | "rediscache" | "valkey" => (CacheBackend::Redis, "redis://"),
            "rediss" | "valkeys" => (CacheBackend::Redis, "rediss://"),
            "django-redis" => (CacheBackend::DjangoRedis, "redis://"),
            "memcached" | "memcache" | "pymemcache" => (CacheBackend::PyMemcache, ""),
            "pylibmc" => (CacheBackend::PyLibMc, ""),
            other => return Err((format!("no cache is called {other:?}"), hint())),
        };
        let mut cache = Self::new(backend);
        let mut left = Vec::new();
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let number =
                || value.parse::<i64>().map_err(|_| (format!("{name} is {value:?}"), "Write a number".to_owned()));
            match name.to_ascii_lowercase().as_str() {
                "key_prefix" => cache.key_prefix = value.to_owned(),
                "version" => cache.version = number()?,
                "max_entries" => {
                    cache.max_entries = usize::try_from(number()?)
                        .ok()
                        .filter(|max| *max > 0)
                        .ok_or_else(|| (format!("max_entries is {value}"), "Write a number above zero".to_owned()))?;
                }
                _ => left.push(parameter),
            }
        }
        let mut location = format!("{prefix}{}", if prefix.is_empty() { place.trim_end_matches('/') } else { place });
        if !left.is_empty() {
            location = format!("{location}?{}", left.join("&"));
        }
        cache.locations = match (location.is_empty(), cache.backend.is_server()) {
            (true, _) => Vec::new(),
            (_, false) => vec![location],
            (_, true) if prefix.is_empty() => location.split(',').map(str::to_owned).collect(),
            (_, true) => vec![location],
        };
        Ok(cache)
    }
}

/// A value of `CACHES` with its passwords masked: servers' URLs, and options that are named like one.
pub(super) fn masked(value: &SettingValue) -> SettingValue {
    match value {
        SettingValue::Text(text) => SettingValue::Text(mask_url(text)),
        SettingValue::List(items) => SettingValue::List(items.iter().map(masked).collect()),
        SettingValue::Table(items) => SettingValue::Table(
            items
                .iter()
                .map(|(name, value)| {
                    let upper = name.to_ascii_uppercase();
                    let secret = ["PASSWORD", "SECRET", "TOKEN"].iter().any(|word| upper.contains(word));
                    (name.clone(), if secret { "***".into() } else { masked(value) })
                })
                .collect(),
        ),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caches_by_url() {
        let cache = CacheConfig::from_url("redis://me:pw@host:6379/2?key_prefix=site&version=3&db=1").unwrap();
        assert_eq!((cache.key_prefix.as_str(), cache.version), ("site", 3));
        assert_eq!(cache.locations, ["redis://me:pw@host:6379/2?db=1"]);
        assert!(!format!("{cache:?}").contains("pw"));
        let cache = CacheConfig::from_url("memcached://a:11211,b:11211").unwrap();
        assert_eq!((cache.backend, cache.locations.len()), (CacheBackend::PyMemcache, 2));
        let cache = CacheConfig::from_url("locmem://?max_entries=5").unwrap();
        assert_eq!((cache.max_entries, cache.locations.len()), (5, 0));
        for bad in ["redis", "file:///tmp", "locmem://?max_entries=0", "locmem://?version=x"] {
            assert!(CacheConfig::from_url(bad).is_err(), "{bad}");
        }
    }
}
