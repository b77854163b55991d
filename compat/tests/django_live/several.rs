//! Several cache servers: both sides look for a session on the same one.

use cloakroom_compat::live::http::Visitor;
use cloakroom_compat::live::memcached::Memcached;
use cloakroom_compat::live::site::{Engine, Pair};
use cloakroom_test_servers::{Kind, Server, require_or_skip};

#[test]
fn django_and_we_spread_sessions_as_pymemcache_does() {
    spread(Engine::PyMemcache, "django.core.cache.backends.memcached.PyMemcacheCache");
}

#[test]
fn django_and_we_spread_sessions_as_pylibmc_does() {
    spread(Engine::PyLibMc, "django.core.cache.backends.memcached.PyLibMCCache");
}

fn spread(engine: Engine, backend: &str) {
    let servers: Option<Vec<Server>> = (0..3).map(|_| require_or_skip(Kind::Memcached)).collect();
    let Some(servers) = servers else { return };
    let locations: Vec<String> = servers.iter().map(|server| format!("\"{}\"", server.address())).collect();
    let caches = format!(r#"{{"default": {{"BACKEND": "{backend}", "LOCATION": [{}]}}}}"#, locations.join(", "));
    let Some(pair) = Pair::start_with(engine, &[("CACHES", &caches)]) else { return };
    for (writer, reader) in pair.both_ways() {
        for number in 0..20 {
            let number = number.to_string();
            let mut visitor = Visitor::new();
            visitor.get(writer, "set", &[("k", "n"), ("v", &number)]).ok();
            assert_eq!(visitor.get(reader, "get", &[("k", "n")]).ok().member("value").to_string(), number);
        }
    }
    let counts = servers.iter().map(|server| Memcached::at(server.address()).items("").len()).collect::<Vec<_>>();
    assert_eq!(counts.iter().sum::<usize>(), 40, "every session lies on one server: {counts:?}");
    assert!(counts.iter().all(|count| *count > 0), "each server has some: {counts:?}");
}
