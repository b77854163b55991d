//! The end of a session, case by case: `set_expiry`, ages, dates, and local time.

use cloakroom_compat::{Vectors, expiry_argument, moment, normal_json, python_json, text};
use cloakroom_core::Timestamp;
use cloakroom_core::wire::expiry::{Age, DateTime, ExpiryRules, TimeZone};
use serde_json::Value;

/// A recorded date of a site in UTC, as a moment.
fn instant(case: &Value, field: &str) -> Timestamp {
    DateTime::parse_iso(text(case, field)).unwrap().moment(&TimeZone::UTC)
}

fn rules(case: &Value) -> ExpiryRules {
    let defaults = ExpiryRules::default();
    let flag = |name: &str, default| case.get(name).and_then(Value::as_bool).unwrap_or(default);
    ExpiryRules {
        cookie_age: case.get("SESSION_COOKIE_AGE").and_then(Value::as_i64).unwrap_or(defaults.cookie_age),
        expire_at_browser_close: flag("SESSION_EXPIRE_AT_BROWSER_CLOSE", defaults.expire_at_browser_close),
        use_tz: flag("USE_TZ", defaults.use_tz),
        ..defaults
    }
}

/// Whether an age is the recorded one: the same number, and of the same kind. Python's `True` is the integer 1.
fn assert_age(age: Age, expected: &Value) {
    match age {
        Age::Int(1) if *expected == true => {}
        Age::Int(seconds) => assert_eq!(seconds.to_string(), python_json(expected)),
        Age::Float(seconds) => {
            assert_eq!(format!("{:016x}", seconds.to_bits()), expected["bits"].as_str().unwrap_or("no float"));
        }
    }
}

fn check_case(case: &Value) {
    let rules = rules(case);
    let now = moment(case, "now");
    assert_eq!(instant(case, "now_iso"), now);
    let set = &case["set_expiry"];
    let item = if set == "unset" { None } else { rules.stored_item(&expiry_argument(set), now).unwrap() };
    let stored = if case["stored"] == "absent" { None } else { Some(python_json(&case["stored"])) };
    assert_eq!(item, stored);
    // Not calling it, or removing an item that is not there, changes nothing.
    assert_eq!(case["modified"], item.is_some());
    let item = item.as_deref();
    assert_age(rules.age(item, now).unwrap(), &case["age"]);
    let date = rules.date(item, now).unwrap();
    assert_eq!(date.to_string(), text(case, "date"));
    assert_eq!(rules.expires_at(item, now).unwrap(), date.moment(&rules.time_zone));
    assert_eq!(rules.browser_close(item).unwrap(), case["browser_close"]);
    let modification = instant(case, "modification");
    assert_age(rules.age(item, modification).unwrap(), &case["age_with_modification"]);
    assert_eq!(rules.date(item, modification).unwrap().to_string(), text(case, "date_with_modification"));
}

/// The item that means what the getters' `expiry` argument means: a date as its text, anything else as its JSON.
fn item_of(value: &Value) -> String {
    match value.get("datetime") {
        Some(date) => python_json(date),
        None => python_json(value),
    }
}

fn check_getters(case: &Value, item: &str) {
    let rules = rules(case);
    let now = instant(case, "now_iso");
    match case["get_expiry_age"].get("error") {
        Some(_) => assert!(rules.age(Some(item), now).is_err()),
        None => assert_age(rules.age(Some(item), now).unwrap(), &case["get_expiry_age"]),
    }
    match case["get_expiry_date"].get("error") {
        Some(_) => assert!(rules.date(Some(item), now).is_err()),
        None => assert_eq!(rules.date(Some(item), now).unwrap().to_string(), text(case, "get_expiry_date")),
    }
    if let Some(close) = case.get("get_expire_at_browser_close") {
        assert_eq!(rules.browser_close(Some(item)).unwrap(), *close);
    }
}

#[test]
fn vectors_expiry() {
    let vectors = Vectors::load("expiry");
    let mut report = vectors.report(&vectors.sections());
    for (n, case) in vectors.section("cases").iter().enumerate() {
        report.case(&format!("cases {n}"), || check_case(case));
    }
    for (n, case) in vectors.section("explicit_expiry").iter().enumerate() {
        report.case(&format!("explicit_expiry {n}"), || {
            assert_eq!(case["accessed_after"], false);
            check_getters(case, &item_of(&case["expiry"]));
        });
    }
    for (n, case) in vectors.section("odd_stored_values").iter().enumerate() {
        let item = normal_json(&python_json(&case["stored"]));
        if case["get_expiry_age"].get("d").is_some() {
            // Django gives out the dictionary as the age, and fails as soon as anybody counts with it.
            let rules = rules(case);
            assert!(rules.age(Some(&item), instant(case, "now_iso")).is_err());
            assert!(rules.date(Some(&item), instant(case, "now_iso")).is_err());
            report.departure("EXPIRY-NO-NUMBER");
            continue;
        }
        report.case(&format!("odd_stored_values {n}"), || check_getters(case, &item));
    }
    report.finish();
}

#[test]
fn vectors_expiry_time_zones() {
    let vectors = Vectors::load("sql");
    let mut report = vectors.report(&["time_zones"]);
    for (n, case) in vectors.section("time_zones").iter().enumerate() {
        report.case(&format!("time_zones {n}"), || {
            assert_eq!(text(case, "set_expiry"), "1 hour");
            let rules = ExpiryRules {
                use_tz: case["USE_TZ"] == true,
                time_zone: TimeZone::named(text(case, "TIME_ZONE")).unwrap(),
                ..ExpiryRules::default()
            };
            let now = moment(case, "now_unix");
            let item = rules.stored_item(&std::time::Duration::from_secs(3600).into(), now).unwrap().unwrap();
            assert_eq!(item, python_json(&case["_session_expiry"]));
            assert_eq!(rules.age(Some(&item), now).unwrap(), Age::Int(3600));
            let end = rules.expires_at(Some(&item), now).unwrap();
            assert_eq!(end.micros_since(now), 3_600_000_000);
            // What Django's SQLite column holds: the same date, with a space and without an offset.
            let date = rules.date(Some(&item), now).unwrap();
            assert_eq!(date.civil_text(' '), text(case, "expire_date_sqlite_text"));
        });
    }
    report.finish();
}
