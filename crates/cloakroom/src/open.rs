//! From the settings to the engine that they name.

use std::sync::Arc;
use std::time::Duration;

use cloakroom_core::engine::Engine;
use cloakroom_core::engine::cached::{CacheForm, CachedStore};
use cloakroom_core::engine::file::{FileStore, dating};
use cloakroom_core::engine::memory::MemoryStore;
use cloakroom_core::engine::signed_cookies::{SALT, SignedCookies};
use cloakroom_core::peek::{Peek, Records};
use cloakroom_core::settings::{CacheBackend, CacheConfig, EngineName, Settings};
use cloakroom_core::store::Store;
use cloakroom_core::sweep::Turns;
use cloakroom_core::wire::cache_key::{CACHE_ENGINE, CACHED_DB_ENGINE};
use cloakroom_core::wire::session_data::{Codec, SignedText};
use cloakroom_core::{Clock, Error, ErrorKind, Result};

/// How long cached_db believes a cache in this process, which does not hear of what other processes do: what they sign
/// out is over here after so long.
const LOCAL_MAX_AGE: Duration = Duration::from_secs(60);

/// The cache that keeps sessions.
struct Cache {
    store: Arc<dyn Store>,
    /// The form in which Django keeps sessions there; `None` for a cache that Django does not reach.
    codec: Option<Codec>,
    peek: Option<Arc<dyn Peek>>,
}

/// An engine, and the cache that it keeps sessions in, alone or in front of a database.
pub(crate) struct Opened {
    pub(crate) engine: Engine,
    pub(crate) cache: Option<Arc<dyn Store>>,
    /// Which of several nodes sweeps, where there is something to sweep.
    pub(crate) turns: Option<Arc<dyn Turns>>,
    /// How tools look at what is kept.
    pub(crate) records: Option<Records>,
}

/// A store, which of the nodes that share it sweeps it, and how tools look into it.
type Shared = (Arc<dyn Store>, Arc<dyn Turns>, Arc<dyn Peek>);

/// Opens the engine that `SESSION_ENGINE` names.
pub(crate) async fn open(settings: &Settings, clock: Clock) -> Result<Opened> {
    let (mut entries, mut sweeping, mut records) = (None, None, None);
    let engine = match settings.engine() {
        EngineName::Db => {
            let (store, turns, peek) = database(settings, clock).await?;
            sweeping = Some(turns);
            records = Some(Records { peek: Some(peek), codec: settings.signed_codec() });
            Engine::Store { store, codec: settings.signed_codec() }
        }
        EngineName::Cache => {
            let Cache { store, codec, peek } = cache(settings, CACHE_ENGINE, clock)?;
            let codec = codec.unwrap_or_else(Codec::in_process);
            entries = Some(store.clone());
            records = Some(Records { peek, codec: codec.clone() });
            Engine::Store { store, codec }
        }
        EngineName::CachedDb => {
            let (database, turns, peek) = database(settings, clock.clone()).await?;
            sweeping = Some(turns);
            let signed = settings.signed_codec();
            records = Some(Records { peek: Some(peek), codec: signed.clone() });
            let Cache { store, codec, .. } = cache(settings, CACHED_DB_ENGINE, clock.clone())?;
            entries = Some(store.clone());
            let form = codec.map_or(CacheForm::Private { max_age: LOCAL_MAX_AGE }, CacheForm::Django);
            CachedStore::new(settings.cache_alias(), store, form, database, signed, clock).into_engine()
        }
        EngineName::File => {
            let (store, codec) = files(settings, clock)?;
            let store = Arc::new(store);
            sweeping = Some(store.clone() as Arc<dyn Turns>);
            records = Some(Records { peek: Some(store.clone()), codec: codec.clone() });
            Engine::Store { store, codec }
        }
        EngineName::SignedCookies => Engine::SignedCookies(SignedCookies::new(
            SignedText::new(settings.secrets(), SALT, settings.serializer()),
            settings.expiry_rules(),
            settings.cookie_name().len(),
        )),
    };
    Ok(Opened { engine, cache: entries, turns: sweeping, records })
}

fn files(settings: &Settings, clock: Clock) -> Result<(FileStore, Codec)> {
    let codec = settings.signed_codec();
    let dating = dating(codec.clone(), settings.expiry_rules());
    let store = FileStore::new(settings.file_path(), settings.cookie_name(), clock, dating)?;
    Ok((store.with_sync(settings.file_sync()), codec))
}

