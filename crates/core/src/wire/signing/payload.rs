//! What is signed: JSON, compressed where that helps, in URL-safe base64.

use std::cell::RefCell;
use std::thread::LocalKey;

use base64::Engine;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, URL_SAFE_NO_PAD};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use crate::error::{Error, ErrorKind, Result};

/// What a payload may unpack to, in bytes. The signature has been checked before, so this guards against accidents.
pub const MAX_UNPACKED: usize = 64 << 20;

/// Python ignores the bits of the last character that belong to no byte.
const STRICT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(base64::engine::DecodePaddingMode::RequireNone),
);

thread_local! {
    // Hundreds of kilobytes of state each: reset for the next session rather than made anew.
    static COMPRESS: RefCell<Compress> = RefCell::new(Compress::new(Compression::new(6), true));
    static COMPRESS_QUICKLY: RefCell<Compress> = RefCell::new(Compress::new(Compression::fast(), true));
    static DECOMPRESS: RefCell<Decompress> = RefCell::new(Decompress::new(true));
}

/// How hard zlib tries to make a payload shorter.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Effort {
    /// Not at all.
    None,
    /// In a third of the time, for a result that is longer by some tens of bytes.
    Quick,
    /// As Python does.
    Usual,
}

/// The payload of a signed text. Compressed only if that saves two bytes or more: one goes for the dot in front.
pub(super) fn pack(json: &[u8], effort: Effort) -> String {
    let compressed = match effort {
        Effort::None => None,
        Effort::Quick => deflate(&COMPRESS_QUICKLY, json),
        Effort::Usual => deflate(&COMPRESS, json),
    };
    let mut text = String::with_capacity(compressed.as_deref().unwrap_or(json).len() * 4 / 3 + 64);
    match compressed {
        Some(compressed) => {
            text.push('.');
            URL_SAFE_NO_PAD.encode_string(compressed, &mut text);
        }
        None => URL_SAFE_NO_PAD.encode_string(json, &mut text),
    }
    text
}

/// The JSON in a payload.
pub(super) fn unpack(payload: &str) -> Result<Vec<u8>> {
    match payload.strip_prefix('.') {
        Some(compressed) => inflate(&base64(compressed)?),
        None => base64(payload),
    }
}

/// Compressed data in zlib's container, or `None` if it is not shorter than `json.len() - 1`.
fn deflate(state: &'static LocalKey<RefCell<Compress>>, json: &[u8]) -> Option<Vec<u8>> {
    // Longer output is of no use, so no room is made for it: running out of room is the answer.
    let longest = json.len().checked_sub(2)?;
    let mut out = Vec::with_capacity(longest);
    state.with_borrow_mut(|compress| {
        compress.reset();
        match compress.compress_vec(json, &mut out, FlushCompress::Finish) {
            // The allocator may have given more room than asked for.
            Ok(Status::StreamEnd) if out.len() <= longest => Some(out),
            _ => None,
        }
    })
}

/// Unpacks zlib data. It must be complete, with a right checksum; what follows it is ignored, as in Python.
fn inflate(data: &[u8]) -> Result<Vec<u8>> {
    let corrupted = |what| Error::new(ErrorKind::Corrupted, what);
    let mut out = Vec::with_capacity(data.len().saturating_mul(4).clamp(256, 1 << 16));
    DECOMPRESS.with_borrow_mut(|decompress| {
        decompress.reset(true);
        loop {
            let consumed = decompress.total_in() as usize;
            let (length, room) = (out.len(), out.capacity());
            let status = decompress
                .decompress_vec(&data[consumed..], &mut out, FlushDecompress::None)
                .map_err(|e| corrupted("the signed payload is not zlib data").with_source(e))?;
            if out.len() > MAX_UNPACKED {
                return Err(Error::new(ErrorKind::TooLarge, "the signed payload unpacks to more than 64 MiB"));
            }
            if status == Status::StreamEnd {
                return Ok(out);
            }
            if out.len() == room {
                out.reserve(room.min(MAX_UNPACKED));
            } else if decompress.total_in() as usize == consumed && out.len() == length {
                return Err(corrupted("the signed payload's zlib data is cut off"));
            }
        }
    })
}

/// Decodes base64 as leniently as Python does.
fn base64(text: &str) -> Result<Vec<u8>> {
    match STRICT.decode(text) {
        Ok(bytes) => Ok(bytes),
        Err(_) => lenient_base64(text.as_bytes())
            .ok_or_else(|| Error::new(ErrorKind::Corrupted, "the signed payload is not base64")),
    }
}

/// What Python's `urlsafe_b64decode(text + padding)` makes of odd text: both alphabets count, foreign characters are
/// skipped (after the padding was computed from the length with them), and complete padding ends the data.
fn lenient_base64(text: &[u8]) -> Option<Vec<u8>> {
    let padding = text.len().wrapping_neg() % 4;
    let mut out = Vec::with_capacity(text.len() / 4 * 3 + 3);
    let (mut filled, mut bits, mut pads) = (0, 0u32, 0);
    for byte in text.iter().copied().chain(std::iter::repeat_n(b'=', padding)) {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'-' | b'+' => 62,
            b'_' | b'/' => 63,
            b'=' => {
                if filled >= 2 {
                    pads += 1;
                    if filled + pads >= 4 {
                        return Some(out);
                    }
                }
                continue;
            }
            _ => continue,
        };
        pads = 0;
        bits = bits << 6 | u32::from(digit);
        filled = (filled + 1) % 4;
        // After the second, third and fourth digit of a group another byte is complete.
        match filled {
            2 => out.push((bits >> 4) as u8),
            3 => out.push((bits >> 2) as u8),
            0 => out.push(bits as u8),
            _ => {}
        }
    }
    (filled == 0).then_some(out)
}
