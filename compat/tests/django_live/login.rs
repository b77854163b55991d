//! One login for both sides: logging in and out, rotation, flush.

use cloakroom_compat::live::http::Visitor;
use cloakroom_compat::live::json::Json;
use cloakroom_compat::live::site::{Engine, Pair, Site};

on_each_engine!(django_and_we_agree_on_logins);

fn django_and_we_agree_on_logins(engine: Engine) {
    let Some(pair) = Pair::start(engine) else { return };
    a_login_there_is_a_login_here(&pair);
    a_login_is_trusted_after_a_write(&pair);
    a_real_user_is_logged_in_on_both_sides(&pair);
    a_new_password_ends_logins_on_both_sides(&pair);
    a_login_changes_the_session_alike_on_both_sides(&pair);
    each_rotates_for_the_other(&pair);
    each_flushes_for_the_other(&pair);
}

fn user(visitor: &mut Visitor, site: &Site) -> Json {
    visitor.get(site, "whoami", &[]).ok().member("user")
}

fn a_login_there_is_a_login_here(pair: &Pair) {
    for (first, second) in pair.both_ways() {
        let mut visitor = Visitor::new();
        visitor.get(second, "set", &[("k", "basket"), ("v", "[1]")]).ok();
        let anonymous = visitor.session();
        visitor.get(first, "login", &[("u", "7")]).ok();
        assert_ne!(visitor.session(), anonymous, "a login changes the key");
        for site in [first, second] {
            assert_eq!(user(&mut visitor, site), Json::from_text("7"));
            let basket = visitor.get(site, "get", &[("k", "basket")]).ok().member("value");
            assert_eq!(basket.to_string(), "[1]", "what the anonymous visitor had is kept");
        }
        if pair.deployment.engine().keeps_records() {
            let mut thief = Visitor::new();
            thief.put("sessionid", &anonymous);
            assert_eq!(user(&mut thief, first), Json::Null, "the key from before the login is worth nothing");
        }
        visitor.get(second, "logout", &[]).ok();
        assert_eq!(visitor.cookie("sessionid"), None, "a logout takes the cookie away");
        for site in [first, second] {
            assert_eq!(user(&mut visitor, site), Json::Null);
        }
    }
}

fn a_login_is_trusted_after_a_write(pair: &Pair) {
    let password = [("p", "md5$salt$5f4dcc3b5aa765d61d8327deb882cf99")];
    let mut visitor = Visitor::new();
    visitor.get(&pair.django, "login", &[("u", "3"), password[0]]).ok();
    visitor.get(&pair.cloakroom, "set", &[("k", "seen"), ("v", "true")]).ok();
    visitor.get(&pair.cloakroom, "cycle", &[]).ok();
    let answer = visitor.get(&pair.django, "whoami", &password).ok();
    assert_eq!(answer.member("valid"), Json::Bool(true), "Django checks its hash in the session that we wrote");
    assert_eq!(answer.member("user"), Json::from_text("3"));

    // A new password ends the login on Django's side, and what Django then removes is gone here too.
    let answer = visitor.get(&pair.django, "whoami", &[("p", "md5$salt$another")]).ok();
    assert_eq!(answer.member("valid"), Json::Bool(false));
    assert_eq!(user(&mut visitor, &pair.cloakroom), Json::Null);
}

/// Gives a user of Django a password, and tells the field in Django's table of users.
pub(super) fn new_password(visitor: &mut Visitor, django: &Site, user: &str, raw: &str, keep: bool) -> String {
    let mut query = vec![("u", user), ("raw", raw)];
    query.extend(keep.then_some(("keep", "1")));
    let field = visitor.get(django, "password", &query).ok().member("password");
    let field = field.as_text().expect("a password field").to_owned();
    assert!(field.starts_with("pbkdf2_sha256$"), "{field}");
    field
}

/// The user of the session, and whether a site says that the login holds.
pub(super) fn login_at(visitor: &mut Visitor, site: &Site, field: &str) -> (Json, Json) {
    let answer = visitor.get(site, "whoami", &[("p", field)]).ok();
    (answer.member("user"), answer.member("valid"))
}

