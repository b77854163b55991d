//! What Django's cache back ends put on the wire: keys, payloads, flags and timeouts.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use cloakroom_compat::{Report, Vectors, keeps_json_types, moment, normal_json, python_json, repeats_itself, text};
use cloakroom_core::wire::cache_key::{CACHE_ENGINE, CACHED_DB_ENGINE, CacheKeys, Timeout};
use cloakroom_core::wire::expiry::{EXPIRY_KEY, ExpiryRules};
use cloakroom_core::wire::pickle::Protocol;
use cloakroom_core::wire::session_data::Codec;
use cloakroom_core::{Timestamp, Values};
use serde_json::Value;

#[derive(Clone, Copy, PartialEq)]
enum Server {
    Redis,
    PyMemcache,
    PyLibMc,
}

struct Backend {
    codec: Codec,
    server: Server,
    pickled: bool,
}

/// A setting of a case: what it was set to, or the default.
fn setting(case: &Value, name: &str, default: &str) -> String {
    match &case["settings"][name] {
        Value::Null => default.to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn engine(case: &Value) -> &'static str {
    if text(case, "engine") == "cache" { CACHE_ENGINE } else { CACHED_DB_ENGINE }
}

fn payload(command: &Value) -> Vec<u8> {
    BASE64_STANDARD.decode(text(command, "value_b64")).unwrap()
}

/// How long the session lives from `now` on, as Django asks the session for it.
fn timeout(values: &Values, cookie_age: i64, now: Timestamp) -> Timeout {
    let rules = ExpiryRules { cookie_age, ..ExpiryRules::default() };
    let age = rules.age(values.get_raw(EXPIRY_KEY), now).unwrap();
    Timeout::from_micros((age.as_secs_f64() * 1e6) as i64)
}

/// Holds the timeout of a stored entry against ours, and Memcached's flags.
fn check_timeout(command: &Value, server: Server, values: &Values, cookie_age: i64, now: Timestamp) {
    let timeout = timeout(values, cookie_age, now);
    match server {
        Server::Redis => {
            let options: Vec<&str> = command["options"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
            let (unit, number) = match options[..] {
                [.., unit, number] if unit != "NX" => (unit, number.parse().ok()),
                // Django's back end adds what is to be deleted at once without an expiry.
                _ => ("EX", Some(0)),
            };
            let ours = if unit == "EX" { timeout.redis_seconds() } else { timeout.redis_millis() };
            assert_eq!(ours, number, "{options:?}");
        }
        Server::PyMemcache | Server::PyLibMc => {
            let theirs = command["exptime"].as_i64().unwrap();
            let ours = timeout.memcached(now);
            // pylibmc hands a negative number to the server as if it had no sign.
            let ours = if server == Server::PyLibMc { i64::from(ours as u32) } else { ours };
            assert_eq!(ours, theirs);
            assert_eq!(
                (command["flags"].as_i64(), command["bytes"].as_u64()),
                (Some(1), Some(payload(command).len() as u64))
            );
        }
    }
}

/// The value of a case, which may be one that is only described.
fn value_json(case: &Value, read: &Values) -> String {
    if case["value"]["recipe"] == "string_70000_bytes" {
        // Of which letter is not said.
        let letter = read.get::<String>("s").unwrap().unwrap_or_default().chars().next().unwrap_or_default();
        return format!("{{\"s\":\"{}\"}}", letter.to_string().repeat(70_000));
    }
    python_json(&case["value"])
}

fn entry(report: &mut Report, label: &str, case: &Value, backend: &Backend) {
    let cookie_age: i64 = setting(case, "SESSION_COOKIE_AGE", "1209600").parse().unwrap();
    if case.get("value_b64").is_none() {
        // Not stored, without an error: the session had ended before it was saved. The moment was not recorded.
        return report.case(label, || {
            let values = Values::parse(python_json(&case["value"]).into()).unwrap();
            assert!(case["error"].is_null() && values.contains_key(EXPIRY_KEY));
            let stored = backend.codec.encode(&values, Timestamp::from_secs(0)).unwrap();
            assert_eq!(backend.codec.decode(&stored).unwrap().to_json(), values.to_json());
        });
    }
    let mut departure = None;
    let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let keys = CacheKeys::new(&setting(case, "KEY_PREFIX", ""), setting(case, "VERSION", "1"), engine(case));
        assert_eq!(keys.key(text(case, "session_key")), text(case, "cache_key"));
        let theirs = payload(case);
        let read = backend.codec.decode(&theirs).unwrap();
        assert_eq!(normal_json(&read.to_json()), normal_json(&value_json(case, &read)));
        check_timeout(case, backend.server, &read, cookie_age, moment(case, "now"));
        let ours = backend.codec.encode(&read, Timestamp::from_secs(0)).unwrap();
        assert_eq!(backend.codec.decode(&ours).unwrap().to_json(), read.to_json());
        if backend.pickled && !keeps_json_types(&case["value"]) {
            departure = Some("CACHE-PLAIN-DATA");
        } else if !(backend.pickled && ours != theirs && repeats_itself(&case["value"])) {
            // Whether Python refers back to an equal object depends on whether it is the same one: then either will do.
            assert_eq!(ours.escape_ascii().to_string(), theirs.escape_ascii().to_string());
        }
    }));
    match (checked, departure) {
        (Ok(()), None) => report.checked(),
        (Ok(()), Some(row)) => report.departure(row),
        // Once more, for the message.
        (Err(panic), _) => report.case(label, || std::panic::resume_unwind(panic)),
    }
}

