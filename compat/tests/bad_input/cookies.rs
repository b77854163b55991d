//! Cookies that nobody was given.

use cloakroom_compat::live::http::Visitor;
use cloakroom_compat::live::site::{Deployment, Engine, Running};

use super::{nothing, still_has_the_coat, visitor_with_a_coat};

const UNKNOWN: &str = "abcdefghijklmnopqrstuvwxyz012345";

fn strange_cookies() -> Vec<Vec<u8>> {
    let long = format!("sessionid={}", "a".repeat(10_000));
    let texts = [
        "",
        ";",
        "=;=;;; sessionid",
        "sessionid",
        "sessionid=",
        "sessionid=\"\"",
        "sessionid=sevench",
        "sessionid=\"",
        "sessionid=abcdefghijklmnopqrstuvwxyz012345",
        "sessionid=\"abcdefghijklmnopqrstuvwxyz012345\"",
        "sessionid=ABCDEFGHIJKLMNOPQRSTUVWXYZ012345",
        "sessionid=../../../../../../etc/passwd",
        "sessionid=..\\..\\..\\..\\windows\\win.ini",
        "sessionid=\"\\057\\057etc\\057passwd\\000\"",
        "sessionid=\"\\000\\000\\000\\000\\000\\000\\000\\000\"",
        "sessionid=' OR 1=1; DROP TABLE django_session; --",
        "sessionid=%00%00%00%00%00%00%00%00",
        "sessionid=héhéhéhéhé",
        "sessionid=日本語日本語日本語",
        "sessionid=e30:1abcde:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "sessionid=.eJw:1abcde:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        long.as_str(),
    ];
    let mut cookies: Vec<Vec<u8>> = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    // Not even UTF-8.
    cookies.push(b"sessionid=\xe9\xff\xfe\x80\xe9\xff\xfe\x80\xe9".to_vec());
    cookies
}

fn strange_cookies_are_nobody(engine: Engine) {
    let site = Deployment::migrated(engine).running();
    let mut owner = visitor_with_a_coat(&site);
    for cookie in strange_cookies() {
        let shown = String::from_utf8_lossy(&cookie[..cookie.len().min(80)]).into_owned();
        let before = site.deployment.stored();
        let reply = Visitor::new().get_with(&site, "noop", &[], &cookie).ok();
        let removed = reply.cookies().iter().all(|cookie| cookie.value == "\"\"" && cookie.max_age() == Some(0));
        assert!(removed, "untouched, a cookie too short for a key is removed at most: {shown}: {reply:#?}");
        let reply = Visitor::new().get_with(&site, "all", &[], &cookie).ok();
        assert_eq!(reply.member("data"), nothing(), "{shown}");
        assert_eq!(site.deployment.stored(), before, "reading stores nothing: {shown}");

        let reply = Visitor::new().get_with(&site, "set", &[("k", "a"), ("v", "1")], &cookie).ok();
        let [new] = reply.cookies().try_into().unwrap_or_else(|_| panic!("one cookie: {shown}: {reply:#?}"));
        assert!(!cookie.ends_with(new.value.as_bytes()), "a presented key is never adopted: {shown}");
        let mut visitor = Visitor::new();
        visitor.put("sessionid", &new.value);
        assert_eq!(visitor.get(&site, "all", &[]).ok().member("data").to_string(), r#"{"a":1}"#, "{shown}");
        visitor.get(&site, "flush", &[]).ok();
        assert_eq!(site.deployment.stored(), before, "nothing is left behind: {shown}");
    }
    still_has_the_coat(&mut owner, &site);
    assert!(site.is_running());
}

#[test]
fn bad_cookies_on_db_are_nobody() {
    strange_cookies_are_nobody(Engine::Db);
}

#[test]
fn bad_cookies_on_file_are_nobody() {
    strange_cookies_are_nobody(Engine::File);
}

#[test]
fn bad_cookies_on_cache_are_nobody() {
    strange_cookies_are_nobody(Engine::Cache);
}

#[test]
fn bad_cookies_on_signed_cookies_are_nobody() {
    strange_cookies_are_nobody(Engine::SignedCookies);
}

#[test]
fn bad_double_cookie_is_decided_as_django_does() {
    for engine in [Engine::Db, Engine::File, Engine::Cache, Engine::SignedCookies] {
        let site = Deployment::migrated(engine).running();
        let mut owner = visitor_with_a_coat(&site);
        let real = owner.session();
        let ask = |site: &Running, cookie: String| {
            Visitor::new().get_with(site, "all", &[], cookie.as_bytes()).ok().member("data").to_string()
        };
        let coat = r#"{"coat":"red"}"#;
        assert_eq!(ask(&site, format!("sessionid={UNKNOWN}; sessionid={real}")), coat, "{engine:?}: the later counts");
        assert_eq!(ask(&site, format!("sessionid={real}; sessionid={UNKNOWN}")), "{}", "{engine:?}: the later counts");
        assert_eq!(ask(&site, format!("sessionid=\"{real}\"")), coat, "{engine:?}: quotes are no part of the value");
        assert_eq!(ask(&site, format!("other=1; sessionid={real}; Sessionid=x")), coat, "{engine:?}: names have case");
        still_has_the_coat(&mut owner, &site);
    }
}
