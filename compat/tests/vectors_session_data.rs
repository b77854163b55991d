//! The signed text of the db, cached_db and file engines, case by case. (When a row expires is a matter of the SQL
//! tests.)

use std::sync::Arc;

use cloakroom_compat::{PyValue, Vectors, moment, normal_json, python_json, secret, text};
use cloakroom_core::wire::session_data::{Codec, JsonSerializer, SALT};
use cloakroom_core::wire::signing::{Secrets, loads};
use cloakroom_core::{ErrorKind, Timestamp, Values};
use serde_json::Value;

/// What stands in signed text, unpacked.
fn unpacked(signed: &[u8], secrets: &Secrets) -> String {
    let signed = std::str::from_utf8(signed).unwrap();
    let (json, _) = loads(signed, secrets, SALT, Timestamp::from_secs(0), None).unwrap();
    String::from_utf8(json).unwrap()
}

fn check_row(case: &Value) {
    let secrets = Secrets::new(secret(&case["secret"]));
    let codec = Codec::signed_json(&secrets);
    let (theirs, now) = (text(case, "session_data"), moment(case, "now"));
    let json = python_json(&case["value"]);

    let decoded = codec.decode(theirs.as_bytes()).unwrap();
    assert_eq!(normal_json(&decoded.to_json()), normal_json(&json));
    assert_eq!(unpacked(theirs.as_bytes(), &secrets), json);

    let ours = codec.encode(&decoded, now).unwrap();
    assert!(ours.is_ascii());
    assert_eq!(codec.decode(&ours).unwrap().to_json(), decoded.to_json());
    let items = case["value"]["d"].as_array().map_or(0, Vec::len);
    if decoded.len() == items {
        // No two keys became the same text, so nothing was merged.
        assert_eq!(unpacked(&ours, &secrets), json);
        if !theirs.starts_with('.') && !ours.starts_with(b".") {
            assert_eq!(ours, theirs);
        }
        let mut set = Values::new();
        for item in case["value"]["d"].as_array().into_iter().flatten() {
            if let Some(key) = item[0].as_str()
                && set.insert(key, &PyValue(&item[1])).is_ok()
            {
                assert_eq!(set.get_raw(key), decoded.get_raw(key));
            }
        }
        if set.len() == items {
            assert_eq!(set.to_json(), json);
        }
    }
}

#[test]
fn vectors_session_data() {
    let vectors = Vectors::load("session_data");
    let mut report = vectors.report(&vectors.sections());
    for (at, case) in vectors.section("rows").iter().enumerate() {
        report.case(&format!("rows[{at}] {}", case["name"]), || check_row(case));
    }
    for (at, case) in vectors.section("decode").iter().enumerate() {
        let label = format!("decode[{at}] {}", case["name"]);
        let fallbacks = case["fallbacks"].as_array().into_iter().flatten().map(secret);
        let codec = Codec::signed_json(&Secrets::new(secret(&case["secret"])).with_fallbacks(fallbacks));
        let decoded = codec.decode(text(case, "session_data").as_bytes());
        let logged = !case["log"].as_array().unwrap().is_empty();
        if case["decoded"].get("d").is_none() {
            // Django hands out what is no dictionary, and its next use raises. Here it is a damaged record.
            match decoded {
                Err(error) if error.kind() == ErrorKind::Corrupted => report.departure("NOT-A-DICTIONARY"),
                other => report.fail(&label, format!("{other:?}")),
            }
            continue;
        }
        report.case(&label, || match decoded {
            Ok(values) => {
                assert!(!logged);
                assert_eq!(normal_json(&values.to_json()), python_json(&case["decoded"]));
            }
            Err(error) => {
                // Either way it is the empty session; a bad signature is logged.
                assert_eq!(python_json(&case["decoded"]), "{}");
                let expected = if logged { ErrorKind::BadSignature } else { ErrorKind::Corrupted };
                assert_eq!(error.kind(), expected, "{error}");
            }
        });
    }
    for (at, case) in vectors.section("salts").iter().enumerate() {
        report.case(&format!("salts[{at}] {}", case["class"]), || {
            let salt = text(case, "key_salt");
            assert_eq!(salt, format!("django.contrib.sessions.{}", text(case, "class")));
            let secrets = Secrets::new(secret(&case["secret"]));
            let codec = Codec::signed_with_salt(&secrets, salt, Arc::new(JsonSerializer));
            let values = Values::parse(b"{\"a\":1}".to_vec()).unwrap();
            let encoded = codec.encode(&values, moment(case, "now")).unwrap();
            assert_eq!(encoded, text(case, "encoded_a_1"));
            let default = Codec::signed_json(&secrets).decode(&encoded);
            assert_eq!(default.is_ok(), salt == SALT);
        });
    }
    report.finish();
}
