//! Cookies, case by case: what is set under which settings, names, quoting, dates, and the request's header.

use cloakroom_compat::{Vectors, expiry_argument, moment, text};
use cloakroom_core::settings::{SettingValue, Settings, SettingsError};
use cloakroom_core::wire::cookie::{CookieAttributes, CookieWriter, find, http_date, parse};
use serde_json::Value;

/// A recorded value of a setting.
fn setting(value: &Value) -> SettingValue {
    match value {
        Value::Null => SettingValue::None,
        Value::Bool(value) => (*value).into(),
        Value::String(text) => text.as_str().into(),
        other => other.as_i64().expect("a whole number").into(),
    }
}

/// The recorded settings, through the front door.
fn settings(case: &Value) -> Result<Settings, SettingsError> {
    let builder = Settings::builder().secret_key("a key for tests");
    let given = case["settings"].as_object().unwrap().iter();
    given.fold(builder, |builder, (name, value)| builder.set(name, setting(value))).build()
}

fn check_grid(case: &Value) {
    let settings = settings(case);
    if case.get("error").is_some() {
        // Django notices when it writes the cookie, we when the site starts.
        assert!(case.get("delete_error").is_some());
        assert!(settings.is_err());
        return;
    }
    let settings = settings.unwrap();
    let writer = CookieWriter::new(&settings.cookie_attributes()).unwrap();
    let now = moment(case, "now");
    let rules = settings.expiry_rules();
    let set = &case["set_expiry"];
    let item = if set == "unset" { None } else { rules.stored_item(&expiry_argument(set), now).unwrap() };
    let item = item.as_deref();
    let lifetime = (!rules.browser_close(item).unwrap()).then(|| rules.age(item, now).unwrap().cookie_lifetime(now));
    assert_eq!(Value::from(vec![writer.set(text(case, "session_key"), lifetime)]), case["set_cookie"]);
    assert_eq!(Value::from(vec![writer.removal()]), case["delete_cookie"]);
}

/// A writer of cookies that have a name and a path only, as the recorded ones.
fn plain(name: &str) -> cloakroom_core::Result<CookieWriter> {
    CookieWriter::new(&CookieAttributes { name: name.into(), http_only: false, same_site: None, ..Default::default() })
}

#[test]
fn vectors_set_cookie() {
    let vectors = Vectors::load("set_cookie");
    let mut report = vectors.report(&vectors.sections());
    for (n, case) in vectors.section("grid").iter().enumerate() {
        report.case(&format!("grid {n}"), || check_grid(case));
    }
    for case in vectors.section("cookie_names") {
        let name = text(case, "name");
        report.case(&format!("cookie_names {name:?}"), || match case.get("error") {
            Some(_) => assert!(plain(name).is_err()),
            None => assert_eq!(plain(name).unwrap().set("v", None), text(case, "set_cookie")),
        });
    }
    for case in vectors.section("cookie_values") {
        let value = text(case, "value");
        report.case(&format!("cookie_values {value:?}"), || {
            let set = plain("c").unwrap().set(value, None);
            assert_eq!(set, text(case, "set_cookie"));
            let pair = set.split("; ").next().unwrap();
            let read = find(std::iter::once(pair.as_bytes()), "c");
            assert_eq!(Value::from(read.as_deref()), case["read_back"]);
        });
    }
    for case in vectors.section("http_dates") {
        let date = text(case, "text");
        report.case(&format!("http_dates {date}"), || assert_eq!(http_date(moment(case, "unix")), date));
    }
    for case in vectors.section("cookie_headers") {
        let header = text(case, "cookie_header");
        report.case(&format!("cookie_headers {header:?}"), || {
            let pairs = parse(header);
            let listed: Vec<Value> = pairs.iter().map(|(key, value)| vec![key.as_str(), value].into()).collect();
            assert_eq!(Value::from(listed), case["parsed"]);
            for (key, value) in &pairs {
                assert_eq!(find(std::iter::once(header.as_bytes()), key).as_deref(), Some(value.as_str()));
            }
            assert_eq!(find(std::iter::once(header.as_bytes()), "no such name"), None);
        });
    }
    report.finish();
}
