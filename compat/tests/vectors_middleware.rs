//! `middleware_ENGINE.json`: one request through Django's middleware, and the same through ours.

mod support;

use std::collections::BTreeMap;

use cloakroom_compat::{Vectors, moment, python_json};
use cloakroom_core::exchange::vary_on_cookie;
use cloakroom_core::{RawJson, Timestamp, Values};
use serde_json::Value;
use support::{Options, Site};

const COOKIE_AGE: i64 = 1_209_600;

/// What a request came to.
#[derive(Debug, PartialEq)]
struct Outcome {
    status: u64,
    set_cookie: Vec<String>,
    vary: Option<String>,
    /// The data under each key that stands afterwards; what has expired reads as empty.
    stored: BTreeMap<String, String>,
}

/// The record behind the presented cookie, as the case's name tells.
async fn prepare(site: &Site, case: &Value, data_key: &str) {
    let (Some(key), Some(_)) = (case["cookie"].as_str(), site.store()) else { return };
    let mut values = Values::new();
    let now = site.clock.now();
    let age = match case["name"].as_str().unwrap().split('/').next().unwrap() {
        "valid" => COOKIE_AGE,
        "valid_empty" => COOKIE_AGE,
        // It ran out 100 s ago.
        "expired" => -100,
        _ => return,
    };
    if !case["name"].as_str().unwrap().starts_with("valid_empty") {
        values.insert(data_key, &1).unwrap();
    }
    if case["records_before"] == 1 {
        site.put(key, &values, Timestamp::from_micros(now.as_micros() + age * 1_000_000)).await;
    }
}

async fn request(site: &Site, case: &Value) -> Outcome {
    let slot = site.request(case["cookie"].as_str());
    for op in case["view"].as_array().unwrap() {
        let name = op[0].as_str().unwrap();
        let key = op.get(1).and_then(Value::as_str).unwrap_or_default();
        match name {
            // These two need no data.
            "is_empty" => drop(slot.is_empty()),
            "set_modified" => slot.set_modified(true),
            "flush" => slot.flush(),
            "remove_session" => slot.detach(),
            "save" => slot.save().await.unwrap(),
            "delete_elsewhere" => {
                if let (Some(store), Some(key)) = (site.store(), slot.key()) {
                    store.delete(&key, None).await.unwrap();
                }
            }
            _ => {
                let session = slot.load().await.unwrap();
                match name {
                    "get" => drop(session.get_raw(key)),
                    "set" => session.insert_raw(key, RawJson::parse(&python_json(&op[2])).unwrap()),
                    "pop_default" => drop(session.remove_raw(key)),
                    "clear" => session.clear(),
                    "cycle_key" => session.cycle_key().unwrap(),
                    other => panic!("no operation {other}"),
                }
            }
        }
    }
    let status = case["status"].as_u64().unwrap();
    let vary_before = case["vary_before"].as_str();
    let mut outcome = Outcome { status, set_cookie: Vec::new(), vary: None, stored: BTreeMap::new() };
    match site.exchange.commit(&slot, status as u16).await {
        Ok(answer) => {
            outcome.set_cookie = answer.set_cookie.into_iter().collect();
            outcome.vary = vary_before.map(str::to_owned);
            if answer.vary {
                outcome.vary = Some(vary_on_cookie(vary_before).into_owned());
            }
        }
        Err(error) => outcome.status = error.status().into(),
    }
    for key in site.keys().await {
        let session = site.request(Some(key.as_str())).load().await.unwrap();
        outcome.stored.insert(key.as_str().to_owned(), session.to_json());
    }
    outcome
}

fn expected(case: &Value, has_store: bool) -> Outcome {
    let mut stored = BTreeMap::new();
    if has_store {
        for (key, data) in case["stored_after"].as_object().unwrap() {
            stored.insert(key.clone(), python_json(data));
        }
    }
    let cookies = case.get("set_cookie").and_then(Value::as_array);
    Outcome {
        status: case["response_status"].as_u64().unwrap(),
        set_cookie: cookies.into_iter().flatten().map(|c| c.as_str().unwrap().to_owned()).collect(),
        vary: case.get("vary").and_then(Value::as_str).map(str::to_owned),
        stored,
    }
}

/// The rows of `docs/django.md` that explain why a case differs.
fn expected_departure(engine: &str, case: &Value) -> Option<&'static str> {
    let name = case["name"].as_str().unwrap();
    let (cookie, view) = name.split_once('/').unwrap();
    Some(match (engine, cookie, view.trim_end_matches("/save_every_request")) {
        ("db" | "cache" | "cached_db" | "file", "unknown" | "expired", "clear") => "CLEAR-WITHOUT-RECORD",
        ("file", "expired", _) => "FILE-EXPIRED-READ",
        ("signed_cookies", "unknown" | "expired", "delete_key") => "POP-KEEPS-THE-MARK",
        (_, _, "cycle") if case["status"].as_u64().unwrap() >= 500 => "ROTATION-AFTER-ERRORS",
        _ => return None,
    })
}

async fn run(engine: &'static str) {
    let file = format!("middleware_{engine}");
    let recorded = Vectors::load(&file);
    let mut report = recorded.report(&["cases"]);
    let vectors = recorded.root();
    let data_key = vectors["data_key"].as_str().unwrap();
    for case in recorded.section("cases") {
        let options = Options {
            secret: vectors["secret"].as_str().unwrap(),
            fallbacks: Vec::new(),
            cookie_age: COOKIE_AGE,
            save_every_request: case["SESSION_SAVE_EVERY_REQUEST"].as_bool().unwrap(),
            now: moment(case, "now"),
            keys: case["keys_generated"].as_array().unwrap().iter().map(|key| key.as_str().unwrap()).collect(),
        };
        let site = Site::open(engine, options).await;
        prepare(&site, case, data_key).await;
        let mut differences = Vec::new();
        let before = case["records_before"].as_u64().unwrap_or(0) as usize;
        if site.keys().await.len() != before {
            differences.push(format!("{}: not the {before} records that Django had before", case["name"]));
        }
        let (ours, django) = (request(&site, case).await, expected(case, site.store().is_some()));
        if ours != django {
            differences.push(format!("{} {}:\n  ours   {ours:?}\n  Django {django:?}", case["name"], case["status"]));
        }
        support::account(&mut report, expected_departure(engine, case), &differences);
    }
    report.finish();
}

#[tokio::test]
async fn vectors_middleware_db() {
    run("db").await;
}

#[tokio::test]
async fn vectors_middleware_cache() {
    run("cache").await;
}

#[tokio::test]
async fn vectors_middleware_cached_db() {
    run("cached_db").await;
}

#[tokio::test]
async fn vectors_middleware_file() {
    run("file").await;
}

#[tokio::test]
async fn vectors_middleware_signed_cookies() {
    run("signed_cookies").await;
}
