//! Django's deployment checks of sessions, case by case.

use cloakroom_compat::Vectors;
use cloakroom_core::settings::{SettingValue, Settings, check};
use serde_json::Value;

fn setting(value: &Value) -> SettingValue {
    match value {
        Value::Null => SettingValue::None,
        Value::Bool(value) => SettingValue::Bool(*value),
        Value::String(text) => SettingValue::Text(text.clone()),
        other => SettingValue::Int(other["i"].as_str().and_then(|text| text.parse().ok()).expect("a whole number")),
    }
}

/// The warnings of Django's kind when one of the two settings has the value, and the other is as it should be.
fn warnings(case: &Value, name: &str) -> Vec<String> {
    let names = |installed: &Value, name: &str| match installed == true {
        true => vec![name.to_owned()],
        false => Vec::new(),
    };
    let settings = Settings::builder()
        .secret_key("a secret key for tests of the deployment checks, of fifty characters and more")
        .set("INSTALLED_APPS", names(&case["app_installed"], "django.contrib.sessions"))
        .set("MIDDLEWARE", names(&case["middleware_installed"], "django.contrib.sessions.middleware.SessionMiddleware"))
        .set("SESSION_COOKIE_SECURE", true)
        .set("SESSION_COOKIE_HTTPONLY", true)
        .set(name, setting(&case["value"]))
        .build()
        .unwrap();
    let findings = check(&settings, true);
    findings.iter().filter(|finding| finding.id.starts_with("security.")).map(|finding| finding.id.to_owned()).collect()
}

#[test]
fn vectors_extras_checks() {
    let vectors = Vectors::load("extras");
    let mut report = vectors.report(&["checks"]);
    for case in vectors.section("checks") {
        report.case(&case.to_string(), || {
            for name in ["SESSION_COOKIE_SECURE", "SESSION_COOKIE_HTTPONLY"] {
                assert_eq!(Value::from(warnings(case, name)), case[name], "{name}");
            }
        });
    }
    report.finish();
}
