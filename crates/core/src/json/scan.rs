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
    let mut scanner = Scanner::new(text.as_bytes(), 0);
    scanner.space();
    let outcome = scanner.value().and_then(|()| scanner.end());
    outcome.map_err(|Faulty| scanner.fault)
}

/// Where a number that starts the text ends; the whole text must be it.
pub(crate) fn validate_number(text: &str) -> bool {
    let mut scanner = Scanner::new(text.as_bytes(), 0);
    matches!(scanner.peek(), Some(b'-' | b'0'..=b'9')) && scanner.number().is_ok() && scanner.at == text.len()
}

/// Where a value ends that starts at `start` in valid text.
pub(crate) fn value_end(text: &[u8], start: usize) -> Result<usize, Fault> {
    let mut scanner = Scanner::new(text, start);
    match scanner.value() {
        Ok(()) => Ok(scanner.at),
        Err(Faulty) => Err(scanner.fault),
    }
}

/// Where text ends, behind its second quotation mark, that starts at `start` in valid JSON.
pub(crate) fn text_end(json: &[u8], start: usize) -> usize {
    let mut scanner = Scanner::new(json, start + 1);
    // Valid text has an end; should it have none, the rest is as good as any.
    scanner.text().map_or(json.len(), |()| scanner.at)
}

/// A key's place between its quotation marks, and whether all of it is plain: it needs no escape and has none.
pub(crate) struct Key {
    pub(crate) span: Range<usize>,
    pub(crate) plain: bool,
}

/// Calls `entry` with each key and the place of its value, for ASCII text that is an object.
pub(crate) fn split_object(text: &[u8], entry: impl FnMut(Key, Range<usize>)) -> Result<(), Fault> {
    let mut scanner = Scanner::new(text, 0);
    scanner.object(entry).map_err(|Faulty| scanner.fault)
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

/// That there is a [`Fault`], which stands in the scanner: so what every step returns fits into a register.
struct Faulty;

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
    fault: Fault,
}

/// The containers around the present place, one bit each: set for an object.
struct Nesting {
    /// The innermost ones, the very innermost lowest, below a bit that is always set: up to [`LEVELS`](Self::LEVELS),
    /// which is all there ever are in what people store.
    inner: u64,
    outer: Vec<u64>,
}

impl Nesting {
    /// As many in each number. The deepest nesting is a multiple of it.
    const LEVELS: usize = 50;

    /// `false` if it is nested too deeply.
    #[inline]
    fn push(&mut self, object: bool) -> bool {
        if self.inner >> Self::LEVELS != 0 {
            if self.outer.len() + 1 == MAX_DEPTH / Self::LEVELS {
                return false;
            }
            self.outer.push(std::mem::replace(&mut self.inner, 1));
        }
        self.inner = self.inner << 1 | u64::from(object);
        true
    }

    /// `false` if it was the outermost one.
    #[inline]
    fn pop(&mut self) -> bool {
        self.inner >>= 1;
        if self.inner > 1 {
            return true;
        }
        self.outer.pop().inspect(|outer| self.inner = *outer).is_some()
    }

    #[inline]
    fn in_object(&self) -> bool {
        self.inner & 1 == 1
    }
}

