//! The JSON of the package django-redis.

use bytes::Bytes;

use super::session_data::{Codec, Format, is_json_nothing, json_nothing};
use crate::clock::Timestamp;
use crate::error::Result;
use crate::json;
use crate::values::Values;

impl Codec {
    /// What django-redis stores with its JSON serializer: with a space after `,` and `:`, ASCII. It reads UTF-8.
    pub fn django_redis_json() -> Self {
        Self::new(SpacedJson)
    }
}

struct SpacedJson;

impl Format for SpacedJson {
    fn name(&self) -> &'static str {
        "django-redis JSON"
    }

    fn encode(&self, values: &Values, _: Timestamp) -> Result<Bytes> {
        values.check_writable()?;
        let mut out = Vec::new();
        out.push(b'{');
        for (at, (key, value)) in values.iter_bytes().enumerate() {
            out.extend_from_slice(if at == 0 { b"\"" } else { b", \"" });
            out.extend_from_slice(key);
            out.extend_from_slice(b"\": ");
            push_spaced(&mut out, value);
        }
        out.push(b'}');
        Ok(out.into())
    }

    fn decode(&self, payload: &[u8]) -> Result<Values> {
        Values::parse_utf8(payload.to_vec())
    }

    fn nothing(&self, nonce: u64) -> Option<Bytes> {
        Some(json_nothing(nonce))
    }

    fn is_nothing(&self, payload: &[u8]) -> bool {
        is_json_nothing(payload)
    }
}

/// Appends valid JSON as Python's `json.dumps` writes it by default, whatever space it has now.
fn push_spaced(out: &mut Vec<u8>, bytes: &[u8]) {
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                let end = json::value_end(bytes, at).unwrap_or(bytes.len());
                out.extend_from_slice(&bytes[at..end]);
                at = end;
                continue;
            }
            b' ' | b'\t' | b'\n' | b'\r' => {}
            separator @ (b',' | b':') => out.extend([separator, b' ']),
            byte => out.push(byte),
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    const NOW: Timestamp = Timestamp::from_secs(0);

    #[test]
    fn spaces_stand_where_python_puts_them() {
        let codec = Codec::django_redis_json();
        let values =
            Values::parse(br#"{"a,b:":[ 1 ,{ } , {"x":"y,\":z"}],"c":-1.5e3,"d":{"e" :null}}"#.to_vec()).unwrap();
        let encoded = codec.encode(&values, NOW).unwrap();
        assert_eq!(encoded, &br#"{"a,b:": [1, {}, {"x": "y,\":z"}], "c": -1.5e3, "d": {"e": null}}"#[..]);
        assert_eq!(codec.decode(&encoded).unwrap().len(), 3);
        assert_eq!(codec.encode(&Values::new(), NOW).unwrap(), &b"{}"[..]);
    }

    #[test]
    fn what_it_reads_is_utf8_and_a_dictionary() {
        let codec = Codec::django_redis_json();
        let values = codec.decode("{\"é\": \"日本😀\"}".as_bytes()).unwrap();
        assert_eq!(values.get::<String>("é").unwrap().as_deref(), Some("日本😀"));
        assert_eq!(values.to_json(), r#"{"\u00e9":"\u65e5\u672c\ud83d\ude00"}"#);
        for bad in [
            &b"{\"a\":\"\xe9\"}"[..],
            b"{\"a\":\"\xed\xa0\x80\"}",
            "{\"a\":\"\\é\"}".as_bytes(),
            "\u{feff}{}".as_bytes(),
            "{}é".as_bytes(),
            b"42",
            b"-7",
            b"[1]",
            b"",
            b"\x80\x05}\x94.",
        ] {
            assert_eq!(codec.decode(bad).unwrap_err().kind(), ErrorKind::Corrupted, "{bad:?}");
        }
    }

    #[test]
    fn a_marker_is_null() {
        let codec = Codec::django_redis_json();
        let marker = codec.nothing(7).unwrap();
        assert!(codec.is_nothing(&marker) && codec.is_nothing(b"null") && !codec.is_nothing(b"{}"));
        assert_ne!(marker, codec.nothing(8).unwrap());
        assert!(codec.decode(&marker).is_err());
    }

    #[test]
    fn what_json_cannot_hold_is_not_written() {
        let mut values = Values::new();
        values.insert_opaque("when", "datetime.date");
        let error = Codec::django_redis_json().encode(&values, NOW).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unrepresentable);
    }
}
