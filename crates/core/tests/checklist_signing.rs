//! The checklist of Django's behaviour: section J (signing), and A63 to A65 (session text). Each test names its items.

use std::time::{SystemTime, UNIX_EPOCH};

use cloakroom_core::json;
use cloakroom_core::wire::session_data::{Codec, SALT};
use cloakroom_core::wire::signing::{
    Algorithm, DUMPS_SALT, SIGNER_SALT, Secrets, Signer, TIMESTAMP_SIGNER_SALT, TimestampSigner, b62_decode,
    b62_encode, derived_key, dumps, loads,
};
use cloakroom_core::{ErrorKind, Timestamp, Values};

const TEXTS: [&str; 6] =
    ["hello", "3098247:529:087:", "jkw725", "a:b::c", "long long text, long long", "\u{2019}é日本😀"];

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp::from_micros(since.as_micros() as i64)
}

/// HMAC by its definition, as far from the code under test as it gets.
fn hmac_sha256_base64(key: &[u8], message: &[u8]) -> String {
    use base64::Engine;
    use sha2::{Digest, Sha256};
    let mut block = [0u8; 64];
    block[..key.len()].copy_from_slice(key);
    let padded = |with: u8| block.iter().map(|byte| byte ^ with).collect::<Vec<u8>>();
    let inner = Sha256::new().chain_update(padded(0x36)).chain_update(message).finalize();
    let outer = Sha256::new().chain_update(padded(0x5c)).chain_update(inner).finalize();
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(outer)
}

/// Every way of damaging signed text that the checklist names.
fn tampered(signed: &str) -> Vec<String> {
    let mut first = signed.chars();
    let replaced = if first.next() == Some('a') { 'b' } else { 'a' };
    vec![signed.to_uppercase(), format!("{signed}a"), format!("{replaced}{}", first.as_str()), signed.replace(':', "")]
}

fn assert_bad<T: std::fmt::Debug>(result: Result<T, cloakroom_core::Error>) {
    assert_eq!(result.unwrap_err().kind(), ErrorKind::BadSignature);
}

#[test]
fn a63_decode_of_encode_gives_the_data_back() {
    let codec = Codec::signed_json(&Secrets::new("secret"));
    let mut values = Values::new();
    values.insert("a test key", "a test value").unwrap();
    values.insert("nested", &vec![Some(1.5), None]).unwrap();
    let encoded = codec.encode(&values, now()).unwrap();
    let decoded = codec.decode(&encoded).unwrap();
    assert_eq!(decoded.to_json(), values.to_json());
    assert_eq!(decoded.get::<String>("a test key").unwrap().as_deref(), Some("a test value"));
}

/// The error's kind tells whoever reads the session to log a warning, and to go on with an empty one.
#[test]
fn a64_text_without_a_valid_signature_is_told_apart() {
    let codec = Codec::signed_json(&Secrets::new("secret"));
    let old_format = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWYwMTIzNDU2Nzp7fQ==";
    for text in [old_format, "bad:encoded:value", "", ":", "::", "flaskdj:alkdjf:asdkfj"] {
        assert_bad(codec.decode(text.as_bytes()));
    }
    assert_bad(codec.decode(b"\xff:\xff:\xff"));
}

#[test]
fn a65_well_signed_text_that_is_no_session_is_corrupted() {
    let secrets = Secrets::new("secret");
    let codec = Codec::signed_json(&secrets);
    for payload in ["invalid data", "", ".", ".AAAA", "e", "bnVsbA", "WzEsMl0", "e30!"] {
        let signed = TimestampSigner::new(&secrets, SALT).sign(payload, now());
        assert_eq!(codec.decode(signed.as_bytes()).unwrap_err().kind(), ErrorKind::Corrupted, "{payload}");
    }
    let without_time = Signer::new(&secrets, SALT).sign("e30");
    assert_eq!(codec.decode(without_time.as_bytes()).unwrap_err().kind(), ErrorKind::Corrupted);
}

#[test]
fn j1_the_signature_is_the_hmac_under_salt_and_signer() {
    let signer = Signer::new(&Secrets::new("predictable-secret"), SIGNER_SALT);
    let other = Signer::new(&Secrets::new("predictable-secret2"), SIGNER_SALT);
    let key = derived_key(Algorithm::Sha256, SIGNER_SALT, b"predictable-secret");
    for value in TEXTS {
        assert_eq!(signer.signature(value), hmac_sha256_base64(&key, value.as_bytes()));
        assert_ne!(signer.signature(value), other.signature(value));
    }
}

