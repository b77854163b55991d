//! Writes Rust values as Python's `json` writes its own.
//!
//! serde_json's serializer is not used since it turns not-a-number into `null` without a word.

mod key;

use std::cell::Cell;
use std::fmt::{self, Write};
use std::sync::Arc;

use serde::ser::{self, Serialize};

use self::key::Key;
use super::{MAX_TYPED_DEPTH, scan, text};

pub(super) fn to_string<T: Serialize + ?Sized>(value: &T) -> Result<String, Refusal> {
    let mut writer = Writer { out: String::with_capacity(64), depth: 0 };
    value.serialize(&mut writer)?;
    Ok(writer.out)
}

/// As [`to_string`], with the text in memory of just its size.
pub(super) fn to_shared<T: Serialize + ?Sized>(value: &T) -> Result<Arc<str>, Refusal> {
    /// A larger buffer is not kept, in bytes.
    const MAX_KEPT: usize = 4 << 10;
    thread_local! {
        static BUFFER: Cell<String> = const { Cell::new(String::new()) };
    }
    // Taken away meanwhile, since a foreign `Serialize` may write JSON of its own.
    let mut writer = Writer { out: BUFFER.take(), depth: 0 };
    let outcome = value.serialize(&mut writer).map(|()| writer.out.as_str().into());
    writer.out.clear();
    writer.out.shrink_to(MAX_KEPT);
    BUFFER.set(writer.out);
    outcome
}

/// Why a value cannot be written. Messages of foreign `Serialize` implementations are left out: they may quote values.
#[derive(Debug)]
pub(super) enum Refusal {
    Custom,
    Depth,
    Key,
    Embedded,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Custom => f.write_str("its Serialize implementation refused"),
            Self::Depth => write!(f, "it is nested deeper than {MAX_TYPED_DEPTH} levels"),
            Self::Key => f.write_str("a map key must be text, a number, a boolean or null"),
            Self::Embedded => f.write_str("it embeds JSON text or a number that is not valid"),
        }
    }
}

impl std::error::Error for Refusal {}

impl ser::Error for Refusal {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self::Custom
    }
}

struct Writer {
    out: String,
    depth: usize,
}

impl Writer {
    fn string(&mut self, value: &str) {
        self.out.push('"');
        text::escape(&mut self.out, value);
        self.out.push('"');
    }

    fn integer(&mut self, negative: bool, magnitude: u64) {
        // The formatting machinery takes many times as long.
        let (mut digits, mut at, mut left) = ([0; 20], 20, magnitude);
        while left > 0 || at == 20 {
            at -= 1;
            digits[at] = b'0' + (left % 10) as u8;
            left /= 10;
        }
        if negative {
            self.out.push('-');
        }
        self.out.push_str(std::str::from_utf8(&digits[at..]).expect("digits"));
    }

    fn open(&mut self, open: char) -> Result<(), Refusal> {
        if self.depth == MAX_TYPED_DEPTH {
            return Err(Refusal::Depth);
        }
        self.depth += 1;
        self.out.push(open);
        Ok(())
    }

