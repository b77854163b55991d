//! Values and their order.

use cloakroom_compat::live::http::Visitor;
use cloakroom_compat::live::json::Json;
use cloakroom_compat::live::site::{Engine, Pair};

on_each_engine!(django_and_we_agree_on_values);

fn django_and_we_agree_on_values(engine: Engine) {
    let Some(pair) = Pair::start(engine) else { return };
    every_value_is_read_as_it_was_written(&pair);
    keys_keep_their_order(&pair);
    a_deleted_key_goes(&pair);
}

/// JSON that both sides accept and must hand on unchanged.
const VALUES: &[&str] = &[
    "null",
    "true",
    "false",
    "0",
    "-1",
    "123456789012345678901234567890",
    "-987654321098765432109876543210",
    "18446744073709551616",
    "0.0",
    "-0.0",
    "3.0",
    "0.1",
    "0.0001",
    "1e-05",
    "1e22",
    "1.5e-07",
    "5e-324",
    "1.7976931348623157e+308",
    "\"\"",
    "\"plain\"",
    "\"\\\"quoted\\\" \\\\ /\"",
    "\"<&>'\"",
    "\"é\"",
    "\"Ünïcödé €\"",
    "\"日本語\"",
    "\"😀𝄞\"",
    "\"\\ud83d\\ude00\"",
    "\"\\u0000\\u0001\\u001f\\u007f\\u0080\\u2028\\ufeff\"",
    "\"\\n\\r\\t\\b\\f\"",
    "[]",
    "{}",
    "[1,[2,[3,[4,[]]]],{}]",
    "{\"a\":{\"b\":{\"c\":[null,{\"d\":1}]}},\"é\":\"ü\"}",
    "{\"z\":1,\"a\":2,\"m\":3}",
    "{\"10\":1,\"9\":2,\"\":3}",
];

/// What only Python calls JSON. Our route may refuse to write these; what Django wrote must stay as it is.
const PYTHON_ONLY: &[&str] =
    &["NaN", "Infinity", "-Infinity", "[NaN,-0.0]", "\"\\ud800\"", "\"a\\udc00b\"", "\"\\udc00\\ud800\""];

fn every_value_is_read_as_it_was_written(pair: &Pair) {
    for (writer, reader) in pair.both_ways() {
        let python_only: &[&str] = if std::ptr::eq(writer, &pair.django) { PYTHON_ONLY } else { &[] };
        let mut visitor = Visitor::new();
        let mut expected = Vec::new();
        for (index, value) in VALUES.iter().chain(python_only).enumerate() {
            let key = format!("key {index} é😀");
            visitor.get(writer, "set", &[("k", &key), ("v", value)]).ok();
            let value = Json::parse(value).unwrap();
            assert_eq!(visitor.get(reader, "get", &[("k", &key)]).ok().member("value"), value, "{key}");
            expected.push((key.encode_utf16().collect(), value));
        }
        assert_eq!(visitor.get(reader, "all", &[]).ok().member("data"), Json::Map(expected.clone()));

        // A change by the reader leaves everything else as it was, to the last digit.
        let before = visitor.get(&pair.django, "all", &[]).ok().member("data").to_string();
        visitor.get(reader, "set", &[("k", "mine"), ("v", "1")]).ok();
        let after = visitor.get(&pair.django, "all", &[]).ok().member("data").to_string();
        assert_eq!(after, format!("{},\"mine\":1}}", before.strip_suffix('}').unwrap()));
        expected.push(("mine".encode_utf16().collect(), Json::Number("1".into())));
        assert_eq!(visitor.get(writer, "all", &[]).ok().member("data"), Json::Map(expected));
    }
}

fn keys_keep_their_order(pair: &Pair) {
    for (first, second) in pair.both_ways() {
        let mut visitor = Visitor::new();
        for key in ["zebra", "apple", "10", "9", "É", "mango"] {
            visitor.get(first, "set", &[("k", key), ("v", "1")]).ok();
        }
        // A key that is there keeps its place, one that was away comes back at the end.
        visitor.get(second, "set", &[("k", "apple"), ("v", "2")]).ok();
        visitor.get(second, "del", &[("k", "zebra")]).ok();
        visitor.get(first, "set", &[("k", "zebra"), ("v", "3")]).ok();
        visitor.get(second, "incr", &[("k", "10")]).ok();
        let expected = Json::parse(r#"{"apple":2,"10":2,"9":1,"É":1,"mango":1,"zebra":3}"#).unwrap();
        for site in [first, second] {
            assert_eq!(visitor.get(site, "all", &[]).ok().member("data"), expected);
        }
    }
}

fn a_deleted_key_goes(pair: &Pair) {
    for (first, second) in pair.both_ways() {
        let mut visitor = Visitor::new();
        visitor.get(first, "set", &[("k", "a"), ("v", "1")]).ok();
        visitor.get(second, "del", &[("k", "a")]).ok();
        assert_eq!(visitor.get(first, "get", &[("k", "a")]).ok().member("found"), Json::Bool(false));
        // Emptied by hand the session stays, with its cookie; so it does after `clear`.
        let key = visitor.cookie("sessionid").is_some();
        assert!(key, "an emptied session keeps its cookie");
        visitor.get(first, "set", &[("k", "a"), ("v", "1")]).ok();
        visitor.get(second, "clear", &[]).ok();
        assert_eq!(visitor.get(first, "all", &[]).ok().member("data"), Json::Map(Vec::new()));
        assert!(visitor.cookie("sessionid").is_some(), "a cleared session keeps its cookie");
    }
}
