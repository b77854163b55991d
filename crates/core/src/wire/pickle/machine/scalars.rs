//! Text and numbers.

use super::{Machine, Step, broken};
use crate::json;
use crate::wire::pickle::decimal;
use crate::wire::pickle::objects::{Foreign, Item, Span};

/// Python's json refuses these, and so does ours.
const TOO_LONG: Foreign = Foreign::Known("int of more than 4300 digits");

impl Machine<'_> {
    pub(super) fn text(&mut self, length: usize) -> Step {
        let span = self.span(length)?;
        if !json::is_wtf8(self.objects.bytes(span)) {
            return broken("text that is not UTF-8");
        }
        self.push(Item::Text(span))
    }

    /// Text of Python 2, which Python 3 reads if it is ASCII.
    pub(super) fn ascii(&mut self, length: usize) -> Step {
        let span = self.span(length)?;
        if !self.objects.bytes(span).is_ascii() {
            return broken("text that is not ASCII");
        }
        self.push(Item::Text(span))
    }

    /// Keeps what had to be decoded.
    pub(super) fn extra(&mut self, from: usize) -> Span {
        Span { start: (self.objects.input.len() + from) as u32, len: (self.objects.extra.len() - from) as u32 }
    }

    /// A line of latin-1, with escapes `\uXXXX` and `\UXXXXXXXX`. No other escape exists: a backslash is `\u005c`.
    pub(super) fn unicode_line(&mut self) -> Step {
        let line = self.line()?;
        let from = self.objects.extra.len();
        let mut rest = &self.objects.input[line.start as usize..][..line.len as usize];
        while let [first, after @ ..] = rest {
            rest = after;
            let mut code = u32::from(*first);
            if let (b'\\', Some(kind)) = (first, after.first()) {
                let digits = match kind {
                    b'u' => 4,
                    b'U' => 8,
                    // The backslash and what follows stand for themselves, even if that is another backslash.
                    _ => {
                        self.objects.extra.push(b'\\');
                        code = (*kind).into();
                        rest = &after[1..];
                        0
                    }
                };
                if digits > 0 {
                    let text = after.get(1..=digits).filter(|text| text.iter().all(u8::is_ascii_hexdigit));
                    let text = text.and_then(|text| std::str::from_utf8(text).ok());
                    match text.and_then(|text| u32::from_str_radix(text, 16).ok()) {
                        Some(escaped) if escaped <= 0x10_ffff => code = escaped,
                        _ => return broken("an escape that does not exist"),
                    }
                    rest = &after[1 + digits..];
                }
            }
            json::push_wtf8(&mut self.objects.extra, code);
        }
        let span = self.extra(from);
        self.push(Item::Text(span))
    }

    /// Text of Python 2 as its `repr`: in quotation marks, with escapes.
    pub(super) fn string_line(&mut self) -> Step {
        let line = self.line()?;
        let text = self.objects.input[line.start as usize..][..line.len as usize].trim_ascii();
        let ([b'\'', inner @ .., b'\''] | [b'"', inner @ .., b'"']) = text else {
            return broken("text without quotation marks");
        };
        let from = self.objects.extra.len();
        let mut rest = inner.iter();
        while let Some(byte) = rest.next() {
            let byte = match byte {
                b'\\' => match rest.next() {
                    Some(b'n') => b'\n',
                    Some(b'r') => b'\r',
                    Some(b't') => b'\t',
                    Some(quoted @ (b'\\' | b'\'' | b'"')) => *quoted,
                    Some(b'x') => {
                        let digits = [rest.next(), rest.next()].map(|digit| digit.copied().unwrap_or_default());
                        let value =
                            std::str::from_utf8(&digits).ok().and_then(|text| u8::from_str_radix(text, 16).ok());
                        value.map_or_else(|| broken("an escape that does not exist"), Ok)?
                    }
                    _ => return broken("an escape that does not exist"),
                },
                plain => *plain,
            };
            if !byte.is_ascii() {
                return broken("text that is not ASCII");
            }
            self.objects.extra.push(byte);
        }
        let span = self.extra(from);
        self.push(Item::Text(span))
    }

    pub(super) fn int_line(&mut self) -> Step {
        let line = self.line()?;
        match self.objects.bytes(line) {
            b"00" => self.push(Item::Bool(false)),
            b"01" => self.push(Item::Bool(true)),
            _ => self.decimal(line),
        }
    }

    /// An integer from its decimal digits.
    pub(super) fn decimal(&mut self, line: Span) -> Step {
        let text = std::str::from_utf8(self.objects.bytes(line)).unwrap_or_default();
        let digits = text.strip_prefix('-').unwrap_or(text);
        let leading_zero = digits.len() > 1 && digits.starts_with('0');
        if digits.is_empty() || leading_zero || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return broken("an integer that is none");
        }
        match text.parse() {
            Ok(value) => self.push(Item::Int(value)),
            Err(_) if digits.len() <= json::MAX_INTEGER_DIGITS => self.push(Item::Long(line)),
            Err(_) => self.push_foreign(TOO_LONG),
        }
    }

    /// An integer from little-endian two's complement.
    pub(super) fn long(&mut self, length: usize) -> Step {
        let bytes = self.bytes(length)?;
        if let Some(value) = decimal::small(bytes) {
            return self.push(Item::Int(value));
        }
        // 4300 digits take 1786 bytes, and converting more would take long.
        let digits = if bytes.len() <= 1_800 { decimal::digits(bytes) } else { return self.push_foreign(TOO_LONG) };
        if digits.trim_start_matches('-').len() > json::MAX_INTEGER_DIGITS {
            return self.push_foreign(TOO_LONG);
        }
        let from = self.objects.extra.len();
        self.objects.extra.extend_from_slice(digits.as_bytes());
        let span = self.extra(from);
        self.push(Item::Long(span))
    }
}
