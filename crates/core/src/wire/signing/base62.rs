//! Whole numbers in the 62 digits of Django's timestamps.

use crate::error::{Error, ErrorKind, Result};
use crate::wire::digits::Digits;

/// A number in base 62: digits, then upper case, then lower case; no leading zeros.
pub fn b62_encode(number: i128) -> String {
    Digits::new::<62>(number < 0, number.unsigned_abs()).as_str().to_owned()
}

/// The number that a base 62 text means. A lone `-` is zero, as in Django.
///
/// # Errors
/// [`ErrorKind::Corrupted`] for empty text, for other characters, and beyond 128 bits.
pub fn b62_decode(text: &str) -> Result<i128> {
    decode(text)?.ok_or_else(|| Error::new(ErrorKind::Corrupted, "a base 62 number is longer than 128 bits"))
}

/// As [`b62_decode`], with the largest or smallest number for what lies beyond.
pub(super) fn saturating(text: &str) -> Result<i128> {
    let beyond = if text.starts_with('-') { i128::MIN } else { i128::MAX };
    Ok(decode(text)?.unwrap_or(beyond))
}

fn decode(text: &str) -> Result<Option<i128>> {
    let refused = || Error::new(ErrorKind::Corrupted, "a base 62 number is empty or has a character of another kind");
    if text.is_empty() {
        return Err(refused());
    }
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let mut number = Some(0i128);
    for byte in digits.bytes() {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'A'..=b'Z' => byte - b'A' + 10,
            b'a'..=b'z' => byte - b'a' + 36,
            _ => return Err(refused()),
        };
        number = number.and_then(|number| number.checked_mul(62)?.checked_add(digit.into()));
    }
    Ok(number.map(|number| if negative { -number } else { number }))
}
