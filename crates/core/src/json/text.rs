//! Escapes: between characters and the ASCII text between two quotation marks.

use std::borrow::Cow;

use super::scan::special_bytes;

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Whether Python writes the byte as it is.
const fn plain(byte: u8) -> bool {
    matches!(byte, 0x20..=0x7e) && byte != b'"' && byte != b'\\'
}

/// Whether [`escape`] would change the text.
pub(crate) fn needs_escape(text: &str) -> bool {
    !is_plain(text.as_bytes())
}

/// Whether Python writes every byte as it is.
#[inline]
pub(crate) fn is_plain(bytes: &[u8]) -> bool {
    let plain_word = |word| special_bytes(word) == 0;
    if let Some(last) = bytes.last_chunk() {
        let (words, _) = bytes.as_chunks();
        // The last eight bytes are looked at together with some of those before, which does no harm.
        return plain_word(u64::from_le_bytes(*last)) && words.iter().all(|word| plain_word(u64::from_le_bytes(*word)));
    }
    match (bytes.first_chunk(), bytes.last_chunk()) {
        (Some(first), Some(last)) => {
            let halves = [first, last].map(|half| u64::from(u32::from_le_bytes(*half)));
            plain_word(halves[0] | halves[1] << 32)
        }
        _ => bytes.iter().all(|byte| plain(*byte)),
    }
}

/// Appends the text as Python writes it between quotation marks.
pub(crate) fn escape(out: &mut String, text: &str) {
    if !needs_escape(text) {
        return out.push_str(text);
    }
    let mut rest = text;
    while let Some(at) = rest.bytes().position(|byte| !plain(byte)) {
        out.push_str(&rest[..at]);
        let mut chars = rest[at..].chars();
        if let Some(character) = chars.next() {
            for unit in character.encode_utf16(&mut [0; 2]) {
                escape_unit(out, *unit);
            }
        }
        rest = chars.as_str();
    }
    out.push_str(rest);
}

fn escape_unit(out: &mut String, unit: u16) {
    match u8::try_from(unit) {
        Ok(byte) if plain(byte) => out.push(byte.into()),
        Ok(b'"') => out.push_str("\\\""),
        Ok(b'\\') => out.push_str("\\\\"),
        Ok(b'\n') => out.push_str("\\n"),
        Ok(b'\r') => out.push_str("\\r"),
        Ok(b'\t') => out.push_str("\\t"),
        Ok(0x0c) => out.push_str("\\f"),
        Ok(0x08) => out.push_str("\\b"),
        _ => {
            out.push_str("\\u");
            for shift in [12, 8, 4, 0] {
                out.push(HEX[usize::from(unit >> shift & 15)].into());
            }
        }
    }
}

/// The UTF-16 code units of valid text between quotation marks. Units, because Python's text can hold half a pair.
fn units(escaped: &str) -> impl Iterator<Item = u16> {
    let mut chars = escaped.chars();
    let mut low_half = None;
    std::iter::from_fn(move || {
        if let Some(unit) = low_half.take() {
            return Some(unit);
        }
        let character = match chars.next()? {
            '\\' => match chars.next()? {
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'f' => '\u{c}',
                'b' => '\u{8}',
                'u' => {
                    let digits = chars.as_str().get(..4)?;
                    chars = chars.as_str()[4..].chars();
                    return u16::from_str_radix(digits, 16).ok();
                }
                other => other,
            },
            other => other,
        };
        let mut both = [0; 2];
        let both = character.encode_utf16(&mut both);
        low_half = both.get(1).copied();
        Some(both[0])
    })
}

/// Half a surrogate pair, in the three bytes that UTF-8 would give it if it could, at the start of the bytes.
fn half_pair(bytes: &[u8]) -> Option<u16> {
    match bytes {
        [0xed, second @ 0xa0..=0xbf, third @ 0x80..=0xbf, ..] => {
            Some(0xd000 | u16::from(second & 0x3f) << 6 | u16::from(third & 0x3f))
        }
        _ => None,
    }
}

/// Calls `part` with the parts of Python's text in UTF-8 ("surrogatepass"): text, and halves of surrogate pairs.
/// `false` if the bytes are no such text.
fn wtf8_parts(mut bytes: &[u8], mut part: impl FnMut(Result<&str, u16>)) -> bool {
    loop {
        match std::str::from_utf8(bytes) {
            Ok(text) => {
                part(Ok(text));
                return true;
            }
            Err(error) => {
                let (text, rest) = bytes.split_at(error.valid_up_to());
                let Some(unit) = half_pair(rest) else { return false };
                part(Ok(std::str::from_utf8(text).unwrap_or_default()));
                part(Err(unit));
                bytes = &rest[3..];
            }
        }
    }
}

/// Whether the bytes are Python's text in UTF-8, with halves of surrogate pairs perhaps.
pub(crate) fn is_wtf8(bytes: &[u8]) -> bool {
    is_plain(bytes) || wtf8_parts(bytes, |_| {})
}

