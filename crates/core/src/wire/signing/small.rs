//! A compressor of small texts into zlib's format: the code that the format itself defines, and one pass. And the way back,
//! for what was written so.
//!
//! Any zlib clears some 180 KiB of state for each text, which takes longer than all the rest of a request with half a
//! kilobyte. Here it is one kilobyte, and the result is about as long as that of zlib's quickest level.

mod decompress;

pub(super) use decompress::decompress;

/// Texts of 1 KiB and more are left to zlib.
pub(super) const MAX_INPUT: usize = 1_023;

/// Python's `zlib.compress(text, 1)` begins so: deflate, a window of 32 KiB, no dictionary.
const HEADER: [u8; 2] = [0x78, 0x01];
/// The last block, in the fixed code.
const BLOCK: (u32, u32) = (0b011, 3);
const HASH_BITS: u32 = 9;
const END_OF_BLOCK: usize = 256;
const MIN_MATCH: usize = 3;
/// One below the format's 258, which has a symbol of its own.
const MAX_MATCH: usize = 257;

/// The symbols of bytes, of the end, and of lengths in the fixed code: the bits as they are written, and how many.
const SYMBOLS: [(u16, u8); 288] = {
    let mut symbols = [(0, 0); 288];
    let mut symbol = 0;
    while symbol < 288 {
        let (code, length) = match symbol {
            0..144 => (0x30 + symbol, 8),
            144..256 => (0x190 + symbol - 144, 9),
            256..280 => (symbol - 256, 7),
            _ => (0xc0 + symbol - 280, 8),
        };
        symbols[symbol as usize] = ((code as u16).reverse_bits() >> (16 - length), length);
        symbol += 1;
    }
    symbols
};

/// Compresses a text of at most [`MAX_INPUT`] bytes into `out`, and returns how many bytes it came to; `None` if there
/// is no room for them.
pub(super) fn compress(text: &[u8], out: &mut [u8]) -> Option<usize> {
    debug_assert!(text.len() <= MAX_INPUT);
    out.get_mut(..HEADER.len())?.copy_from_slice(&HEADER);
    let mut bits = Bits { out, at: HEADER.len(), waiting: 0, count: 0 };
    bits.put(BLOCK.0, BLOCK.1)?;
    // For each hash of three bytes, one more than where they stood last.
    let mut places = [0u16; 1 << HASH_BITS];
    let mut at = 0;
    while let Some(word) = text[at..].first_chunk() {
        let three = u32::from_le_bytes(*word) << 8;
        let place = &mut places[(three.wrapping_mul(0x9e37_79b1) >> (32 - HASH_BITS)) as usize];
        let before = usize::from(std::mem::replace(place, at as u16 + 1));
        let length = match before {
            0 => 0,
            before => common_prefix(&text[before - 1..], &text[at..]),
        };
        if length < MIN_MATCH {
            bits.symbol(text[at].into())?;
            at += 1;
        } else {
            bits.repeat(length, at + 1 - before)?;
            at += length;
        }
    }
    for byte in &text[at..] {
        bits.symbol((*byte).into())?;
    }
    bits.symbol(END_OF_BLOCK)?;
    let end = bits.finish()?;
    out.get_mut(end..end + 4)?.copy_from_slice(&adler32(text).to_be_bytes());
    Some(end + 4)
}

fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    if let (Some(a), Some(b)) = (a.first_chunk(), b.first_chunk()) {
        // Most end here.
        let differing = u64::from_le_bytes(*a) ^ u64::from_le_bytes(*b);
        if differing != 0 {
            return (differing.trailing_zeros() / 8) as usize;
        }
    }
    a.iter().zip(b).take(MAX_MATCH).take_while(|(a, b)| a == b).count()
}

