use std::collections::BTreeMap;

use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use super::*;

fn written<T: Serialize + ?Sized>(value: &T) -> String {
    to_string(value).unwrap()
}

#[test]
fn floats_are_spelled_as_python_does() {
    for (value, text) in [
        (0.0, "0.0"),
        (-0.0, "-0.0"),
        (3.0, "3.0"),
        (1e15, "1000000000000000.0"),
        (123_456_789_012_345.6, "123456789012345.6"),
        (1e16, "1e+16"),
        (1.2345e17, "1.2345e+17"),
        (1e22, "1e+22"),
        (0.0001, "0.0001"),
        (0.00012, "0.00012"),
        (1e-5, "1e-05"),
        (1.5e-7, "1.5e-07"),
        (0.1, "0.1"),
        (-12.5, "-12.5"),
        (5e-324, "5e-324"),
        (f64::MAX, "1.7976931348623157e+308"),
        (f64::NAN, "NaN"),
        (f64::INFINITY, "Infinity"),
        (f64::NEG_INFINITY, "-Infinity"),
    ] {
        assert_eq!(written(&value), text);
    }
    assert_eq!(written(&0.1f32), "0.1");
    assert_eq!(written(&1e20f32), "1e+20");
}

#[test]
fn text_is_escaped_as_python_does() {
    assert_eq!(
        written("\"\\/\n\r\t\u{c}\u{8}\u{1}\u{7f}\u{80}é\u{2028}😀'<>&"),
        r#""\"\\/\n\r\t\f\b\u0001\u007f\u0080\u00e9\u2028\ud83d\ude00'<>&""#
    );
}

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
enum Shape {
    Unit,
    New(i32),
    Tuple(i32, String),
    Struct { a: Option<bool>, b: () },
}

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
#[serde(tag = "t")]
enum Tagged {
    A { x: i64 },
    B { y: f64 },
}

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
#[serde(untagged)]
enum Untagged {
    Number(f64),
    Text(String),
    List(Vec<i64>),
}

fn both_ways<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: T, text: &str) {
    assert_eq!(written(&value), text);
    assert_eq!(from_str::<T>(text).unwrap(), value);
}

