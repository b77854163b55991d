//! A real Django and `cloakroom serve` over one store, with one cookie: what one side writes, the other reads.
//!
//! Every test starts both sites for itself, on ports of their own. `./test` makes the Python that Django needs; without
//! it, a plain `cargo test` says which tests it left out.

/// Tests on one engine.
macro_rules! on_engine {
    ($engine:ident: $($test:ident),+) => {
        $(#[test] fn $test() { super::$test(cloakroom_compat::live::site::Engine::$engine); })+
    };
}

/// A test for each engine that keeps records.
macro_rules! on_each_store {
    ($($test:ident),+ $(,)?) => {
        mod db { on_engine!(Db: $($test),+); }
        mod db_postgres { on_engine!(DbPostgres: $($test),+); }
        mod db_mariadb { on_engine!(DbMariaDb: $($test),+); }
        mod file { on_engine!(File: $($test),+); }
        mod redis { on_engine!(Redis: $($test),+); }
        mod django_redis { on_engine!(DjangoRedis: $($test),+); }
        mod django_redis_json { on_engine!(DjangoRedisJson: $($test),+); }
        mod pymemcache { on_engine!(PyMemcache: $($test),+); }
        mod pylibmc { on_engine!(PyLibMc: $($test),+); }
        mod cached_db { on_engine!(CachedDb: $($test),+); }
    };
}

/// A test for each engine.
macro_rules! on_each_engine {
    ($($test:ident),+ $(,)?) => {
        on_each_store!($($test),+);
        mod signed_cookies { on_engine!(SignedCookies: $($test),+); }
    };
}

mod concurrency;
mod expiry;
mod headers;
mod login;
mod migrations;
mod outage;
mod secrets;
mod several;
mod sweep;
mod turns;
mod values;
