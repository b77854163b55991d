//! Validates JSON text, without recursion and without building anything.

use std::ops::Range;

use super::MAX_DEPTH;
use crate::error::{Error, ErrorKind};

/// Python refuses longer integers, in both directions.
pub(crate) const MAX_INTEGER_DIGITS: usize = 4_300;

/// What is wrong with the text, and at which byte.
#[derive(Debug)]
pub(crate) struct Fault {
    at: usize,
    what: &'static str,
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Error::new(ErrorKind::Corrupted, format!("malformed JSON at byte {}: {}", fault.at, fault.what))
    }
}

/// Checks that the text is one JSON value, with nothing but white space around it.
pub(crate) fn validate(text: &str) -> Result<(), Fault> {
    let mut scanner = Scanner { bytes: text.as_bytes(), at: 0 };
    scanner.space();
    scanner.value()?;
    scanner.end()
}

/// Where a number that starts the text ends; the whole text must be it.
pub(crate) fn validate_number(text: &str) -> bool {
    let mut scanner = Scanner { bytes: text.as_bytes(), at: 0 };
    matches!(scanner.peek(), Some(b'-' | b'0'..=b'9')) && scanner.number().is_ok() && scanner.at == text.len()
}

/// Where a value ends that starts at `start` in valid text.
pub(crate) fn value_end(text: &str, start: usize) -> Result<usize, Fault> {
    let mut scanner = Scanner { bytes: text.as_bytes(), at: start };
    scanner.value()?;
    Ok(scanner.at)
}

/// A key's place between its quotation marks, and whether all of it is plain: it needs no escape and has none.
pub(crate) struct Key {
    pub(crate) span: Range<usize>,
    pub(crate) plain: bool,
}

/// Calls `entry` with each key and the place of its value, for ASCII text that is an object.
pub(crate) fn split_object(text: &str, mut entry: impl FnMut(Key, Range<usize>)) -> Result<(), Fault> {
    let mut scanner = Scanner { bytes: text.as_bytes(), at: 0 };
    scanner.space();
    scanner.expect(b'{', "an object was expected")?;
    scanner.space();
    if scanner.peek() == Some(b'}') {
        scanner.at += 1;
        return scanner.end();
    }
    loop {
        let key = scanner.key()?;
        let start = scanner.at;
        scanner.value()?;
        entry(key, start..scanner.at);
        scanner.space();
        match scanner.peek() {
            Some(b',') => {
                scanner.at += 1;
                scanner.space();
            }
            Some(b'}') => {
                scanner.at += 1;
                return scanner.end();
            }
            _ => return scanner.fault("`,` or `}` was expected"),
        }
    }
}

/// The kind of a value, for messages, from its valid text.
pub(crate) fn kind_of(raw: &str) -> &'static str {
    match raw.trim_start().as_bytes().first() {
        Some(b'n') => "null",
        Some(b't' | b'f') => "a boolean",
        Some(b'"') => "text",
        Some(b'[') => "a list",
        Some(b'{') => "a mapping",
        _ => "a number",
    }
}

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// The containers around the present place, one bit each: set for an object.
struct Nesting {
    bits: [u64; MAX_DEPTH / 64 + 1],
    depth: usize,
}

impl Nesting {
    fn push(&mut self, object: bool) -> bool {
        if self.depth == MAX_DEPTH {
            return false;
        }
        let (word, bit) = (self.depth / 64, 1 << (self.depth % 64));
        if object {
            self.bits[word] |= bit;
        } else {
            self.bits[word] &= !bit;
        }
        self.depth += 1;
        true
    }

    fn in_object(&self) -> bool {
        let innermost = self.depth - 1;
        self.bits[innermost / 64] >> (innermost % 64) & 1 == 1
    }
}