/// As [`escape`] for text that [`is_wtf8`] accepts; `false` if it does not.
#[inline]
pub(crate) fn escape_wtf8(out: &mut Vec<u8>, bytes: &[u8]) -> bool {
    if is_plain(bytes) {
        out.extend_from_slice(bytes);
        return true;
    }
    escape_odd_wtf8(out, bytes)
}

#[inline(never)]
fn escape_odd_wtf8(out: &mut Vec<u8>, bytes: &[u8]) -> bool {
    let mut escaped = String::with_capacity(bytes.len() + 16);
    let is_text = wtf8_parts(bytes, |part| match part {
        Ok(text) => escape(&mut escaped, text),
        Err(unit) => escape_unit(&mut escaped, unit),
    });
    out.extend_from_slice(escaped.as_bytes());
    is_text
}

/// Valid text between quotation marks with the escapes that Python would have chosen: one spelling for each key.
pub(crate) fn canonical(escaped: &str) -> Cow<'_, str> {
    if escaped.bytes().all(plain) {
        return Cow::Borrowed(escaped);
    }
    let mut out = String::with_capacity(escaped.len() + 16);
    units(escaped).for_each(|unit| escape_unit(&mut out, unit));
    if out == escaped { Cow::Borrowed(escaped) } else { Cow::Owned(out) }
}

/// The characters of valid text between quotation marks; half a surrogate pair, which no `str` can hold, as U+FFFD.
pub(crate) fn unescape_lossy(escaped: &str) -> Cow<'_, str> {
    if !escaped.contains('\\') {
        return Cow::Borrowed(escaped);
    }
    Cow::Owned(char::decode_utf16(units(escaped)).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect())
}

/// The characters of valid text between quotation marks; `None` if it holds half a surrogate pair.
pub(crate) fn unescape(escaped: &str) -> Option<Cow<'_, str>> {
    if !escaped.contains('\\') {
        return Some(Cow::Borrowed(escaped));
    }
    char::decode_utf16(units(escaped)).collect::<Result<String, _>>().ok().map(Cow::Owned)
}

/// As [`unescape`] in UTF-8, with half a surrogate pair in the three bytes that UTF-8 would give it if it could.
pub(crate) fn unescape_bytes(escaped: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(escaped.len());
    for unit in char::decode_utf16(units(escaped)) {
        push_wtf8(&mut out, unit.map_or_else(|half| half.unpaired_surrogate().into(), u32::from));
    }
    out
}

/// Appends a character or half a surrogate pair by its number, which is at most U+10FFFF.
pub(crate) fn push_wtf8(out: &mut Vec<u8>, code: u32) {
    match char::from_u32(code) {
        Some(character) => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        None => out.extend([0xe0 | (code >> 12) as u8, 0x80 | (code >> 6 & 63) as u8, 0x80 | (code & 63) as u8]),
    }
}

/// Valid JSON with its non-ASCII characters escaped. They stand between quotation marks, and never after a `\`.
pub(crate) fn ascii(valid: &str) -> Cow<'_, str> {
    if valid.is_ascii() {
        return Cow::Borrowed(valid);
    }
    let mut out = String::with_capacity(valid.len() * 2);
    for character in valid.chars() {
        if character.is_ascii() {
            out.push(character);
        } else {
            character.encode_utf16(&mut [0; 2]).iter().for_each(|unit| escape_unit(&mut out, *unit));
        }
    }
    Cow::Owned(out)
}

/// Bytes as text, one character each, as Django reads stored JSON; characters beyond ASCII escaped.
///
/// `None` if such a byte follows a `\`, where escaping it would make valid what is not. Anywhere else outside of text
/// its escape is refused by whoever parses the result.
pub(crate) fn ascii_from_latin1(bytes: Vec<u8>) -> Option<String> {
    if bytes.is_ascii() {
        return String::from_utf8(bytes).ok();
    }
    let mut out = String::with_capacity(bytes.len() + 64);
    let mut after_backslash = false;
    for byte in bytes {
        if byte.is_ascii() {
            out.push(byte.into());
        } else if after_backslash {
            return None;
        } else {
            escape_unit(&mut out, byte.into());
        }
        after_backslash = byte == b'\\' && !after_backslash;
    }
    Some(out)
}

/// JSON in UTF-8 with its characters beyond ASCII escaped; `None` if it is not UTF-8, or as in [`ascii_from_latin1`].
pub(crate) fn ascii_from_utf8(bytes: Vec<u8>) -> Option<String> {
    let text = String::from_utf8(bytes).ok()?;
    if text.is_ascii() {
        return Some(text);
    }
    let mut out = String::with_capacity(text.len() * 2);
    let mut after_backslash = false;
    for character in text.chars() {
        if character.is_ascii() {
            out.push(character);
        } else if after_backslash {
            return None;
        } else {
            character.encode_utf16(&mut [0; 2]).iter().for_each(|unit| escape_unit(&mut out, *unit));
        }
        after_backslash = character == '\\' && !after_backslash;
    }
    Some(out)
}
