//! Pickles that Python wrote: plain sessions in every protocol, objects of other types, and damaged ones.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use cloakroom_compat::{Report, Vectors, keeps_json_types, normal_json, python_json, repeats_itself, text};
use cloakroom_core::wire::pickle::{self, Protocol};
use cloakroom_core::wire::session_data::Codec;
use cloakroom_core::{ErrorKind, Timestamp, Values};
use serde_json::Value;

fn bytes(case: &Value, field: &str) -> Vec<u8> {
    BASE64_STANDARD.decode(text(case, field)).unwrap()
}

/// A plain session: it is read as what was pickled, and what we write is what Python wrote.
fn plain(report: &mut Report, label: &str, case: &Value) {
    let json = normal_json(&python_json(&case["value"]));
    let mut read = Values::new();
    let mut failed = None;
    for field in ["pickle_b64", "optimized_b64"] {
        if case.get(field).is_none() {
            continue;
        }
        match pickle::loads(&bytes(case, field)) {
            Ok(values) if normal_json(&values.to_json()) == json => read = values,
            other => failed = Some(format!("{field}: {:?}", other.map(|values| values.to_json()))),
        }
    }
    if let Some(why) = failed {
        return report.fail(label, why);
    }
    let protocol = case["protocol"].as_i64().unwrap();
    let written = pickle::dumps(&read, Protocol::from_option(protocol).unwrap()).unwrap();
    let again = pickle::loads(&written).unwrap();
    if again.to_json() != read.to_json() {
        return report.fail(label, "what we wrote is not what we read");
    }
    if !keeps_json_types(&case["value"]) {
        // Keys that are numbers are text now, and tuples are lists, as in every other engine.
        return report.departure("CACHE-PLAIN-DATA");
    }
    // Protocols 0 and 1 are read, and answered in protocol 2.
    // Whether Python refers back to an equal text depends on whether it is the same object.
    if protocol >= 2 && written != bytes(case, "pickle_b64") && !repeats_itself(&case["value"]) {
        return report.fail(label, format!("we wrote {}", written.escape_ascii()));
    }
    report.checked();
}

/// What the item of a case holds, as our messages call it; `None` for what can be represented.
fn type_of(name: &str) -> Option<&str> {
    Some(match name {
        "datetime_utc" | "datetime_naive" | "datetime_offset" => "datetime.datetime",
        "date" => "datetime.date",
        "timedelta" => "datetime.timedelta",
        "decimal" => "decimal.Decimal",
        "uuid" => "uuid.UUID",
        "ordered_dict" => "collections.OrderedDict",
        "safe_string" => "django.utils.safestring.SafeString",
        "message_list" => "django.contrib.messages.storage.base.Message",
        "builtin_function" => "len",
        "dict_with_tuple_key" => "tuple (as a key)",
        "recursive_list" => "list nested too deeply, or in itself",
        "tuple" => return None,
        // Python's own types, whose names these are.
        other => other,
    })
}

fn other_types(report: &mut Report, label: &str, case: &Value) {
    let read = pickle::loads(&bytes(case, "pickle_b64"));
    let Some(type_name) = type_of(text(case, "name")) else {
        // A tuple: a list from now on.
        let shown = text(case, "python").replace(['\'', ' '], "\"").replace(":\"", ":").replace(",\"", ",");
        let read = read.unwrap().to_json();
        if read == shown.replace('(', "[").replace(')', "]") {
            report.departure("CACHE-PLAIN-DATA");
        } else {
            report.fail(label, format!("{read} is not {shown}"));
        }
        return;
    };
    if case["python"].is_null() {
        // A call instead of a session: it is not made, and its result is no dictionary.
        let refused = read.is_err_and(|error| error.kind() == ErrorKind::Corrupted);
        report.outcome(label, if refused { Ok(()) } else { Err("it was not refused".into()) });
        return;
    }
    let mut values = match read {
        Ok(values) => values,
        Err(error) => return report.fail(label, error),
    };
    // The session and whatever else stands in it can be read, and nothing is written over it.
    values.insert("other", &1).unwrap();
    let [key, other] = &values.keys().map(String::from).collect::<Vec<_>>()[..] else {
        return report.fail(label, values.to_json());
    };
    let asked = values.get::<serde::de::IgnoredAny>(key).map(drop).unwrap_err();
    let refused = Codec::pickle(Protocol::V5).encode(&values, Timestamp::from_secs(0)).unwrap_err();
    let told = |error: &cloakroom_core::Error| error.to_string().contains(type_name) && error.to_string().contains(key);
    let right = asked.kind() == ErrorKind::Type
        && refused.kind() == ErrorKind::Unrepresentable
        && told(&asked)
        && told(&refused)
        && values.get::<u8>(other).unwrap() == Some(1)
        && values.opaque_type(key) == Some(type_name);
    if right { report.departure("PYTHON-TYPES") } else { report.fail(label, format!("{asked}, {refused}")) }
}

fn broken(report: &mut Report, label: &str, case: &Value) {
    let read = pickle::loads(&bytes(case, "b64"));
    if case.get("python_loads").is_some_and(|loads| loads.get("d").is_some()) {
        return report.case(label, || {
            assert_eq!(normal_json(&read.unwrap().to_json()), normal_json(&python_json(&case["python_loads"])));
        });
    }
    // Python fails, or reads something else than a dictionary: here it is a damaged record either way.
    let damaged = read.is_err_and(|error| error.kind() == ErrorKind::Corrupted);
    let loads = ["python_loads", "django_redis_backend_loads"].iter().any(|field| case.get(*field).is_some());
    match (damaged, loads) {
        (false, _) => report.fail(label, "it was not refused"),
        (true, true) => report.departure("NOT-A-DICTIONARY"),
        (true, false) => report.checked(),
    }
}

#[test]
fn vectors_pickles() {
    let vectors = Vectors::load("pickles");
    let mut report = vectors.report(&vectors.sections());
    for (section, check) in
        [("plain", plain as fn(&mut Report, &str, &Value)), ("other_types", other_types), ("broken", broken)]
    {
        for (at, case) in vectors.section(section).iter().enumerate() {
            let protocol = case["protocol"].as_i64().unwrap_or(-1);
            check(&mut report, &format!("{section}[{at}] {} {protocol}", case["name"]), case);
        }
    }
    report.finish();
}
