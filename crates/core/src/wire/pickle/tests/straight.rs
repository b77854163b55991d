//! The straight way comes to what the machine comes to, or to nothing.

use base64::Engine as _;

use super::*;

/// Whether the straight way leads to the end. If it does, the machine comes to the same.
fn goes_straight(pickle: &[u8]) -> bool {
    let Some(straight) = super::super::straight::values(pickle) else { return false };
    let machine = by_machine(pickle).unwrap_or_else(|error| panic!("{error}: {}", pickle.escape_ascii()));
    machine.check_writable().unwrap();
    assert!(straight.iter_escaped().eq(machine.iter_escaped()), "{}", pickle.escape_ascii());
    assert_eq!(straight.to_json(), machine.to_json());
    assert!(straight.keys().all(|key| straight.get_raw(&key) == machine.get_raw(&key)));
    true
}

#[test]
fn what_picklers_write_goes_straight() {
    let many = |count: usize, item: fn(usize) -> String| (0..count).map(item).collect::<Vec<_>>().join(",");
    let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    let nested_in_twos = |depth: usize| format!("{}1{}", "[0,".repeat(depth), "]".repeat(depth));
    for json in [
        "{}".to_owned(),
        r#"{"a":1}"#.to_owned(),
        r#"{"a":[],"b":{},"c":"","d":[[]],"e":[{}],"f":{"a":{"b":[[{"c":[]}]]}},"g":[[],"",[],{}],"h":"a"}"#.to_owned(),
        r#"{"":[true,false,null,0,255,256,65535,65536,-1,-2147483648,2147483648,-9223372036854775808]}"#.to_owned(),
        r#"{"f":[0.0,-0.0,1.5,1e+22,1e-07,NaN,Infinity,-Infinity],"\u00e9\ud800\"":"\ud83d\ude00\n\u0000"}"#.to_owned(),
        format!("{{{}}}", many(1_000, |n| format!("\"k{n}\":{n}"))),
        format!(
            "{{\"l\":[{}],\"d\":{{{}}}}}",
            many(2_001, |n| n.to_string()),
            many(3_000, |n| format!("\"{n}\":{{}}"))
        ),
        format!("{{\"a\":\"{}\",\"b\":[\"{0}\"]}}", "x".repeat(60_000)),
        format!("{{\"a\":{}}}", nested(MAX_DEPTH / 2 - 1)),
        format!("{{\"a\":{}}}", nested_in_twos(MAX_DEPTH / 2)),
    ] {
        let values = parsed(&json);
        for protocol in [Protocol::V4, Protocol::V5] {
            let pickle = dumps(&values, protocol).unwrap();
            assert!(goes_straight(&pickle), "{json:.100}");
            assert_eq!(read(&pickle).to_json(), json);
        }
    }
    // What only the machine has a bound or an answer for.
    for json in [
        format!("{{\"a\":{}}}", nested(MAX_DEPTH / 2)),
        format!("{{\"a\":{}}}", nested_in_twos(MAX_DEPTH / 2 + 1)),
        format!("{{\"a\":[\"{}\"]}}", "x".repeat(70_000)),
        format!("{{\"a\":{}}}", "9".repeat(20)),
    ] {
        let pickle = dumps(&parsed(&json), Protocol::V5).unwrap();
        assert!(!goes_straight(&pickle), "{json:.100}");
        assert_eq!(read(&pickle).to_json(), json);
    }
}

/// Whatever is recorded of Django's and Python's own pickles beside this crate.
#[test]
fn recorded_pickles_are_the_same_to_both() {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../compat/vectors");
    // The crate by itself comes without them.
    let Ok(files) = std::fs::read_dir(directory) else { return };
    let mut straight = 0;
    for file in files {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        let payloads = text.split('"').filter_map(|text| base64::prelude::BASE64_STANDARD.decode(text).ok());
        straight += payloads.filter(|payload| goes_straight(payload)).count();
    }
    assert!(straight > 300, "{straight}");
}

/// Texts that another one is referred to as often as it gets: the straight way ends before the machine refuses any.
#[test]
fn text_that_is_referred_to_again_and_again() {
    for (length, text, times) in [(60_000, "x", 60), (60_000, "x", 70), (60_000, "\u{1}", 20), (200, "\n", 100_000)] {
        let text = text.repeat(length);
        let repeated = [
            b"\x80\x04}\x94\x8c\x01k\x94](X",
            &(length as u32).to_le_bytes()[..],
            text.as_bytes(),
            b"\x94",
            &b"h\x02".repeat(times),
            b"es.",
        ]
        .concat();
        goes_straight(&repeated);
    }
}

#[test]
fn keys_that_repeat_and_elements_that_come_late() {
    for pickle in [
        &b"}(\x8c\x01aK\x01\x8c\x01bK\x02\x8c\x01aK\x03u."[..],
        b"}\x8c\x01k}(\x8c\x01aK\x01\x8c\x01aK\x02us.",
        b"}(\x8c\x01aK\x01u(\x8c\x01aK\x02\x8c\x01cNu(u.tail",
        b"}\x8c\x01k](K\x01e(](K\x02ee(es.",
    ] {
        assert!(goes_straight(pickle), "{}", pickle.escape_ascii());
    }
    // What no pickler writes.
    for pickle in [
        &b"}(u."[..],
        b"}\x8c\x01k](es.",
        b"}\x8c\x01aK\x01s\x8c\x01bK\x02s.",
        b"}\x8c\x01k]K\x01aK\x02as.",
        b"}K\x01K\x02s.",
        b"}\x8c\x01k]\x94h\x00\x86s.",
        b"}\x8c\x01k](\x94es.",
        b"}\x8c\x01aNs}0.",
        b"]}.",
        b"](K\x01}\x8c\x01kNs.",
        b"}\x8c\x01kK\x0aK\x01as.",
        b"}\x8c\x01k\x8c\x00K\x01as.",
        b"}\x8c\x01k]}(e.",
        b"}\x8c\x01k]\x8c\x01a\x8c\x01bss.",
        b"}\x8c\x01k}K\x01aNs.",
        b"}\x8c\x02\xc3(Ns.",
        b"}(\x8c\x01a(u.",
        b"}(\x8c\x01au.",
        b"\x80\x06}.",
        b"\x95\x09\0\0\0\0\0\0\0}.",
    ] {
        assert!(!goes_straight(pickle), "{}", pickle.escape_ascii());
    }
}

proptest! {
    #[test]
    fn the_straight_way_and_the_machine_come_to_the_same(
        items in prop::collection::vec((".{0,6}", json_value()), 0..6),
        protocol in 4i64..6,
        damage in damage(3),
    ) {
        let (_, pickle) = written(&items, protocol);
        goes_straight(&damaged(pickle, damage));
    }

    #[test]
    fn any_instructions_are_the_same_to_both(instructions in prop::collection::vec(instruction(), 0..16)) {
        goes_straight(&[&b"}\x8c\x01k"[..], &instructions.concat(), b"s."].concat());
        goes_straight(&[&b"}\x94(\x8c\x01k\x94"[..], &instructions.concat(), b"u."].concat());
        goes_straight(&instructions.concat());
    }
}