    fn compound(&mut self, open: char, close: &'static str) -> Result<Compound<'_>, Refusal> {
        self.open(open)?;
        Ok(Compound { writer: self, empty: true, close, levels: 1 })
    }

    /// `{"variant":` and then the opening of what it holds.
    fn variant(&mut self, variant: &str, open: char, close: &'static str) -> Result<Compound<'_>, Refusal> {
        self.open('{')?;
        self.string(variant);
        self.out.push(':');
        self.open(open)?;
        Ok(Compound { writer: self, empty: true, close, levels: 2 })
    }
}

/// Appends a float as Python's `json` writes it.
pub(crate) fn write_float(out: &mut String, value: f64) {
    // Between the sizes at which either turns to exponents, Rust's spelling is Python's.
    if value == 0.0 || (1e-4..1e16).contains(&value.abs()) {
        let _ = write!(out, "{value:?}");
        return;
    }
    push_float(out, &format!("{value:e}"));
}

/// Appends a float as Python's `repr` spells it, from Rust's shortest digits: `scientific` is Rust's `{:e}` form.
pub(super) fn push_float(out: &mut String, scientific: &str) {
    let Some((mantissa, exponent)) = scientific.split_once('e') else {
        // Not a number, or infinite: the only forms without an exponent.
        out.push_str(match scientific {
            "NaN" => "NaN",
            "-inf" => "-Infinity",
            _ => "Infinity",
        });
        return;
    };
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if !(-4..16).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        let _ = write!(out, "{mantissa}e{sign}{:02}", exponent.unsigned_abs());
        return;
    }
    let unsigned = mantissa.trim_start_matches('-');
    if unsigned.len() < mantissa.len() {
        out.push('-');
    }
    let digits = unsigned.replacen('.', "", 1);
    if exponent < 0 {
        out.push_str("0.");
        (1..-exponent).for_each(|_| out.push('0'));
        out.push_str(&digits);
        return;
    }
    let whole = exponent as usize + 1;
    match digits.split_at_checked(whole) {
        Some((whole, fraction)) if !fraction.is_empty() => {
            out.push_str(whole);
            out.push('.');
            out.push_str(fraction);
        }
        _ => {
            out.push_str(&digits);
            (digits.len()..whole).for_each(|_| out.push('0'));
            out.push_str(".0");
        }
    }
}

macro_rules! integers {
    ($($method:ident: $type:ty),*) => {$(
        fn $method(self, value: $type) -> Result<(), Refusal> {
            match u64::try_from(value) {
                Ok(magnitude) => self.integer(false, magnitude),
                Err(_) => match i64::try_from(value) {
                    Ok(value) => self.integer(true, value.unsigned_abs()),
                    // Writing to a String cannot fail.
                    Err(_) => drop(write!(self.out, "{value}")),
                },
            }
            Ok(())
        }
    )*};
}

impl<'a> ser::Serializer for &'a mut Writer {
    type Ok = ();
    type Error = Refusal;
    type SerializeSeq = Compound<'a>;
    type SerializeTuple = Compound<'a>;
    type SerializeTupleStruct = Compound<'a>;
    type SerializeTupleVariant = Compound<'a>;
    type SerializeMap = Compound<'a>;
    type SerializeStruct = Struct<'a>;
    type SerializeStructVariant = Compound<'a>;

    integers!(serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64, serialize_i128: i128,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64, serialize_u128: u128);

    fn serialize_bool(self, value: bool) -> Result<(), Refusal> {
        self.out.push_str(if value { "true" } else { "false" });
        Ok(())
    }

    fn serialize_f32(self, value: f32) -> Result<(), Refusal> {
        push_float(&mut self.out, &format!("{value:e}"));
        Ok(())
    }

    fn serialize_f64(self, value: f64) -> Result<(), Refusal> {
        write_float(&mut self.out, value);
        Ok(())
    }

    fn serialize_char(self, value: char) -> Result<(), Refusal> {
        self.string(value.encode_utf8(&mut [0; 4]));
        Ok(())
    }

