//! The straight way from a pickle to JSON, for what picklers write of plain sessions in protocols 4 and 5.
//!
//! No object is made. What stands on the stack is JSON text already, in one piece: value after value, a comma behind each.
//! A pickle has the elements of a container right behind it, so its brackets and colons are set around them in place.

use super::{ALWAYS_EXPANDED, MAX_OBJECTS, decimal};
use crate::json::{self, MAX_DEPTH};
use crate::values::Values;
use crate::wire::digits::Digits;

/// An element that is its container's only one is moved into it if it is no longer than this: so the work stays bounded.
const MAX_MOVED: usize = 64 << 10;

/// The dictionary that a pickle is; `None` for all that is in any way unusual, which the [machine](super::machine) reads
/// or refuses.
pub(super) fn values(pickle: &[u8]) -> Option<Values> {
    // An object takes a byte at least: these are never too many.
    if pickle.len() > MAX_OBJECTS {
        return None;
    }
    // A session of Python's has an object or two for every 16 bytes, most of which are remembered.
    let objects = (pickle.len() / 12).clamp(8, 64);
    let mut reader = Reader {
        rest: pickle,
        out: Vec::with_capacity(pickle.len() + 64),
        stack: Vec::with_capacity(objects),
        marks: Vec::with_capacity(4),
        memo: Vec::with_capacity(objects),
        items: Vec::with_capacity(objects),
        singles: 0,
    };
    reader.run()?;
    // The comma after the dictionary.
    reader.out.pop();
    Some(Values::from_starts(reader.out, &reader.items))
}

struct Reader<'a> {
    rest: &'a [u8],
    out: Vec<u8>,
    /// Where in `out` each value starts. So short a pickle comes to less than 4 GB.
    stack: Vec<u32>,
    /// Where on the stack the elements of open containers begin.
    marks: Vec<usize>,
    /// Text that was remembered, as it stands in the pickle; `None` for a container.
    memo: Vec<Option<&'a [u8]>>,
    /// Where in `out` the keys and values of the outermost dictionary start.
    items: Vec<u32>,
    /// How many containers were given just one element, without a mark.
    singles: usize,
}

impl<'a> Reader<'a> {
    fn run(&mut self) -> Option<()> {
        loop {
            let [instruction] = self.array()?;
            match instruction {
                0x80 => self.array().filter(|[protocol]| *protocol <= 5).map(drop)?,
                0x95 => {
                    let length = u64::from_le_bytes(self.array()?);
                    if length > self.rest.len() as u64 {
                        return None;
                    }
                }
                0x8c => {
                    let [length] = self.array()?;
                    self.new_text(length.into())?;
                }
                b'X' => {
                    let length = u32::from_le_bytes(self.array()?);
                    self.new_text(length as usize)?;
                }
                b'h' => {
                    let [index] = self.array()?;
                    self.known_text(index.into())?;
                }
                b'j' => {
                    let index = u32::from_le_bytes(self.array()?);
                    self.known_text(index as usize)?;
                }
                b'K' => {
                    let [value] = self.array()?;
                    self.integer(value.into());
                }
                b'M' => {
                    let value = u16::from_le_bytes(self.array()?);
                    self.integer(value.into());
                }
                b'J' => {
                    let value = i32::from_le_bytes(self.array()?);
                    self.integer(value.into());
                }
                0x8a => {
                    let [length] = self.array()?;
                    let value = decimal::small(self.bytes(length.into())?)?;
                    self.integer(value);
                }
                b'G' => {
                    let mut text = String::with_capacity(32);
                    json::write_float(&mut text, f64::from_be_bytes(self.array()?));
                    self.value(text.as_bytes());
                    self.out.push(b',');
                }
                b'N' => self.value(b"null,"),
                0x88 => self.value(b"true,"),
                0x89 => self.value(b"false,"),
                b']' => self.container(b"[],"),
                b'}' => self.container(b"{},"),
                b'(' => self.open()?,
                b'a' => self.only_element(1, b'[')?,
                b's' => self.only_element(2, b'{')?,
                b'e' => self.elements(b'[')?,
                b'u' => self.elements(b'{')?,
                b'.' => {
                    let whole = self.stack.len() == 1 && self.marks.is_empty() && self.out[0] == b'{';
                    return whole.then_some(());
                }
                _ => return None,
            }
        }
    }

