//! Pickles a session out of the JSON texts of its items.

use std::collections::HashMap;

use super::{Protocol, decimal};
use crate::json;
use crate::values::{Values, mark};

/// Python writes the elements of containers in groups of so many.
const BATCH: usize = 1_000;
/// Python closes a frame, before the next object, that has so many bytes; larger texts stand outside of frames.
const FRAME_TARGET: usize = 64 << 10;
/// Smaller frames are left out.
const FRAME_MIN: usize = 4;
const FRAME_HEADER: usize = 9;

/// Pickles a dictionary, all of whose items have a text.
pub(super) fn pickle(values: &Values, protocol: Protocol) -> Vec<u8> {
    let mut pickler = Pickler {
        // About as long as JSON is.
        out: Vec::with_capacity(values.read_length() + 128),
        protocol,
        frame: None,
        framing: false,
        remembered: 0,
        texts: Texts { marks: 0, few: Vec::with_capacity(FEW), others: HashMap::new() },
        open: Vec::new(),
    };
    pickler.out.extend([0x80, protocol as u8]);
    pickler.framing = protocol >= Protocol::V4;
    pickler.start_container(true, values.is_empty(), values.len() == 1);
    for (key, value) in values.iter_bytes() {
        pickler.text(key);
        pickler.value(value);
        pickler.finish_element(true);
    }
    pickler.end_container();
    pickler.write(b".");
    pickler.commit_frame();
    pickler.out
}

struct Pickler<'a> {
    out: Vec<u8>,
    protocol: Protocol,
    /// Where the present frame's header stands.
    frame: Option<usize>,
    framing: bool,
    /// How many objects have an index by which they can be referred to again.
    remembered: u32,
    texts: Texts<'a>,
    open: Vec<Open>,
}

/// So many texts are looked through sooner than a table is asked.
const FEW: usize = 32;

/// The indices of the texts that were written, as they stand in JSON.
struct Texts<'a> {
    /// The [`mark`] of each: nearly every one that is new has another mark than all that are there.
    marks: u64,
    few: Vec<(&'a [u8], u32)>,
    others: HashMap<&'a [u8], u32>,
}

impl<'a> Texts<'a> {
    fn index(&self, text: &[u8]) -> Option<u32> {
        if self.marks & mark(text) == 0 {
            return None;
        }
        let found = self.few.iter().find(|(known, _)| *known == text).map(|(_, index)| *index);
        found.or_else(|| if self.others.is_empty() { None } else { self.others.get(text).copied() })
    }

    fn insert(&mut self, text: &'a [u8], index: u32) {
        self.marks |= mark(text);
        if self.few.len() < FEW {
            self.few.push((text, index));
        } else {
            self.others.insert(text, index);
        }
    }
}

/// A container that is being written.
struct Open {
    mapping: bool,
    elements: Elements,
}

enum Elements {
    None,
    One,
    /// Several, of which so many were written.
    Several(usize),
}

impl<'a> Pickler<'a> {
    /// Writes a valid JSON text.
    fn value(&mut self, bytes: &'a [u8]) {
        let depth = self.open.len();
        // Python writes a container of one element otherwise than one of several: it has to be known beforehand.
        let singles = if matches!(bytes.first(), Some(b'[' | b'{')) { singles(bytes) } else { Vec::new() };
        let mut singles = singles.into_iter();
        let mut at = 0;
        loop {
            match bytes[at] {
                b' ' | b'\t' | b'\n' | b'\r' | b':' => {
                    at += 1;
                    continue;
                }
                b',' => {
                    self.finish_element(true);
                    at += 1;
                    continue;
                }
                open @ (b'[' | b'{') => {
                    at += 1;
                    while bytes[at].is_ascii_whitespace() {
                        at += 1;
                    }
                    let empty = matches!(bytes[at], b']' | b'}');
                    self.start_container(open == b'{', empty, singles.next().unwrap_or_default());
                    continue;
                }
                b']' | b'}' => {
                    // The last element of a container has no comma after it.
                    self.finish_element(false);
                    self.end_container();
                    at += 1;
                }
                start => {
                    let end = end_of_scalar(bytes, at);
                    match start {
                        b'"' => self.text(&bytes[at + 1..end - 1]),
                        _ => self.scalar(&bytes[at..end]),
                    }
                    at = end;
                }
            }
            if self.open.len() == depth {
                return;
            }
        }
    }

    // Objects.

    fn start_container(&mut self, mapping: bool, empty: bool, single: bool) {
        self.boundary();
        self.write(if mapping { b"}" } else { b"]" });
        self.remember();
        let elements = match (empty, single) {
            (true, _) => Elements::None,
            (_, true) => Elements::One,
            _ => {
                self.write(b"(");
                Elements::Several(0)
            }
        };
        self.open.push(Open { mapping, elements });
    }

    /// After an element, or a key and its value: after the last of a group, the group ends.
    fn finish_element(&mut self, more: bool) {
        let Some(Open { mapping, elements: Elements::Several(written) }) = self.open.last_mut() else { return };
        *written += 1;
        if written.is_multiple_of(BATCH) {
            let mapping = *mapping;
            self.write(if mapping { b"u" } else { b"e" });
            // In a mapping Python opens the next group without looking whether anything follows.
            if mapping || more {
                self.write(b"(");
            }
        }
    }

    fn end_container(&mut self) {
        match self.open.pop() {
            Some(Open { mapping, elements: Elements::One }) => self.write(if mapping { b"s" } else { b"a" }),
            Some(Open { mapping: true, elements: Elements::Several(_) }) => self.write(b"u"),
            Some(Open { mapping: false, elements: Elements::Several(written) }) if !written.is_multiple_of(BATCH) => {
                self.write(b"e");
            }
            _ => {}
        }
    }

