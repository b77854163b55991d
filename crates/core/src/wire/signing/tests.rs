use flate2::write::ZlibEncoder;
use proptest::prelude::*;
use std::io::Write;

use super::*;

fn at(secs: i64) -> Timestamp {
    Timestamp::from_secs(secs)
}

#[test]
fn the_compression_rule_saves_two_bytes_or_more() {
    assert_eq!(payload::pack(b"{}", Effort::Usual, 0), "e30");
    let json = format!("{{\"k\":\"{}\"}}", "x".repeat(100));
    assert!(payload::pack(json.as_bytes(), Effort::Usual, 0).starts_with(".eJ"));
    assert!(!payload::pack(json.as_bytes(), Effort::None, 0).starts_with('.'));
    for short in [&b""[..], b"1", b"12", b"123"] {
        assert_eq!(payload::unpack(&payload::pack(short, Effort::Usual, 0)).unwrap(), short);
    }
}

#[test]
fn a_bomb_is_too_large() {
    let mut bomb = ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    for _ in 0..65 {
        bomb.write_all(&vec![b' '; 1 << 20]).unwrap();
    }
    use base64::Engine;
    let bomb = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bomb.finish().unwrap());
    assert_eq!(payload::unpack(&format!(".{bomb}")).unwrap_err().kind(), ErrorKind::TooLarge);
}

#[test]
fn a_failed_use_does_not_spoil_the_next() {
    let json = format!("[{}1]", "1,".repeat(500));
    let packed = payload::pack(json.as_bytes(), Effort::Usual, 0);
    let good = |text: &str| payload::unpack(text).unwrap() == json.as_bytes();
    assert!(good(&packed));
    for cut in 2..packed.len() - 1 {
        assert_eq!(payload::unpack(&packed[..cut]).unwrap_err().kind(), ErrorKind::Corrupted, "{cut}");
    }
    assert!(good(&packed));
    // Output that does not fit leaves a half-used compressor behind.
    payload::pack(b"abcdefghijklmnopqrstuvwxyz", Effort::Usual, 0);
    assert_eq!(payload::pack(json.as_bytes(), Effort::Usual, 0), packed);
}

#[test]
fn secrets_are_not_shown() {
    let secrets = Secrets::new("hunter2").with_fallbacks(["hunter3"]);
    for shown in [
        format!("{secrets:?}"),
        format!("{:?}", Signer::new(&secrets, "s")),
        format!("{:?}", TimestampSigner::new(&secrets, "s")),
    ] {
        assert!(!shown.contains("hunter"), "{shown}");
    }
    assert!(Secrets::new("").is_empty() && !secrets.is_empty());
}

#[test]
fn huge_times_of_signing_are_read() {
    let secrets = Secrets::new("k");
    let signer = TimestampSigner::new(&secrets, "s");
    for (time, in_time) in [("z".repeat(40), true), (format!("-{}", "z".repeat(40)), false)] {
        let signed = Signer::new(&secrets, "s").sign(&format!("v:{time}"));
        assert_eq!(signer.unsign(&signed, at(0), None).unwrap().0, "v");
        assert_eq!(signer.unsign(&signed, at(0), Some(10.0)).is_ok(), in_time);
    }
}

proptest! {
    #[test]
    fn payloads_come_back(json in prop::collection::vec(any::<u8>(), 0..2000), spread in 1u8.., at in 0..3usize) {
        let json: Vec<u8> = json.into_iter().map(|byte| byte % spread).collect();
        let effort = [Effort::None, Effort::Quick, Effort::Usual][at];
        prop_assert_eq!(payload::unpack(&payload::pack(&json, effort, 0)).unwrap(), json);
    }

    #[test]
    fn any_payload_is_read_or_refused(text: String, tail in prop::collection::vec(any::<u8>(), 0..60)) {
        let _ = payload::unpack(&text);
        use base64::Engine;
        let tail = base64::engine::general_purpose::STANDARD.encode(tail);
        let _ = payload::unpack(&format!(".eJ{tail}"));
        let _ = payload::unpack(&format!("{text}{tail}"));
    }

    #[test]
    fn base62_comes_back(number in (-(1i128 << 120))..(1i128 << 120)) {
        prop_assert_eq!(b62_decode(&b62_encode(number)).unwrap(), number);
    }

    #[test]
    fn signed_text_comes_back_and_no_other(value: String, secs in 0i64..1 << 34, other: String) {
        let secrets = Secrets::new("new").with_fallbacks(["old"]);
        let signer = TimestampSigner::new(&secrets, "salt");
        let signed = TimestampSigner::new(&Secrets::new("old"), "salt").sign(&value, at(secs));
        prop_assert_eq!(signer.unsign(&signed, at(secs), Some(0.0)).unwrap(), (&*value, at(secs)));
        let longer = signed + &other;
        prop_assert_eq!(signer.unsign(&longer, at(secs), None).is_ok(), other.is_empty());
        prop_assert!(signer.unsign(&other, at(secs), None).is_err());
    }
}
