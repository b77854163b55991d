//! JSON exactly as Python's `json` module writes and reads it.
//!
//! What is written is ASCII without spaces: every other character is escaped, floats have Python's spelling (`1e-07`,
//! `3.0`), and not-a-number and the infinities are `NaN`, `Infinity`, `-Infinity`. What is read is strict JSON plus
//! those three words; integers may have up to 4300 digits, and what the Rust type cannot hold is refused, not rounded.

mod de;
mod scan;
mod ser;
mod text;

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, ErrorKind, Result};

pub(crate) use scan::{MAX_INTEGER_DIGITS, kind_of, split_object, text_end, value_end};
pub(crate) use ser::write_float;
pub(crate) use text::{
    ascii_from_latin1, ascii_from_utf8, canonical, escape, escape_wtf8, is_plain, is_wtf8, needs_escape, push_wtf8,
    unescape_bytes, unescape_lossy,
};

/// The deepest nesting that is read at all, about what Python's own reader manages.
pub const MAX_DEPTH: usize = 1_000;

/// The deepest nesting that is turned into Rust values or made from them, which takes stack for each level.
pub const MAX_TYPED_DEPTH: usize = 256;

/// Writes a value as Python's `json.dumps(value, separators=(",", ":"))` does.
///
/// Map keys that are not text become text, as in Python: numbers, `"true"`, `"false"`, `"null"`. Enums are written in
/// serde's usual external form, bytes as a list of numbers.
///
/// # Errors
/// [`ErrorKind::Unrepresentable`] for map keys that are neither text, number, boolean nor null, for values nested
/// deeper than [`MAX_TYPED_DEPTH`], and for what a `Serialize` implementation refuses.
pub fn to_string<T: Serialize + ?Sized>(value: &T) -> Result<String> {
    ser::to_string(value).map_err(refused::<T>)
}

fn refused<T: ?Sized>(refusal: ser::Refusal) -> Error {
    Error::new(
        ErrorKind::Unrepresentable,
        format!("a value of type {} cannot be written as JSON: {refusal}", std::any::type_name::<T>()),
    )
}

/// Reads a value from JSON text as Python's `json.loads` accepts it.
///
/// # Errors
/// [`ErrorKind::Corrupted`] if the text is not JSON, [`ErrorKind::Type`] if it holds something else than a `T`. The
/// message never contains the value.
pub fn from_str<T: DeserializeOwned>(raw: &str) -> Result<T> {
    scan::validate(raw)?;
    typed(raw)
}

/// Whether the text is one JSON value.
pub(crate) fn is_valid(text: &str) -> bool {
    scan::validate(text).is_ok()
}

/// Reads text that has been validated already.
fn typed<T: DeserializeOwned>(raw: &str) -> Result<T> {
    de::from_valid(raw).map_err(|mismatch| {
        let (found, asked) = (kind_of(raw), std::any::type_name::<T>());
        Error::new(ErrorKind::Type, format!("{found} cannot be read as {asked}: {mismatch}"))
    })
}

/// As [`from_str`] for text out of [`Values`](crate::Values): valid already; the error names the item.
pub(crate) fn item<T: DeserializeOwned>(key: &str, raw: &str) -> Result<T> {
    de::from_valid(raw).map_err(|mismatch| {
        let (found, asked) = (kind_of(raw), std::any::type_name::<T>());
        Error::new(
            ErrorKind::Type,
            format!("the session's item {key:?} is {found}, which cannot be read as {asked}: {mismatch}"),
        )
    })
}

/// One JSON value as the text that Python could have written: valid, and ASCII.
///
/// Clones share the text. `Debug` shows the size alone, so that a value never ends up in a log.
#[derive(Clone, PartialEq, Eq)]
pub struct RawJson(Arc<str>);

impl RawJson {
    /// Writes a value; see [`to_string`].
    ///
    /// # Errors
    /// As [`to_string`].
    pub fn new<T: Serialize + ?Sized>(value: &T) -> Result<Self> {
        ser::to_shared(value).map(Self).map_err(refused::<T>)
    }

    /// Takes JSON text as it is, without the white space around it, and with non-ASCII characters escaped.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupted`] if the text is not one JSON value.
    pub fn parse(text: &str) -> Result<Self> {
        let trimmed = text.trim_matches([' ', '\t', '\n', '\r']);
        scan::validate(trimmed)?;
        Ok(Self(text::ascii(trimmed).into()))
    }

    /// Wraps text which is known to be one valid JSON value in ASCII.
    pub(crate) fn from_valid(text: &str) -> Self {
        debug_assert!(text.is_ascii() && is_valid(text));
        Self(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Reads the value as a Rust type.
    ///
    /// # Errors
    /// [`ErrorKind::Type`] if it is something else than a `T`.
    pub fn deserialize<T: DeserializeOwned>(&self) -> Result<T> {
        typed(&self.0)
    }

    pub(crate) fn into_shared(self) -> Arc<str> {
        self.0
    }

    pub(crate) fn from_shared(text: Arc<str>) -> Self {
        Self(text)
    }
}

impl fmt::Debug for RawJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RawJson({} bytes)", self.0.len())
    }
}

#[cfg(test)]
mod tests;
