//! Recorded Python values as JSON text and as Rust values.

use std::borrow::Cow;
use std::collections::HashSet;

use cloakroom_core::json;
use serde::ser::{Error as _, SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};
use serde_json::Value;

/// The JSON text that Python's `json.dumps(value, separators=(",", ":"))` makes of a recorded value.
///
/// # Panics
/// If JSON has no form for the value.
pub fn python_json(value: &Value) -> String {
    try_python_json(value).unwrap_or_else(|| panic!("no JSON for {value}"))
}

/// As [`python_json`]; `None` if JSON has no form for the value.
pub fn try_python_json(value: &Value) -> Option<String> {
    let mut out = String::new();
    write(&mut out, value)?;
    Some(out)
}

/// Whether a recorded value holds nothing but what JSON keeps apart: no tuple, no key that is not text.
pub fn keeps_json_types(value: &Value) -> bool {
    let text = |key: &Value| key.is_string() || key.get("u16").is_some();
    match value {
        Value::Array(items) => items.iter().all(keeps_json_types),
        Value::Object(form) => match (form.get("d").and_then(Value::as_array), form.get("tuple")) {
            (_, Some(_)) => false,
            (Some(items), _) => items.iter().all(|item| text(&item[0]) && keeps_json_types(&item[1])),
            _ => true,
        },
        _ => true,
    }
}

/// Whether a recorded value holds the same text, list or mapping twice, other than empty lists and mappings.
pub fn repeats_itself(value: &Value) -> bool {
    let mut seen = HashSet::new();
    let mut to_do = vec![value];
    while let Some(value) = to_do.pop() {
        let mut sharable = value.is_string();
        if let Some(items) = value.as_array() {
            sharable = !items.is_empty();
            to_do.extend(items);
        }
        for items in ["d", "tuple"].iter().filter_map(|form| value.get(*form)?.as_array()) {
            sharable = !items.is_empty();
            // The pairs of a mapping are lists in the file, and no objects of their own.
            to_do.extend(items.iter().flat_map(|item| {
                if value.get("d").is_some() { &item.as_array().unwrap()[..] } else { std::slice::from_ref(item) }
            }));
        }
        sharable |= value.get("u16").is_some();
        if sharable && !seen.insert(value.to_string()) {
            return true;
        }
    }
    false
}

fn write(out: &mut String, value: &Value) -> Option<()> {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::String(text) => quote(out, text.encode_utf16()),
        Value::Array(items) => write_list(out, items)?,
        Value::Number(_) => return None,
        Value::Object(form) => {
            let (kind, content) = form.iter().next()?;
            match kind.as_str() {
                "i" => out.push_str(content.as_str()?),
                "f" => out.push_str(float_text(content.as_str()?)),
                "u16" => quote(out, content.as_array()?.iter().map(|unit| unit.as_u64().unwrap_or_default() as u16)),
                "tuple" => write_list(out, content.as_array()?)?,
                "d" => {
                    out.push('{');
                    for (at, item) in content.as_array()?.iter().enumerate() {
                        if at > 0 {
                            out.push(',');
                        }
                        write_key(out, &item[0])?;
                        out.push(':');
                        write(out, &item[1])?;
                    }
                    out.push('}');
                }
                "recipe" => write(out, &recipe(content.as_str()?)?)?,
                _ => return None,
            }
        }
    }
    Some(())
}

fn write_list(out: &mut String, items: &[Value]) -> Option<()> {
    out.push('[');
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        write(out, item)?;
    }
    out.push(']');
    Some(())
}

/// Keys are text, or become it.
fn write_key(out: &mut String, key: &Value) -> Option<()> {
    let is_text = key.is_string() || key.get("u16").is_some();
    if is_text {
        return write(out, key);
    }
    if key.is_array() || ["d", "tuple", "b64"].iter().any(|kind| key.get(kind).is_some()) {
        return None;
    }
    out.push('"');
    write(out, key)?;
    out.push('"');
    Some(())
}

fn float_text(text: &str) -> &str {
    match text {
        "nan" => "NaN",
        "inf" => "Infinity",
        "-inf" => "-Infinity",
        other => other,
    }
}

/// A text as Python's json writes it.
pub(crate) fn quote(out: &mut String, units: impl Iterator<Item = u16>) {
    out.push('"');
    for unit in units {
        match unit {
            0x22 => out.push_str("\\\""),
            0x5c => out.push_str("\\\\"),
            0x20..=0x7e => out.push(char::from(unit as u8)),
            0x0a => out.push_str("\\n"),
            0x0d => out.push_str("\\r"),
            0x09 => out.push_str("\\t"),
            0x0c => out.push_str("\\f"),
            0x08 => out.push_str("\\b"),
            _ => out.push_str(&format!("\\u{unit:04x}")),
        }
    }
    out.push('"');
}

/// The large values that the cases only name.
fn recipe(name: &str) -> Option<Value> {
    let int = |n: u32| serde_json::json!({ "i": n.to_string() });
    Some(match name {
        "list_1001_items" => {
            serde_json::json!({"d": [["l", (0..1001).map(|n| int(n % 7)).collect::<Vec<_>>()]]})
        }
        "dict_1001_items" => {
            let items: Vec<Value> = (0..1001).map(|n| serde_json::json!([n.to_string(), int(n % 5)])).collect();
            serde_json::json!({"d": [["d", {"d": items}]]})
        }
        _ => return None,
    })
}

