//! Reads Rust values from JSON text that has been validated.
//!
//! serde_json is not used for it: it refuses `NaN` and `1e400`, reads `-0` as a float and some other floats one digit
//! off unless told otherwise, and quotes the values themselves in its errors.

use std::borrow::Cow;
use std::fmt;

use serde::de::value::{BorrowedStrDeserializer, StringDeserializer};
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Expected, IntoDeserializer, MapAccess,
    SeqAccess, Unexpected, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use super::{MAX_TYPED_DEPTH, scan, text};

const RAW_VALUE: &str = "$serde_json::private::RawValue";

pub(super) fn from_valid<T: DeserializeOwned>(raw: &str) -> Result<T, Mismatch> {
    let mut reader = Reader { text: raw, at: 0, depth: 0 };
    T::deserialize(&mut reader)
}

/// Why a value is not of the type asked for. It names kinds, fields and expectations, never a value.
#[derive(Debug)]
pub(super) struct Mismatch(Cow<'static, str>);

impl Mismatch {
    fn malformed() -> Self {
        Self(Cow::Borrowed("it is malformed"))
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Mismatch {}

impl de::Error for Mismatch {
    fn custom<T: fmt::Display>(_: T) -> Self {
        // The message of a foreign implementation may quote the value.
        Self(Cow::Borrowed("its Deserialize implementation refused it"))
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let found = match found {
            Unexpected::Bool(_) => "a boolean",
            Unexpected::Unsigned(_) | Unexpected::Signed(_) => "an integer",
            Unexpected::Float(_) => "a float",
            Unexpected::Char(_) | Unexpected::Str(_) => "text",
            Unexpected::Unit | Unexpected::Option => "null",
            Unexpected::Seq => "a list",
            Unexpected::Map => "a mapping",
            _ => "something else",
        };
        Self(format!("{found} stands where {expected} was expected").into())
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self(format!("a value is not {expected}").into())
    }

    fn invalid_length(length: usize, expected: &dyn Expected) -> Self {
        Self(format!("{length} elements stand where {expected} was expected").into())
    }

    fn unknown_variant(_: &str, _: &'static [&'static str]) -> Self {
        Self(Cow::Borrowed("it names a variant that the type does not have"))
    }

    fn unknown_field(_: &str, _: &'static [&'static str]) -> Self {
        Self(Cow::Borrowed("it has a field that the type does not have"))
    }

    fn missing_field(field: &'static str) -> Self {
        Self(format!("the field `{field}` is missing").into())
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self(format!("the field `{field}` stands there twice").into())
    }
}

struct Reader<'de> {
    text: &'de str,
    at: usize,
    depth: usize,
}

impl<'de> Reader<'de> {
    /// The next byte that is not white space, or zero at the end. It is not consumed.
    fn peek(&mut self) -> u8 {
        let bytes = self.text.as_bytes();
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = bytes.get(self.at) {
            self.at += 1;
        }
        bytes.get(self.at).copied().unwrap_or_default()
    }

    /// The text of the next value, which is consumed.
    fn raw(&mut self) -> Result<&'de str, Mismatch> {
        let first = self.peek();
        let end = match self.text.as_bytes() {
            // The text is this one value and nothing else, so that it need not be looked at again.
            [.., b'!'..=u8::MAX] if self.at == 0 && !matches!(first, b'[' | b'{') => self.text.len(),
            _ => scan::value_end(self.text.as_bytes(), self.at).map_err(|_| Mismatch::malformed())?,
        };
        let raw = &self.text[self.at..end];
        self.at = end;
        Ok(raw)
    }

    /// What stands between the quotation marks of the next value, which is text.
    fn escaped(&mut self) -> Result<&'de str, Mismatch> {
        let raw = self.raw()?;
        raw.get(1..raw.len() - 1).ok_or_else(Mismatch::malformed)
    }

    fn enter(&mut self) -> Result<(), Mismatch> {
        if self.depth == MAX_TYPED_DEPTH {
            return Err(Mismatch(format!("it is nested deeper than {MAX_TYPED_DEPTH} levels").into()));
        }
        self.depth += 1;
        self.at += 1;
        Ok(())
    }

    fn number<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Mismatch> {
        visit_number(self.raw()?, visitor)
    }

    /// The next value as a float, if it is a number.
    fn float(&mut self) -> Result<Option<f64>, Mismatch> {
        match self.peek() {
            b'-' | b'0'..=b'9' | b'N' | b'I' => self.raw().map(|raw| Some(parse_float(raw))),
            _ => Ok(None),
        }
    }
}