/// Opens the cache that `SESSION_CACHE_ALIAS` names, for an engine with this prefix of keys.
fn cache(settings: &Settings, engine: &str, clock: Clock) -> Result<Cache> {
    let cache = settings.session_cache().ok_or_else(|| wrong("SESSION_CACHE_ALIAS names no entry of CACHES"))?;
    let opened = match &cache.backend {
        CacheBackend::LocMem => {
            let store = Arc::new(MemoryStore::with_max_entries(clock, cache.max_entries));
            Ok(Cache { peek: Some(store.clone()), store, codec: None })
        }
        CacheBackend::Redis | CacheBackend::DjangoRedis => redis(cache, engine, clock),
        CacheBackend::PyMemcache | CacheBackend::PyLibMc => memcached(cache, engine, clock),
        other => Err(wrong(format!(
            "the back end {other:?} is not built into this version; `locmem` keeps sessions in this process, and \
             SESSION_ENGINE = \"db\" in a database"
        ))),
    };
    opened.map_err(|error| {
        let message = format!("CACHES[{:?}]: {error}", settings.cache_alias());
        Error::new(error.kind(), message).with_source(error)
    })
}

#[cfg(feature = "memcached")]
fn memcached(cache: &CacheConfig, engine: &str, clock: Clock) -> Result<Cache> {
    use cloakroom_core::wire::cache_key::CacheKeys;
    use cloakroom_memcached::{MemcachedOptions, MemcachedStore};

    let options = MemcachedOptions::from_cache(cache)?;
    let codec = Some(options.codec());
    let keys = CacheKeys::new(&cache.key_prefix, cache.version, engine);
    Ok(Cache { store: Arc::new(MemcachedStore::new(options, keys, clock)?), codec, peek: None })
}

#[cfg(not(feature = "memcached"))]
fn memcached(_cache: &CacheConfig, _engine: &str, _clock: Clock) -> Result<Cache> {
    Err(wrong("a cache in Memcached needs the feature `memcached` of the crate `cloakroom`: turn it on"))
}

#[cfg(feature = "redis")]
fn redis(cache: &CacheConfig, engine: &str, clock: Clock) -> Result<Cache> {
    let options = cloakroom_redis::RedisOptions::from_cache(cache, engine)?;
    let codec = Some(cloakroom_redis::codec(cache)?);
    let store = Arc::new(cloakroom_redis::RedisStore::open(options, clock)?);
    Ok(Cache { peek: Some(store.clone()), store, codec })
}

#[cfg(not(feature = "redis"))]
fn redis(_cache: &CacheConfig, _engine: &str, _clock: Clock) -> Result<Cache> {
    Err(wrong("a cache in Redis needs the feature `redis` of the crate `cloakroom`: turn it on"))
}

#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
async fn database(settings: &Settings, clock: Clock) -> Result<Shared> {
    let database = open_database(settings, false, clock).await?;
    if settings.engine() == EngineName::CachedDb && database.has_near_cache() {
        return Err(wrong(
            "DATABASE_URL has near_cache_megabytes, and SESSION_ENGINE is `cached_db`, which puts what it reads from the \
             database into a cache, where it is believed for longer than near_cache_seconds: leave it out, or use \
             SESSION_ENGINE = \"db\". A cache on Redis may have near_cache_megabytes of its own",
        ));
    }
    Ok(database.into_parts())
}

/// The database that `DATABASE_URL` names: what `cloakroom migrate` works on. A missing SQLite file is made if
/// `create_if_missing` says so.
///
/// # Errors
/// [`ErrorKind::Configuration`] if `DATABASE_URL` is missing or wrong, or the feature for its kind of database is not
/// compiled in. A server that cannot be reached is no error yet.
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
pub async fn open_database(
    settings: &Settings,
    create_if_missing: bool,
    clock: Clock,
) -> Result<cloakroom_sql::AnySqlStore> {
    let url = settings.database_url().ok_or_else(no_database)?;
    let rules = settings.expiry_rules();
    let zone = (!rules.use_tz).then_some(rules.time_zone);
    cloakroom_sql::AnySqlStore::open(url.as_str(), create_if_missing, zone, clock).await
}

#[cfg(not(any(feature = "sqlite", feature = "postgres", feature = "mysql")))]
async fn database(settings: &Settings, _clock: Clock) -> Result<Shared> {
    settings.database_url().ok_or_else(no_database)?;
    Err(wrong(format!(
        "SESSION_ENGINE: `{}` needs a database's feature of the crate `cloakroom`: turn on `sqlite`, `postgres` or \
         `mysql`",
        settings.engine()
    )))
}

fn no_database() -> Error {
    wrong(
        "DATABASE_URL is not set, and SESSION_ENGINE `db` (the default) keeps sessions in a database: set it, as in \
         DATABASE_URL=sqlite:///srv/site/db.sqlite3, or choose another engine",
    )
}

fn wrong(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Configuration, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_wait_for_the_disk_if_the_settings_say_so() {
        let directory = tempfile::tempdir().unwrap();
        let settings = || Settings::builder().secret_key("of a test").file_path(directory.path());
        for (settings, sync) in [(settings(), false), (settings().file_sync(true), true)] {
            let (store, _) = files(&settings.build().unwrap(), Clock::system()).unwrap();
            assert!(format!("{store:?}").contains(&format!("sync: {sync}")), "{store:?}");
        }
    }
}
