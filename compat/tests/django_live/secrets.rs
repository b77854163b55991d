//! Rotating the secret, one side after the other.

use cloakroom_compat::live::http::Visitor;
use cloakroom_compat::live::json::Json;
use cloakroom_compat::live::site::{Deployment, Engine, SECRET, Site};

on_each_engine!(django_and_we_accept_each_others_old_secret, django_and_we_refuse_an_unknown_secret);

const NEW: &str = "a fresh secret, made when the old one had been seen by too many eyes";

type Starter = fn(&Deployment) -> Site;

fn deployment(engine: Engine) -> Deployment {
    let deployment = Deployment::new(engine);
    deployment.manage(&["migrate", "--verbosity", "0"]).ok();
    deployment
}

fn django_and_we_accept_each_others_old_secret(engine: Engine) {
    if !engine.is_available() {
        return;
    }
    let mut deployment = deployment(engine);
    let both: [(Starter, Starter); 2] =
        [(Deployment::django, Deployment::cloakroom), (Deployment::cloakroom, Deployment::django)];
    for (first, second) in both {
        let mut visitor = Visitor::new();
        deployment.set("SECRET_KEY", SECRET);
        deployment.set("SECRET_KEY_FALLBACKS", "");
        let old = first(&deployment);
        visitor.get(&old, "set", &[("k", "a"), ("v", "[1,2]")]).ok();
        let signed_before = visitor.copy();

        // The second side moves on to the new secret and still knows the old one, third in a row of three.
        deployment.set("SECRET_KEY", NEW);
        deployment.set("SECRET_KEY_FALLBACKS", &format!("[\"unrelated\",\"{SECRET}\"]"));
        let rotated = second(&deployment);
        // A cache in front of a database is not signed: it must not answer for the row here.
        deployment.forget_cache();
        assert_eq!(visitor.get(&rotated, "get", &[("k", "a")]).ok().member("value").to_string(), "[1,2]");
        visitor.get(&rotated, "set", &[("k", "b"), ("v", "3")]).ok();
        let expected = r#"{"a":[1,2],"b":3}"#;

        // What was written is signed with the new secret alone.
        deployment.set("SECRET_KEY_FALLBACKS", "");
        let new = first(&deployment);
        deployment.forget_cache();
        assert_eq!(visitor.get(&new, "all", &[]).ok().member("data").to_string(), expected);
        if !engine.keeps_records() {
            // The cookie from before is still the old text, and nobody knows that secret any more.
            let mut copy = signed_before.copy();
            assert_eq!(copy.get(&new, "all", &[]).ok().member("data"), Json::Map(Vec::new()));
        }
    }
}

fn django_and_we_refuse_an_unknown_secret(engine: Engine) {
    if !engine.is_available() {
        return;
    }
    let mut deployment = deployment(engine);
    let (django, cloakroom) = (deployment.django(), deployment.cloakroom());
    deployment.set("SECRET_KEY", NEW);
    let (other_django, other_cloakroom) = (deployment.django(), deployment.cloakroom());
    for (writer, stranger) in [(&django, &other_cloakroom), (&cloakroom, &other_django)] {
        let mut visitor = Visitor::new();
        visitor.get(writer, "set", &[("k", "a"), ("v", "1")]).ok();
        deployment.forget_cache();
        let seen = visitor.copy().get(stranger, "all", &[]).ok().member("data");
        match engine.signs() {
            true => assert_eq!(seen, Json::Map(Vec::new())),
            // Who can read a cache can read its sessions, with Django as with us.
            false => assert_eq!(seen.to_string(), r#"{"a":1}"#),
        }
        // As an empty session, Django puts even a row that it cannot read into the cache in front.
        deployment.forget_cache();
        assert_eq!(visitor.get(writer, "all", &[]).ok().member("data").to_string(), r#"{"a":1}"#, "nothing is harmed");
    }
}
