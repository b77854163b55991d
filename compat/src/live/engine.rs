//! The engines that a site can have: what Django calls them, what they need, and what can be expected of them.

use cloakroom_test_servers::{Kind, shared};
use serde_json::{Value, json};

use super::python::{python, python_with};

/// A session engine, with the place where it keeps sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// A table in SQLite
    Db,
    /// A table in PostgreSQL
    DbPostgres,
    /// A table in MariaDB
    DbMariaDb,
    /// A file per session
    File,
    /// Everything in the cookie
    SignedCookies,
    /// In the memory of the process
    Cache,
    /// In Redis, through Django's own back end
    Redis,
    /// In Redis, through django-redis and its pickles
    DjangoRedis,
    /// In Redis, through django-redis and its JSON
    DjangoRedisJson,
    /// In Memcached, through pymemcache on Django's side
    PyMemcache,
    /// In Memcached, through pylibmc on Django's side
    PyLibMc,
    /// A table in PostgreSQL, and Redis in front of it through Django's own back end
    CachedDb,
}

/// A cache on a server.
struct Cache {
    /// The back end by Django's name.
    backend: &'static str,
    options: Value,
    /// What it needs in Python.
    module: &'static str,
    server: Kind,
}

impl Engine {
    /// Django's name.
    pub fn module(self) -> &'static str {
        match self {
            Engine::Db | Engine::DbPostgres | Engine::DbMariaDb => "django.contrib.sessions.backends.db",
            Engine::File => "django.contrib.sessions.backends.file",
            Engine::SignedCookies => "django.contrib.sessions.backends.signed_cookies",
            Engine::CachedDb => "django.contrib.sessions.backends.cached_db",
            Engine::Cache
            | Engine::Redis
            | Engine::DjangoRedis
            | Engine::DjangoRedisJson
            | Engine::PyMemcache
            | Engine::PyLibMc => "django.contrib.sessions.backends.cache",
        }
    }

    /// The kind of server that its database is on, and what that needs in Python. Without one, Django keeps its users
    /// in SQLite.
    pub fn database(self) -> Option<(Kind, &'static str)> {
        match self {
            Engine::DbPostgres | Engine::CachedDb => Some((Kind::Postgres, "psycopg")),
            Engine::DbMariaDb => Some((Kind::MariaDb, "pymysql")),
            _ => None,
        }
    }

    fn cache(self) -> Option<Cache> {
        let cache = |backend, module, server| Some(Cache { backend, options: json!({}), module, server });
        match self {
            Engine::Redis | Engine::CachedDb => {
                cache("django.core.cache.backends.redis.RedisCache", "redis", Kind::Redis)
            }
            Engine::DjangoRedis => cache("django_redis.cache.RedisCache", "django_redis", Kind::Redis),
            Engine::DjangoRedisJson => {
                let options = json!({ "SERIALIZER": "django_redis.serializers.json.JSONSerializer" });
                Some(Cache { options, ..Engine::DjangoRedis.cache()? })
            }
            Engine::PyMemcache => {
                cache("django.core.cache.backends.memcached.PyMemcacheCache", "pymemcache", Kind::Memcached)
            }
            Engine::PyLibMc => cache("django.core.cache.backends.memcached.PyLibMCCache", "pylibmc", Kind::Memcached),
            Engine::Db
            | Engine::DbPostgres
            | Engine::DbMariaDb
            | Engine::File
            | Engine::SignedCookies
            | Engine::Cache => None,
        }
    }

    /// The kind of server that its cache is on.
    pub fn cache_server(self) -> Option<Kind> {
        self.cache().map(|cache| cache.server)
    }

    /// `CACHES` as JSON, for an engine with a cache on a server.
    pub fn caches(self, location: &str, prefix: &str) -> Option<String> {
        let Cache { backend, options, .. } = self.cache()?;
        let cache = json!({ "BACKEND": backend, "LOCATION": location, "KEY_PREFIX": prefix, "OPTIONS": options });
        Some(json!({ "default": cache }).to_string())
    }

    /// Whether there is a Django on this machine, and the servers that the engine needs. Says which test is left out.
    pub fn is_available(self) -> bool {
        let (database, cache) = (self.database(), self.cache());
        let needed = [database, cache.map(|cache| (cache.server, cache.module))];
        python().is_some()
            && needed
                .into_iter()
                .flatten()
                .all(|(kind, module)| python_with(module).is_some() && shared(kind).is_some())
    }

    /// Whether a session is stored on the server, under a key.
    pub fn keeps_records(self) -> bool {
        self != Engine::SignedCookies
    }

    /// Whether sessions stand in a table.
    pub fn has_table(self) -> bool {
        matches!(self, Engine::Db | Engine::DbPostgres | Engine::DbMariaDb | Engine::CachedDb)
    }

    /// Whether what has expired goes without a sweep.
    pub fn sweeps_itself(self) -> bool {
        self.keeps_records() && !self.has_table() && self != Engine::File
    }

    /// Whether what is stored bears a signature, so that who has another secret cannot read it; what a cache holds
    /// does not.
    pub fn signs(self) -> bool {
        self.has_table() || matches!(self, Engine::File | Engine::SignedCookies)
    }
}
