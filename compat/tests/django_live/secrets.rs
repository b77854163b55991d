//! A change of the secret, one side after the other.

use cloakroom_compat::live::http::Visitor;
use cloakroom_compat::live::json::Json;
use cloakroom_compat::live::site::{Deployment, Engine, SECRET, Site};

use super::login::{login_at, new_password};

on_each_engine!(django_and_we_change_the_secret);

const NEW: &str = "a fresh secret, made when the old one had been seen by too many eyes";

/// Django and ours over one store, three times: with the old secret, with the new one and the old one as a fallback,
/// and with the new one alone.
struct Change {
    before: [Site; 2],
    between: [Site; 2],
    after: [Site; 2],
    deployment: Deployment,
}

const DJANGO: usize = 0;
/// Who is first, and who is second.
const BOTH_WAYS: [(usize, usize); 2] = [(DJANGO, 1), (1, DJANGO)];

fn django_and_we_change_the_secret(engine: Engine) {
    if !engine.is_available() {
        return;
    }
    let mut deployment = Deployment::new(engine);
    deployment.manage(&["migrate", "--verbosity", "0"]).ok();
    let both = |deployment: &Deployment| [deployment.django(), deployment.cloakroom()];
    let before = both(&deployment);
    deployment.set("SECRET_KEY", NEW);
    let after = both(&deployment);
    // The old secret is the third in a row of three.
    deployment.set("SECRET_KEY_FALLBACKS", &format!("[\"unrelated\",\"{SECRET}\"]"));
    let between = both(&deployment);
    let change = Change { before, between, after, deployment };
    each_accepts_the_others_old_secret(&change);
    a_login_outlives_a_change_of_the_secret(&change);
    each_refuses_an_unknown_secret(&change);
}

fn each_accepts_the_others_old_secret(Change { before, between, after, deployment }: &Change) {
    for (first, second) in BOTH_WAYS {
        let mut visitor = Visitor::new();
        visitor.get(&before[first], "set", &[("k", "a"), ("v", "[1,2]")]).ok();
        let signed_before = visitor.copy();

        // A cache in front of a database is not signed: it must not answer for the row.
        deployment.forget_cache();
        assert_eq!(visitor.get(&between[second], "get", &[("k", "a")]).ok().member("value").to_string(), "[1,2]");
        visitor.get(&between[second], "set", &[("k", "b"), ("v", "3")]).ok();

        // What was written is signed with the new secret alone.
        deployment.forget_cache();
        let data = visitor.get(&after[first], "all", &[]).ok().member("data");
        assert_eq!(data.to_string(), r#"{"a":[1,2],"b":3}"#);
        if !deployment.engine().keeps_records() {
            // The cookie from before is still the old text, and nobody knows that secret any more.
            let data = signed_before.copy().get(&after[first], "all", &[]).ok().member("data");
            assert_eq!(data, Json::Map(Vec::new()));
        }
    }
}

/// A login under a secret that is a fallback now holds, gets another key, and from then on holds without it.
fn a_login_outlives_a_change_of_the_secret(Change { before, between, after, .. }: &Change) {
    let field = new_password(&mut Visitor::new(), &before[DJANGO], "5", "correct horse", false);
    for (first, second) in BOTH_WAYS {
        let mut visitor = Visitor::new();
        visitor.get(&before[first], "login", &[("u", "5"), ("p", &field)]).ok();
        let key = visitor.session();
        assert_eq!(login_at(&mut visitor, &between[second], &field), (Json::from_text("5"), Json::Bool(true)));
        assert_ne!(visitor.session(), key, "it gets another key");
        for site in after {
            assert_eq!(login_at(&mut visitor, site, &field), (Json::from_text("5"), Json::Bool(true)));
        }
    }
}

fn each_refuses_an_unknown_secret(Change { before, after, deployment, .. }: &Change) {
    for (first, second) in BOTH_WAYS {
        let mut visitor = Visitor::new();
        visitor.get(&before[first], "set", &[("k", "a"), ("v", "1")]).ok();
        deployment.forget_cache();
        let seen = visitor.copy().get(&after[second], "all", &[]).ok().member("data");
        match deployment.engine().signs() {
            true => assert_eq!(seen, Json::Map(Vec::new())),
            // Who can read a cache can read its sessions, with Django as with us.
            false => assert_eq!(seen.to_string(), r#"{"a":1}"#),
        }
        // As an empty session, Django puts even a row that it cannot read into the cache in front.
        deployment.forget_cache();
        let data = visitor.get(&before[first], "all", &[]).ok().member("data");
        assert_eq!(data.to_string(), r#"{"a":1}"#, "nothing is harmed");
    }
}
