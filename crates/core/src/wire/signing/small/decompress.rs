//! Reads what our own compressor wrote: one block, in the code that the format itself defines.

use super::{BLOCK, END_OF_BLOCK, HEADER, MAX_INPUT, MIN_MATCH, SYMBOLS, adler32};

/// For each nine bits, the symbol that they begin with, and how many of them it takes.
const BEGINNINGS: [(u16, u8); 512] = {
    let mut beginnings = [(0, 0); 512];
    let mut symbol = 0;
    while symbol < SYMBOLS.len() {
        let (bits, length) = SYMBOLS[symbol];
        let mut at = bits as usize;
        while at < beginnings.len() {
            beginnings[at] = (symbol as u16, length);
            at += 1 << length;
        }
        symbol += 1;
    }
    beginnings
};

/// For each symbol of a length, the least of its lengths, and how many bits tell which it is. What is no symbol is too long
/// for any text.
const LENGTHS: [(u16, u8); 32] = {
    let mut lengths = [(u16::MAX, 0); 32];
    let mut class = 0;
    while class < 28 {
        let more = if class < 4 { 0 } else { class / 4 - 1 };
        let first = if class < 4 { class } else { (4 + class % 4) << more };
        lengths[class] = ((MIN_MATCH + first) as u16, more as u8);
        class += 1;
    }
    lengths[28] = (258, 0);
    lengths
};

/// The same for distances, by the five bits of their symbols as they are read.
const DISTANCES: [(u16, u8); 32] = {
    let mut distances = [(u16::MAX, 0); 32];
    let mut class = 0;
    while class < 30 {
        let more = if class < 2 { 0 } else { class / 2 - 1 };
        let first = if class < 2 { class } else { (2 + class % 2) << more };
        distances[(class as u8).reverse_bits() as usize >> 3] = (1 + first as u16, more as u8);
        class += 1;
    }
    distances
};

/// Writes the text that [`compress`](super::compress) made this of into `out`, and returns its length. `None` for
/// anything else, right or wrong, and if there is no room: zlib is the judge of that.
pub(in super::super) fn decompress(packed: &[u8], out: &mut [u8]) -> Option<usize> {
    debug_assert!(out.len() <= MAX_INPUT);
    let mut bits = Bits { packed, at: 8 * HEADER.len(), ahead: 0 };
    bits.look()?;
    if !packed.starts_with(&HEADER) || bits.take(BLOCK.1 as u8) != BLOCK.0 as usize {
        return None;
    }
    let mut at = 0;
    loop {
        // Enough for two bytes of text, and a repetition.
        bits.look()?;
        let mut symbol = bits.symbol();
        for _ in 0..2 {
            if symbol < END_OF_BLOCK {
                *out.get_mut(at)? = symbol as u8;
                at += 1;
                symbol = bits.symbol();
            }
        }
        if symbol < END_OF_BLOCK {
            *out.get_mut(at)? = symbol as u8;
            at += 1;
            continue;
        }
        if symbol == END_OF_BLOCK {
            break;
        }
        let (length, more) = LENGTHS[symbol - END_OF_BLOCK - 1];
        let length = usize::from(length) + bits.take(more);
        let (distance, more) = DISTANCES[bits.take(5)];
        let distance = usize::from(distance) + bits.take(more);
        let (from, end) = (at.checked_sub(distance)?, at + length);
        if end > out.len() {
            return None;
        }
        if length <= distance {
            out.copy_within(from..from + length, at);
        } else {
            // It repeats what it writes itself.
            for to in at..end {
                out[to] = out[to - distance];
            }
        }
        at = end;
    }
    // Where bits were read that are not there, there is no checksum.
    let checksum = packed.get(bits.at.div_ceil(8)..)?;
    (*checksum == adler32(&out[..at]).to_be_bytes()).then_some(at)
}

/// Reads bits, the lowest of each byte first. Behind the end are zeros.
struct Bits<'a> {
    packed: &'a [u8],
    /// Where the next bit is.
    at: usize,
    /// The next ones; 57 at least after a look at them.
    ahead: u64,
}

impl Bits<'_> {
    fn look(&mut self) -> Option<()> {
        let rest = self.packed.get(self.at / 8..)?;
        let word = match rest.first_chunk() {
            Some(word) => *word,
            None => std::array::from_fn(|at| rest.get(at).copied().unwrap_or(0)),
        };
        self.ahead = u64::from_le_bytes(word) >> (self.at % 8);
        Some(())
    }

    /// The next bits as a number.
    fn take(&mut self, count: u8) -> usize {
        let bits = self.ahead as usize & ((1 << count) - 1);
        self.skip(count);
        bits
    }

    fn symbol(&mut self) -> usize {
        let (symbol, length) = BEGINNINGS[self.ahead as usize % BEGINNINGS.len()];
        self.skip(length);
        symbol.into()
    }

    fn skip(&mut self, count: u8) {
        self.ahead >>= count;
        self.at += usize::from(count);
    }
}
