//! Presented session keys, case by case: which are keys, and which can stand in a store.

use cloakroom_compat::Vectors;
use cloakroom_core::{KeySource, SessionKey};
use serde_json::Value;

/// Django's check of the final key of its cache engine: no control characters or spaces, 250 characters at most.
fn memcached_takes(key: &str) -> bool {
    let full = format!(":1:django.contrib.sessions.cache{key}");
    full.chars().count() <= 250 && !full.chars().any(|c| c <= ' ' || c == '\x7f')
}

#[test]
fn vectors_session_keys() {
    let vectors = Vectors::load("session_keys");
    let alphabet = vectors.root()["alphabet"].as_str().unwrap();
    assert_eq!(vectors.root()["generated_length"], SessionKey::GENERATED_LENGTH);
    assert_eq!(vectors.root()["min_length"], SessionKey::MIN_LENGTH);
    let drawn = KeySource::system().draw().unwrap();
    assert!(drawn.as_str().chars().all(|c| alphabet.contains(c)));

    let mut report = vectors.report(&["cases"]);
    for case in vectors.section("cases") {
        let presented = case["key"].as_str();
        report.case(&format!("{presented:?}"), || {
            let key = presented.and_then(SessionKey::presented);
            assert_eq!(Value::from(key.as_ref().map(SessionKey::as_str)), case["session_key"]);
            assert_eq!(case["is_empty"], key.is_none());
            let Some(text) = presented.filter(|text| !text.is_empty()) else { return };
            // The alphabet is Django's file engine's, which does not look at the length.
            let in_alphabet = text.chars().all(|c| alphabet.contains(c));
            assert_eq!(case["file_engine_ok"], in_alphabet);
            assert_eq!(case["memcached_key_ok"], memcached_takes(text));
            // Ours, for every engine, is at least as strict as either of them, and lets through all that Django draws.
            if let Some(key) = key {
                let length = SessionKey::MIN_LENGTH..=SessionKey::MAX_STORED_LENGTH;
                assert_eq!(key.is_storable(), in_alphabet && length.contains(&text.len()));
                assert!(!key.is_storable() || memcached_takes(text));
            }
        });
    }
    report.finish();
}
