//! JSON as Python reads and writes it, kept apart from the library's own reader so that it can judge it: `NaN`,
//! integers of any length, `-0.0`, unpaired surrogates, and the order of keys.

use std::fmt;

use crate::value::quote;

/// A value. Numbers keep their text and strings their UTF-16 units, so nothing is rounded or replaced on the way.
#[derive(Clone)]
pub enum Json {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number as it was written, or one of Python's three words
    Number(String),
    /// Text, perhaps with unpaired surrogates
    Text(Vec<u16>),
    /// An array
    List(Vec<Json>),
    /// An object in the order of its keys; a repeated key has its first place and its last value
    Map(Vec<(Vec<u16>, Json)>),
}

impl Json {
    /// Reads one value, and nothing after it but white space.
    pub fn parse(text: &str) -> Result<Json, String> {
        let mut reader = Reader { text: text.as_bytes(), at: 0 };
        let value = reader.value()?;
        reader.space();
        if reader.at == text.len() { Ok(value) } else { Err(reader.problem("more after the value")) }
    }

    /// A text.
    pub fn from_text(text: &str) -> Json {
        Json::Text(text.encode_utf16().collect())
    }

    /// The member of an object.
    pub fn get(&self, name: &str) -> Option<&Json> {
        let Json::Map(members) = self else { return None };
        members.iter().find(|(key, _)| key.iter().copied().eq(name.encode_utf16())).map(|(_, value)| value)
    }

    /// The names of an object's members, in order.
    pub fn keys(&self) -> Vec<String> {
        let Json::Map(members) = self else { return Vec::new() };
        members.iter().map(|(key, _)| String::from_utf16_lossy(key)).collect()
    }

    /// A text without unpaired surrogates.
    pub fn as_text(&self) -> Option<String> {
        let Json::Text(units) = self else { return None };
        String::from_utf16(units).ok()
    }

    /// A number that fits.
    pub fn as_i64(&self) -> Option<i64> {
        let Json::Number(text) = self else { return None };
        text.parse().ok()
    }
}

impl PartialEq for Json {
    fn eq(&self, other: &Json) -> bool {
        match (self, other) {
            (Json::Null, Json::Null) => true,
            (Json::Bool(a), Json::Bool(b)) => a == b,
            (Json::Number(a), Json::Number(b)) => same_number(a, b),
            (Json::Text(a), Json::Text(b)) => a == b,
            (Json::List(a), Json::List(b)) => a == b,
            (Json::Map(a), Json::Map(b)) => a == b,
            _ => false,
        }
    }
}

/// The same kind of number and the same value: `1` is not `1.0`, `-0.0` is not `0.0`, `NaN` is itself.
fn same_number(a: &str, b: &str) -> bool {
    match (float(a), float(b)) {
        (Some(a), Some(b)) => a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()),
        (None, None) => integer(a) == integer(b),
        _ => false,
    }
}

fn float(text: &str) -> Option<f64> {
    match text {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        _ if text.contains(['.', 'e', 'E']) => text.parse().ok(),
        _ => None,
    }
}

fn integer(text: &str) -> &str {
    if text == "-0" { "0" } else { text }
}

impl fmt::Debug for Json {
    /// As JSON: a failed comparison should be readable.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Json {
    /// As Python's `json.dumps` with compact separators, but for numbers, which stay as they were written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Json::Null => f.write_str("null"),
            Json::Bool(value) => write!(f, "{value}"),
            Json::Number(text) => f.write_str(text),
            Json::Text(units) => write_text(f, units),
            Json::List(items) => {
                f.write_str("[")?;
                for (index, item) in items.iter().enumerate() {
                    write!(f, "{}{item}", if index == 0 { "" } else { "," })?;
                }
                f.write_str("]")
            }
            Json::Map(members) => {
                f.write_str("{")?;
                for (index, (key, value)) in members.iter().enumerate() {
                    f.write_str(if index == 0 { "" } else { "," })?;
                    write_text(f, key)?;
                    write!(f, ":{value}")?;
                }
                f.write_str("}")
            }
        }
    }
}

