//! Whole numbers as digits.

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A number's digits and its sign, without leading zeros, that take no memory of their own.
pub(super) struct Digits {
    /// 128 bits take 22 digits in base 62, and 64 bits take 20 in base 10.
    text: [u8; 24],
    start: usize,
}

impl Digits {
    /// A number of this size in a base of up to 62: digits, then upper case, then lower case. In a small base, of 64 bits.
    #[inline]
    pub(super) fn new<const BASE: u64>(is_negative: bool, size: u128) -> Self {
        let mut digits = Self { text: [0; 24], start: 24 };
        let mut rest = size;
        // Division is cheap only in 64 bits, which nearly every number fits into.
        while u64::try_from(rest).is_err() {
            digits.push(DIGITS[(rest % u128::from(BASE)) as usize]);
            rest /= u128::from(BASE);
        }
        let mut rest = rest as u64;
        loop {
            digits.push(DIGITS[(rest % BASE) as usize]);
            rest /= BASE;
            if rest == 0 {
                break;
            }
        }
        if is_negative {
            digits.push(b'-');
        }
        digits
    }

    fn push(&mut self, digit: u8) {
        self.start -= 1;
        self.text[self.start] = digit;
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.text[self.start..]
    }

    pub(super) fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).expect("digits and a sign")
    }
}
