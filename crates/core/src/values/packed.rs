//! The form of a dictionary that stays in this process: nothing in it has to be searched for, and nothing checked.
//!
//! A seal, then for each item the lengths of its key and of its value, seven bits in a byte, and both as they stand in
//! JSON. That is fewer bytes than JSON takes for its punctuation.
//!
//! What bears the seal is believed, because only this process can have written it, out of texts that were valid. It says
//! nothing to another process, nor to this one's next run.

use std::hash::{BuildHasher, RandomState};
use std::ops::Range;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;

use super::{Entry, SMALL, Table, Text, Values, ascii, mark};
use crate::error::{Error, ErrorKind, Result};
use crate::json;

/// Drawn at random. Its first byte is not ASCII, so that it begins no other source of a dictionary either.
static SEAL: LazyLock<[u8; 8]> = LazyLock::new(|| (RandomState::new().hash_one("seal") | 0x80).to_le_bytes());

impl Values {
    /// Writes the packed form. An opaque item becomes `null`.
    pub(crate) fn pack(&self) -> Vec<u8> {
        let source = self.source();
        let sealed = source.starts_with(&*SEAL);
        let mut out = Vec::with_capacity(source.len() + 64);
        // Items that stand one after another in the source as they are to be written are copied at once; with its seal.
        let mut run = 0..if sealed { SEAL.len() } else { 0 };
        if !sealed {
            out.extend_from_slice(&*SEAL);
        }
        for entry in self.entries() {
            let item = if sealed { entry.packed() } else { None };
            match item {
                Some(item) if item.start == run.end => run.end = item.end,
                Some(item) => out.extend_from_slice(&source[std::mem::replace(&mut run, item)]),
                None => {
                    out.extend_from_slice(&source[std::mem::take(&mut run)]);
                    let (key, value) = (entry.key.bytes(source), entry.value.bytes(source));
                    push_length(&mut out, key.len());
                    push_length(&mut out, value.len());
                    out.extend_from_slice(key);
                    out.extend_from_slice(value);
                }
            }
        }
        out.extend_from_slice(&source[run]);
        out
    }

    /// Reads what [`pack`](Self::pack) has written in this process.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupted`] for anything else, and for 4 GiB.
    pub(crate) fn unpack(packed: Bytes) -> Result<Self> {
        let ours = packed.starts_with(&*SEAL) && u32::try_from(packed.len()).is_ok();
        let Some((entries, marks)) = ours.then(|| entries(&packed, SEAL.len())).flatten() else {
            let what = "this is none of the sessions that this process keeps, or one of 4 GiB";
            return Err(Error::new(ErrorKind::Corrupted, what));
        };
        Ok(Self(Some(Arc::new(Table { source: packed, entries, marks }))))
    }
}

/// The entries of all items, which begin at `at`, and the marks of their keys.
fn entries(source: &[u8], at: usize) -> Option<(Vec<Entry>, u64)> {
    let (mut entries, mut marks) = (Vec::with_capacity(SMALL), 0);
    let mut items = &source[at..];
    while !items.is_empty() {
        let (key_length, value_length, texts) = split_lengths(items)?;
        let start = source.len() - texts.len();
        let (middle, end) = (start + key_length, start + key_length + value_length);
        let key = source.get(start..middle)?;
        items = source.get(end..)?;
        debug_assert!(source[middle..end].is_ascii() && json::is_valid(ascii(&source[middle..end])));
        marks |= mark(key);
        entries.push(Entry { key: Text::source(start..middle), value: Text::source(middle..end) });
    }
    Some((entries, marks))
}

impl Entry {
    /// Where a packed source holds the item, with its lengths.
    fn packed(&self) -> Option<Range<usize>> {
        let (Text::Source(key), Text::Source(value)) = (&self.key, &self.value) else { return None };
        let (key, value) = (key.range(), value.range());
        Some(key.start - width(key.len()) - width(value.len())..value.end)
    }
}

/// How many bytes a length takes.
#[inline(always)]
fn width(length: usize) -> usize {
    // As nearly all do.
    if length < 0x80 { 1 } else { length.ilog2() as usize / 7 + 1 }
}

