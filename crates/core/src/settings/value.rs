//! Values of settings before they have a type, and how they are written.

use std::fmt;

/// The value of a setting as it was given: TOML's types, and Python's `None`.
#[derive(Clone, Debug, PartialEq)]
pub enum SettingValue {
    /// Python's `None`: nothing.
    None,
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number with a fraction.
    Float(f64),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<SettingValue>),
    /// A table, in its order.
    Table(Vec<(String, SettingValue)>),
}

impl SettingValue {
    /// The text, if this is text.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// What the value is, for a message: `a list`.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Bool(_) => "a truth value",
            Self::Int(_) => "a whole number",
            Self::Float(_) => "a number with a fraction",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
        }
    }

    /// Reads a value written as in Python or in JSON: `["a", 'b']`, `{"BACKEND": "locmem"}`, `True`, `null`, `1_000`.
    /// `None` if it is not written so.
    pub(super) fn parse_literal(text: &str) -> Option<Self> {
        let mut reader = Literal { rest: text, depth: 0 };
        let value = reader.value()?;
        reader.skip_space();
        reader.rest.is_empty().then_some(value)
    }
}

impl fmt::Display for SettingValue {
    /// As Python would write it, with text in double quotes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Bool(true) => f.write_str("True"),
            Self::Bool(false) => f.write_str("False"),
            Self::Int(number) => write!(f, "{number}"),
            Self::Float(number) => write!(f, "{number:?}"),
            Self::Text(text) => write!(f, "{text:?}"),
            Self::List(items) => {
                f.write_str("[")?;
                for (place, item) in items.iter().enumerate() {
                    write!(f, "{}{item}", if place == 0 { "" } else { ", " })?;
                }
                f.write_str("]")
            }
            Self::Table(items) => {
                f.write_str("{")?;
                for (place, (name, item)) in items.iter().enumerate() {
                    write!(f, "{}{name:?}: {item}", if place == 0 { "" } else { ", " })?;
                }
                f.write_str("}")
            }
        }
    }
}

impl From<bool> for SettingValue {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}
impl From<i64> for SettingValue {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}
impl From<i32> for SettingValue {
    fn from(value: i32) -> Self {
        Self::Int(value.into())
    }
}
impl From<f64> for SettingValue {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}
impl From<&str> for SettingValue {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}
impl From<String> for SettingValue {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}
impl<T: Into<SettingValue>> From<Vec<T>> for SettingValue {
    fn from(items: Vec<T>) -> Self {
        Self::List(items.into_iter().map(Into::into).collect())
    }
}
impl<T: Into<SettingValue>, const N: usize> From<[T; N]> for SettingValue {
    fn from(items: [T; N]) -> Self {
        Self::List(items.into_iter().map(Into::into).collect())
    }
}
impl<T: Into<SettingValue>> From<Option<T>> for SettingValue {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::None, Into::into)
    }
}

/// A reader of literals. Lists and tables may be nested a few levels, which is all that settings need.
struct Literal<'a> {
    rest: &'a str,
    depth: usize,
}

impl Literal<'_> {
    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    /// Takes the character if it comes next, after white space.
    fn take(&mut self, wanted: char) -> bool {
        self.skip_space();
        match self.rest.strip_prefix(wanted) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn value(&mut self) -> Option<SettingValue> {
        self.skip_space();
        match self.rest.chars().next()? {
            '[' => self.list(']'),
            '(' => self.list(')'),
            '{' => self.table(),
            '"' | '\'' => self.text().map(SettingValue::Text),
            _ => {
                let end = self.rest.find(|c: char| !(c.is_ascii_alphanumeric() || "+-._".contains(c)));
                let (word, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
                self.rest = rest;
                match word {
                    "None" | "null" => Some(SettingValue::None),
                    "True" | "true" => Some(SettingValue::Bool(true)),
                    "False" | "false" => Some(SettingValue::Bool(false)),
                    _ => parse_number(word),
                }
            }
        }
    }

    fn list(&mut self, close: char) -> Option<SettingValue> {
        self.rest = &self.rest[1..];
        self.nested(|reader| {
            let mut items = Vec::new();
            while !reader.take(close) {
                items.push(reader.value()?);
                if !reader.take(',') && !reader.rest.starts_with(close) {
                    return None;
                }
            }
            Some(SettingValue::List(items))
        })
    }

    fn table(&mut self) -> Option<SettingValue> {
        self.rest = &self.rest[1..];
        self.nested(|reader| {
            let mut items = Vec::new();
            while !reader.take('}') {
                reader.skip_space();
                let name = reader.text()?;
                if !reader.take(':') {
                    return None;
                }
                items.push((name, reader.value()?));
                if !reader.take(',') && !reader.rest.starts_with('}') {
                    return None;
                }
            }
            Some(SettingValue::Table(items))
        })
    }

    fn nested(&mut self, read: impl FnOnce(&mut Self) -> Option<SettingValue>) -> Option<SettingValue> {
        self.depth += 1;
        let value = if self.depth > 16 { None } else { read(self) };
        self.depth -= 1;
        value
    }

    fn text(&mut self) -> Option<String> {
        let quote = self.rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
        let mut text = String::new();
        let mut chars = self.rest[1..].chars();
        loop {
            match chars.next()? {
                c if c == quote => break,
                '\\' => match chars.next()? {
                    'n' => text.push('\n'),
                    't' => text.push('\t'),
                    'r' => text.push('\r'),
                    'u' => {
                        let digits = chars.as_str().get(..4)?;
                        text.push(char::from_u32(u32::from_str_radix(digits, 16).ok()?)?);
                        chars = chars.as_str()[4..].chars();
                    }
                    c @ ('"' | '\'' | '\\' | '/') => text.push(c),
                    _ => return None,
                },
                c => text.push(c),
            }
        }
        self.rest = chars.as_str();
        Some(text)
    }
}

/// A number as Python and TOML write it, underscores between the digits too.
pub(super) fn parse_number(word: &str) -> Option<SettingValue> {
    let starts_well = word.trim_start_matches(['+', '-']).starts_with(|c: char| c.is_ascii_digit());
    if !starts_well || word.ends_with('_') {
        return None;
    }
    let plain = word.replace('_', "");
    match plain.parse() {
        Ok(number) => Some(SettingValue::Int(number)),
        Err(_) if plain.contains(['.', 'e', 'E']) => plain.parse().ok().map(SettingValue::Float),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn literals_of_python_and_json() {
        let parse = |text| SettingValue::parse_literal(text).map(|value| value.to_string());
        assert_eq!(parse("['a', \"b\\n\", ]").as_deref(), Some("[\"a\", \"b\\n\"]"));
        assert_eq!(parse("('a',)").as_deref(), Some("[\"a\"]"));
        assert_eq!(
            parse("{'default': {'BACKEND': 'x', 'TIMEOUT': None, \"V\": 1_000, 'f': -1.5, 't': true}}").as_deref(),
            Some("{\"default\": {\"BACKEND\": \"x\", \"TIMEOUT\": None, \"V\": 1000, \"f\": -1.5, \"t\": True}}")
        );
        for text in ["", "[", "[1 2]", "{a: 1}", "'x", "nan", "1_", "--", "[1]]", &"[".repeat(99)] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "\\PC*", near in "[\\[{('\",:}\\])\\\\u0-9a ]{0,30}") {
            let _ = SettingValue::parse_literal(&text);
            let _ = SettingValue::parse_literal(&near);
        }
    }
}
