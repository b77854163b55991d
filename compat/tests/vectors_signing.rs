//! Django's signing, case by case: base 62, JSON text, plain and timestamped signatures, `dumps` and `loads`.

use cloakroom_compat::{PyValue, Vectors, moment, normal_json, python_json, secret, text};
use cloakroom_core::json::{self, RawJson};
use cloakroom_core::wire::signing::{
    DUMPS_SALT, SIGNER_SALT, Secrets, Signer, TIMESTAMP_SIGNER_SALT, TimestampSigner, b62_decode, b62_encode,
    derived_key, dumps, loads,
};
use cloakroom_core::{ErrorKind, Timestamp, Values};
use serde_json::Value;

/// What Python's exception is called here.
fn kind(exception: &str) -> ErrorKind {
    match exception {
        "BadSignature" => ErrorKind::BadSignature,
        "SignatureExpired" => ErrorKind::SignatureExpired,
        _ => ErrorKind::Corrupted,
    }
}

fn secrets(case: &Value) -> Secrets {
    let fallbacks = case.get("fallback_keys").and_then(Value::as_array);
    Secrets::new(secret(&case["key"])).with_fallbacks(fallbacks.into_iter().flatten().map(secret))
}

/// Writes a recorded value from Rust values, as far as they can hold it.
fn written_from_rust(value: &Value) -> Option<String> {
    json::to_string(&PyValue(value)).ok()
}

/// Whether Rust's types can hold it: the only reason for which it may not be written from them.
fn beyond_rust(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().any(beyond_rust),
        Value::Object(form) => {
            form.get("u16").is_some()
                || form
                    .get("i")
                    .and_then(Value::as_str)
                    .is_some_and(|text| text.parse::<i128>().is_err() && text.parse::<u128>().is_err())
                || form.iter().any(|(kind, content)| matches!(&**kind, "d" | "tuple") && beyond_rust(content))
        }
        _ => false,
    }
}

fn check_json(value: &Value, expected: &str) {
    assert_eq!(python_json(value), expected, "the recorded value's own text");
    match written_from_rust(value) {
        Some(written) => assert_eq!(written, expected),
        None => assert!(beyond_rust(value), "it was not written"),
    }
    let raw = RawJson::parse(expected).unwrap();
    assert_eq!(raw.as_str(), expected);
    if let Value::Object(form) = value
        && let Some(items) = form.get("d").and_then(Value::as_array)
    {
        let values = Values::parse(expected.into()).unwrap();
        assert_eq!(normal_json(&values.to_json()), normal_json(expected));
        if values.len() == items.len() {
            assert_eq!(values.to_json(), expected);
        }
        // Set one by one, they come out the same.
        let mut set = Values::new();
        for (key, raw) in values.iter() {
            set.insert_raw(&key, RawJson::parse(raw).unwrap());
        }
        if set.len() == values.len() && !expected.contains("\\ud") {
            assert_eq!(set.to_json(), values.to_json());
        }
    }
    // Floats are read to the last bit.
    if let Some(bits) = value.get("bits").and_then(Value::as_str) {
        let read: f64 = raw.deserialize().unwrap();
        assert!(format!("{:016x}", read.to_bits()) == bits || read.is_nan());
    }
}