fn write_text(f: &mut fmt::Formatter<'_>, units: &[u16]) -> fmt::Result {
    let mut text = String::with_capacity(units.len() + 2);
    quote(&mut text, units.iter().copied());
    f.write_str(&text)
}

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn problem(&self, what: &str) -> String {
        format!("{what} at byte {} of {}", self.at, String::from_utf8_lossy(self.text))
    }

    fn space(&mut self) {
        while matches!(self.text.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn take(&mut self, word: &str) -> bool {
        let found = self.text[self.at..].starts_with(word.as_bytes());
        if found {
            self.at += word.len();
        }
        found
    }

    fn value(&mut self) -> Result<Json, String> {
        self.space();
        for (word, value) in [("null", Json::Null), ("true", Json::Bool(true)), ("false", Json::Bool(false))] {
            if self.take(word) {
                return Ok(value);
            }
        }
        for word in ["NaN", "Infinity", "-Infinity"] {
            if self.take(word) {
                return Ok(Json::Number(word.to_owned()));
            }
        }
        match self.text.get(self.at) {
            Some(b'"') => Ok(Json::Text(self.string()?)),
            Some(b'[') => self.list(),
            Some(b'{') => self.map(),
            Some(b'-' | b'0'..=b'9') => Ok(self.number()),
            _ => Err(self.problem("no value")),
        }
    }

    fn number(&mut self) -> Json {
        let start = self.at;
        while matches!(self.text.get(self.at), Some(b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9')) {
            self.at += 1;
        }
        Json::Number(String::from_utf8_lossy(&self.text[start..self.at]).into_owned())
    }

    fn list(&mut self) -> Result<Json, String> {
        self.at += 1;
        let mut items = Vec::new();
        self.space();
        if self.take("]") {
            return Ok(Json::List(items));
        }
        loop {
            items.push(self.value()?);
            self.space();
            if self.take("]") {
                return Ok(Json::List(items));
            }
            if !self.take(",") {
                return Err(self.problem("neither a comma nor the end of an array"));
            }
        }
    }

    fn map(&mut self) -> Result<Json, String> {
        self.at += 1;
        let mut members: Vec<(Vec<u16>, Json)> = Vec::new();
        self.space();
        if self.take("}") {
            return Ok(Json::Map(members));
        }
        loop {
            self.space();
            let key = self.string()?;
            self.space();
            if !self.take(":") {
                return Err(self.problem("no colon"));
            }
            let value = self.value()?;
            match members.iter_mut().find(|(known, _)| *known == key) {
                Some((_, place)) => *place = value,
                None => members.push((key, value)),
            }
            self.space();
            if self.take("}") {
                return Ok(Json::Map(members));
            }
            if !self.take(",") {
                return Err(self.problem("neither a comma nor the end of an object"));
            }
        }
    }

    fn string(&mut self) -> Result<Vec<u16>, String> {
        if !self.take("\"") {
            return Err(self.problem("no quote"));
        }
        let mut units = Vec::new();
        loop {
            let rest = &self.text[self.at..];
            match rest.first() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(units);
                }
                Some(b'\\') => {
                    let plain = match rest.get(1) {
                        Some(b'n') => 0x0a,
                        Some(b'r') => 0x0d,
                        Some(b't') => 0x09,
                        Some(b'b') => 0x08,
                        Some(b'f') => 0x0c,
                        Some(b'u') => {
                            let digits = rest.get(2..6).and_then(|digits| std::str::from_utf8(digits).ok());
                            let unit = digits.and_then(|digits| u16::from_str_radix(digits, 16).ok());
                            units.push(unit.ok_or_else(|| self.problem("no escape"))?);
                            self.at += 6;
                            continue;
                        }
                        Some(other @ (b'"' | b'\\' | b'/')) => u16::from(*other),
                        _ => return Err(self.problem("no escape")),
                    };
                    units.push(plain);
                    self.at += 2;
                }
                Some(byte) if *byte < 0x20 => return Err(self.problem("a control character in a text")),
                Some(_) => {
                    let run = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20));
                    let run = run.unwrap_or(rest.len());
                    let piece = std::str::from_utf8(&rest[..run]).map_err(|problem| problem.to_string())?;
                    units.extend(piece.encode_utf16());
                    self.at += run;
                }
                None => return Err(self.problem("no end of a text")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Json;

    #[test]
    fn what_python_writes_comes_back() {
        let text = r#"{"a":[1,-0.0,NaN,1e+22,123456789012345678901234567890],"\ud800":"\u007f\n","e":{},"l":[]}"#;
        assert_eq!(Json::parse(text).unwrap().to_string(), text);
    }

    #[test]
    fn equal_means_equal_in_python_and_of_one_type() {
        let equal = |a, b| Json::parse(a).unwrap() == Json::parse(b).unwrap();
        assert!(equal("1e22", "1e+22") && equal("\"\\u00e9\"", "\"é\"") && equal("NaN", "NaN") && equal("-0", "0"));
        assert!(equal(r#"{"a":1,"b":2,"a":3}"#, r#"{"a":3,"b":2}"#));
        assert!(!equal("1", "1.0") && !equal("0.0", "-0.0") && !equal(r#"{"a":1,"b":2}"#, r#"{"b":2,"a":1}"#));
    }
}