    /// Writes text, given as it stands between quotation marks.
    fn text(&mut self, escaped: &'a [u8]) {
        self.boundary();
        if let Some(index) = self.texts.index(escaped) {
            self.refer(index);
            return;
        }
        let decoded;
        let bytes = if escaped.contains(&b'\\') {
            decoded = json::unescape_bytes(text(escaped));
            &decoded[..]
        } else {
            escaped
        };
        let large = bytes.len() >= FRAME_TARGET;
        if large {
            self.commit_frame();
            self.framing = false;
        }
        match (u8::try_from(bytes.len()), u32::try_from(bytes.len())) {
            (Ok(length), _) if self.protocol >= Protocol::V4 => self.write(&[0x8c, length]),
            (_, Ok(length)) => self.write_with(b'X', &length.to_le_bytes()),
            // Four gigabytes: protocols below 4 have no form for it, and no cache takes it.
            _ => self.write_with(0x8d, &(bytes.len() as u64).to_le_bytes()),
        }
        self.write(bytes);
        if large {
            self.framing = self.protocol >= Protocol::V4;
        }
        self.texts.insert(escaped, self.remembered);
        self.remember();
    }

    fn scalar(&mut self, raw: &[u8]) {
        self.boundary();
        match raw {
            b"null" => return self.write(b"N"),
            b"true" => return self.write(&[0x88]),
            b"false" => return self.write(&[0x89]),
            _ => {}
        }
        let raw = text(raw);
        if raw.bytes().any(|byte| matches!(byte, b'.' | b'e' | b'E' | b'N' | b'I')) {
            let value = match raw {
                "NaN" => f64::NAN,
                "Infinity" => f64::INFINITY,
                "-Infinity" => f64::NEG_INFINITY,
                // What is too large for a float is infinite to Python's reader of JSON too.
                _ => raw.parse().unwrap_or(f64::NAN),
            };
            return self.write_with(b'G', &value.to_be_bytes());
        }
        match raw.parse::<i32>() {
            Ok(value) => match (u8::try_from(value), u16::try_from(value)) {
                (Ok(value), _) => self.write(&[b'K', value]),
                (_, Ok(value)) => self.write_with(b'M', &value.to_le_bytes()),
                _ => self.write_with(b'J', &value.to_le_bytes()),
            },
            Err(_) => {
                let bytes = decimal::twos_complement(raw);
                match u8::try_from(bytes.len()) {
                    Ok(length) => self.write(&[0x8a, length]),
                    // The longest integers of JSON have some 1,800 bytes.
                    Err(_) => self.write_with(0x8b, &(bytes.len() as u32).to_le_bytes()),
                }
                self.write(&bytes);
            }
        }
    }

    // Referring back.

    fn remember(&mut self) {
        let index = self.remembered;
        self.remembered += 1;
        match u8::try_from(index) {
            _ if self.protocol >= Protocol::V4 => self.write(&[0x94]),
            Ok(index) => self.write(&[b'q', index]),
            Err(_) => self.write_with(b'r', &index.to_le_bytes()),
        }
    }

    fn refer(&mut self, index: u32) {
        match u8::try_from(index) {
            Ok(index) => self.write(&[b'h', index]),
            Err(_) => self.write_with(b'j', &index.to_le_bytes()),
        }
    }

    // Bytes and frames.

    fn write(&mut self, bytes: &[u8]) {
        if self.framing && self.frame.is_none() {
            self.frame = Some(self.out.len());
            self.out.extend([0; FRAME_HEADER]);
        }
        self.out.extend_from_slice(bytes);
    }

    fn write_with(&mut self, instruction: u8, argument: &[u8]) {
        self.write(&[instruction]);
        self.out.extend_from_slice(argument);
    }

    /// Before each object: a frame that is large enough ends.
    fn boundary(&mut self) {
        if self.frame.is_some_and(|start| self.out.len() - start - FRAME_HEADER >= FRAME_TARGET) {
            self.commit_frame();
        }
    }

    fn commit_frame(&mut self) {
        let Some(start) = self.frame.take() else { return };
        let content = start + FRAME_HEADER;
        let length = self.out.len() - content;
        if length >= FRAME_MIN {
            self.out[start] = 0x95;
            self.out[start + 1..content].copy_from_slice(&(length as u64).to_le_bytes());
        } else {
            self.out.drain(start..content);
        }
    }
}

fn text(json: &[u8]) -> &str {
    std::str::from_utf8(json).expect("JSON is text")
}

/// Where text, a number or a word ends that starts at `start` in valid JSON.
fn end_of_scalar(raw: &[u8], start: usize) -> usize {
    // Valid text has an end; should it have none, the rest is as good as any, and nothing runs on.
    json::value_end(raw, start).unwrap_or(raw.len())
}

/// For each list and object of a valid JSON text, in the order in which they open, whether it has exactly one element.
fn singles(bytes: &[u8]) -> Vec<bool> {
    let mut singles = Vec::new();
    let mut open = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => at = end_of_scalar(bytes, at),
            byte => {
                match byte {
                    b'[' | b'{' => {
                        open.push(singles.len());
                        singles.push(true);
                    }
                    b']' | b'}' => drop(open.pop()),
                    b',' => {
                        if let Some(container) = open.last() {
                            singles[*container] = false;
                        }
                    }
                    _ => {}
                }
                at += 1;
            }
        }
    }
    singles
}