/// The saved sessions of a file. What the operations of a store send is tried on servers: see the tests of these.
fn check_file(name: &str, backend: &Backend) {
    let vectors = Vectors::load(name);
    let mut report = vectors.report(&["entries"]);
    for (at, case) in vectors.section("entries").iter().enumerate() {
        entry(&mut report, &format!("entries[{at}] {}", case["name"]), case, backend);
    }
    report.finish();
}

#[test]
fn vectors_cache_redis() {
    check_file(
        "cache_redis",
        &Backend { codec: Codec::pickle(Protocol::DJANGO), server: Server::Redis, pickled: true },
    );
}

#[test]
fn vectors_cache_django_redis() {
    let codec = Codec::pickle(Protocol::DJANGO_REDIS);
    check_file("cache_django_redis", &Backend { codec, server: Server::Redis, pickled: true });
}

#[test]
fn vectors_cache_django_redis_json() {
    let codec = Codec::django_redis_json();
    check_file("cache_django_redis_json", &Backend { codec, server: Server::Redis, pickled: false });
}

#[test]
fn vectors_cache_pymemcache() {
    let codec = Codec::pickle(Protocol::DJANGO);
    check_file("cache_pymemcache", &Backend { codec, server: Server::PyMemcache, pickled: true });
}

#[test]
fn vectors_cache_pylibmc() {
    let codec = Codec::pickle(Protocol::DJANGO);
    check_file("cache_pylibmc", &Backend { codec, server: Server::PyLibMc, pickled: true });
}

#[test]
fn vectors_cache_keys() {
    let vectors = Vectors::load("cache_keys");
    let mut report = vectors.report(&vectors.sections());
    for (at, case) in vectors.section("keys").iter().enumerate() {
        report.case(&format!("keys[{at}]"), || {
            let version = case["VERSION"].as_str().map_or_else(|| case["VERSION"].to_string(), str::to_owned);
            let keys = CacheKeys::new(text(case, "KEY_PREFIX"), version, text(case, "engine_key_prefix"));
            assert!([CACHE_ENGINE, CACHED_DB_ENGINE].contains(&text(case, "engine_key_prefix")));
            assert_eq!(keys.key(text(case, "session_key")), text(case, "cache_key"));
            assert_eq!(keys.session_key(text(case, "cache_key")), Some(text(case, "session_key")));
        });
    }
    for (at, case) in vectors.section("timeouts").iter().enumerate() {
        report.case(&format!("timeouts[{at}] {}", case["timeout"]), || {
            let timeout = match (case["timeout"]["i"].as_str(), case["timeout"]["f"].as_str()) {
                (Some(number), _) => Timeout::from_micros(number.parse::<i64>().unwrap() * 1_000_000),
                (_, Some(number)) => Timeout::from_micros((number.parse::<f64>().unwrap() * 1e6) as i64),
                _ => Timeout::NEVER,
            };
            assert_eq!(timeout.redis_seconds(), case["django_redis_backend"].as_u64());
            assert_eq!(Some(timeout.memcached(moment(case, "now"))), case["memcached"].as_i64());
        });
    }
    report.finish();
}
