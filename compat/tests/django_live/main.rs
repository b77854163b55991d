//! A real Django and `cloakroom serve` over one store, with one cookie: what one side writes, the other reads.
//!
//! Every test starts both sites for itself, on ports of their own. `./test` makes the Python that Django needs; without
//! it, a plain `cargo test` says which tests it left out.

/// A test for each engine.
macro_rules! on_each_engine {
    ($($test:ident),+ $(,)?) => {
        mod db { $(#[test] fn $test() { super::$test(cloakroom_compat::live::site::Engine::Db); })+ }
        mod file { $(#[test] fn $test() { super::$test(cloakroom_compat::live::site::Engine::File); })+ }
        mod signed_cookies { $(#[test] fn $test() { super::$test(cloakroom_compat::live::site::Engine::SignedCookies); })+ }
        mod pymemcache { $(#[test] fn $test() { super::$test(cloakroom_compat::live::site::Engine::PyMemcache); })+ }
        mod pylibmc { $(#[test] fn $test() { super::$test(cloakroom_compat::live::site::Engine::PyLibMc); })+ }
    };
}

mod concurrency;
mod expiry;
mod headers;
mod login;
mod migrations;
mod secrets;
mod several;
mod sweep;
mod turns;
mod values;