    // What follows in the pickle.

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*array)
    }

    fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(bytes)
    }

    /// Whether what was just read is to be remembered.
    fn is_remembered(&mut self) -> bool {
        let rest = self.rest.strip_prefix(&[0x94]);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    // Values.

    fn value(&mut self, json: &[u8]) {
        self.stack.push(self.out.len() as u32);
        self.out.extend_from_slice(json);
    }

    fn container(&mut self, json: &[u8]) {
        self.value(json);
        if self.is_remembered() {
            self.memo.push(None);
        }
    }

    fn integer(&mut self, value: i64) {
        self.value(Digits::new::<10>(value < 0, value.unsigned_abs().into()).as_bytes());
        self.out.push(b',');
    }

    fn new_text(&mut self, length: usize) -> Option<()> {
        let text = self.bytes(length)?;
        if self.is_remembered() {
            self.memo.push(Some(text));
        }
        self.text(text)
    }

    fn known_text(&mut self, index: usize) -> Option<()> {
        let text = (*self.memo.get(index)?)?;
        self.text(text)
    }

    fn text(&mut self, text: &[u8]) -> Option<()> {
        // The machine refuses what is longer than this and 16 times the pickle. Apart from text that is referred to again,
        // a byte comes to six at most: so it refuses nothing that passes here.
        if self.out.len() > ALWAYS_EXPANDED {
            return None;
        }
        self.value(b"\"");
        if !json::escape_wtf8(&mut self.out, text) {
            return None;
        }
        self.out.extend_from_slice(b"\",");
        Some(())
    }

    // Containers.

    /// Below this nothing may be taken: it belongs to a container that waits for its elements.
    fn fence(&self) -> usize {
        self.marks.last().copied().unwrap_or_default()
    }

    /// What follows are elements of the container on top of the stack.
    fn open(&mut self) -> Option<()> {
        let start = *self.stack[self.fence()..].last()? as usize;
        // The other half of the depth is for containers without a mark.
        if !matches!(self.out[start], b'[' | b'{') || self.marks.len() == MAX_DEPTH / 2 {
            return None;
        }
        self.marks.push(self.stack.len());
        // From `[],` to `[`, or from `[1],` to `[1,`.
        self.out.truncate(self.out.len() - 2);
        if self.out.len() > start + 1 {
            self.out.push(b',');
        }
        Some(())
    }

    /// What was read since the last mark are elements of the container below it.
    fn elements(&mut self, opening: u8) -> Option<()> {
        let from = self.marks.pop()?;
        self.close(from, opening)
    }

    /// The last so many values are the one element of the container below them: of a dictionary, a key and its value.
    fn only_element(&mut self, values: usize, opening: u8) -> Option<()> {
        let from = self.stack.len().checked_sub(values).filter(|from| *from > self.fence())?;
        let (container, first) = (self.stack[from - 1] as usize, self.stack[from] as usize);
        self.singles += 1;
        let is_empty = first - container == b"[],".len();
        if !is_empty || self.out.len() - first > MAX_MOVED || self.singles > MAX_DEPTH / 2 {
            return None;
        }
        // From `[],1,` to `[1,`.
        self.out.copy_within(first.., first - 2);
        self.out.truncate(self.out.len() - 2);
        self.stack[from..].iter_mut().for_each(|start| *start -= 2);
        self.close(from, opening)
    }

    /// Makes the values from `from` on elements of the container below them.
    fn close(&mut self, from: usize, opening: u8) -> Option<()> {
        let elements = &self.stack[from..];
        // A group without elements comes after full ones only, as Python writes it.
        if self.out.last() != Some(&b',') || self.out[self.stack[from - 1] as usize] != opening {
            return None;
        }
        if opening == b'{' {
            let (entries, []) = elements.as_chunks() else { return None };
            for [key, value] in entries {
                if self.out[*key as usize] != b'"' {
                    return None;
                }
                self.out[*value as usize - 1] = b':';
            }
            if from == 1 {
                self.items.extend_from_slice(elements);
            }
        }
        self.stack.truncate(from);
        // In ASCII, the closing bracket stands two behind the opening one.
        self.out.pop();
        self.out.extend_from_slice(&[opening + 2, b',']);
        Some(())
    }
}
