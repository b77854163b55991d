//! The same request gives the same status, `Set-Cookie` and `Vary` on both sides.

use cloakroom_compat::live::http::{Reply, Visitor};
use cloakroom_compat::live::site::{Engine, Pair, Site};

on_each_engine!(django_and_we_send_the_same_headers);

/// Everything of an answer that must agree: values and dates differ by nature, so they are replaced by their kind.
fn shape(reply: &Reply) -> String {
    let cookies: Vec<String> = reply
        .cookies()
        .into_iter()
        .map(|cookie| {
            let value = if cookie.value == "\"\"" { "removed" } else { "value" };
            let attributes = cookie.attributes.iter().map(|(name, value)| match name.as_str() {
                "expires" if !value.starts_with("Thu, 01 Jan 1970") => format!("{name}={} characters", value.len()),
                _ => format!("{name}={value}"),
            });
            format!("{}={value}; {}", cookie.name, attributes.collect::<Vec<_>>().join("; "))
        })
        .collect();
    format!("{} {cookies:?} vary {:?}", reply.status, reply.header("vary"))
}

/// A visit: what the visitor brings, and the pages of which the last is compared.
type Visit = (&'static str, &'static [(&'static str, &'static [(&'static str, &'static str)])]);

const SET: (&str, &[(&str, &str)]) = ("set", &[("k", "a"), ("v", "1")]);
const VISITS: &[Visit] = &[
    ("", &[("noop", &[])]),
    ("", &[("all", &[])]),
    ("", &[SET]),
    ("", &[("flush", &[])]),
    ("", &[("clear", &[])]),
    ("", &[("cycle", &[])]),
    ("", &[("set", &[("k", "a"), ("v", "1"), ("status", "404")])]),
    ("", &[("set", &[("k", "a"), ("v", "1"), ("status", "500")])]),
    ("", &[SET, ("noop", &[])]),
    ("", &[SET, ("all", &[])]),
    ("", &[SET, SET]),
    ("", &[SET, ("del", &[("k", "a")])]),
    ("", &[SET, ("del", &[("k", "missing")])]),
    ("", &[SET, ("clear", &[])]),
    ("", &[SET, ("cycle", &[])]),
    ("", &[SET, ("flush", &[])]),
    ("", &[SET, ("flush", &[("status", "503")])]),
    ("", &[SET, ("set", &[("k", "b"), ("v", "1"), ("status", "503")])]),
    ("", &[SET, ("expiry", &[("s", "0")])]),
    ("", &[SET, ("expiry", &[("s", "100")])]),
    ("", &[SET, ("expiry", &[("s", "none")])]),
    ("", &[("login", &[("u", "1")]), ("logout", &[])]),
    ("unknownunknownunknownunknown1234", &[("noop", &[])]),
    ("unknownunknownunknownunknown1234", &[SET]),
    ("short", &[("all", &[])]),
    ("short", &[SET]),
    ("", &[("testcookie", &[("op", "set")]), ("testcookie", &[("op", "check")])]),
];

fn visit(site: &Site, (cookie, pages): &Visit) -> String {
    let mut visitor = Visitor::new();
    if !cookie.is_empty() {
        visitor.put("sessionid", cookie);
    }
    let replies: Vec<Reply> = pages.iter().map(|(page, query)| visitor.get(site, page, query)).collect();
    shape(replies.last().expect("at least one page"))
}

fn django_and_we_send_the_same_headers(engine: Engine) {
    let settings: &[&[(&str, &str)]] = &[
        &[],
        &[
            ("SESSION_COOKIE_NAME", "sessionid"),
            ("SESSION_COOKIE_PATH", "/shop/"),
            ("SESSION_COOKIE_DOMAIN", ".example.org"),
            ("SESSION_COOKIE_SECURE", "True"),
            ("SESSION_COOKIE_SAMESITE", "Strict"),
            ("SESSION_COOKIE_HTTPONLY", "False"),
            ("SESSION_COOKIE_AGE", "600"),
        ],
        &[("SESSION_EXPIRE_AT_BROWSER_CLOSE", "True"), ("SESSION_SAVE_EVERY_REQUEST", "True")],
    ];
    for settings in settings {
        let Some(pair) = Pair::start_with(engine, settings) else { return };
        for (number, one) in VISITS.iter().enumerate() {
            let (django, cloakroom) = (visit(&pair.django, one), visit(&pair.cloakroom, one));
            assert_eq!(cloakroom, django, "visit {number} with {settings:?}: {one:?}");
        }
    }
}