/// The checksum of a text that is short enough for its sums to fit.
fn adler32(text: &[u8]) -> u32 {
    const PRIME: u32 = 65_521;
    const LANES: u32 = 16;
    // Sums of each sixteenth byte, and sums of those, which do not wait for each other.
    let (chunks, rest) = text.as_chunks::<{ LANES as usize }>();
    let (mut sums, mut sums_of_sums) = ([0; LANES as usize], [0; LANES as usize]);
    for chunk in chunks {
        for ((sum, of_sums), byte) in sums.iter_mut().zip(&mut sums_of_sums).zip(chunk) {
            *of_sums += *sum;
            *sum += u32::from(*byte);
        }
    }
    let mut low = 1 + sums.iter().sum::<u32>();
    let mut high = LANES * (chunks.len() as u32 + sums_of_sums.iter().sum::<u32>());
    high += sums.iter().zip((1..=LANES).rev()).map(|(sum, times)| sum * times).sum::<u32>();
    for byte in rest {
        low += u32::from(*byte);
        high += low;
    }
    let (low, high) = (low % PRIME, high % PRIME);
    high << 16 | low
}

/// Writes bits, the lowest of each byte first.
struct Bits<'a> {
    out: &'a mut [u8],
    at: usize,
    waiting: u64,
    /// How many bits wait; fewer than 32.
    count: u32,
}