    fn serialize_str(self, value: &str) -> Result<(), Refusal> {
        self.string(value);
        Ok(())
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<(), Refusal> {
        value.serialize(self)
    }

    fn serialize_none(self) -> Result<(), Refusal> {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Refusal> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Refusal> {
        self.out.push_str("null");
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Refusal> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<(), Refusal> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), Refusal> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Refusal> {
        self.open('{')?;
        self.string(variant);
        self.out.push(':');
        value.serialize(&mut *self)?;
        self.out.push('}');
        self.depth -= 1;
        Ok(())
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Compound<'a>, Refusal> {
        self.compound('[', "]")
    }

    fn serialize_tuple(self, _: usize) -> Result<Compound<'a>, Refusal> {
        self.compound('[', "]")
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Compound<'a>, Refusal> {
        self.compound('[', "]")
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Compound<'a>, Refusal> {
        self.variant(variant, '[', "]}")
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Compound<'a>, Refusal> {
        self.compound('{', "}")
    }

    fn serialize_struct(self, name: &'static str, _: usize) -> Result<Struct<'a>, Refusal> {
        // serde_json passes its raw values and (with `arbitrary_precision`) its numbers on in structs of these names.
        if name == "$serde_json::private::RawValue" || name == "$serde_json::private::Number" {
            return Ok(Struct::Embedded(self));
        }
        self.compound('{', "}").map(Struct::Fields)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Compound<'a>, Refusal> {
        self.variant(variant, '{', "}}")
    }
}

/// A list or mapping that is being written.
struct Compound<'a> {
    writer: &'a mut Writer,
    empty: bool,
    close: &'static str,
    levels: usize,
}

impl Compound<'_> {
    fn separate(&mut self) {
        if !std::mem::take(&mut self.empty) {
            self.writer.out.push(',');
        }
    }

    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refusal> {
        self.separate();
        value.serialize(&mut *self.writer)
    }

    fn field<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Result<(), Refusal> {
        self.separate();
        self.writer.string(name);
        self.writer.out.push(':');
        value.serialize(&mut *self.writer)
    }

    fn close(self) {
        self.writer.out.push_str(self.close);
        self.writer.depth -= self.levels;
    }
}

macro_rules! compound {
    ($($trait:ident, $method:ident ($($name:ident)?) => $call:ident;)*) => {$(
        impl ser::$trait for Compound<'_> {
            type Ok = ();
            type Error = Refusal;
            fn $method<T: Serialize + ?Sized>(&mut self, $($name: &'static str,)? value: &T) -> Result<(), Refusal> {
                self.$call($($name,)? value)
            }
            fn end(self) -> Result<(), Refusal> {
                self.close();
                Ok(())
            }
        }
    )*};
}
compound! {
    SerializeSeq, serialize_element() => element;
    SerializeTuple, serialize_element() => element;
    SerializeTupleStruct, serialize_field() => element;
    SerializeTupleVariant, serialize_field() => element;
    SerializeStructVariant, serialize_field(name) => field;
}

impl ser::SerializeMap for Compound<'_> {
    type Ok = ();
    type Error = Refusal;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Refusal> {
        self.separate();
        key.serialize(Key(self.writer))
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refusal> {
        self.writer.out.push(':');
        value.serialize(&mut *self.writer)
    }

    fn end(self) -> Result<(), Refusal> {
        self.close();
        Ok(())
    }
}

/// A struct that is being written, or one of serde_json's carriers of text.
enum Struct<'a> {
    Fields(Compound<'a>),
    Embedded(&'a mut Writer),
}

impl ser::SerializeStruct for Struct<'_> {
    type Ok = ();
    type Error = Refusal;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), Refusal> {
        match self {
            Self::Fields(fields) => fields.field(name, value),
            Self::Embedded(writer) => {
                // The field is text; written as JSON it would have quotation marks and escapes, so it is read back.
                let quoted = to_string(value)?;
                let raw: String = super::from_str(&quoted).map_err(|_| Refusal::Embedded)?;
                writer.embed(&raw)
            }
        }
    }

    fn end(self) -> Result<(), Refusal> {
        if let Self::Fields(fields) = self {
            fields.close();
        }
        Ok(())
    }
}

impl Writer {
    fn embed(&mut self, raw: &str) -> Result<(), Refusal> {
        // Seventeen digits are all that a float can tell apart: such a number is spelled as Python would.
        let float = raw.contains(['.', 'e', 'E']) && raw.bytes().filter(u8::is_ascii_digit).count() <= 17;
        if float && scan::validate_number(raw) {
            match raw.parse::<f64>() {
                Ok(value) if value.is_finite() => write_float(&mut self.out, value),
                _ => self.out.push_str(raw),
            }
            return Ok(());
        }
        scan::validate(raw).map_err(|_| Refusal::Embedded)?;
        self.out.push_str(&text::ascii(raw.trim_matches([' ', '\t', '\n', '\r'])));
        Ok(())
    }
}