impl Scanner<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn fault<T>(&self, what: &'static str) -> Result<T, Fault> {
        Err(Fault { at: self.at, what })
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8, what: &'static str) -> Result<(), Fault> {
        if self.peek() != Some(byte) {
            return self.fault(what);
        }
        self.at += 1;
        Ok(())
    }

    fn end(&mut self) -> Result<(), Fault> {
        self.space();
        if self.at == self.bytes.len() { Ok(()) } else { self.fault("something follows the value") }
    }

    /// A key and its colon; stops at the value.
    fn key(&mut self) -> Result<Key, Fault> {
        if self.peek() != Some(b'"') {
            return self.fault("a key in quotation marks was expected");
        }
        let start = self.at + 1;
        let plain = self.string()?;
        let key = Key { span: start..self.at - 1, plain };
        self.space();
        self.expect(b':', "`:` was expected")?;
        self.space();
        Ok(key)
    }

    fn value(&mut self) -> Result<(), Fault> {
        // The common case comes first, so that it does not pay for the bits of the nesting.
        if !matches!(self.peek(), Some(b'{' | b'[')) {
            return self.scalar();
        }
        let mut nesting = Nesting { bits: [0; MAX_DEPTH / 64 + 1], depth: 0 };
        loop {
            let opened = match self.peek() {
                Some(open @ (b'{' | b'[')) => {
                    let object = open == b'{';
                    if !nesting.push(object) {
                        return self.fault("it is nested too deeply");
                    }
                    self.at += 1;
                    self.space();
                    let empty = self.peek() == Some(if object { b'}' } else { b']' });
                    if !empty && object {
                        self.key()?;
                    }
                    !empty
                }
                _ => {
                    self.scalar()?;
                    false
                }
            };
            if opened {
                continue;
            }
            // A value has ended, or an empty container is about to: close what closes here.
            loop {
                self.space();
                let object = nesting.in_object();
                match self.peek() {
                    Some(b',') => {
                        self.at += 1;
                        self.space();
                        if object {
                            self.key()?;
                        }
                        break;
                    }
                    Some(b'}') if object => {}
                    Some(b']') if !object => {}
                    _ => return self.fault("`,` or the end of a list or object was expected"),
                }
                self.at += 1;
                nesting.depth -= 1;
                if nesting.depth == 0 {
                    return Ok(());
                }
            }
        }
    }

    fn scalar(&mut self) -> Result<(), Fault> {
        match self.peek() {
            Some(b'"') => self.string().map(drop),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word(b"true"),
            Some(b'f') => self.word(b"false"),
            Some(b'n') => self.word(b"null"),
            Some(b'N') => self.word(b"NaN"),
            Some(b'I') => self.word(b"Infinity"),
            _ => self.fault("a value was expected"),
        }
    }

    fn word(&mut self, word: &'static [u8]) -> Result<(), Fault> {
        if !self.bytes[self.at..].starts_with(word) {
            return self.fault("a value was expected");
        }
        self.at += word.len();
        Ok(())
    }

    fn digits(&mut self) -> usize {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        self.at - start
    }

    fn number(&mut self) -> Result<(), Fault> {
        // A short positive integer, as nearly all are.
        let mut at = self.at;
        while let Some(b'0'..=b'9') = self.bytes.get(at) {
            at += 1;
        }
        let length = at - self.at;
        if (1..=18).contains(&length)
            && self.bytes[self.at] != b'0'
            && !matches!(self.bytes.get(at), Some(b'.' | b'e' | b'E'))
        {
            self.at = at;
            return Ok(());
        }
        if self.peek() == Some(b'-') {
            self.at += 1;
            if self.peek() == Some(b'I') {
                return self.word(b"Infinity");
            }
        }
        let leading_zero = self.peek() == Some(b'0');
        let whole = self.digits();
        if whole == 0 || (leading_zero && whole > 1) {
            return self.fault("a number has no digit, or a leading zero");
        }
        let mut integer = true;
        if self.peek() == Some(b'.') {
            self.at += 1;
            integer = false;
            if self.digits() == 0 {
                return self.fault("a digit was expected");
            }
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            integer = false;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            if self.digits() == 0 {
                return self.fault("a digit was expected");
            }
        }
        if integer && whole > MAX_INTEGER_DIGITS {
            return self.fault("an integer has more than 4300 digits");
        }
        Ok(())
    }

    /// Text, from one quotation mark past the other. Whether all of it is plain.
    fn string(&mut self) -> Result<bool, Fault> {
        self.at += 1;
        let mut plain = true;
        loop {
            // Eight bytes at a time as long as none of them means anything.
            while let Some(chunk) = self.bytes.get(self.at..).and_then(<[u8]>::first_chunk::<8>) {
                let marks = special_bytes(u64::from_le_bytes(*chunk));
                self.at += (marks.trailing_zeros() / 8) as usize;
                if marks != 0 {
                    break;
                }
            }
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(plain);
                }
                Some(b'\\') => {
                    plain = false;
                    self.escape()?;
                }
                Some(0x7f..) => {
                    plain = false;
                    self.at += 1;
                }
                Some(0x20..) => self.at += 1,
                Some(_) => return self.fault("a control character stands in text"),
                None => return self.fault("text has no end"),
            }
        }
    }

    fn escape(&mut self) -> Result<(), Fault> {
        match self.bytes.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 2,
            Some(b'u') => {
                let digits = self.bytes.get(self.at + 2..self.at + 6);
                if !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
                    return self.fault("`\\u` needs four hexadecimal digits");
                }
                self.at += 6;
            }
            _ => return self.fault("an escape that does not exist"),
        }
        Ok(())
    }
}

/// The top bit of each byte that is a control character, a quotation mark, a backslash, DEL or beyond ASCII. Bytes above
/// such a one may be marked wrongly, so only the lowest mark counts.
const fn special_bytes(word: u64) -> u64 {
    const ONES: u64 = u64::MAX / 255;
    const TOPS: u64 = ONES << 7;
    // Of bytes in ASCII, each of these has the top bit for just what it looks for: a difference that is negative, and
    // for DEL a sum that is no ASCII any more.
    let control = word.wrapping_sub(ONES * 0x20);
    let quote = (word ^ (ONES * b'"' as u64)).wrapping_sub(ONES);
    let backslash = (word ^ (ONES * b'\\' as u64)).wrapping_sub(ONES);
    let delete = word.wrapping_add(ONES);
    (word | control | quote | backslash | delete) & TOPS
}