fn push_length(out: &mut Vec<u8>, mut length: usize) {
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
}

/// The two lengths that an item begins with, and what stands after them.
#[inline(always)]
fn split_lengths(item: &[u8]) -> Option<(usize, usize, &[u8])> {
    match item {
        // As nearly all are.
        [key @ ..0x80, value @ ..0x80, texts @ ..] => Some((usize::from(*key), usize::from(*value), texts)),
        _ => {
            let (key, rest) = split_length(item)?;
            let (value, texts) = split_length(rest)?;
            Some((key, value, texts))
        }
    }
}

#[inline(never)]
fn split_length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (mut length, mut rest) = (0, bytes);
    // Five bytes are enough for 4 GiB.
    for at in 0..5 {
        let byte;
        (byte, rest) = rest.split_first()?;
        length |= usize::from(byte & 0x7f) << (7 * at);
        if *byte < 0x80 {
            return Some((length, rest));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packed(values: &Values) -> Values {
        Values::unpack(values.pack().into()).unwrap()
    }

    #[test]
    fn what_is_packed_comes_back_as_it_was() {
        let long = "x".repeat(20_000);
        let json = format!(
            r#"{{"i":123456789012345678901234567890,"z":-0.0,"n":NaN,"":"","s":"\u00e9\ud800\/","\ud800":[ 1 , {{}}],"l":"{long}"}}"#
        );
        let values = Values::parse(json.clone().into()).unwrap();
        assert_eq!(packed(&values).to_json(), json);
        assert_eq!(packed(&packed(&values)).to_json(), json);
        assert_eq!(packed(&Values::new()).to_json(), "{}");
        // Smaller than JSON, seal and all.
        let items = (0..10).map(|n| format!("\"key{n}\":{n}")).collect::<Vec<_>>().join(",");
        let json = format!("{{{items}}}");
        assert!(Values::parse(json.clone().into()).unwrap().pack().len() < json.len());
    }

    #[test]
    fn what_this_process_has_not_packed_is_refused() {
        let values = Values::parse(br#"{"a":1,"b":[2]}"#.to_vec()).unwrap();
        let packed = values.pack();
        let other_seal = [&[!packed[0] | 0x80], &packed[1..]].concat();
        for foreign in [&b""[..], b"{}", br#"{"a":1,"b":[2]}"#, b"\x80\x05}.", &packed[1..], &other_seal, &packed[..7]]
        {
            assert_eq!(Values::unpack(foreign.to_vec().into()).unwrap_err().kind(), ErrorKind::Corrupted);
        }
        // Nor does a length point beyond the end.
        for end in SEAL.len() + 1..packed.len() {
            let whole = end == SEAL.len() + 4;
            assert_eq!(Values::unpack(packed[..end].to_vec().into()).is_ok(), whole, "{end}");
        }
        let endless = [&SEAL[..], &[0xff; 20]].concat();
        assert!(Values::unpack(endless.into()).is_err());
    }

    proptest! {
        /// Whatever is changed between two times of packing, both forms say the same.
        #[test]
        fn packed_and_json_are_the_same(
            steps in prop::collection::vec((0..12u8, prop::option::of(".{0,9}"), any::<bool>(), 0..400usize), 0..60),
        ) {
            let (mut values, mut model) = (Values::new(), Values::new());
            for (key, text, pack, repeat) in steps {
                let key = "k".repeat(key.into());
                match text {
                    Some(text) => {
                        values.insert(&key, &text.repeat(repeat % 30)).unwrap();
                        model.insert(&key, &text.repeat(repeat % 30)).unwrap();
                    }
                    None => {
                        let (removed, expected) = (values.remove(&key), model.remove(&key));
                        prop_assert_eq!(removed, expected);
                    }
                }
                if pack {
                    values = packed(&values);
                }
                prop_assert_eq!(values.to_json(), model.to_json());
            }
            prop_assert_eq!(values.pack(), model.pack());
        }
    }
}