/// A recorded value as serde sees a Rust value of the same content. Serializing it fails for what Rust's types cannot
/// hold: integers beyond 128 bits, and half a surrogate pair.
pub struct PyValue<'a>(pub &'a Value);

impl Serialize for PyValue<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let list = |serializer: S, items: &[Value]| {
            let mut list = serializer.serialize_seq(Some(items.len()))?;
            items.iter().try_for_each(|item| list.serialize_element(&PyValue(item)))?;
            list.end()
        };
        let form = match self.0 {
            Value::Null => return serializer.serialize_unit(),
            Value::Bool(value) => return serializer.serialize_bool(*value),
            Value::String(text) => return serializer.serialize_str(text),
            Value::Array(items) => return list(serializer, items),
            Value::Number(_) => return Err(S::Error::custom("a bare number in a recorded value")),
            Value::Object(form) => form,
        };
        if let Some(text) = form.get("i").and_then(Value::as_str) {
            return match (text.parse::<i64>(), text.parse::<i128>(), text.parse::<u128>()) {
                (Ok(number), ..) => serializer.serialize_i64(number),
                (_, Ok(number), _) => serializer.serialize_i128(number),
                (_, _, Ok(number)) => serializer.serialize_u128(number),
                _ => Err(S::Error::custom("an integer beyond 128 bits")),
            };
        }
        if let Some(bits) = form.get("bits").and_then(Value::as_str) {
            let bits = u64::from_str_radix(bits, 16).map_err(S::Error::custom)?;
            return serializer.serialize_f64(f64::from_bits(bits));
        }
        if let Some(items) = form.get("tuple").and_then(Value::as_array) {
            return list(serializer, items);
        }
        if let Some(items) = form.get("d").and_then(Value::as_array) {
            let mut map = serializer.serialize_map(Some(items.len()))?;
            items.iter().try_for_each(|item| map.serialize_entry(&PyValue(&item[0]), &PyValue(&item[1])))?;
            return map.end();
        }
        match form.get("recipe").and_then(Value::as_str).and_then(recipe) {
            Some(value) => PyValue(&value).serialize(serializer),
            None => Err(S::Error::custom("a value without a Rust form")),
        }
    }
}

/// Valid JSON text as Python would write it after reading it: one text for each value, whatever its spelling was.
///
/// # Panics
/// If the text is not JSON.
pub fn normal_json(raw: &str) -> String {
    let raw = json::RawJson::parse(raw).expect("JSON");
    let mut rest = raw.as_str();
    let mut out = String::new();
    normalize(&mut out, &mut rest);
    out
}

fn space(rest: &mut &str) {
    *rest = rest.trim_start_matches([' ', '\t', '\n', '\r']);
}

fn normalize(out: &mut String, rest: &mut &str) {
    space(rest);
    match rest.as_bytes()[0] {
        b'"' => out.push_str(&normal_text(rest)),
        open @ (b'[' | b'{') => {
            *rest = &rest[1..];
            // A repeated key keeps its first place and its last value.
            let mut items: Vec<(String, String)> = Vec::new();
            loop {
                space(rest);
                match rest.as_bytes()[0] {
                    b']' | b'}' => break,
                    b',' => *rest = &rest[1..],
                    _ => {}
                }
                space(rest);
                let mut key = String::new();
                if open == b'{' {
                    key = normal_text(rest);
                    space(rest);
                    *rest = &rest[1..];
                }
                let mut value = String::new();
                normalize(&mut value, rest);
                match items.iter_mut().find(|item| open == b'{' && item.0 == key) {
                    Some(item) => item.1 = value,
                    None => items.push((key, value)),
                }
            }
            *rest = &rest[1..];
            let items = items.into_iter().map(|(key, value)| if open == b'{' { key + ":" + &value } else { value });
            out.push(char::from(open));
            out.push_str(&items.collect::<Vec<_>>().join(","));
            out.push(if open == b'{' { '}' } else { ']' });
        }
        _ => {
            let end = rest.find([',', ']', '}', ' ', '\t', '\n', '\r']).unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            *rest = after;
            out.push_str(&normal_word(word));
        }
    }
}

fn normal_word(word: &str) -> Cow<'_, str> {
    if word == "-0" {
        return "0".into();
    }
    if word.starts_with(['-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9']) && word.contains(['.', 'e', 'E']) {
        return json::to_string(&word.parse::<f64>().expect("a float")).expect("a float has a text").into();
    }
    word.into()
}

fn normal_text(rest: &mut &str) -> String {
    let mut units = Vec::new();
    let mut chars = rest[1..].chars();
    loop {
        match chars.next().expect("text has an end") {
            '"' => break,
            '\\' => units.push(match chars.next().expect("an escape has a letter") {
                'n' => 0x0a,
                'r' => 0x0d,
                't' => 0x09,
                'f' => 0x0c,
                'b' => 0x08,
                'u' => {
                    let digits: String = chars.by_ref().take(4).collect();
                    u16::from_str_radix(&digits, 16).expect("hexadecimal digits")
                }
                other => other as u16,
            }),
            other => units.push(other as u16),
        }
    }
    *rest = chars.as_str();
    let mut out = String::new();
    quote(&mut out, units.into_iter());
    out
}
