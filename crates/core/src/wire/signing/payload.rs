//! What is signed: JSON, compressed where that helps, in URL-safe base64.

use std::cell::RefCell;

use base64::Engine;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, URL_SAFE_NO_PAD};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::small;
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
    static PACKER: RefCell<Packer> = RefCell::new(Packer { zlib: Compress::new(Compression::new(6), true), out: Vec::new() });
    static UNPACKER: RefCell<Unpacker> =
        RefCell::new(Unpacker { zlib: Decompress::new(true), packed: Vec::new(), out: Vec::new() });
}

/// zlib and the buffer it writes into, used again for the next payload: they are large.
struct Packer {
    zlib: Compress,
    out: Vec<u8>,
}

struct Unpacker {
    zlib: Decompress,
    packed: Vec<u8>,
    out: Vec<u8>,
}

/// A buffer that has become larger than this is not kept, in bytes.
const MAX_KEPT: usize = 64 << 10;

/// Empties a buffer for its next use.
fn recycle(buffer: &mut Vec<u8>) {
    buffer.clear();
    buffer.shrink_to(MAX_KEPT);
}

/// How hard we try to make a payload shorter.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Effort {
    /// Not at all.
    None,
    /// Up to [`small::MAX_INPUT`] bytes in a small part of the time, for a result that is longer by some tens of bytes.
    Quick,
    /// As Python does.
    Usual,
}

/// The payload of a signed text, in text with room for so many more bytes. Compressed only if that saves two bytes or
/// more: one goes for the dot in front.
pub(super) fn pack(json: &[u8], effort: Effort, room: usize) -> String {
    // Longer output is of no use, so no room is made for it: running out of room is the answer.
    let longest = json.len().saturating_sub(2);
    let compressed = match effort {
        Effort::None => None,
        Effort::Quick if json.len() <= small::MAX_INPUT => {
            let mut out = [0; small::MAX_INPUT];
            small::compress(json, &mut out[..longest]).map(|length| encode(".", &out[..length], room))
        }
        Effort::Quick | Effort::Usual => PACKER.with_borrow_mut(|packer| {
            let text = packer.compress(json, longest).map(|compressed| encode(".", compressed, room));
            recycle(&mut packer.out);
            text
        }),
    };
    compressed.unwrap_or_else(|| encode("", json, room))
}

fn encode(prefix: &str, bytes: &[u8], room: usize) -> String {
    let length = base64::encoded_len(bytes.len(), false).expect("a text in memory is not that long");
    let mut text = String::with_capacity(prefix.len() + length + room);
    text.push_str(prefix);
    URL_SAFE_NO_PAD.encode_string(bytes, &mut text);
    text
}

/// The JSON in a payload, in a vector of just its size.
pub(super) fn unpack(payload: &str) -> Result<Vec<u8>> {
    UNPACKER.with_borrow_mut(|unpacker| {
        let json = unpacker.unpack(payload).map(<[u8]>::to_vec);
        recycle(&mut unpacker.packed);
        recycle(&mut unpacker.out);
        json
    })
}

impl Packer {
    /// Compressed data in zlib's container, or `None` if it is longer than `longest`.
    fn compress(&mut self, json: &[u8], longest: usize) -> Option<&[u8]> {
        self.out.reserve_exact(longest);
        self.zlib.reset();
        match self.zlib.compress_vec(json, &mut self.out, FlushCompress::Finish) {
            // There may have been more room than asked for.
            Ok(Status::StreamEnd) if self.out.len() <= longest => Some(&self.out),
            _ => None,
        }
    }
}

impl Unpacker {
    fn unpack(&mut self, payload: &str) -> Result<&[u8]> {
        let compressed = payload.strip_prefix('.');
        decode(compressed.unwrap_or(payload), &mut self.packed)?;
        if compressed.is_some() { self.decompress() } else { Ok(&self.packed) }
    }

    /// Unpacks zlib data. It must be complete, with a right checksum; what follows it is ignored, as in Python.
    fn decompress(&mut self) -> Result<&[u8]> {
        let corrupted = |what| Error::new(ErrorKind::Corrupted, what);
        let Self { zlib, packed, out } = self;
        out.resize(small::MAX_INPUT, 0);
        if let Some(length) = small::decompress(packed, out) {
            out.truncate(length);
            return Ok(out);
        }
        out.clear();
        out.reserve_exact(packed.len().saturating_mul(4).clamp(256, 1 << 16));
        zlib.reset(true);
        loop {
            let consumed = zlib.total_in() as usize;
            let (length, room) = (out.len(), out.capacity());
            let status = zlib
                .decompress_vec(&packed[consumed..], out, FlushDecompress::None)
                .map_err(|e| corrupted("the signed payload is not zlib data").with_source(e))?;
            if out.len() > MAX_UNPACKED {
                return Err(Error::new(ErrorKind::TooLarge, "the signed payload unpacks to more than 64 MiB"));
            }
            if status == Status::StreamEnd {
                return Ok(out);
            }
            if out.len() == room {
                out.reserve(room.min(MAX_UNPACKED));
            } else if zlib.total_in() as usize == consumed && out.len() == length {
                return Err(corrupted("the signed payload's zlib data is cut off"));
            }
        }
    }
}

/// Decodes base64 into an empty buffer, as leniently as Python does.
fn decode(text: &str, out: &mut Vec<u8>) -> Result<()> {
    if STRICT.decode_vec(text, out).is_err() {
        *out = lenient_base64(text.as_bytes())
            .ok_or_else(|| Error::new(ErrorKind::Corrupted, "the signed payload is not base64"))?;
    }
    Ok(())
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