#[test]
fn j2_the_salt_takes_part() {
    let secrets = Secrets::new("predictable-secret");
    let signer = Signer::new(&secrets, "extra-salt");
    let key = derived_key(Algorithm::Sha256, "extra-salt", b"predictable-secret");
    assert_eq!(signer.signature("hello"), hmac_sha256_base64(&key, b"hello"));
    assert_ne!(signer.signature("hello"), Signer::new(&secrets, "two").signature("hello"));
}

#[test]
fn j3_another_algorithm() {
    let secrets = Secrets::new("predictable-secret");
    let signer = Signer::with_options(&secrets, SIGNER_SALT, ":", "sha512").unwrap();
    assert_eq!(
        signer.signature("hello"),
        "Usf3uVQOZ9m6uPfVonKR-EBXjPe7bjMbp3_Fq8MfsptgkkM1ojidN0BxYaT5HAEN1VzO9_jVu7R-VkqknHYNvw"
    );
}

#[test]
fn j4_an_unknown_algorithm_is_named() {
    let error = Signer::with_options(&Secrets::new("k"), SIGNER_SALT, ":", "whatever").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert!(error.to_string().contains("whatever"), "{error}");
}

#[test]
fn j5_unsign_gives_back_what_was_signed() {
    let signer = Signer::new(&Secrets::new("predictable-secret"), SIGNER_SALT);
    for value in TEXTS {
        let signed = signer.sign(value);
        assert_ne!(signed, value);
        assert_eq!(signer.unsign(&signed).unwrap(), value);
    }
}

#[test]
fn j6_values_that_are_not_text_are_signed_as_their_text_form() {
    let signer = Signer::new(&Secrets::new("predictable-secret"), SIGNER_SALT);
    for value in [123.to_string(), 1.5.to_string(), true.to_string(), jiff::civil::date(2024, 2, 29).to_string()] {
        assert_eq!(signer.unsign(&signer.sign(&value)).unwrap(), value);
    }
}

#[test]
fn j7_tampering_is_detected() {
    let signer = Signer::new(&Secrets::new("predictable-secret"), SIGNER_SALT);
    let signed = signer.sign("Another string");
    assert_eq!(signer.unsign(&signed).unwrap(), "Another string");
    tampered(&signed).iter().for_each(|text| assert_bad(signer.unsign(text)));
}

#[test]
fn j8_objects_survive_signing_with_and_without_compression() {
    let signer = TimestampSigner::new(&Secrets::new("predictable-secret"), TIMESTAMP_SIGNER_SALT);
    for json in objects() {
        for compress in [false, true] {
            let signed = signer.sign_json(json.as_bytes(), now(), compress);
            assert_ne!(signed, json);
            assert_eq!(signer.unsign_json(&signed, now(), None).unwrap().0, json.as_bytes());
        }
    }
}

fn objects() -> [String; 4] {
    [
        json::to_string(&["a", "list"]).unwrap(),
        json::to_string("a string \u{2019}").unwrap(),
        json::to_string(&std::collections::BTreeMap::from([("a", "dictionary")])).unwrap(),
        json::to_string(&"a".repeat(1_000)).unwrap(),
    ]
}

#[test]
fn j9_objects_survive_dumps_and_loads() {
    let secrets = Secrets::new("predictable-secret");
    for json in objects() {
        for compress in [false, true] {
            let signed = dumps(json.as_bytes(), &secrets, DUMPS_SALT, now(), compress);
            assert_ne!(signed, json);
            assert_eq!(loads(&signed, &secrets, DUMPS_SALT, now(), Some(60.0)).unwrap().0, json.as_bytes());
        }
    }
}

#[test]
fn j10_loads_detects_tampering() {
    let secrets = Secrets::new("predictable-secret");
    for json in objects() {
        let signed = dumps(json.as_bytes(), &secrets, DUMPS_SALT, now(), true);
        tampered(&signed).iter().for_each(|text| assert_bad(loads(text, &secrets, DUMPS_SALT, now(), None)));
    }
}

