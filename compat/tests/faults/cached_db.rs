//! cached_db without its cache, and without its database.

use cloakroom_compat::live::site::{Deployment, Engine, Running};
use cloakroom_test_servers::{Kind, Server, require_or_skip};

use super::*;

struct Halves {
    database: Server,
    cache: Server,
    running: Running,
}

fn start() -> Option<Halves> {
    let (database, cache) = (require_or_skip(Kind::Postgres)?, require_or_skip(Kind::Redis)?);
    let url = format!("{}?pool=4&acquire_timeout=1&statement_timeout=1", database.database());
    let caches = format!(
        r#"{{"default": {{"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": "{}",
             "OPTIONS": {{"socket_timeout": 0.5, "socket_connect_timeout": 0.5}}}}}}"#,
        cache.url()
    );
    let deployment = Deployment::new(Engine::Db)
        .with("SESSION_ENGINE", "django.contrib.sessions.backends.cached_db")
        .with("DATABASE_URL", &url)
        .with("CACHES", &caches);
    deployment.command(&["migrate"]).ok();
    Some(Halves { database, cache, running: deployment.running() })
}

#[test]
fn faults_of_the_cache_leave_cached_db_working() {
    let Some(Halves { database: _database, cache, running }) = start() else { return };
    let mut owner = visitor_with_a_coat(&running);
    for (break_it, mend) in
        [(Server::kill as fn(&Server), Server::restart as fn(&Server)), (Server::freeze, Server::thaw)]
    {
        break_it(&cache);
        assert_eq!(data(&mut owner, &running), r#"{"coat":"red"}"#);
        works(&mut owner, &running, SET);
        assert_eq!(data(&mut owner, &running), r#"{"coat":"green"}"#);
        let mut new = visitor_with_a_coat(&running);
        works(&mut new, &running, ("cycle", &[]));
        assert_eq!(data(&mut new, &running), r#"{"coat":"red"}"#);
        others_are_not_affected(&running, &owner);
        mend(&cache);
        assert_eq!(data(&mut owner, &running), r#"{"coat":"green"}"#, "not what the cache held before");
        assert_eq!(data(&mut new, &running), r#"{"coat":"red"}"#);
        works(&mut owner, &running, ("set", &[("k", "coat"), ("v", "\"red\"")]));
    }
}

/// What is cached can be read. Nothing can be changed, and no sign-out is shown that did not happen.
#[test]
fn faults_of_the_database_leave_cached_db_readable() {
    let Some(Halves { database, cache: _cache, running }) = start() else { return };
    let mut owner = visitor_with_a_coat(&running);
    database.kill();
    for page in READING {
        works(&mut owner, &running, *page);
    }
    assert_eq!(data(&mut owner, &running), r#"{"coat":"red"}"#);
    all_say_unavailable(&running, &owner, WRITING);
    says_unavailable(&get(&mut Visitor::new(), &running, SET), &running);
    others_are_not_affected(&running, &owner);
    database.restart();
    assert_eq!(data(&mut owner, &running), r#"{"coat":"red"}"#);
    works(&mut owner, &running, SET);
    assert_eq!(data(&mut owner, &running), r#"{"coat":"green"}"#);
}

/// A session that was signed out is not served again, whichever half is away before or after.
#[test]
fn faults_serve_nothing_stale_after_a_sign_out() {
    let Some(Halves { database, cache, running }) = start() else { return };
    let (mut owner, mut other) = (visitor_with_a_coat(&running), visitor_with_a_coat(&running));
    let (left_open, still_there) = (owner.copy(), other.copy());
    works(&mut owner, &running, ("flush", &[]));
    database.kill();
    // Nobody can tell whether there is such a session, and what there was is not shown.
    all_say_unavailable(&running, &left_open, READING);
    database.restart();
    assert_eq!(data(&mut left_open.copy(), &running), "{}");

    // The cache does not learn of it, so the sign-out fails, though the row is deleted; tried again, it succeeds.
    cache.kill();
    says_unavailable(&get(&mut other, &running, ("flush", &[])), &running);
    assert_eq!(data(&mut still_there.copy(), &running), "{}", "the database decides");
    cache.restart();
    database.kill();
    all_say_unavailable(&running, &still_there, READING);
    database.restart();
    assert_eq!(data(&mut still_there.copy(), &running), "{}");
    works(&mut other, &running, ("flush", &[]));
}