fn parse_float(raw: &str) -> f64 {
    // Rust reads these three words as well, and so does it round correctly and overflow to infinity, as Python does.
    raw.parse().unwrap_or(f64::NAN)
}

fn visit_number<'de, V: Visitor<'de>>(raw: &str, visitor: V) -> Result<V::Value, Mismatch> {
    if raw.bytes().any(|byte| !matches!(byte, b'-' | b'0'..=b'9')) {
        return visitor.visit_f64(parse_float(raw));
    }
    if let Ok(number) = raw.parse::<u64>() {
        return visitor.visit_u64(number);
    }
    if let Ok(number) = raw.parse::<i64>() {
        // `-0` is an integer in Python, and zero has no sign there.
        return if number == 0 { visitor.visit_u64(0) } else { visitor.visit_i64(number) };
    }
    if let Ok(number) = raw.parse::<i128>() {
        return visitor.visit_i128(number);
    }
    match raw.parse::<u128>() {
        Ok(number) => visitor.visit_u128(number),
        Err(_) => Err(Mismatch(Cow::Borrowed("an integer is longer than 128 bits"))),
    }
}

fn visit_text<'de, V: Visitor<'de>>(escaped: &'de str, visitor: V) -> Result<V::Value, Mismatch> {
    match text::unescape(escaped) {
        Some(Cow::Borrowed(value)) => visitor.visit_borrowed_str(value),
        Some(Cow::Owned(value)) => visitor.visit_string(value),
        None => Err(Mismatch(Cow::Borrowed("text holds half of a surrogate pair"))),
    }
}

macro_rules! integers {
    ($($method:ident $visit:ident: $type:ty),*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
            let start = self.at;
            if let b'-' | b'0'..=b'9' = self.peek()
                && let Ok(number) = self.raw()?.parse::<$type>()
            {
                return visitor.$visit(number);
            }
            self.at = start;
            self.deserialize_any(visitor)
        }
    )*};
}

