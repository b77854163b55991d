use proptest::prelude::*;

use super::*;
use crate::json::MAX_DEPTH;

mod straight;

fn read(pickle: &[u8]) -> Values {
    loads(pickle).unwrap()
}

fn refused(pickle: &[u8]) -> ErrorKind {
    loads(pickle).unwrap_err().kind()
}

fn parsed(json: &str) -> Values {
    Values::parse(json.into()).unwrap()
}

/// A session of two plain items with another object between them, in protocol 2.
fn around(object: &[u8]) -> Vec<u8> {
    [b"\x80\x02}(X\x01\x00\x00\x00aK\x01X\x01\x00\x00\x00d", object, b"X\x01\x00\x00\x00z]K\x02au."].concat()
}

#[test]
fn every_protocol_is_read() {
    for pickle in [
        &b"(dp0\nVk\np1\n(lp2\nI1\naI01\naI00\naL-12345678901234567890123L\naF-1.5\naFnan\naNas."[..],
        b"}q\x00X\x01\x00\x00\x00kq\x01]q\x02(K\x01I01\nI00\nL-12345678901234567890123L\nG\xbf\xf8\0\0\0\0\0\0G\x7f\xf8\0\0\0\0\0\0Nes.",
        b"\x80\x02}q\x00X\x01\x00\x00\x00kq\x01]q\x02(K\x01\x88\x89\x8a\n5\xbb\xbd\x8e\x89\xb1I\xbdb\xfdG\xbf\xf8\0\0\0\0\0\0G\x7f\xf8\0\0\0\0\0\0Nes.",
    ] {
        assert_eq!(read(pickle).to_json(), r#"{"k":[1,true,false,-12345678901234567890123,-1.5,NaN,null]}"#);
    }
}

#[test]
fn text_comes_in_many_forms() {
    let cases: [(&[u8], &str); 11] = [
        (b"V\\u00e9\xe9\\U0001f600\\ud800\\\\u005cx\\\n", r"\u00e9\u00e9\ud83d\ude00\ud800\\\\u005cx\\"),
        (b"S'it\\'s\\n\\x41\\\\'\n", r"it's\nA\\"),
        (b"S\"\"\n", ""),
        (b"U\x02ab", "ab"),
        (b"T\x02\0\0\0ab", "ab"),
        (b"X\x02\0\0\0\xc3\xa9", r"\u00e9"),
        (b"\x8c\x04\xf0\x9f\x98\x80", r"\ud83d\ude00"),
        (b"\x8d\x03\0\0\0\0\0\0\0\xed\xb0\x80", r"\udc00"),
        // Two halves make no whole in Python; in JSON they do.
        (b"\x8c\x06\xed\xa0\xbd\xed\xb8\x80", r"\ud83d\ude00"),
        (b"\x8c\x05a\xed\xa0\x80b", r"a\ud800b"),
        (b"\x8c\x03\x7f\"\n", r#"\u007f\"\n"#),
    ];
    for (pickle, json) in cases {
        let values = read(&around(pickle));
        assert_eq!(values.get_raw("d"), Some(&*format!("\"{json}\"")), "{}", pickle.escape_ascii());
    }
    let bad: [&[u8]; 9] = [
        b"V\\u12\n",
        b"V\\U00110000\n",
        b"Sx\n",
        b"S'\\q'\n",
        b"S'\xe9'\n",
        b"U\x01\xe9",
        b"X\x01\0\0\0\xe9",
        b"\x8c\x03\xed\xa0",
        b"V\\u+123\n",
    ];
    for bad in bad {
        assert_eq!(refused(&around(bad)), ErrorKind::Corrupted, "{}", bad.escape_ascii());
    }
}

#[test]
fn keys_become_text_as_in_pythons_json() {
    let pickle =
        b"\x80\x04}(K\x01NN\x88\x89NG?\xf0\0\0\0\0\0\0NG\x7f\xf0\0\0\0\0\0\0N\x8c\x01k}(K\x07K\x08Jy\xff\xff\xff)uu.";
    assert_eq!(
        read(pickle).to_json(),
        r#"{"1":null,"null":true,"false":null,"1.0":null,"Infinity":null,"k":{"7":8,"-135":[]}}"#
    );
    // Two keys that become the same text: the first place and the last value.
    assert_eq!(read(b"}(K\x01K\x02U\x01xNU\x011K\x03u.").to_json(), r#"{"1":3,"x":null}"#);
}

#[test]
fn what_is_shared_is_written_out() {
    let pickle = b"\x80\x04}\x94(\x8c\x01a\x94]\x94(K\x01h\x01e\x8c\x01bh\x02\x8c\x01c(h\x02h\x02tu.";
    assert_eq!(read(pickle).to_json(), r#"{"a":[1,"a"],"b":[1,"a"],"c":[[1,"a"],[1,"a"]]}"#);
    // What comes later into a list that was referred to before is in both places.
    assert_eq!(read(b"}(U\x01a]q\x00U\x01bh\x00K\x05au.").to_json(), r#"{"a":[5],"b":[5]}"#);
    assert_eq!(read(b"}(U\x01aU\x01x2\x86U\x01bN0K\x01u.").to_json(), r#"{"a":["x","x"],"b":1}"#);
}

#[test]
fn what_json_has_no_form_for_leaves_the_rest_readable() {
    let cases: [(&[u8], &str); 25] = [
        (b"cdatetime\ndate\nC\x04\x07\xf2\x07\x03\x85R", "datetime.date"),
        (b"cdecimal\nDecimal\n(V1.5\ntR", "decimal.Decimal"),
        (b"cuuid\nUUID\n)\x81}X\x03\0\0\0intK\x05sb", "uuid.UUID"),
        (b"ccopy_reg\n_reconstructor\n(cuuid\nUUID\nc__builtin__\nobject\nNtR}b", "uuid.UUID"),
        (b"c__builtin__\nset\n]K\x01a\x85R", "set"),
        (b"\x8f(K\x01\x90", "set"),
        (b"(K\x01\x91", "frozenset"),
        (b"c_codecs\nencode\nX\x01\0\0\0aX\x06\0\0\0latin1\x86R", "bytes"),
        (b"C\x01a", "bytes"),
        (b"B\x01\0\0\0a", "bytes"),
        (b"\x8e\x01\0\0\0\0\0\0\0a", "bytes"),
        (b"\x96\x01\0\0\0\0\0\0\0a", "bytearray"),
        (b"ccollections\nOrderedDict\n)R(K\x01K\x02K\x03K\x04u", "collections.OrderedDict"),
        (b"ccollections\ndeque\n)R(K\x01K\x02e", "collections.deque"),
        (b"cos\nsystem\nX\x04\0\0\0true\x85R", "os.system"),
        (b"X\x02\0\0\0osX\x06\0\0\0system\x93X\x04\0\0\0true\x85R", "os.system"),
        (b"(ios\nsystem\n", "os.system"),
        (b"(cshop.models\nCart\nK\x01o", "shop.models.Cart"),
        (b"cshop\nCart\n)}\x92", "shop.Cart"),
        (b"c__builtin__\nlen\n", "len"),
        (b"\x82\x01", "object of a registered extension"),
        (b"](cshop\nCart\n)\x81K\x01e", "shop.Cart"),
        (b"}K\x05)s}cshop\nCart\nK\x01s0", "None"),
        (b"}K\x01K\x02\x86K\x03s", "tuple (as a key)"),
        (b"]q\x00h\x00a", "list nested too deeply, or in itself"),
    ];
    for (object, type_name) in cases {
        let values = read(&around(object));
        if type_name == "None" {
            // What was made and thrown away is not there.
            assert_eq!(values.get_raw("d"), Some("{\"5\":[]}"));
            continue;
        }
        let label = object.escape_ascii();
        assert_eq!(values.to_json(), r#"{"a":1,"d":null,"z":[2]}"#, "{label}");
        assert_eq!(values.opaque_type("d"), Some(type_name), "{label}");
        assert_eq!(values.get::<Vec<u8>>("z").unwrap(), Some(vec![2]));
        let refused = dumps(&values, Protocol::V5).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unrepresentable);
        assert!(refused.to_string().contains("\"d\"") && refused.to_string().contains(type_name), "{refused}");
    }
    assert_eq!(refused(b"cos\nsystem\n."), ErrorKind::Corrupted);
}

#[test]
fn no_codec_writes_over_what_it_cannot_represent() {
    let values = read(&around(b"\x8f"));
    let secrets = super::super::signing::Secrets::new("secret");
    for codec in [
        Codec::json(),
        Codec::in_process(),
        Codec::signed_json(&secrets),
        Codec::django_redis_json(),
        Codec::pickle(Protocol::V4),
        Codec::pickle(Protocol::V5),
    ] {
        let error = codec.encode(&values, Timestamp::from_secs(0)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unrepresentable, "{codec:?}");
        let mut mended = values.clone();
        mended.remove("d");
        codec.encode(&mended, Timestamp::from_secs(0)).unwrap();
    }
}

#[test]
fn keys_that_cannot_be_text_stand_under_their_type() {
    let values = read(b"\x80\x04}(K\x01K\x02\x86K\x03)K\x04cuuid\nUUID\n)\x81K\x05U\x01aK\x06u.");
    assert_eq!(values.keys().collect::<Vec<_>>(), ["<tuple>", "<tuple 2>", "<uuid.UUID 3>", "a"]);
    assert_eq!(values.get::<u8>("a").unwrap(), Some(6));
    assert_eq!(values.opaque_type("<tuple>"), Some("tuple (as a key)"));
    assert!(values.check_writable().is_err());
}

#[test]
fn names_of_types_are_fit_for_logs() {
    let long = [b"c", &b"m".repeat(100_000)[..], b"\nn\n"].concat();
    assert!(read(&around(&long)).opaque_type("d").unwrap().len() <= 120);
    assert_eq!(read(&around(b"U\x03a\nbU\x02c\x1b\x93")).opaque_type("d"), Some("a\u{fffd}b.c\u{fffd}"));
}

#[test]
fn what_python_cannot_read_is_damaged() {
    let bad: [&[u8]; 36] = [
        b"",
        b".",
        b"}",
        b"42",
        b"{\"a\": 1}",
        b"K\x05.",
        b"].",
        b"N.",
        b")\x85.",
        b"\x80\x06}.",
        b"}K.",
        b"}s.",
        b"}K\x01s.",
        b"}(K\x01u.",
        b"}(K\x01K\x02s.",
        b"(K\x01u.",
        b"}u.",
        b"]K\x01K\x02s.",
        b"}K\x01a.",
        b")K\x01a.",
        b"}]K\x01s.",
        b"}}K\x01s.",
        b"h\x05.",
        b"gx\n.",
        b"}q",
        b"(.",
        b"}}b.",
        b"}K\x01)Rs.",
        b"K\x01cm\nn\nR.",
        b"}(cm\nn\nu.",
        b"}Pid\n.",
        b"}NQ.",
        b"}\x97.",
        b"}L12x\n.",
        b"}I007\n.",
        b"}Fone\n.",
    ];
    for bad in bad {
        assert_eq!(refused(bad), ErrorKind::Corrupted, "{}", bad.escape_ascii());
    }
    // Bytes after the end are none of its business.
    assert_eq!(read(b"}.tail").len(), 0);
}

#[test]
fn integers_of_any_size() {
    for (pickle, json) in [
        (&b"\x8a\x00"[..], "0"),
        (b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f", "9223372036854775807"),
        (b"\x8a\x09\0\0\0\0\0\0\0\x80\0", "9223372036854775808"),
        (b"\x8b\x02\0\0\0\x00\x80", "-32768"),
        (b"J\xff\xff\xff\xff", "-1"),
        (b"M\xff\xff", "65535"),
        (b"I-0\n", "0"),
        (b"L7L\n", "7"),
    ] {
        assert_eq!(read(&around(pickle)).get_raw("d"), Some(json));
    }
    let line = |digits: usize| format!("L{}L\n", "9".repeat(digits));
    assert_eq!(read(&around(line(4300).as_bytes())).get_raw("d").unwrap().len(), 4300);
    let binary = |length: u32| [&b"\x8b"[..], &length.to_le_bytes(), &b"\x7f".repeat(length as usize)].concat();
    assert_eq!(read(&around(&binary(1_700))).opaque_type("d"), None);
    for long in [line(4301).into_bytes(), binary(1_790), binary(1_000_000)] {
        assert_eq!(read(&around(&long)).opaque_type("d"), Some("int of more than 4300 digits"));
    }
}

/// Lists in lists, each twice in the one around it: two to the power of `levels`.
fn bomb(levels: u8) -> Vec<u8> {
    let mut object = b"]q\x000".to_vec();
    for level in 0..levels {
        object.extend([b']', b'(', b'h', level, b'h', level, b'e', b'q', level + 1, b'0']);
    }
    object.extend([b'h', levels]);
    object
}

#[test]
fn hostile_pickles_are_refused_cheaply() {
    assert_eq!(read(&around(&bomb(10))).opaque_type("d"), None);
    assert_eq!(refused(&around(&bomb(60))), ErrorKind::TooLarge);
    // A long text, over and over.
    let text = [&b"T\xa0\x86\x01\0"[..], &b"x".repeat(100_000), b"q\x000]("].concat();
    let repeated = [&text[..], &b"h\x00".repeat(300_000), b"e"].concat();
    assert_eq!(refused(&around(&repeated)), ErrorKind::TooLarge);
    // The same name for a type, over and over: it is looked at only when it is shown.
    let named = [&text[..text.len() - 1], &b"h\x00h\x00\x930".repeat(100_000)].concat();
    assert_eq!(read(&around(&named)).len(), 3);
    // Nothing but marks, nested tuples, nested lists.
    assert_eq!(refused(&b"(".repeat(1 << 20)), ErrorKind::Corrupted);
    for nested in
        [[&b")"[..], &b"\x85".repeat(20_000)].concat(), [&b"]".repeat(20_000)[..], &b"a".repeat(19_999)].concat()]
    {
        let values = read(&around(&nested));
        assert!(values.opaque_type("d").unwrap().contains("too deeply"));
        assert_eq!(values.get::<u8>("a").unwrap(), Some(1));
    }
    // More objects than are made.
    for object in [b']', b'N', b'}', b'2'] {
        let many = [&b"]("[..], b"N", &[object].repeat(MAX_OBJECTS + 1), b"e"].concat();
        assert_eq!(refused(&around(&many)), ErrorKind::TooLarge);
    }
    assert_eq!(refused(&around(&[&b"N"[..], &b"\x94".repeat(MAX_OBJECTS + 1)].concat())), ErrorKind::TooLarge);
    // Indices and lengths beyond all bounds.
    for bad in [
        &b"Nr\xff\xff\xff\x7f"[..],
        b"Np4294967295\n",
        b"X\xff\xff\xff\xff",
        b"\x8b\xff\xff\xff\x7f",
        b"\x8e\xff\xff\xff\xff\xff\xff\xff\xff",
    ] {
        assert_eq!(refused(&around(bad)), ErrorKind::Corrupted);
    }
    // A list in itself, under many keys: what is written and taken back counts as well.
    let mut cyclic = b"}(K\x00]q\x00h\x00a".to_vec();
    for key in 0..20_000u32 {
        cyclic.push(b'J');
        cyclic.extend(key.to_le_bytes());
        cyclic.extend(b"h\x00");
    }
    cyclic.extend(b"u.");
    assert_eq!(refused(&cyclic), ErrorKind::TooLarge);
    // Escapes make text six times as long.
    let controls = |length: usize| [&b"X"[..], &(length as u32).to_le_bytes(), &b"\x01".repeat(length)].concat();
    assert_eq!(read(&around(&controls(100_000))).get_raw("d").map(str::len), Some(600_002));
    assert_eq!(refused(&around(&controls(MAX_EXPANDED / 6 + 100))), ErrorKind::TooLarge);
    assert_eq!(refused(&[&b"}"[..], &controls(MAX_EXPANDED / 6 + 100), b"Ns."].concat()), ErrorKind::TooLarge);
    assert_eq!(refused(&vec![b'N'; MAX_PICKLE + 1]), ErrorKind::TooLarge);
}

#[test]
fn what_is_written_is_what_python_writes() {
    // From Python 3.11's pickle.dumps.
    for (json, protocol, pickle) in [
        ("{}", Protocol::V4, &b"\x80\x04}\x94."[..]),
        ("{}", Protocol::V2, b"\x80\x02}q\x00."),
        (r#"{"a":1}"#, Protocol::V5, b"\x80\x05\x95\x0a\0\0\0\0\0\0\0}\x94\x8c\x01a\x94K\x01s."),
        (
            r#"{ "a" : [ 1 , [ ] ], "b" : { "a" : "b" } }"#,
            Protocol::V4,
            b"\x80\x04\x95\x1c\0\0\0\0\0\0\0}\x94(\x8c\x01a\x94]\x94(K\x01]\x94e\x8c\x01b\x94}\x94h\x01h\x04su.",
        ),
        (
            r#"{"n":-1.5,"t":true,"big":-9223372036854775808}"#,
            Protocol::V3,
            b"\x80\x03}q\x00(X\x01\0\0\0nq\x01G\xbf\xf8\0\0\0\0\0\0X\x01\0\0\0tq\x02\x88X\x03\0\0\0bigq\x03\x8a\x08\0\0\0\0\0\0\0\x80u.",
        ),
    ] {
        let written = dumps(&parsed(json), protocol).unwrap();
        assert_eq!(written.escape_ascii().to_string(), pickle.escape_ascii().to_string());
    }
}

#[test]
fn groups_of_a_thousand() {
    for (count, groups) in [(1, 0), (2, 1), (999, 1), (1000, 1), (1001, 2), (2000, 2)] {
        let list: Vec<u8> = vec![7; count];
        let mut values = Values::new();
        values.insert("l", &list).unwrap();
        let pickle = dumps(&values, Protocol::V4).unwrap();
        assert_eq!(pickle.iter().filter(|byte| **byte == b'e').count(), groups, "{count}");
        assert_eq!(read(&pickle).get::<Vec<u8>>("l").unwrap(), Some(list));
    }
    let mut values = Values::new();
    (0..1000).for_each(|n| values.insert(&n.to_string(), &n).unwrap());
    let pickle = dumps(&values, Protocol::V5).unwrap();
    // Python opens another group after a full one of a mapping, and finds nothing to put into it.
    assert!(pickle.ends_with(b"u(u."));
    assert_eq!(read(&pickle).to_json(), values.to_json());
}

#[test]
fn large_sessions_stand_in_frames() {
    let mut values = Values::new();
    let text = |n: usize| n.to_string().repeat(100);
    values.insert("many", &(0..1000).map(text).collect::<Vec<_>>()).unwrap();
    values.insert("large", &"x".repeat(70_000)).unwrap();
    values.insert("after", &1).unwrap();
    for protocol in [Protocol::V2, Protocol::V3, Protocol::V4, Protocol::V5] {
        assert_eq!(read(&dumps(&values, protocol).unwrap()).to_json(), values.to_json());
    }
}

#[test]
fn protocols_of_django_redis() {
    let protocols = [-1, 0, 1, 2, 3, 4, 5].map(|version| Protocol::from_option(version).unwrap() as u8);
    assert_eq!(protocols, [5, 2, 2, 2, 3, 4, 5]);
    let error = Protocol::from_option(6).unwrap_err();
    assert!(error.kind() == ErrorKind::Configuration && error.to_string().contains("PICKLE_VERSION is 6"));
}

#[test]
fn a_marker_is_none() {
    let codec = Codec::pickle(Protocol::V4);
    let marker = codec.nothing(0x2e2e).unwrap();
    assert_eq!(marker, &b"\x80\x04N.\0\0\0\0\0\0.."[..]);
    // What Python makes of None in protocols 0, 2 and 5.
    assert!([&marker[..], b"N.", b"\x80\x02N.", b"\x80\x05N."].iter().all(|none| codec.is_nothing(none)));
    assert!(!codec.is_nothing(b"\x80\x04}\x94.") && !codec.is_nothing(b"N"));
    assert_eq!(codec.decode(&marker).unwrap_err().kind(), ErrorKind::Corrupted);
}

fn json_value() -> impl Strategy<Value = String> {
    let text = prop_oneof![".{0,12}", r"[a-c]{0,2}"].prop_map(|text| crate::json::to_string(&text).unwrap());
    let scalar = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("NaN".to_owned()),
        Just("-Infinity".to_owned()),
        Just(r#""\ud800""#.to_owned()),
        any::<i32>().prop_map(|n| n.to_string()),
        any::<i128>().prop_map(|n| n.to_string()),
        "-?[1-9][0-9]{0,80}",
        any::<f64>().prop_map(|n| crate::json::to_string(&n).unwrap()),
        text.clone(),
    ];
    scalar.prop_recursive(5, 60, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(|items| format!("[{}]", items.join(","))),
            prop::collection::vec((text.clone(), inner), 0..6).prop_map(|items| {
                let items: Vec<String> = items.into_iter().map(|(key, value)| format!("{key}:{value}")).collect();
                format!("{{{}}}", items.join(","))
            }),
        ]
    })
}

/// A dictionary of such items, and what is written of it.
fn written(items: &[(String, String)], protocol: i64) -> (Values, Vec<u8>) {
    let mut values = Values::new();
    for (key, value) in items {
        values.insert_raw(key, crate::RawJson::parse(value).unwrap());
    }
    let pickle = dumps(&values, Protocol::from_option(protocol).unwrap()).unwrap();
    (values, pickle)
}

/// An instruction, of those mostly that picklers write.
fn instruction() -> impl Strategy<Value = Vec<u8>> {
    let known: [&[u8]; 24] = [
        b"]",
        b"}",
        b"(",
        b"a",
        b"e",
        b"s",
        b"u",
        b".",
        b"N",
        b"\x88",
        b"K\x07",
        b"M\x07\x07",
        b"J\xff\xff\xff\xff",
        b"\x8a\x05\0\0\0\0\x7f",
        b"G?\xf8\0\0\0\0\0\0",
        b"\x8c\x00",
        b"\x8c\x01a\x94",
        b"\x8c\x02\xc3\xa9\x94",
        b"X\x01\0\0\0b",
        b"]\x94",
        b"}\x94",
        b"h\x00",
        b"h\x01",
        b"\x95\x01\0\0\0\0\0\0\0",
    ];
    let known = prop::sample::select(known.map(<[u8]>::to_vec).to_vec());
    prop_oneof![20 => known, 1 => any::<u8>().prop_map(|byte| vec![byte])]
}

/// What may happen to a pickle, up to so many times: a byte is changed, another is gone, an instruction comes between,
/// or the rest is gone.
fn damage(most: usize) -> impl Strategy<Value = Vec<(prop::sample::Index, Vec<u8>, u8)>> {
    prop::collection::vec((any::<prop::sample::Index>(), instruction(), 0..4_u8), 0..=most)
}

fn damaged(mut pickle: Vec<u8>, damage: Vec<(prop::sample::Index, Vec<u8>, u8)>) -> Vec<u8> {
    for (place, instruction, kind) in damage {
        if pickle.is_empty() {
            break;
        }
        let at = place.index(pickle.len());
        match kind {
            0 => pickle[at] = instruction[0],
            1 => drop(pickle.remove(at)),
            2 => drop(pickle.splice(at..at, instruction)),
            _ => pickle.truncate(at + 1),
        }
    }
    pickle
}

proptest! {
    #[test]
    fn what_is_written_is_read(items in prop::collection::vec((".{0,6}", json_value()), 0..6), protocol in 2i64..6) {
        let (values, pickle) = written(&items, protocol);
        prop_assert_eq!(read(&pickle).to_json(), values.to_json());
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = loads(&bytes);
    }

    #[test]
    fn a_damaged_pickle_is_read_or_refused(value in json_value(), damage in damage(3)) {
        let pickle = damaged(dumps(&parsed(&format!("{{\"k\":{value}}}")), Protocol::V2).unwrap(), damage);
        if let Ok(values) = loads(&pickle) {
            // Whatever it came to is sound, or refused.
            prop_assert!(values.check_writable().is_err() || dumps(&values, Protocol::V5).is_ok());
            prop_assert!(Values::parse(values.to_json().into_bytes()).is_ok());
        }
    }
}
