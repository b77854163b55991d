//! Records that were cut, changed, or written under another secret; and very large ones.

use cloakroom_compat::live::http::Visitor;
use cloakroom_compat::live::json::Json;
use cloakroom_compat::live::random::Random;
use cloakroom_compat::live::site::{Deployment, Engine};

use super::{nothing, still_has_the_coat, visitor_with_a_coat};

/// Puts other bytes in the place of a record, past the site.
fn overwrite(deployment: &Deployment, key: &str, content: &str) {
    match deployment.engine() {
        Engine::Db => {
            let sql = "UPDATE django_session SET session_data = ? WHERE session_key = ?";
            assert_eq!(deployment.database().execute(sql, &[content, key]), 1);
        }
        Engine::File => std::fs::write(deployment.files().join(format!("sessionid{key}")), content).expect("a file"),
        engine => panic!("{engine:?} keeps nothing that could be overwritten"),
    }
}

/// The text and every way to spoil it that a signature must notice.
fn spoiled(text: &str) -> Vec<String> {
    let (body, signature) = text.rsplit_once(':').expect("a signed text");
    let flipped = if body.starts_with('e') { body.replacen('e', "f", 1) } else { format!("e{body}") };
    vec![
        String::new(),
        "x".to_owned(),
        "::".to_owned(),
        text[..text.len() / 2].to_owned(),
        text[..text.len() - 1].to_owned(),
        format!("{text}x"),
        format!("{flipped}:{signature}"),
        format!("{body}:{}", signature.to_uppercase()),
        body.to_owned(),
        text.to_uppercase(),
        "é€😀".repeat(20),
        "A".repeat(1_000_000),
    ]
}