impl<'a> Scanner<'a> {
    fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at, fault: Fault { at: 0, what: "" } }
    }

    #[inline(always)]
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    #[cold]
    fn fault<T>(&mut self, what: &'static str) -> Result<T, Faulty> {
        self.fault = Fault { at: self.at, what };
        Err(Faulty)
    }

    /// Goes past white space. There seldom is any: neither Python nor we write it.
    #[inline(always)]
    fn space(&mut self) {
        if !matches!(self.peek(), Some(b'!'..)) {
            self.white_space();
        }
    }

    /// What stands behind white space.
    #[cold]
    fn white_space(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
        self.peek()
    }

    /// Goes past a byte, and white space before it, if that comes next.
    #[inline(always)]
    fn passes(&mut self, byte: u8) -> bool {
        let passes = self.peek() == Some(byte) || self.white_space() == Some(byte);
        self.at += usize::from(passes);
        passes
    }

    #[inline(always)]
    fn expect(&mut self, byte: u8, what: &'static str) -> Result<(), Faulty> {
        if self.passes(byte) { Ok(()) } else { self.fault(what) }
    }

    fn end(&mut self) -> Result<(), Faulty> {
        self.space();
        if self.at == self.bytes.len() { Ok(()) } else { self.fault("something follows the value") }
    }

    /// The whole text, which is an object.
    fn object(&mut self, mut entry: impl FnMut(Key, Range<usize>)) -> Result<(), Faulty> {
        self.expect(b'{', "an object was expected")?;
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return self.end();
        }
        loop {
            let key = self.key()?;
            let start = self.at;
            self.value()?;
            entry(key, start..self.at);
            if !self.passes(b',') {
                self.expect(b'}', "`,` or `}` was expected")?;
                return self.end();
            }
        }
    }

    /// A key and its colon; stops at the value.
    #[inline(always)]
    fn key(&mut self) -> Result<Key, Faulty> {
        self.expect(b'"', "a key in quotation marks was expected")?;
        let start = self.at;
        let plain = self.string(special_bytes)?;
        let key = Key { span: start..self.at - 1, plain };
        self.colon()?;
        Ok(key)
    }

    /// As [`key`](Self::key), of an object within: nobody asks what its keys are.
    #[inline(always)]
    fn inner_key(&mut self) -> Result<(), Faulty> {
        self.expect(b'"', "a key in quotation marks was expected")?;
        self.text()?;
        self.colon()
    }

    #[inline(always)]
    fn colon(&mut self) -> Result<(), Faulty> {
        self.expect(b':', "`:` was expected")?;
        self.space();
        Ok(())
    }

    #[inline(always)]
    fn value(&mut self) -> Result<(), Faulty> {
        match self.peek() {
            Some(b'{' | b'[') => self.container(),
            _ => self.scalar(),
        }
    }

    fn container(&mut self) -> Result<(), Faulty> {
        let mut nesting = Nesting { inner: 1, outer: Vec::new() };
        loop {
            // At a value; in an object, after its key.
            if let Some(open @ (b'{' | b'[')) = self.peek() {
                let object = open == b'{';
                if !nesting.push(object) {
                    return self.fault("it is nested too deeply");
                }
                self.at += 1;
                self.space();
                if self.peek() != Some(open + 2) {
                    if object {
                        self.inner_key()?;
                    }
                    continue;
                }
            } else {
                self.scalar()?;
            }
            // A value has ended, or an empty container is about to: close what closes here.
            loop {
                let object = nesting.in_object();
                if self.passes(b',') {
                    match object {
                        true => self.inner_key()?,
                        false => self.space(),
                    }
                    break;
                }
                let end = if object { b'}' } else { b']' };
                self.expect(end, "`,` or the end of a list or object was expected")?;
                if !nesting.pop() {
                    return Ok(());
                }
            }
        }
    }

    #[inline(always)]
    fn scalar(&mut self) -> Result<(), Faulty> {
        match self.peek() {
            Some(b'"') => {
                self.at += 1;
                self.text()
            }
            Some(b'1'..=b'9') => self.short_integer(),
            Some(b'-' | b'0') => self.number(),
            _ => self.any_word(),
        }
    }

    fn any_word(&mut self) -> Result<(), Faulty> {
        match self.peek() {
            Some(b't') => self.word(b"true"),
            Some(b'f') => self.word(b"false"),
            Some(b'n') => self.word(b"null"),
            Some(b'N') => self.word(b"NaN"),
            Some(b'I') => self.word(b"Infinity"),
            _ => self.fault("a value was expected"),
        }
    }

    fn word(&mut self, word: &'static [u8]) -> Result<(), Faulty> {
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

    /// A number that is most likely a short positive integer with more behind it, as nearly all are.
    #[inline(always)]
    fn short_integer(&mut self) -> Result<(), Faulty> {
        let mut at = self.at + 1;
        while let Some(b'0'..=b'9') = self.bytes.get(at) {
            at += 1;
        }
        match self.bytes.get(at) {
            Some(b',' | b'}' | b']') if at - self.at < MAX_INTEGER_DIGITS => {
                self.at = at;
                Ok(())
            }
            _ => self.number(),
        }
    }

    fn number(&mut self) -> Result<(), Faulty> {
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

    /// Text after its first quotation mark, past the other.
    #[inline(always)]
    fn text(&mut self) -> Result<(), Faulty> {
        self.string(ends_or_escapes).map(drop)
    }

    /// As [`text`](Self::text), and whether all of it is free of what `marks` marks.
    #[inline(always)]
    fn string(&mut self, marks: impl Fn(u64) -> u64) -> Result<bool, Faulty> {
        self.at = next_marked(self.bytes, self.at, marks);
        if self.peek() == Some(b'"') {
            self.at += 1;
            return Ok(true);
        }
        self.odd_string()
    }

    /// The rest of text that has something in it that is not plain, or no end.
    #[inline(never)]
    fn odd_string(&mut self) -> Result<bool, Faulty> {
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(false);
                }
                Some(b'\\') => self.escape()?,
                Some(0x20..) => self.at += 1,
                Some(_) => return self.fault("a control character stands in text"),
                None => return self.fault("text has no end"),
            }
            self.at = next_marked(self.bytes, self.at, special_bytes);
        }
    }

    fn escape(&mut self) -> Result<(), Faulty> {
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

/// The place from `at` on of the first byte that `marks` marks, eight at a time; in the last few, of the first one that
/// is not plain.
#[inline(always)]
fn next_marked(bytes: &[u8], at: usize, marks: impl Fn(u64) -> u64) -> usize {
    let mut rest = &bytes[at..];
    while let Some((word, after)) = rest.split_first_chunk() {
        let marks = marks(u64::from_le_bytes(*word));
        if marks != 0 {
            return bytes.len() - rest.len() + (marks.trailing_zeros() / 8) as usize;
        }
        rest = after;
    }
    bytes.len() - rest.len() + plain_rest(rest)
}

#[inline(never)]
fn plain_rest(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|&&byte| matches!(byte, 0x20..=0x7e) && byte != b'"' && byte != b'\\').count()
}

/// The top bit of each byte that is a control character, a quotation mark, a backslash, DEL or beyond ASCII. Bytes above
/// such a one may be marked wrongly, so only the lowest mark counts.
pub(super) const fn special_bytes(word: u64) -> u64 {
    // For DEL, a sum that is no ASCII any more.
    (word | word.wrapping_add(ONES) | ends_or_escapes(word)) & TOPS
}

const ONES: u64 = u64::MAX / 255;
const TOPS: u64 = ONES << 7;

/// As [`special_bytes`] without DEL, and with bytes beyond ASCII marked or not: what text between quotation marks
/// cannot simply go on with is always marked.
#[inline(always)]
const fn ends_or_escapes(word: u64) -> u64 {
    // Of bytes in ASCII, each of these is negative for just what it looks for. With two bits exchanged, the quotation
    // mark stands right above the control characters, and the space and `!` right above that.
    let control_or_quote = (word ^ (ONES * 2)).wrapping_sub(ONES * 0x21);
    let backslash = (word ^ (ONES * b'\\' as u64)).wrapping_sub(ONES);
    (control_or_quote | backslash) & TOPS
}