fn a_real_user_is_logged_in_on_both_sides(pair: &Pair) {
    let field = new_password(&mut Visitor::new(), &pair.django, "5", "correct horse", false);
    for (first, second) in pair.both_ways() {
        let mut visitor = Visitor::new();
        visitor.get(second, "set", &[("k", "basket"), ("v", "[1]")]).ok();
        visitor.get(first, "login", &[("u", "5"), ("p", &field)]).ok();
        for site in [second, first, second] {
            assert_eq!(login_at(&mut visitor, site, &field), (Json::from_text("5"), Json::Bool(true)));
        }
        let data = |visitor: &mut Visitor| visitor.get(first, "all", &[]).ok().member("data").to_string();
        assert!(data(&mut visitor).starts_with(r#"{"basket":[1],"_auth_user_id":"5","_auth_user_backend":"django."#));
        assert_eq!(visitor.get(second, "whoami", &[]).ok().member("valid"), Json::Null, "without p nobody can say");
    }
}

fn a_new_password_ends_logins_on_both_sides(pair: &Pair) {
    let (django, ours) = (&pair.django, &pair.cloakroom);
    let (mut here, mut there) = (Visitor::new(), Visitor::new());
    let old = new_password(&mut there, django, "5", "correct horse", false);
    here.get(ours, "login", &[("u", "5"), ("p", &old)]).ok();
    here.get(ours, "set", &[("k", "private"), ("v", "1")]).ok();
    there.get(django, "login", &[("u", "5"), ("p", &old)]).ok();
    let before = there.session();

    let new = new_password(&mut there, django, "5", "battery staple", true);
    assert_ne!(there.session(), before, "a change of the password changes the key");
    assert_eq!(login_at(&mut there, ours, &new), (Json::from_text("5"), Json::Bool(true)), "who changed it stays");

    assert_eq!(login_at(&mut here, ours, &new), (Json::from_text("5"), Json::Bool(false)));
    assert_eq!(here.cookie("sessionid"), None, "the session that was logged in is over");
    for site in [ours, django] {
        assert_eq!(here.get(site, "all", &[]).ok().member("data"), Json::Map(Vec::new()));
    }
    let answer = there.get(django, "whoami", &[("p", &new)]).ok();
    assert_eq!(answer.member("valid"), Json::Bool(true), "and so Django goes on");
}

/// What a login does to a session that has one, step by step, each step on either side.
fn a_login_changes_the_session_alike_on_both_sides(pair: &Pair) {
    let one = new_password(&mut Visitor::new(), &pair.django, "1", "one", false);
    let two = new_password(&mut Visitor::new(), &pair.django, "2", "two", false);
    for (first, second) in pair.both_ways() {
        for (again, other) in [(first, second), (second, first), (second, second)] {
            let mut visitor = Visitor::new();
            visitor.get(first, "login", &[("u", "1"), ("p", &one)]).ok();
            visitor.get(first, "set", &[("k", "private"), ("v", "1")]).ok();
            let before = visitor.session();
            visitor.get(again, "login", &[("u", "1"), ("p", &one)]).ok();
            if pair.deployment.engine().keeps_records() {
                assert_eq!(visitor.session(), before, "the same user keeps the key");
            }
            let private = visitor.get(first, "get", &[("k", "private")]).ok().member("value");
            assert_eq!(private.to_string(), "1", "and the data");

            visitor.get(other, "login", &[("u", "2"), ("p", &two)]).ok();
            assert_ne!(visitor.session(), before);
            for site in [first, second] {
                let found = visitor.get(site, "get", &[("k", "private")]).ok().member("found");
                assert_eq!(found, Json::Bool(false), "another user finds nothing of the former");
                assert_eq!(login_at(&mut visitor, site, &two), (Json::from_text("2"), Json::Bool(true)));
            }
        }
    }
}

fn each_rotates_for_the_other(pair: &Pair) {
    for (first, second) in pair.both_ways() {
        let mut visitor = Visitor::new();
        visitor.get(first, "set", &[("k", "a"), ("v", "{\"z\":1,\"b\":2}")]).ok();
        let before = visitor.copy();
        visitor.get(second, "cycle", &[]).ok();
        for site in [first, second] {
            assert_eq!(visitor.get(site, "all", &[]).ok().member("data").to_string(), r#"{"a":{"z":1,"b":2}}"#);
        }
        if pair.deployment.engine().keeps_records() {
            assert_ne!(visitor.session(), before.session());
            for site in [first, second] {
                assert_eq!(before.copy().get(site, "all", &[]).ok().member("data"), Json::Map(Vec::new()));
            }
        }
    }
}

fn each_flushes_for_the_other(pair: &Pair) {
    for (first, second) in pair.both_ways() {
        let mut visitor = Visitor::new();
        visitor.get(first, "set", &[("k", "a"), ("v", "1")]).ok();
        let before = visitor.copy();
        visitor.get(second, "flush", &[]).ok();
        assert_eq!(visitor.cookie("sessionid"), None, "a flush takes the cookie away");
        if pair.deployment.engine().keeps_records() {
            let kept = pair.deployment.stored().into_iter().any(|(key, _)| key == before.session());
            assert!(!kept, "a flush removes the record");
            for site in [first, second] {
                assert_eq!(before.copy().get(site, "all", &[]).ok().member("data"), Json::Map(Vec::new()));
            }
            // Nor does a write with the dead cookie bring it back: it makes a session of its own.
            let mut late = before.copy();
            late.get(first, "set", &[("k", "b"), ("v", "2")]).ok();
            assert_ne!(late.session(), before.session());
            assert_eq!(late.get(second, "all", &[]).ok().member("data").to_string(), r#"{"b":2}"#);
            late.get(first, "flush", &[]).ok();
        }
    }
}