impl Bits<'_> {
    fn put(&mut self, bits: u32, count: u32) -> Option<()> {
        self.waiting |= u64::from(bits) << self.count;
        self.count += count;
        if self.count >= 32 {
            self.out.get_mut(self.at..self.at + 4)?.copy_from_slice(&(self.waiting as u32).to_le_bytes());
            self.at += 4;
            self.waiting >>= 32;
            self.count -= 32;
        }
        Some(())
    }

    fn symbol(&mut self, symbol: usize) -> Option<()> {
        let (bits, count) = SYMBOLS[symbol];
        self.put(bits.into(), count.into())
    }

    /// What stood `distance` bytes before, again: a symbol for the size of each number, and the rest of it.
    fn repeat(&mut self, length: usize, distance: usize) -> Option<()> {
        let length = (length - MIN_MATCH) as u32;
        let more = (length | 1).ilog2().saturating_sub(2);
        self.symbol(257 + (4 * more + (length >> more)) as usize)?;
        self.put(length & ((1 << more) - 1), more)?;
        let distance = (distance - 1) as u32;
        let more = (distance | 1).ilog2().saturating_sub(1);
        self.put((2 * more + (distance >> more)).reverse_bits() >> 27, 5)?;
        self.put(distance & ((1 << more) - 1), more)
    }

    /// Writes what waits, filled up to whole bytes, and returns where that ends.
    fn finish(self) -> Option<usize> {
        let end = self.at + self.count.div_ceil(8) as usize;
        let rest = self.out.get_mut(self.at..end)?;
        rest.copy_from_slice(&self.waiting.to_le_bytes()[..rest.len()]);
        Some(end)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use flate2::Compression;
    use flate2::read::ZlibDecoder;
    use flate2::write::ZlibEncoder;
    use proptest::prelude::*;

    use super::*;

    fn compressed(text: &[u8]) -> Vec<u8> {
        let mut out = vec![0xaa; 2 * MAX_INPUT];
        let length = compress(text, &mut out).unwrap();
        assert_eq!(compress(text, &mut vec![0; length]), Some(length));
        assert_eq!(compress(text, &mut vec![0; length - 1]), None);
        out.truncate(length);
        out
    }

    fn read_by_zlib(text: &[u8]) -> Vec<u8> {
        let packed = compressed(text);
        let back = zlib(&packed).unwrap();
        assert_eq!(ours(&packed).as_ref(), Some(&back));
        back
    }

    fn zlib(packed: &[u8]) -> std::io::Result<Vec<u8>> {
        let mut back = Vec::new();
        ZlibDecoder::new(packed).read_to_end(&mut back).map(|_| back)
    }

    fn ours(packed: &[u8]) -> Option<Vec<u8>> {
        let mut out = [0xaa; MAX_INPUT];
        decompress(packed, &mut out).map(|length| out[..length].to_vec())
    }

    /// A block in the fixed code with a right checksum, or what a stranger may write so.
    fn block(symbols: &[(u16, u16, u16)], text: &[u8]) -> Vec<u8> {
        let mut out = vec![0; 4 * MAX_INPUT];
        out[..2].copy_from_slice(&HEADER);
        let mut bits = Bits { out: &mut out, at: 2, waiting: 0, count: 0 };
        bits.put(BLOCK.0, BLOCK.1).unwrap();
        for (symbol, class, more) in symbols {
            bits.symbol(usize::from(*symbol)).unwrap();
            if *symbol > 256 {
                bits.put(u32::from(*more), u32::from(more % 14)).unwrap();
                bits.put(u32::from(*class), 5).unwrap();
                bits.put(u32::from(*more), u32::from(more / 14 % 14)).unwrap();
            }
        }
        bits.symbol(END_OF_BLOCK).unwrap();
        let end = bits.finish().unwrap();
        out.truncate(end);
        out.extend(adler32(text).to_be_bytes());
        out
    }

    #[test]
    fn only_what_was_written_so_is_read() {
        let text = b"abcabcabcabcabcabc, and something else";
        let packed = compressed(text);
        assert_eq!(ours(&packed).as_deref(), Some(&text[..]));
        for at in 0..packed.len() {
            assert_eq!(ours(&packed[..at]), None, "cut at {at}");
            for bit in 0..8 {
                let mut packed = packed.clone();
                packed[at] ^= 1 << bit;
                // Some bits of the last byte are of no account.
                assert_eq!(ours(&packed), zlib(&packed).ok().filter(|back| back == text), "bit {bit} of {at}");
            }
        }
        assert_eq!(ours(&[&packed[..], b"0"].concat()), None);
        for level in [Compression::fast(), Compression::best()] {
            let mut zlib = ZlibEncoder::new(Vec::new(), level);
            zlib.write_all(&text.repeat(9)).unwrap();
            assert_eq!(ours(&zlib.finish().unwrap()), None);
        }
        let longer: Vec<_> = std::iter::repeat_n((97, 0, 0), MAX_INPUT + 1).collect();
        assert_eq!(ours(&block(&longer[..MAX_INPUT], &[b'a'; MAX_INPUT])), Some(vec![b'a'; MAX_INPUT]));
        assert_eq!(ours(&block(&longer, &[b'a'; MAX_INPUT + 1])), None);
        // The longest match has a symbol of its own, which we never write.
        let long = block(&[(97, 0, 0), (285, 0, 0)], &[b'a'; 259]);
        assert_eq!((ours(&long), zlib(&long).unwrap()), (Some(vec![b'a'; 259]), vec![b'a'; 259]));
    }

    #[test]
    fn every_byte_length_and_distance_is_read_by_zlib() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(read_by_zlib(&all), all);
        for length in 0..=MAX_INPUT {
            let same = vec![0xff; length];
            assert_eq!(read_by_zlib(&same), same);
        }
        for between in 0..MAX_INPUT - 8 {
            // A few bytes, others that do not repeat them, and the same again.
            let filling = (0..between).map(|at| b'0' + (at / 7 % 10) as u8);
            let text: Vec<u8> = b"abcd".iter().copied().chain(filling).chain(*b"abcd").collect();
            assert_eq!(read_by_zlib(&text), text);
        }
    }

    #[test]
    fn what_repeats_is_about_as_short_as_at_zlibs_quickest() {
        let item = |n: usize| format!(r#"{{"sku":"A-{n}001","count":{n},"price":{n}.5}}"#);
        for items in 1..24 {
            let text = format!(r#"{{"cart":[{}]}}"#, (0..items).map(item).collect::<Vec<_>>().join(","));
            let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
            zlib.write_all(text.as_bytes()).unwrap();
            let (ours, zlibs) = (compressed(text.as_bytes()).len(), zlib.finish().unwrap().len());
            assert!(ours <= zlibs + 8, "{items}: {ours} and {zlibs}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_by_zlib(text in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..=MAX_INPUT),
            proptest::collection::vec(prop_oneof![Just(b'a'), Just(b'b'), Just(0xe9)], 0..=MAX_INPUT),
        ]) {
            prop_assert_eq!(read_by_zlib(&text), text);
        }

        /// Whatever we take for a text of ours, zlib takes for the same.
        #[test]
        fn we_read_nothing_that_zlib_does_not(
            symbols in proptest::collection::vec((prop_oneof![97..100u16, 257..288u16], 0..32u16, 0..196u16), 0..40),
            text in "[abc]{0,40}",
        ) {
            let packed = block(&symbols, text.as_bytes());
            if let Some(read) = ours(&packed) {
                prop_assert_eq!(zlib(&packed).unwrap(), read);
            }
        }
    }
}
