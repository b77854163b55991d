//! `auth.json`: session auth hashes, and what logging in and out, looking up the user and changing a password do to a
//! session.

mod support;

use cloakroom::Settings;
use cloakroom::django::{Auth, AuthHasher, Fit, User, csrf};
use cloakroom_compat::{Vectors, python_json, secret, text};
use cloakroom_core::wire::django_items::CSRF_KEY;
use cloakroom_core::wire::signing::Secrets;
use cloakroom_core::{RawJson, Session, Timestamp};
use serde_json::Value;
use support::{Options, Site};

fn texts(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().map(|item| item.as_str().unwrap())
}

#[test]
fn vectors_auth_hashes() {
    let vectors = Vectors::load("auth");
    let mut report = vectors.report(&["hashes"]);
    for (n, case) in vectors.section("hashes").iter().enumerate() {
        report.case(&format!("hashes {n}"), || {
            let fallbacks: Vec<Vec<u8>> = case["fallbacks"].as_array().into_iter().flatten().map(secret).collect();
            let hasher = AuthHasher::new(&Secrets::new(secret(&case["secret"])).with_fallbacks(fallbacks));
            let password = text(case, "password");
            assert_eq!(hasher.hash(password), text(case, "auth_hash"));
            let expected: Vec<_> = texts(&case["fallback_hashes"]).collect();
            assert_eq!(hasher.fallback_hashes(password).collect::<Vec<_>>(), expected);
            assert_eq!(hasher.fit(text(case, "auth_hash"), password), Fit::Current);
            assert_eq!(hasher.fit(&text(case, "auth_hash").to_uppercase(), password), Fit::No);
            for fallback in expected {
                assert_eq!(hasher.fit(fallback, password), Fit::Fallback);
            }
        });
    }
    report.finish();
}

/// One user of the traces: what a table of users holds.
struct Row {
    id: String,
    password: String,
}

fn rows(vectors: &Vectors) -> Vec<Row> {
    let row = |user: &Value| Row { id: text(user, "id").to_owned(), password: text(user, "password").to_owned() };
    vectors.section("users").iter().map(row).collect()
}

/// What Django's `get_user` comes to: the user's id, nothing, or an error.
fn look_up(auth: &Auth, session: &Session, users: &[Row]) -> Result<Option<String>, cloakroom_core::Error> {
    let Some(login) = auth.login(session) else { return Ok(None) };
    let id = login.parse_id::<i64>()?.to_string();
    let Some(user) = users.iter().find(|user| user.id == id) else { return Ok(None) };
    Ok(auth.confirm(session, &user.password)?.then_some(id))
}

fn act(auth: &Auth, name: &str, session: &Session, users: &[Row]) -> Result<Option<String>, cloakroom_core::Error> {
    let user = |n: usize| User::new(&users[n].id, &users[n].password);
    match name {
        "login_other_user" => auth.log_in(session, &user(1))?,
        _ if name.starts_with("login_") => auth.log_in(session, &user(0))?,
        _ if name.starts_with("logout") => auth.log_out(session),
        _ if name.starts_with("get_user_") => return look_up(auth, session, users),
        _ if name.starts_with("update_session_auth_hash") => auth.password_changed(session, &user(0))?,
        other => panic!("no such act: {other}"),
    }
    Ok(None)
}

fn json(data: &Value) -> String {
    python_json(data)
}

async fn check(case: &Value, users: &[Row], csrf_in_session: bool) -> Vec<String> {
    let name = text(case, "name");
    let fallbacks: Vec<_> = texts(&case["SECRET_KEY_FALLBACKS"]).collect();
    let settings = Settings::builder()
        .set("SECRET_KEY", text(case, "secret"))
        .set("SECRET_KEY_FALLBACKS", fallbacks.clone())
        .set("CSRF_USE_SESSIONS", csrf_in_session)
        .build()
        .unwrap();
    let mut auth = Auth::new(&settings);
    if let Some(backends) = case.get("AUTHENTICATION_BACKENDS") {
        auth = auth.with_backends(texts(backends));
    }
    let options = Options {
        secret: text(case, "secret"),
        fallbacks,
        cookie_age: 1_209_600,
        save_every_request: false,
        now: Timestamp::from_secs(1_900_000_000),
        keys: Vec::new(),
    };
    let site = Site::open("db", options).await;
    let mut before = None;
    if !case["before"].is_null() {
        let session = site.request(None).load().await.unwrap();
        for pair in case["before"]["d"].as_array().unwrap() {
            session.insert_raw(pair[0].as_str().unwrap(), RawJson::parse(&python_json(&pair[1])).unwrap());
        }
        if csrf_in_session {
            csrf::rotate(&session).unwrap();
        }
        session.save().await.unwrap();
        before = session.key().map(|key| (key, session.get::<String>(CSRF_KEY).unwrap()));
    }

    let slot = site.request(before.as_ref().map(|(key, _)| key.as_str()));
    let session = slot.load().await.unwrap();
    let outcome = act(&auth, name, &session, users);
    let key = match (slot.key(), &before) {
        (None, _) => "none",
        (Some(key), Some((presented, _))) if key == *presented => "same",
        _ => "new",
    };
    let modified = slot.modified();
    site.exchange.commit(&slot, 200).await.unwrap();

    let mut differences = Vec::new();
    let mut compare = |what: &str, ours: Value, django: &Value| {
        if ours != *django {
            differences.push(format!("{name}, {what}: {ours}, Django {django}"));
        }
    };
    let csrf_before = before.as_ref().and_then(|(_, secret)| secret.clone());
    if csrf_in_session {
        let after = session.remove::<String>(CSRF_KEY).unwrap();
        match case["csrf_rotated"] == true {
            true => compare("a new CSRF secret", Value::from(after.is_some() && after != csrf_before), &true.into()),
            false if session.is_empty() || key == "none" => {
                compare("CSRF secret", after.is_some().into(), &false.into())
            }
            false => compare("the same CSRF secret", Value::from(after == csrf_before), &true.into()),
        }
    }
    // What the error is called in Python is not ours to say; that there is one, is.
    compare("error", outcome.is_err().into(), &(!case["error"].is_null()).into());
    compare("result", outcome.ok().flatten().into(), &case["result"]);
    compare("key", key.into(), &case["key"]);
    compare("modified", modified.into(), &case["modified"]);
    compare("data", session.to_json().into(), &json(&case["after"]).into());
    let stands = site.exists(before.as_ref().map(|(key, _)| key.as_str())).await;
    compare("old record", stands.into(), &case["old_record_exists"]);
    differences
}

#[tokio::test]
async fn vectors_auth_traces() {
    let vectors = Vectors::load("auth");
    let users = rows(&vectors);
    let mut report = vectors.report(&["traces"]);
    for case in vectors.section("traces") {
        let mut differences = check(case, &users, false).await;
        differences.extend(check(case, &users, true).await);
        support::account(&mut report, None, &differences);
    }
    report.finish();
}
