//! Whole numbers in the 62 digits of Django's timestamps.

use crate::error::{Error, ErrorKind, Result};

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A number in base 62: digits, then upper case, then lower case; no leading zeros.
pub fn b62_encode(number: i128) -> String {
    Base62::new(number).as_str().to_owned()
}

/// A number in base 62 that takes no memory of its own.
pub(super) struct Base62 {
    /// 22 digits hold 128 bits; and a sign.
    digits: [u8; 23],
    start: usize,
}

impl Base62 {
    pub(super) fn new(number: i128) -> Self {
        let mut text = Self { digits: [0; 23], start: 23 };
        let mut rest = number.unsigned_abs();
        // Division is cheap only in 64 bits, which nearly every number fits into.
        while u64::try_from(rest).is_err() {
            text.push(DIGITS[(rest % 62) as usize]);
            rest /= 62;
        }
        let mut rest = rest as u64;
        while rest > 0 || text.start == text.digits.len() {
            text.push(DIGITS[(rest % 62) as usize]);
            rest /= 62;
        }
        if number < 0 {
            text.push(b'-');
        }
        text
    }

    fn push(&mut self, digit: u8) {
        self.start -= 1;
        self.digits[self.start] = digit;
    }

    pub(super) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.digits[self.start..]).expect("digits and a sign")
    }
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
