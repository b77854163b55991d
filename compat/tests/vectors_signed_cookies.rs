//! `signed_cookies.json`: what a view stores in a new session becomes this cookie, and this cookie becomes that session.

mod support;

use cloakroom_compat::{Vectors, moment, python_json, text};
use cloakroom_core::wire::expiry::EXPIRY_KEY;
use cloakroom_core::wire::signing::{Secrets, loads};
use cloakroom_core::{RawJson, Timestamp, Values};
use serde_json::Value;
use support::{Options, Site};

const DEFAULT_AGE: i64 = 1_209_600;

fn options(case: &Value, cookie_age: i64) -> Options<'_> {
    Options {
        secret: text(case, "secret"),
        fallbacks: case
            .get("fallbacks")
            .and_then(Value::as_array)
            .map_or_else(Vec::new, |fallbacks| fallbacks.iter().map(|fallback| fallback.as_str().unwrap()).collect()),
        cookie_age,
        save_every_request: false,
        now: moment(case, "now"),
        keys: Vec::new(),
    }
}

/// The JSON in a signed cookie.
fn unpacked(cookie: &str, secret: &str) -> String {
    let salt = cloakroom_core::engine::signed_cookies::SALT;
    let (json, _) = loads(cookie, &Secrets::new(secret), salt, Timestamp::from_secs(0), None).unwrap();
    String::from_utf8(json).unwrap()
}

async fn check_cookie(case: &Value) -> Result<(), String> {
    let site = Site::open("signed_cookies", options(case, DEFAULT_AGE)).await;
    let mut slot = site.request(None);
    // Keys of other types become text when they are written: what Python's json makes of the whole is what is set.
    let values = Values::parse(python_json(&case["value"]).into_bytes()).map_err(|e| e.to_string())?;
    let items: Vec<_> = values.iter().map(|(k, raw)| (k.into_owned(), RawJson::parse(raw).unwrap())).collect();
    slot.load().await.unwrap().extend_raw(items);
    if slot.load().await.unwrap().to_json() != values.to_json() {
        // A key with an unpaired surrogate, which no Rust text can be: it is carried from a cookie to the next.
        slot = site.request(case["cookie_value"].as_str());
        slot.load().await.unwrap();
        slot.set_modified(true);
    }
    let ours = site.exchange.commit(&slot, 200).await.map_err(|e| e.to_string())?.set_cookie;
    let theirs = case["set_cookie"].as_array().unwrap().first().map(|cookie| cookie.as_str().unwrap().to_owned());
    let (Some(ours), Some(theirs)) = (&ours, &theirs) else {
        return if ours == theirs { Ok(()) } else { Err(format!("ours {ours:?}, Django {theirs:?}")) };
    };
    let split = |cookie: &str| {
        let (value, attributes) = cookie.split_once(';').unwrap();
        (value.split_once('=').unwrap().1.to_owned(), attributes.to_owned())
    };
    let ((ours, our_attributes), (theirs, their_attributes)) = (split(ours), split(theirs));
    if our_attributes != their_attributes {
        return Err(format!("{our_attributes}, Django {their_attributes}"));
    }
    if theirs != text(case, "cookie_value") {
        return Err("the recorded cookie needs quotes, which no signed text does".to_owned());
    }
    let compressed = ours.starts_with('.') || theirs.starts_with('.');
    let secret = text(case, "secret");
    let same = if compressed { unpacked(&ours, secret) == unpacked(&theirs, secret) } else { ours == theirs };
    if same { Ok(()) } else { Err(format!("{ours}, Django {theirs}")) }
}

/// What reading a cookie came to.
async fn check_load(case: &Value) -> Result<(), String> {
    let site = Site::open("signed_cookies", options(case, case["session_cookie_age"].as_i64().unwrap())).await;
    let cookie = text(case, "cookie_value");
    let slot = site.request(Some(cookie));
    let loaded = slot.reload().await.map_err(|e| e.to_string())?;
    let ours = (loaded.to_json(), slot.modified(), slot.key().is_some_and(|key| key.as_str() == cookie));
    let theirs = (
        python_json(&case["loaded"]),
        case["modified_after"].as_bool().unwrap(),
        case["key_after_unchanged"].as_bool().unwrap(),
    );
    if ours == theirs { Ok(()) } else { Err(format!("{ours:?}, Django {theirs:?}")) }
}

/// Whether the session in the cookie has an expiry of its own, by which we go and Django does not.
fn has_own_expiry(case: &Value) -> bool {
    let secrets = Secrets::new(text(case, "secret"))
        .with_fallbacks(case["fallbacks"].as_array().unwrap().iter().map(|fallback| fallback.as_str().unwrap()));
    let salt = cloakroom_core::engine::signed_cookies::SALT;
    loads(text(case, "cookie_value"), &secrets, salt, Timestamp::from_secs(0), None)
        .ok()
        .and_then(|(json, _)| Values::parse(json).ok())
        .is_some_and(|values| values.contains_key(EXPIRY_KEY))
}

#[tokio::test]
async fn vectors_signed_cookies() {
    let vectors = Vectors::load("signed_cookies");
    let mut report = vectors.report(&vectors.sections());
    for case in vectors.section("cookies") {
        report.outcome(text(case, "name"), check_cookie(case).await);
    }
    for (number, case) in vectors.section("loads").iter().enumerate() {
        match check_load(case).await {
            Err(_) if has_own_expiry(case) => report.departure("SIGNED-COOKIES-EXPIRY"),
            outcome => report.outcome(&format!("loads[{number}]"), outcome),
        }
    }
    report.finish();
}