#[test]
fn j11_keys_may_be_any_bytes() {
    let signer = Signer::new(&Secrets::new(vec![0xe7]), SIGNER_SALT);
    assert_eq!(signer.sign("foo"), "foo:EE4qGC5MEKyQG5msxYA0sBohAxLC0BJf8uRhemh0BGU");
}

#[test]
fn j12_separators_that_are_allowed() {
    for separator in ["/", "*sep*", ","] {
        let secrets = Secrets::new("predictable-secret");
        let signer = Signer::with_options(&secrets, SIGNER_SALT, separator, "sha256").unwrap();
        let signed = signer.sign("foo");
        assert_eq!(signed, format!("foo{separator}jZQoX_FtSO70jX9HLRGg2A_2s4kdDBxz1QoO_OpEQb0"));
        assert_eq!(signer.unsign(&signed).unwrap(), "foo");
    }
}

#[test]
fn j13_separators_that_are_refused_are_named() {
    for separator in ["", "-", "abc"] {
        let error = Signer::with_options(&Secrets::new("k"), SIGNER_SALT, separator, "sha256").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration);
        assert!(error.to_string().contains(&format!("{separator:?}")), "{error}");
        assert!(TimestampSigner::with_options(&Secrets::new("k"), SIGNER_SALT, separator, "sha256").is_err());
    }
}

#[test]
fn j14_a_former_key_verifies() {
    let signed = Signer::new(&Secrets::new("oldsecret"), SIGNER_SALT).sign("abc");
    let secrets = Secrets::new("newsecret").with_fallbacks(["othersecret", "oldsecret"]);
    assert_eq!(Signer::new(&secrets, SIGNER_SALT).unsign(&signed).unwrap(), "abc");
}

#[test]
fn j15_with_fallbacks_the_current_key_verifies_and_signs() {
    let secrets = Secrets::new("newsecret").with_fallbacks(["oldsecret"]);
    let signer = Signer::new(&secrets, SIGNER_SALT);
    let signed = Signer::new(&Secrets::new("newsecret"), SIGNER_SALT).sign("abc");
    assert_eq!(signer.unsign(&signed).unwrap(), "abc");
    assert_eq!(signer.sign("abc"), signed);
}

/// J16 and J17: which fallbacks count is up to who makes the `Secrets`; settings hand over the configured ones.
#[test]
fn j16_and_j17_an_empty_list_of_fallbacks_ignores_others() {
    let signed = Signer::new(&Secrets::new("oldsecret"), SIGNER_SALT).sign("abc");
    let configured = Secrets::new("newsecret").with_fallbacks(["oldsecret"]);
    assert_eq!(Signer::new(&configured, SIGNER_SALT).unsign(&signed).unwrap(), "abc");
    let none = configured.with_fallbacks(std::iter::empty::<Vec<u8>>());
    assert_bad(Signer::new(&none, SIGNER_SALT).unsign(&signed));
}

#[test]
fn j18_a_timestamped_signature_differs_from_the_plain_one() {
    let secrets = Secrets::new("predictable-key");
    let signer = TimestampSigner::new(&secrets, TIMESTAMP_SIGNER_SALT);
    let signed = signer.sign("hello", Timestamp::from_secs(123_456_789));
    assert_ne!(signed, Signer::new(&secrets, TIMESTAMP_SIGNER_SALT).sign("hello"));
    let (value, time) = signer.unsign(&signed, now(), None).unwrap();
    assert_eq!((value, time), ("hello", Timestamp::from_secs(123_456_789)));
}

#[test]
fn j19_the_maximum_age_is_kept() {
    let signer = TimestampSigner::new(&Secrets::new("predictable-key"), TIMESTAMP_SIGNER_SALT);
    let signed = signer.sign("hello", Timestamp::from_secs(123_456_789));
    let later = Timestamp::from_secs(123_456_800);
    assert!(signer.unsign(&signed, later, Some(12.0)).is_ok());
    let duration = std::time::Duration::from_secs(11);
    assert!(signer.unsign(&signed, later, Some(duration.as_secs_f64())).is_ok());
    let error = signer.unsign(&signed, later, Some(10.0)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SignatureExpired);
}

#[test]
fn j20_base_62_goes_both_ways() {
    for number in [-10i128.pow(10), 10i128.pow(10), 1_620_378_259].into_iter().chain(-100..100) {
        assert_eq!(b62_decode(&b62_encode(number)).unwrap(), number);
    }
}
