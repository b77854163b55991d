//! An entry of Django's `CACHES`: its `LOCATION`, and the `OPTIONS` of Django's back end and of django-redis.

use std::time::Duration;

use cloakroom_core::Result;
use cloakroom_core::settings::{CacheBackend, CacheConfig, SettingValue, nearest};
use cloakroom_core::wire::cache_key::CacheKeys;
use tracing::warn;

use crate::options::{Place, RedisOptions, SENTINEL_PORT, TimeUnit, Verify, host_and_port, wrong};

/// Options that we act on, in Python's spelling. django-redis writes some in capitals.
const OURS: [&str; 10] = [
    "db",
    "username",
    "password",
    "socket_timeout",
    "socket_connect_timeout",
    "ssl_ca_certs",
    "ssl_certfile",
    "ssl_keyfile",
    "ssl_cert_reqs",
    "ssl_check_hostname",
];

/// Options of our own, which Python's clients do not have.
const OF_THE_NEAR_CACHE: [&str; 2] = ["near_cache_megabytes", "near_cache_seconds"];

/// Options that say how the data is written: the codec's business.
const OF_THE_CODEC: [&str; 3] = ["serializer", "pickle_version", "compressor"];

/// Whether an option says how the data is written.
pub(crate) fn is_of_the_codec(name: &str) -> bool {
    OF_THE_CODEC.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// Options that mean something to Python's client, and nothing to ours.
const WITHOUT_MEANING: [&str; 31] = [
    "max_entries",
    "cull_frequency",
    "pool_class",
    "parser_class",
    "connection_class",
    "connection_factory",
    "connection_pool_class",
    "redis_client_class",
    "max_connections",
    "timeout",
    "health_check_interval",
    "retry",
    "retry_on_error",
    "retry_on_timeout",
    "socket_keepalive",
    "socket_keepalive_options",
    "socket_read_size",
    "client_name",
    "lib_name",
    "lib_version",
    "protocol",
    "encoding",
    "encoding_errors",
    "decode_responses",
    "close_connection",
    "ignore_exceptions",
    "log_ignored_exceptions",
    "single_connection_client",
    "redis_connect_func",
    "ssl_min_version",
    "ssl_ciphers",
];

/// Tables of further options.
const TABLES: [&str; 2] = ["connection_pool_kwargs", "redis_client_kwargs"];

/// Options of django-redis about Sentinel.
const OF_SENTINEL: [&str; 2] = ["sentinels", "sentinel_kwargs"];

impl RedisOptions {
    /// The server, names and times of an entry of `CACHES` whose back end is Django's own for Redis or django-redis.
    /// `engine` is what the engine puts before a session key, such as
    /// [`CACHE_ENGINE`](cloakroom_core::wire::cache_key::CACHE_ENGINE).
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`](cloakroom_core::ErrorKind::Configuration) that names the option and says what to
    /// write.
    pub fn from_cache(cache: &CacheConfig, engine: &str) -> Result<Self> {
        let unit = match cache.backend {
            CacheBackend::Redis => TimeUnit::Seconds,
            CacheBackend::DjangoRedis => TimeUnit::Milliseconds,
            _ => return Err(wrong("BACKEND is none for Redis: write \"redis\" or \"django_redis\"")),
        };
        let location = cache.locations.first().ok_or_else(|| {
            wrong("LOCATION is missing: write the server's URL, such as LOCATION = \"redis://127.0.0.1:6379/0\"")
        })?;
        let mut options = Self::nowhere();
        options.read_table(&cache.options)?;
        // As with Python's client, what stands in the URL wins over what stands in OPTIONS.
        options.read_url(location)?;
        let sentinel_client = cache.options.iter().any(|(name, value)| {
            name.eq_ignore_ascii_case("client_class") && text(value).is_some_and(|class| class.contains("Sentinel"))
        });
        if sentinel_client && options.sentinels.is_empty() {
            return Err(wrong(
                "CLIENT_CLASS is a client of Sentinel, and SENTINELS is missing: write SENTINELS = [[\"HOST\", 26379]]",
            ));
        }
        Ok(options.keys(CacheKeys::new(&cache.key_prefix, cache.version, engine)).time_unit(unit))
    }

    fn read_table(&mut self, table: &[(String, SettingValue)]) -> Result<()> {
        table.iter().try_for_each(|(name, value)| self.set(name, value))
    }

    /// Takes one option, of `OPTIONS` or of a URL.
    pub(crate) fn set(&mut self, name: &str, value: &SettingValue) -> Result<()> {
        let lower = name.to_ascii_lowercase();
        let bad = |right: &str| {
            wrong(format!("the option `{name}` of the Redis cache is not as it has to be: write {right}"))
        };
        // Python's None is what holds unless it is said otherwise, but for the checks of certificates.
        if *value == SettingValue::None && !lower.starts_with("ssl_c") {
            return Ok(());
        }
        match lower.as_str() {
            "db" => self.database = whole(value).ok_or_else(|| bad("the number of a database, such as 0"))?,
            "username" => self.username = Some(text(value).ok_or_else(|| bad("a name in quotes"))?),
            "password" => self.password = Some(text(value).ok_or_else(|| bad("the password in quotes"))?),
            "socket_timeout" => self.response_timeout = seconds(value).ok_or_else(|| bad(SECONDS))?,
            "socket_connect_timeout" => self.connect_timeout = seconds(value).ok_or_else(|| bad(SECONDS))?,
            "ssl_ca_certs" if *value == SettingValue::None => {}
            "ssl_ca_certs" => self.ca_file = Some(text(value).ok_or_else(|| bad(PEM))?.into()),
            "ssl_certfile" => self.certificate = Some(text(value).ok_or_else(|| bad(PEM))?.into()),
            "ssl_keyfile" => self.private_key = Some(text(value).ok_or_else(|| bad(PEM))?.into()),
            "ssl_cert_reqs" => match text(value).unwrap_or_else(|| "none".into()).to_ascii_lowercase().as_str() {
                "required" | "cert_required" | "optional" | "cert_optional" | "1" | "2" => {}
                "none" | "cert_none" | "0" | "" => {
                    warn!(
                        "ssl_cert_reqs is none: whoever stands between this process and Redis can read and write sessions"
                    );
                    self.verify = Verify::Nothing;
                }
                _ => return Err(bad("\"required\", or \"none\" to trust whoever answers")),
            },
            "ssl_check_hostname" => match truth(value) {
                Some(true) => {}
                // A certificate that is not looked at at all stays so.
                Some(false) if self.verify == Verify::Nothing => {}
                Some(false) => self.verify = Verify::AnyHost,
                None => return Err(bad("true or false")),
            },
            "near_cache_megabytes" => {
                let megabytes =
                    whole(value).and_then(|megabytes| usize::try_from(megabytes).ok()?.checked_mul(1 << 20));
                self.near_cache = megabytes.ok_or_else(|| bad("a whole number, such as 64, or 0 for none"))?;
            }
            "near_cache_seconds" => self.near_cache_staleness = seconds(value).ok_or_else(|| bad(SECONDS))?,
            "client_class" => match text(value).as_deref() {
                Some("django_redis.client.DefaultClient" | "django_redis.client.default.DefaultClient") => {}
                // Whether there are sentinels is looked at when everything is read.
                Some("django_redis.client.SentinelClient" | "django_redis.client.sentinel.SentinelClient") => {}
                _ => {
                    return Err(wrong(format!(
                        "the option `{name}` names a client of django-redis that is not supported here, since it stores \
                         or finds sessions in a way of its own: use django_redis.client.DefaultClient"
                    )));
                }
            },
            "sentinels" => {
                let SettingValue::List(sentinels) = value else { return Err(bad(SENTINELS)) };
                for sentinel in sentinels {
                    let (host, port) = match sentinel {
                        SettingValue::Text(place) => host_and_port(place, SENTINEL_PORT)?,
                        SettingValue::List(pair) => match &pair[..] {
                            [SettingValue::Text(host), port] => {
                                let port = whole(port).and_then(|port| u16::try_from(port).ok());
                                (host.clone(), port.ok_or_else(|| bad(SENTINELS))?)
                            }
                            _ => return Err(bad(SENTINELS)),
                        },
                        _ => return Err(bad(SENTINELS)),
                    };
                    self.sentinels.push(Place::Tcp { host, port, tls: false });
                }
            }
            "sentinel_kwargs" => {
                let SettingValue::Table(table) = value else { return Err(bad("a table")) };
                for (name, value) in table {
                    match name.as_str() {
                        "username" => self.sentinel_username = text(value),
                        "password" => self.sentinel_password = text(value),
                        "ssl" => self.sentinel_tls = truth(value) == Some(true),
                        _ => {}
                    }
                }
            }
            name if TABLES.contains(&name) => match value {
                SettingValue::Table(table) => self.read_table(table)?,
                _ => return Err(bad("a table")),
            },
            name if OF_THE_CODEC.contains(&name) || WITHOUT_MEANING.contains(&name) => {}
            unknown => {
                let known = OURS
                    .iter()
                    .chain(&OF_THE_NEAR_CACHE)
                    .chain(&OF_THE_CODEC)
                    .chain(&TABLES)
                    .chain(&OF_SENTINEL)
                    .chain(&WITHOUT_MEANING)
                    .copied();
                if let Some(meant) = nearest(unknown, known) {
                    return Err(wrong(format!("the Redis cache has no option `{name}`: did you mean `{meant}`?")));
                }
                warn!(option = name, "an option of the Redis cache that means nothing here is passed over");
            }
        }
        Ok(())
    }
}

const SECONDS: &str = "a number of seconds above zero, such as 0.5";
const SENTINELS: &str = "[[\"HOST\", 26379]]";
const PEM: &str = "the path of a file in the PEM format";

fn text(value: &SettingValue) -> Option<String> {
    value.as_text().map(str::to_owned)
}

fn whole(value: &SettingValue) -> Option<i64> {
    let number = match value {
        SettingValue::Int(number) => *number,
        SettingValue::Text(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    (0..=i64::from(i32::MAX)).contains(&number).then_some(number)
}

fn seconds(value: &SettingValue) -> Option<Duration> {
    let seconds = match value {
        SettingValue::Int(number) => *number as f64,
        SettingValue::Float(number) => *number,
        SettingValue::Text(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    // A day: nobody waits longer, and a Duration has its limits.
    (seconds > 0.0 && seconds <= 86_400.0).then(|| Duration::from_secs_f64(seconds))
}

fn truth(value: &SettingValue) -> Option<bool> {
    match value {
        SettingValue::Bool(truth) => Some(*truth),
        SettingValue::Int(number) => Some(*number != 0),
        SettingValue::None => Some(false),
        SettingValue::Text(text) => match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" | "t" | "y" => Some(true),
            "false" | "0" | "no" | "off" | "f" | "n" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cloakroom_core::wire::cache_key::{CACHE_ENGINE, CACHED_DB_ENGINE};
    use cloakroom_core::{Error, ErrorKind};

    fn cache(backend: CacheBackend, location: &str, options: &[(&str, SettingValue)]) -> Result<RedisOptions, Error> {
        let mut cache = CacheConfig::new(backend);
        cache.locations = location.split_whitespace().map(str::to_owned).collect();
        cache.options = options.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        RedisOptions::from_cache(&cache, CACHE_ENGINE)
    }

    #[test]
    fn djangos_own_back_end() {
        let mut entry = CacheConfig::new(CacheBackend::Redis);
        entry.locations = vec!["redis://primary/1".into(), "redis://replica/1".into()];
        entry.key_prefix = "site".into();
        entry.version = 7;
        entry.options = vec![
            ("db".into(), 5.into()),
            ("username".into(), "u".into()),
            ("password".into(), "p".into()),
            ("socket_timeout".into(), SettingValue::None),
            ("socket_connect_timeout".into(), 2.5.into()),
            ("pool_class".into(), "redis.BlockingConnectionPool".into()),
            ("serializer".into(), "anything".into()),
            ("MAX_ENTRIES".into(), 10.into()),
        ];
        let options = RedisOptions::from_cache(&entry, CACHED_DB_ENGINE).expect("as Django takes it");
        assert_eq!(options.address(), "primary:6379", "reads go to the server that is written to");
        assert_eq!(options.keys.prefix(), "site:7:django.contrib.sessions.cached_db");
        assert_eq!(options.unit, TimeUnit::Seconds);
        assert_eq!((options.username.as_deref(), options.password.as_deref()), (Some("u"), Some("p")));
        assert_eq!(options.database, 1, "the URL wins");
        assert_eq!(options.connect_timeout, Duration::from_millis(2_500));
        assert_eq!(options.response_timeout, RedisOptions::nowhere().response_timeout);
    }

    #[test]
    fn django_redis() {
        let kwargs = SettingValue::Table(vec![("ssl_cert_reqs".into(), SettingValue::None), ("db".into(), 3.into())]);
        let options = cache(
            CacheBackend::DjangoRedis,
            "rediss://h",
            &[
                ("CLIENT_CLASS", "django_redis.client.DefaultClient".into()),
                ("PASSWORD", "p".into()),
                ("SOCKET_TIMEOUT", 5.into()),
                ("SERIALIZER", "django_redis.serializers.json.JSONSerializer".into()),
                ("IGNORE_EXCEPTIONS", true.into()),
                ("CONNECTION_POOL_KWARGS", kwargs),
            ],
        )
        .expect("as django-redis takes it");
        assert_eq!((options.unit, options.verify, options.database), (TimeUnit::Milliseconds, Verify::Nothing, 3));
        assert_eq!(options.password.as_deref(), Some("p"));
        assert_eq!(options.response_timeout, Duration::from_secs(5));
    }

    #[test]
    fn the_near_cache() {
        let given = [("near_cache_megabytes", 64.into()), ("NEAR_CACHE_SECONDS", 0.5.into())];
        let options = cache(CacheBackend::DjangoRedis, "redis://h", &given).expect("options of ours");
        assert_eq!((options.near_cache, options.near_cache_staleness), (64 << 20, Duration::from_millis(500)));
        let options = cache(CacheBackend::Redis, "redis://h?near_cache_megabytes=8", &[]).expect("in the URL too");
        assert_eq!((options.near_cache, options.near_cache_staleness), (8 << 20, Duration::from_secs(1)));
        assert_eq!(cache(CacheBackend::Redis, "redis://h", &[]).expect("none").near_cache, 0);
    }

    #[test]
    fn sentinels_of_django_redis() {
        let pair = |host: &str, port: i64| SettingValue::List(vec![host.into(), port.into()]);
        let kwargs = SettingValue::Table(vec![("password".into(), "watch".into()), ("ssl".into(), true.into())]);
        let options = cache(
            CacheBackend::DjangoRedis,
            "rediss://theatre/2",
            &[
                ("CLIENT_CLASS", "django_redis.client.SentinelClient".into()),
                ("CONNECTION_POOL_CLASS", "redis.sentinel.SentinelConnectionPool".into()),
                ("SENTINELS", SettingValue::List(vec![pair("a", 26379), pair("b", 7), "c:8".into(), "d".into()])),
                ("SENTINEL_KWARGS", kwargs),
                ("PASSWORD", "p".into()),
            ],
        )
        .expect("as django-redis takes it");
        assert_eq!((options.service().unwrap(), options.address().as_str()), ("theatre", "theatre (by Sentinel)"));
        let asked: Vec<_> = options.for_sentinels().map(|options| (options.address(), options.password)).collect();
        let watch = || Some("watch".to_owned());
        let places = ["a:26379", "b:7", "c:8", "d:26379"].map(|place| (place.to_owned(), watch()));
        assert_eq!(asked, places);
        let server = options.for_server("10.0.0.1".into(), 6380);
        assert_eq!((server.address().as_str(), server.database), ("10.0.0.1:6380", 2));
        assert_eq!(server.password.as_deref(), Some("p"));
    }

    #[test]
    fn what_is_wrong_is_told() {
        let redis = || CacheBackend::Redis;
        for (made, told) in [
            (cache(redis(), "", &[]), "LOCATION is missing"),
            (cache(redis(), "10.0.0.1:6379", &[]), "redis://HOST"),
            (cache(CacheBackend::PyMemcache, "redis://h", &[]), "BACKEND"),
            (cache(redis(), "redis://h", &[("pasword", "x".into())]), "did you mean `password`"),
            (cache(redis(), "redis://h", &[("db", "first".into())]), "number of a database"),
            (cache(redis(), "redis://h", &[("db", (-1).into())]), "number of a database"),
            (cache(redis(), "redis://h", &[("socket_timeout", 0.into())]), "above zero"),
            (cache(redis(), "redis://h", &[("socket_timeout", true.into())]), "above zero"),
            (cache(redis(), "redis://h", &[("near_cache_megabytes", "many".into())]), "whole number"),
            (cache(redis(), "redis://h", &[("near_cache_second", 1.into())]), "did you mean `near_cache_seconds`"),
            (cache(redis(), "redis://h", &[("ssl_cert_reqs", "sometimes".into())]), "required"),
            (cache(redis(), "redis://h", &[("ssl_check_hostname", "perhaps".into())]), "true or false"),
            (cache(redis(), "redis://h", &[("CONNECTION_POOL_KWARGS", 1.into())]), "a table"),
            (
                cache(redis(), "redis://h", &[("CLIENT_CLASS", "django_redis.client.HerdClient".into())]),
                "DefaultClient",
            ),
        ] {
            let error = made.expect_err(told);
            assert_eq!(error.kind(), ErrorKind::Configuration);
            assert!(error.to_string().contains(told), "{told}: {error}");
        }
        let sentinel_client = ("CLIENT_CLASS", SettingValue::from("django_redis.client.SentinelClient"));
        let sentinels = |value: SettingValue| ("SENTINELS", value);
        let service = || CacheBackend::DjangoRedis;
        let error =
            cache(service(), "redis://service", std::slice::from_ref(&sentinel_client)).expect_err("no sentinels");
        assert!(error.to_string().contains("SENTINELS is missing"), "{error}");
        for bad in
            [SettingValue::from(1), ["h"; 0].into(), SettingValue::List(vec![SettingValue::List(vec!["h".into()])])]
        {
            cache(service(), "redis://service", &[sentinel_client.clone(), sentinels(bad)]).expect_err("no sentinels");
        }
        // What a future version of Python's client may have is no reason not to start.
        cache(redis(), "redis://h", &[("quantum_entanglement", true.into())]).expect("passed over");
    }
}