#[test]
fn vectors_signing_basic() {
    let vectors = Vectors::load("signing_basic");
    let mut report = vectors.report(&vectors.sections());
    for case in vectors.section("base62") {
        report.case(&format!("base62 {case}"), || {
            let number: i128 = text(case, "n").parse().unwrap();
            assert_eq!(b62_encode(number), text(case, "text"));
            assert_eq!(b62_decode(text(case, "text")).unwrap(), number);
        });
    }
    for case in vectors.section("base62_decode") {
        report.case(&format!("base62_decode {case}"), || {
            let decoded = b62_decode(text(case, "text")).ok().map(|number| number.to_string());
            assert_eq!(decoded.as_deref(), case.get("n").and_then(Value::as_str));
        });
    }
    for case in vectors.section("json") {
        report.case(&format!("json {}", case["name"]), || check_json(&case["value"], text(case, "json")));
    }
    for case in vectors.section("default_salts") {
        report.case(&format!("default_salts {case}"), || {
            let salt = match text(case, "class") {
                "Signer" => SIGNER_SALT,
                "TimestampSigner" => TIMESTAMP_SIGNER_SALT,
                other => panic!("no such signer: {other}"),
            };
            assert_eq!(salt, text(case, "salt_used"));
        });
    }
    for case in vectors.section("separators") {
        report.case(&format!("separators {case}"), || {
            let signer = Signer::with_options(&Secrets::new("k"), SIGNER_SALT, text(case, "sep"), "sha256");
            match (signer, case["accepted"].as_bool().unwrap()) {
                (Ok(_), true) => {}
                (Err(error), false) => {
                    assert_eq!(error.kind(), ErrorKind::Configuration);
                    assert!(error.to_string().contains(&format!("{:?}", text(case, "sep"))), "{error}");
                }
                (signer, _) => panic!("{signer:?}"),
            }
        });
    }
    for case in vectors.section("sign") {
        report.case(&format!("sign {case}"), || {
            let (salt, algorithm, value) = (text(case, "salt"), text(case, "algorithm"), text(case, "value"));
            let derived = derived_key(algorithm.parse().unwrap(), salt, &secret(&case["key"]));
            let hex: String = derived.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex, text(case, "derived_key_hex"));
            let signer = Signer::with_options(&secrets(case), salt, text(case, "sep"), algorithm).unwrap();
            assert_eq!(signer.signature(value), text(case, "signature"));
            assert_eq!(signer.sign(value), text(case, "signed"));
            assert_eq!(signer.unsign(text(case, "signed")).unwrap(), value);
            let forged = text(case, "signed").to_owned() + "A";
            assert_eq!(signer.unsign(&forged).unwrap_err().kind(), ErrorKind::BadSignature);
        });
    }
    for case in vectors.section("timestamp_sign") {
        report.case(&format!("timestamp_sign {case}"), || {
            let signer = TimestampSigner::new(&secrets(case), text(case, "salt"));
            let (time, value) = (moment(case, "time"), text(case, "value"));
            assert_eq!(signer.sign(value, time), text(case, "signed"));
            let (unsigned, at) = signer.unsign(text(case, "signed"), time, None).unwrap();
            assert_eq!(unsigned, value);
            assert_eq!(at, Timestamp::from_micros(time.as_micros() / 1_000_000 * 1_000_000));
        });
    }
    for case in vectors.section("unsign_max_age") {
        report.case(&format!("unsign_max_age {case}"), || {
            let signer = TimestampSigner::new(&secrets(case), text(case, "salt"));
            match signer.unsign(text(case, "signed"), moment(case, "now"), case["max_age"].as_f64()) {
                Ok((value, _)) => assert_eq!(Some(value), case.get("value").and_then(Value::as_str)),
                Err(error) => assert_eq!(error.kind(), kind(text(case, "error"))),
            }
        });
    }
    report.finish();
}

#[test]
fn vectors_signing_dumps() {
    let vectors = Vectors::load("signing_dumps");
    let mut report = vectors.report(&vectors.sections());
    for (at, case) in vectors.section("cases").iter().enumerate() {
        report.case(&format!("cases[{at}] {}", case["name"]), || {
            let expected = python_json(&case["value"]);
            assert_eq!(expected.len() as u64, case["json_length"].as_u64().unwrap());
            check_json(&case["value"], &expected);
            let (secrets, salt, time) = (secrets(case), text(case, "salt"), moment(case, "time"));
            let theirs = text(case, "signed");
            assert_eq!(loads(theirs, &secrets, salt, time, None).unwrap().0, expected.as_bytes());
            let ours = dumps(expected.as_bytes(), &secrets, salt, time, case["compress"].as_bool().unwrap());
            assert_eq!(loads(&ours, &secrets, salt, time, Some(1.0)).unwrap().0, expected.as_bytes());
            let compressed = case["is_compressed"].as_bool().unwrap();
            assert_eq!(compressed, theirs.starts_with('.'));
            if !compressed && !ours.starts_with('.') {
                assert_eq!(ours, theirs);
            }
            // Where zlib saves a good deal, or nothing, the decision is the same whatever the implementation.
            let saved = expected.len() as i64 - case["zlib_length"].as_i64().unwrap();
            if !(-16..16).contains(&saved) {
                assert_eq!(ours.starts_with('.'), compressed);
            }
        });
    }
    report.finish();
}

#[test]
fn vectors_signing_loads() {
    let vectors = Vectors::load("signing_loads");
    let mut report = vectors.report(&vectors.sections());
    for (at, case) in vectors.section("cases").iter().enumerate() {
        report.case(&format!("cases[{at}] {}", case["name"]), || {
            let salt = case.get("salt").and_then(Value::as_str).unwrap_or(DUMPS_SALT);
            let now = moment(case, "now");
            // Django reads the bytes as latin-1: one character each.
            let loaded = loads(text(case, "signed"), &secrets(case), salt, now, case["max_age"].as_f64()).and_then(
                |(json, _)| {
                    let characters: String = json.iter().copied().map(char::from).collect();
                    Ok((RawJson::parse(&characters)?, json))
                },
            );
            match loaded {
                Ok((raw, json)) => {
                    assert_eq!(case["ok"], true);
                    assert_eq!(normal_json(raw.as_str()), python_json(&case["value"]));
                    match Values::parse(json) {
                        Ok(values) => assert_eq!(normal_json(&values.to_json()), python_json(&case["value"])),
                        Err(error) => {
                            assert_eq!(error.kind(), ErrorKind::Corrupted);
                            assert!(case["value"].get("d").is_none(), "{error}");
                        }
                    }
                }
                Err(error) => {
                    assert_eq!(case["ok"], false, "{error}");
                    assert_eq!(error.kind(), kind(text(case, "error")), "{error}");
                    let logged = matches!(error.kind(), ErrorKind::BadSignature | ErrorKind::SignatureExpired);
                    assert_eq!(case["session_decode_logs"], logged);
                }
            }
        });
    }
    report.finish();
}