impl<'de> Deserializer<'de> for &mut Reader<'de> {
    type Error = Mismatch;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self.peek() {
            b'n' => {
                self.at += 4;
                visitor.visit_unit()
            }
            b't' => {
                self.at += 4;
                visitor.visit_bool(true)
            }
            b'f' => {
                self.at += 5;
                visitor.visit_bool(false)
            }
            b'"' => visit_text(self.escaped()?, visitor),
            b'[' => {
                self.enter()?;
                let mut list = Items { reader: self, first: true, close: b']' };
                let value = visitor.visit_seq(&mut list)?;
                list.finish("a shorter list")?;
                Ok(value)
            }
            b'{' => {
                self.enter()?;
                let mut mapping = Items { reader: self, first: true, close: b'}' };
                let value = visitor.visit_map(&mut mapping)?;
                mapping.finish("a smaller mapping")?;
                Ok(value)
            }
            b'-' | b'0'..=b'9' | b'N' | b'I' => self.number(visitor),
            _ => Err(Mismatch::malformed()),
        }
    }

    integers!(deserialize_i128 visit_i128: i128, deserialize_u128 visit_u128: u128);

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self.float()? {
            Some(number) => visitor.visit_f64(number),
            None => self.deserialize_any(visitor),
        }
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self.peek() {
            b'-' | b'0'..=b'9' | b'N' | b'I' => visitor.visit_f32(self.raw()?.parse().unwrap_or(f32::NAN)),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self.peek() {
            b'"' => visitor.visit_byte_buf(text::unescape_bytes(self.escaped()?)),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        if self.peek() == b'n' {
            self.at += 4;
            visitor.visit_none()
        } else {
            visitor.visit_some(self)
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Mismatch> {
        if name == RAW_VALUE {
            // serde_json's `RawValue` asks for its text like this.
            return visitor.visit_map(Carrier(Some(self.raw()?)));
        }
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        match self.peek() {
            b'"' => {
                let name = text::unescape_lossy(self.escaped()?).into_owned();
                visitor.visit_enum(StringDeserializer::new(name))
            }
            b'{' => {
                self.enter()?;
                let value = visitor.visit_enum(Variant(&mut *self))?;
                if self.peek() != b'}' {
                    return Err(Mismatch(Cow::Borrowed("a variant has more than one key")));
                }
                self.at += 1;
                self.depth -= 1;
                Ok(value)
            }
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        self.raw()?;
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 char str string unit unit_struct seq tuple tuple_struct map struct
        identifier
    }
}

/// The items of a list or mapping, read one by one.
struct Items<'a, 'de> {
    reader: &'a mut Reader<'de>,
    first: bool,
    close: u8,
}

impl Items<'_, '_> {
    /// Whether another item follows; its comma is consumed.
    fn more(&mut self) -> bool {
        let next = self.reader.peek();
        if next == self.close {
            return false;
        }
        if !std::mem::take(&mut self.first) {
            self.reader.at += 1;
        }
        true
    }

    fn finish(&mut self, expected: &'static str) -> Result<(), Mismatch> {
        if self.more() {
            return Err(Mismatch(format!("{expected} was expected").into()));
        }
        self.reader.at += 1;
        self.reader.depth -= 1;
        Ok(())
    }
}

impl<'de> SeqAccess<'de> for Items<'_, 'de> {
    type Error = Mismatch;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Mismatch> {
        if self.more() { seed.deserialize(&mut *self.reader).map(Some) } else { Ok(None) }
    }
}

impl<'de> MapAccess<'de> for Items<'_, 'de> {
    type Error = Mismatch;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Mismatch> {
        if self.more() {
            self.reader.peek();
            seed.deserialize(Key(self.reader.escaped()?)).map(Some)
        } else {
            Ok(None)
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Mismatch> {
        self.reader.peek();
        self.reader.at += 1;
        seed.deserialize(&mut *self.reader)
    }
}

/// A map's key: text in JSON, but read as the number, boolean or null that it was before.
struct Key<'de>(&'de str);

macro_rules! keys {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
            if scan::validate(self.0).is_ok() {
                (&mut Reader { text: self.0, at: 0, depth: 0 }).$method(visitor)
            } else {
                visit_text(self.0, visitor)
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for Key<'de> {
    type Error = Mismatch;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        visit_text(self.0, visitor)
    }

    keys!(deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128 deserialize_u8
        deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128 deserialize_f32 deserialize_f64 deserialize_unit);

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        visitor.visit_byte_buf(text::unescape_bytes(self.0))
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        if self.0 == "null" { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Mismatch> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        visitor.visit_enum(StringDeserializer::new(text::unescape_lossy(self.0).into_owned()))
    }

    forward_to_deserialize_any! {
        char str string unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

/// The one entry of `{"Variant": content}`, whose brace has been consumed.
struct Variant<'a, 'de>(&'a mut Reader<'de>);

impl<'a, 'de> EnumAccess<'de> for Variant<'a, 'de> {
    type Error = Mismatch;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Mismatch> {
        if self.0.peek() != b'"' {
            return Err(Mismatch(Cow::Borrowed("an empty mapping names no variant")));
        }
        let name = seed.deserialize(Key(self.0.escaped()?))?;
        self.0.peek();
        self.0.at += 1;
        Ok((name, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_, 'de> {
    type Error = Mismatch;

    fn unit_variant(self) -> Result<(), Mismatch> {
        de::Deserialize::deserialize(self.0)
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Mismatch> {
        seed.deserialize(self.0)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Mismatch> {
        self.0.deserialize_seq(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], visitor: V) -> Result<V::Value, Mismatch> {
        self.0.deserialize_map(visitor)
    }
}

/// Hands one piece of raw text to serde_json's `RawValue`.
struct Carrier<'de>(Option<&'de str>);

impl<'de> MapAccess<'de> for Carrier<'de> {
    type Error = Mismatch;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Mismatch> {
        if self.0.is_none() {
            return Ok(None);
        }
        seed.deserialize(BorrowedStrDeserializer::new(RAW_VALUE)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Mismatch> {
        let raw = self.0.take().unwrap_or_default();
        seed.deserialize(raw.to_owned().into_deserializer())
    }
}
