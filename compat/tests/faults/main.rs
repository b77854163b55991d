//! A running site while its store is down, frozen, slow, read-only or full: who needs a session is told so in bounded
//! time and learns nothing else, nobody's cookie is touched, and when the store is back the next request works.

mod anonymous;
mod cached_db;
mod disks;
mod lag;
mod servers;

use std::time::{Duration, Instant};

use cloakroom_compat::live::http::{Reply, Visitor};
use cloakroom_compat::live::site::{Deployment, Site};
use cloakroom_test_servers::{Kind, Server};

type Query = &'static [(&'static str, &'static str)];
type Page = (&'static str, Query);

/// Pages that only look at the session.
const READING: &[Page] = &[("all", &[]), ("get", &[("k", "coat")]), ("info", &[]), ("whoami", &[])];
/// Pages that change it, each in its own way.
const WRITING: &[Page] = &[
    SET,
    ("incr", &[("k", "n")]),
    ("del", &[("k", "coat")]),
    ("expiry", &[("s", "60")]),
    ("cycle", &[]),
    ("clear", &[]),
    ("save", &[]),
    ("flush", &[]),
    ("logout", &[]),
];
const SET: Page = ("set", &[("k", "coat"), ("v", "\"green\"")]);

/// Far more than the time limits that these sites are given, and far less than for ever.
const BOUND: Duration = Duration::from_secs(20);

/// A new visitor whose session holds `{"coat": "red"}`.
fn visitor_with_a_coat(site: &Site) -> Visitor {
    let mut visitor = Visitor::new();
    works(&mut visitor, site, ("set", &[("k", "coat"), ("v", "\"red\"")]));
    visitor
}

/// The answer to a page that has to work.
#[track_caller]
fn works(visitor: &mut Visitor, site: &Site, page: Page) -> Reply {
    let reply = get(visitor, site, page);
    assert_eq!(reply.status, 200, "{page:?}: {reply:#?}\n{}", site.log());
    reply
}

/// What the session of a visitor holds.
#[track_caller]
fn data(visitor: &mut Visitor, site: &Site) -> String {
    works(visitor, site, ("all", &[])).member("data").to_string()
}

#[track_caller]
fn get(visitor: &mut Visitor, site: &Site, (page, query): Page) -> Reply {
    let start = Instant::now();
    let reply = visitor.get(site, page, query);
    assert!(start.elapsed() < BOUND, "{page} took {:?}", start.elapsed());
    reply
}

/// The answer of a site whose store does not work.
#[track_caller]
fn says_unavailable(reply: &Reply, site: &Site) {
    assert_eq!(reply.status, 503, "{reply:#?}\n{}", site.log());
    assert!(["", "Service Unavailable"].contains(&&*reply.body), "a visitor is told nothing more: {reply:#?}");
    assert!(reply.cookies().is_empty(), "{reply:#?}");
}

/// Whoever needs no session does not notice.
#[track_caller]
fn others_are_not_affected(site: &Site, owner: &Visitor) {
    for mut visitor in [owner.copy(), Visitor::new()] {
        let reply = works(&mut visitor, site, ("noop", &[]));
        assert!(reply.cookies().is_empty(), "{reply:#?}");
    }
    // Without a cookie there is nothing to ask the store for.
    let reply = works(&mut Visitor::new(), site, ("all", &[]));
    assert!(reply.cookies().is_empty(), "{reply:#?}");
}

/// Pages that cannot work say so, and the visitor keeps the cookie.
#[track_caller]
fn all_say_unavailable(site: &Site, owner: &Visitor, pages: &[Page]) {
    for page in pages {
        let mut owner = owner.copy();
        let before = owner.session();
        says_unavailable(&get(&mut owner, site, *page), site);
        assert_eq!(owner.session(), before, "{page:?}");
    }
}

/// A site on a server of its own, which gives up waiting soon.
fn deployment(server: &Server) -> Deployment {
    deployment_at(server.kind(), &server.database())
}

fn deployment_at(kind: Kind, place: &str) -> Deployment {
    use cloakroom_compat::live::site::Engine;

    let cache = |backend: &str, options: &str| {
        let place = place.trim_start_matches("memcached://");
        let caches = format!(
            r#"{{"default": {{"BACKEND": "django.core.cache.backends.{backend}", "LOCATION": "{place}",
                 "OPTIONS": {{{options}}}}}}}"#
        );
        Deployment::new(Engine::Cache).with("CACHES", &caches)
    };
    match kind {
        Kind::Postgres | Kind::MariaDb => {
            let url = format!("{place}?pool=4&acquire_timeout=1&statement_timeout=1");
            let deployment = Deployment::new(Engine::Db).with("DATABASE_URL", &url);
            deployment.command(&["migrate"]).ok();
            deployment
        }
        Kind::Redis | Kind::Valkey => {
            cache("redis.RedisCache", r#""socket_timeout": 0.5, "socket_connect_timeout": 0.5"#)
        }
        Kind::Memcached => cache("memcached.PyMemcacheCache", r#""timeout": 0.5, "connect_timeout": 0.5"#),
    }
}