#[test]
fn serde_forms_go_both_ways() {
    both_ways(Shape::Unit, r#""Unit""#);
    both_ways(Shape::New(-1), r#"{"New":-1}"#);
    both_ways(Shape::Tuple(1, "é".into()), r#"{"Tuple":[1,"\u00e9"]}"#);
    both_ways(Shape::Struct { a: None, b: () }, r#"{"Struct":{"a":null,"b":null}}"#);
    both_ways(vec![Tagged::A { x: 1 }, Tagged::B { y: 2.0 }], r#"[{"t":"A","x":1},{"t":"B","y":2.0}]"#);
    both_ways(vec![Untagged::Number(1.5), Untagged::Text("x".into()), Untagged::List(vec![1])], r#"[1.5,"x",[1]]"#);
    both_ways((1u8, 'x', Some(2i128), u128::MAX), r#"[1,"x",2,340282366920938463463374607431768211455]"#);
    both_ways(i128::MIN, "-170141183460469231731687303715884105728");
    both_ways(BTreeMap::from([(1, true), (2, false)]), r#"{"1":true,"2":false}"#);
    both_ways(BTreeMap::from([(false, ()), (true, ())]), r#"{"false":null,"true":null}"#);
    both_ways(BTreeMap::from([(Some('a'), 1)]), r#"{"a":1}"#);
    both_ways(BTreeMap::from([(None::<char>, 1)]), r#"{"null":1}"#);
    both_ways(String::from("\0"), r#""\u0000""#);
    both_ways(Vec::<()>::new(), "[]");
    both_ways(BTreeMap::<String, i32>::new(), "{}");
}

#[test]
fn map_keys_that_are_lists_are_refused() {
    let error = to_string(&BTreeMap::from([(vec![1], 1)])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unrepresentable);
}

#[test]
fn words_and_overflow_are_read_as_floats() {
    let floats: Vec<f64> = from_str("[NaN, Infinity, -Infinity, 1e400, -1e400, 1e-400, 7, -0, -0.0]").unwrap();
    assert!(floats[0].is_nan());
    assert_eq!(floats[1..7], [f64::INFINITY, f64::NEG_INFINITY, f64::INFINITY, f64::NEG_INFINITY, 0.0, 7.0]);
    assert_eq!(from_str::<i64>("-0").unwrap(), 0);
    assert!(from_str::<f32>("NaN").unwrap().is_nan());
    assert_eq!(from_str::<BTreeMap<String, f64>>(r#"{"a":{"NaN":1},"b":2}"#).unwrap_err().kind(), ErrorKind::Type);
}

#[test]
fn serde_json_values_pass_through() {
    let text = r#"{"b":[1,-2,2.5,1e+22,"\u00e9",null,true],"a":{}}"#;
    let value: serde_json::Value = from_str(text).unwrap();
    assert_eq!(written(&value), text);
    // Whatever serde_json's number is made of, it is written as Python would, or exactly.
    assert_eq!(written(&serde_json::json!({"x": 1e22})), r#"{"x":1e+22}"#);
}

#[test]
fn what_a_type_cannot_hold_is_refused_without_telling() {
    for error in [
        from_str::<u8>("256").unwrap_err(),
        from_str::<u64>(r#""hunter2""#).unwrap_err(),
        from_str::<String>(r#""hunter2\ud800""#).unwrap_err(),
        from_str::<Shape>(r#""hunter2""#).unwrap_err(),
        from_str::<Shape>("{}").unwrap_err(),
        from_str::<Shape>(r#"{"New":1,"New":2}"#).unwrap_err(),
        from_str::<i64>("1.0").unwrap_err(),
        from_str::<(i32, i32)>("[1,2,3]").unwrap_err(),
        from_str::<(i32, i32)>("[1]").unwrap_err(),
        from_str::<serde_json::Value>(&"9".repeat(60)).unwrap_err(),
        from_str::<std::net::IpAddr>(r#""hunter2""#).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Type, "{error}");
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }
}

#[test]
fn the_grammar_is_pythons() {
    for good in [
        " [ ] ",
        "{ \"a\" : 1 , \"b\" : [ 1 , { } ] }",
        "1E5",
        "1e-7",
        "-0",
        "\"\x7f\"",
        r#""\/\uD800\u00E9""#,
        "[[],[]]",
        "NaN",
        "-Infinity",
        "0.5",
        "\t\r\n0",
    ] {
        assert!(scan::validate(good).is_ok(), "{good}");
    }
    for bad in [
        "",
        " ",
        "nul",
        "nan",
        "-NaN",
        "+1",
        "01",
        "-01",
        "1.",
        ".5",
        "1e",
        "1e+",
        "-",
        "0x1",
        "[1,]",
        "[,1]",
        "{,}",
        "{\"a\":1,}",
        "{\"a\"}",
        "{a:1}",
        "{1:2}",
        "'a'",
        "\"a",
        "\"\\x41\"",
        "\"\\u12\"",
        "\"\\u+123\"",
        "\"\n\"",
        "[1",
        "{\"a\":1",
        "[}",
        "{]",
        "[1}",
        "1 2",
        "[1]]",
        "1//",
        "\u{b}1",
        "\u{a0}1",
        "\u{feff}1",
        "tru",
        "truee",
        "Infinit",
        "--1",
        "[1 2]",
        "1\0",
    ] {
        assert!(scan::validate(bad).is_err(), "{bad}");
        assert_eq!(RawJson::parse(bad).unwrap_err().kind(), ErrorKind::Corrupted);
    }
}

#[test]
fn hostile_nesting_and_length_are_refused_without_harm() {
    for open in ["[", "{\"a\":", "[{\"a\":[", "\"\\\\"] {
        assert!(RawJson::parse(&open.repeat(100_000)).is_err());
    }
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    assert!(RawJson::parse(&nested(100_000)).is_err());
    assert!(RawJson::parse(&nested(5_000)).is_err());
    assert!(RawJson::parse(&nested(MAX_DEPTH + 1)).is_err());
    assert!(RawJson::parse(&nested(MAX_DEPTH)).is_ok());
    for depth in [1, 2, 49, 50, 51, 52, 99, 100, 101, MAX_DEPTH / 2] {
        // However deep it is, what closes has to be what is open.
        let (open, close) = ("[{\"a\":".repeat(depth), "}]".repeat(depth));
        assert!(RawJson::parse(&format!("{open}0{close}")).is_ok(), "{depth}");
        assert!(RawJson::parse(&format!("{open}0{}", close.replacen("}]", "]}", 1))).is_err(), "{depth}");
        assert!(RawJson::parse(&format!("{open}0{}]}}", &close[2..])).is_err(), "{depth}");
        assert!(RawJson::parse(&format!("{open}0{close}]")).is_err(), "{depth}");
        assert!(RawJson::parse(&format!("{open}0{}", &close[1..])).is_err(), "{depth}");
    }
    let deep = RawJson::parse(&nested(900)).unwrap();
    assert_eq!(deep.deserialize::<serde_json::Value>().unwrap_err().kind(), ErrorKind::Type);
    let deep = RawJson::parse(&nested(200)).unwrap();
    let value: serde_json::Value = deep.deserialize().unwrap();
    assert_eq!(written(&value), deep.as_str());
    deep.deserialize::<serde::de::IgnoredAny>().unwrap();

    let mut value = serde_json::Value::Null;
    for _ in 0..300 {
        value = serde_json::Value::Array(vec![value]);
    }
    assert_eq!(to_string(&value).unwrap_err().kind(), ErrorKind::Unrepresentable);

    assert!(RawJson::parse(&"9".repeat(4_300)).is_ok());
    assert!(RawJson::parse(&("-".to_owned() + &"9".repeat(4_300))).is_ok());
    assert!(RawJson::parse(&"9".repeat(4_301)).is_err());
    assert!(RawJson::parse(&("0.".to_owned() + &"9".repeat(100_000))).is_ok());
}

#[test]
fn raw_json_is_ascii_and_keeps_its_text() {
    let raw = RawJson::parse(" {\"é\": [\"😀\", 1e22 , NaN]} ").unwrap();
    assert_eq!(raw.as_str(), r#"{"\u00e9": ["\ud83d\ude00", 1e22 , NaN]}"#);
    assert_eq!(format!("{raw:?}"), "RawJson(40 bytes)");
    assert!(RawJson::parse("\"\\é\"").is_err());
}

/// Any JSON-like value, as text that Python could have written.
fn value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_filter("finite", |f| f.is_finite()).prop_map(Into::into),
        any::<String>().prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
            prop::collection::btree_map(any::<String>(), inner, 0..6)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Eight bytes are looked at together: each has to be seen for what it is wherever it stands, and beside any other.
#[test]
fn the_scanner_sees_each_character_at_each_place_of_text() {
    for character in ('\0'..='\u{ff}').chain(['\u{20ac}', '\u{1f36a}']) {
        for (before, neighbour) in
            (0..10).flat_map(|before| [(before, "!"), (before, " "), (before, "\u{ff}"), (before, "#")])
        {
            let inside = format!("{}{character}{neighbour}{}", neighbour.repeat(before), "]".repeat(9));
            for text in [format!("\"{inside}\""), format!("[{{\"{inside}\":\"{inside}\"}}]")] {
                let theirs = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
                assert_eq!(scan::validate(&text).is_ok(), theirs, "{text:?}");
            }
            let mut keys = Vec::new();
            let text = format!("{{\"{inside}\":0}}");
            if text.is_ascii() && scan::split_object(text.as_bytes(), |key, _| keys.push(key)).is_ok() {
                let plain = matches!(character, ' '..='~') && !matches!(character, '"' | '\\');
                assert!(keys.len() == 1 && keys[0].plain == plain, "{text:?}");
            }
            assert_eq!(needs_escape(&inside), written(&inside).len() != inside.len() + 2, "{inside:?}");
        }
    }
}

#[test]
fn what_needs_an_escape_is_seen_anywhere() {
    for length in 0..20 {
        assert!(!needs_escape(&"~".repeat(length)));
        for (before, odd) in
            (0..length).flat_map(|before| ["\"", "\\", "\n", "\u{7f}", "\u{e9}"].map(|odd| (before, odd)))
        {
            let text = format!("{}{odd}{}", " ".repeat(before), "~".repeat(length - before - 1));
            assert!(needs_escape(&text), "{text:?}");
        }
    }
}

proptest! {
    #[test]
    fn values_come_back(value in value()) {
        let text = written(&value);
        prop_assert!(text.is_ascii());
        prop_assert!(scan::validate(&text).is_ok());
        prop_assert_eq!(from_str::<serde_json::Value>(&text).unwrap().to_string(), value.to_string());
    }

    #[test]
    fn floats_that_rust_spells_alike(value in prop_oneof![any::<f64>(), 1e-5..1e-3, 1e-3..1e6, 1e14..1e17]) {
        for value in [value, -value, value.trunc(), (value * 100.0).round() / 100.0] {
            let mut digit_by_digit = String::new();
            super::ser::push_float(&mut digit_by_digit, &format!("{value:e}"));
            prop_assert_eq!(written(&value), digit_by_digit);
        }
    }

    #[test]
    fn floats_come_back(bits: u64) {
        let value = f64::from_bits(bits);
        let back: f64 = from_str(&written(&value)).unwrap();
        prop_assert!(back.to_bits() == bits || (back.is_nan() && value.is_nan()));
    }

    #[test]
    fn small_floats_come_back(bits: u32) {
        let value = f32::from_bits(bits);
        let back: f32 = from_str(&written(&value)).unwrap();
        prop_assert!(back.to_bits() == bits || (back.is_nan() && value.is_nan()));
    }

    #[test]
    fn text_comes_back(text: String) {
        prop_assert_eq!(from_str::<String>(&written(&text)).unwrap(), text);
    }

    /// Whatever text comes: no panic, and both readers agree on what is JSON.
    #[test]
    fn the_scanner_agrees_with_serde_json(text in "[\\[\\]{}:,\"\\\\ntrue0-9.eE+ a-]{0,24}") {
        let ours = scan::validate(&text).is_ok();
        let theirs = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
        prop_assert_eq!(ours, theirs, "{}", text);
    }

    #[test]
    fn truncated_text_is_refused(value in value(), cut: prop::sample::Index) {
        let text = written(&[value]);
        prop_assert!(scan::validate(&text[..cut.index(text.len())]).is_err());
    }
}