fn damaged_record_is_left_alone(engine: Engine) {
    let site = Deployment::migrated(engine).running();
    let owner = visitor_with_a_coat(&site);
    let key = owner.session();
    let content = |key: &str| {
        let found = site.deployment.stored().into_iter().find(|(known, _)| known == key);
        found.map(|(_, content)| content)
    };
    let original = content(&key).expect("a record");
    for damage in spoiled(&original) {
        let shown = damage.chars().take(60).collect::<String>();
        overwrite(&site.deployment, &key, &damage);
        let reply = owner.copy().get(&site, "all", &[]).ok();
        assert_eq!(reply.member("data"), nothing(), "{shown}");
        assert!(reply.cookies().is_empty(), "the visitor keeps the cookie: {shown}: {reply:#?}");

        let mut writer = owner.copy();
        writer.get(&site, "set", &[("k", "a"), ("v", "1")]).ok();
        assert_ne!(writer.session(), key, "what is written goes to a new key: {shown}");
        assert_eq!(writer.get(&site, "all", &[]).ok().member("data").to_string(), r#"{"a":1}"#, "{shown}");
        assert_eq!(content(&key).as_deref(), Some(&*damage), "the damaged record stays for whoever looks into it");
        writer.get(&site, "flush", &[]).ok();
    }
    site.wait_for_log("a hint", |line| line.contains("SECRET_KEY"));
    overwrite(&site.deployment, &key, &original);
    still_has_the_coat(&mut owner.copy(), &site);
}

#[test]
fn bad_row_is_left_alone() {
    damaged_record_is_left_alone(Engine::Db);
}

#[test]
fn bad_file_is_left_alone() {
    damaged_record_is_left_alone(Engine::File);
}

#[test]
fn bad_signed_cookie_is_nobody() {
    let site = Deployment::new(Engine::SignedCookies).running();
    let mut owner = visitor_with_a_coat(&site);
    for damage in spoiled(&owner.session()).into_iter().filter(|damage| damage.len() < 10_000) {
        let cookie = format!("sessionid={damage}");
        let reply = Visitor::new().get_with(&site, "all", &[], cookie.as_bytes()).ok();
        assert_eq!(reply.member("data"), nothing(), "{damage}");
        let reply = Visitor::new().get_with(&site, "set", &[("k", "a"), ("v", "1")], cookie.as_bytes()).ok();
        let mut visitor = Visitor::new();
        visitor.put("sessionid", &reply.cookies()[0].value);
        assert_eq!(visitor.get(&site, "all", &[]).ok().member("data").to_string(), r#"{"a":1}"#, "{damage}");
    }
    still_has_the_coat(&mut owner, &site);
}

#[test]
fn bad_secret_destroys_nothing() {
    for engine in [Engine::Db, Engine::File, Engine::SignedCookies] {
        let mut deployment = Deployment::migrated(engine);
        let site = deployment.cloakroom();
        let owner = visitor_with_a_coat(&site);
        drop(site);
        let secret = deployment.setting("SECRET_KEY").to_owned();
        let before = deployment.stored();

        deployment.set("SECRET_KEY", "a deployment that went out with the wrong secret by mistake");
        let wrong = deployment.cloakroom();
        assert_eq!(owner.copy().get(&wrong, "all", &[]).ok().member("data"), nothing(), "{engine:?}");
        let mut writer = owner.copy();
        writer.get(&wrong, "set", &[("k", "a"), ("v", "1")]).ok();
        assert_ne!(writer.session(), owner.session(), "{engine:?}");
        for page in ["save", "clear", "cycle"] {
            owner.copy().get(&wrong, page, &[]);
        }
        if engine.keeps_records() {
            // A cookie that does not verify is no news: anybody can send one.
            wrong.wait_for_log("a hint", |line| line.contains("SECRET_KEY"));
        }
        drop(wrong);
        let after = deployment.stored();
        assert!(before.iter().all(|record| after.contains(record)), "{engine:?}: the record stays byte for byte");

        deployment.set("SECRET_KEY", &secret);
        still_has_the_coat(&mut owner.copy(), &deployment.cloakroom());
    }
}

#[test]
fn bad_value_is_refused_and_changes_nothing() {
    let site = Deployment::migrated(Engine::Db).running();
    let mut visitor = visitor_with_a_coat(&site);
    for value in ["", "{", "[1,]", "'a'", "nul", "1 2", "\"\u{1}\"", "01", "\"\\x\""] {
        assert_eq!(visitor.get(&site, "set", &[("k", "bad"), ("v", value)]).status, 400, "{value:?}");
    }
    still_has_the_coat(&mut visitor, &site);
}

#[test]
fn bad_size_of_a_megabyte_is_carried() {
    for engine in [Engine::Db, Engine::File, Engine::Cache] {
        let site = Deployment::migrated(engine).running();
        let mut visitor = visitor_with_a_coat(&site);
        visitor.get(&site, "bulk", &[("n", "16"), ("size", "65536")]).ok();
        visitor.get(&site, "set", &[("k", "after"), ("v", "1")]).ok();
        let reply = visitor.get(&site, "all", &[]).ok();
        assert!(reply.body.len() >= 1 << 20, "{engine:?}: {} bytes", reply.body.len());
        let names = reply.member("data").keys();
        assert_eq!(names.len(), 18, "{engine:?}: {names:?}");
        let kept = visitor.get(&site, "get", &[("k", "coat")]).ok().member("value");
        assert_eq!(kept, Json::from_text("red"), "{engine:?}");
    }
}

#[test]
fn bad_size_of_a_cookie_is_an_error_that_names_the_largest_key() {
    let site = Deployment::new(Engine::SignedCookies).running();
    let mut visitor = visitor_with_a_coat(&site);
    let large = format!("\"{}\"", Random::from_env("a large cookie").text(6000));
    let reply = visitor.get(&site, "set", &[("k", "wardrobe"), ("v", &large)]);
    assert_eq!(reply.status, 500, "{reply:#?}");
    assert!(reply.cookies().is_empty(), "{reply:#?}");
    site.wait_for_log("the size and the key", |line| line.contains("wardrobe") && line.contains("4096"));
    still_has_the_coat(&mut visitor, &site);
}
