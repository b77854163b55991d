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
        remembered: 0,
        texts: Texts::new(),
        open: Vec::with_capacity(8),
        outline: Outline::default(),
    };
    pickler.out.extend([0x80, protocol as u8]);
    pickler.open_frame();
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
    /// How many objects have an index by which they can be referred to again.
    remembered: u32,
    texts: Texts<'a>,
    open: Vec<Open>,
    /// Kept for the next value.
    outline: Outline,
}

/// So many texts are found sooner by their marks than in a table.
const FEW: usize = 64;

/// The indices of the texts that were written, as they stand in JSON.
struct Texts<'a> {
    /// Which of the few with this [`mark`] came last: nearly always none, or the one that is asked for.
    latest: [u8; 64],
    few: Vec<Known<'a>>,
    others: HashMap<&'a [u8], u32>,
}

struct Known<'a> {
    text: &'a [u8],
    index: u32,
    /// Which of the few with the same mark came before.
    before: u8,
}

/// None of the few.
const NONE: u8 = u8::MAX;

impl<'a> Texts<'a> {
    fn new() -> Self {
        Self { latest: [NONE; 64], few: Vec::with_capacity(32), others: HashMap::new() }
    }

    fn index(&self, text: &[u8]) -> Option<u32> {
        let mut place = self.latest[slot(text)];
        while let Some(known) = self.few.get(usize::from(place)) {
            if known.text == text {
                return Some(known.index);
            }
            place = known.before;
        }
        if self.others.is_empty() { None } else { self.others.get(text).copied() }
    }

    fn insert(&mut self, text: &'a [u8], index: u32) {
        if self.few.len() < FEW {
            let place = self.few.len() as u8;
            let before = std::mem::replace(&mut self.latest[slot(text)], place);
            self.few.push(Known { text, index, before });
        } else {
            self.others.insert(text, index);
        }
    }
}

fn slot(text: &[u8]) -> usize {
    mark(text).trailing_zeros() as usize
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
        match bytes {
            [b'[' | b'{', ..] => self.containers(bytes),
            [b'"', escaped @ .., b'"'] => self.text(escaped),
            _ => self.scalar(bytes),
        }
    }

    /// Writes a list or a mapping.
    fn containers(&mut self, bytes: &'a [u8]) {
        let depth = self.open.len();
        let mut outline = std::mem::take(&mut self.outline);
        outline.draw(bytes);
        let (mut singles, mut ends) = (outline.singles.iter(), outline.ends.iter());
        let mut at = 0;
        loop {
            match bytes[at] {
                b' ' | b'\t' | b'\n' | b'\r' | b':' => at += 1,
                b',' => {
                    self.finish_element(true);
                    at += 1;
                }
                open @ (b'[' | b'{') => {
                    at += 1;
                    while bytes[at].is_ascii_whitespace() {
                        at += 1;
                    }
                    let empty = matches!(bytes[at], b']' | b'}');
                    self.start_container(open == b'{', empty, singles.next() == Some(&true));
                }
                b']' | b'}' => {
                    // The last element of a container has no comma after it.
                    self.finish_element(false);
                    self.end_container();
                    at += 1;
                    if self.open.len() == depth {
                        break;
                    }
                }
                b'"' => {
                    let end = ends.next().copied().unwrap_or(bytes.len());
                    self.text(&bytes[at + 1..end - 1]);
                    at = end;
                }
                _ => {
                    let ends = |byte: &u8| matches!(byte, b',' | b']' | b'}' | b' ' | b'\t' | b'\n' | b'\r');
                    let length = bytes[at..].iter().position(ends).unwrap_or(bytes.len() - at);
                    self.scalar(&bytes[at..at + length]);
                    at += length;
                }
            }
        }
        self.outline = outline;
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
            return self.refer(index);
        }
        if json::is_plain(escaped) {
            self.new_text(escaped);
        } else {
            self.new_text(&json::unescape_bytes(text(escaped)));
        }
        self.texts.insert(escaped, self.remembered);
        self.remember();
    }

    #[inline]
    fn new_text(&mut self, bytes: &[u8]) {
        match u8::try_from(bytes.len()) {
            Ok(length) if self.protocol >= Protocol::V4 => self.write(&[0x8c, length]),
            _ if bytes.len() < FRAME_TARGET => self.write_with(b'X', &(bytes.len() as u32).to_le_bytes()),
            _ => return self.large_text(bytes),
        }
        self.write(bytes);
    }

    fn large_text(&mut self, bytes: &[u8]) {
        self.commit_frame();
        match u32::try_from(bytes.len()) {
            Ok(length) => self.write_with(b'X', &length.to_le_bytes()),
            // Four gigabytes: protocols below 4 have no form for it, and no cache takes it.
            Err(_) => self.write_with(0x8d, &(bytes.len() as u64).to_le_bytes()),
        }
        self.write(bytes);
        self.open_frame();
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

    #[inline]
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
        self.out.extend_from_slice(bytes);
    }

    fn write_with(&mut self, instruction: u8, argument: &[u8]) {
        self.out.push(instruction);
        self.out.extend_from_slice(argument);
    }

    /// Before each object: a frame that is large enough ends.
    #[inline]
    fn boundary(&mut self) {
        if self.frame.is_some_and(|start| self.out.len() - start >= FRAME_HEADER + FRAME_TARGET) {
            self.commit_frame();
            self.open_frame();
        }
    }

    fn open_frame(&mut self) {
        if self.protocol >= Protocol::V4 {
            self.frame = Some(self.out.len());
            self.out.extend_from_slice(&[0; FRAME_HEADER]);
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

/// What Python's way of writing needs to know of a list or mapping beforehand.
#[derive(Default)]
struct Outline {
    /// For each container, in the order in which they open, whether it has exactly one element or none.
    singles: Vec<bool>,
    /// Where each text ends, behind its quotation mark.
    ends: Vec<usize>,
    open: Vec<usize>,
}

impl Outline {
    /// Looks through a valid JSON text.
    fn draw(&mut self, bytes: &[u8]) {
        self.singles.clear();
        self.ends.clear();
        self.ends.reserve(16);
        let mut at = 0;
        while at < bytes.len() {
            match bytes[at] {
                b'"' => {
                    at = json::text_end(bytes, at);
                    self.ends.push(at);
                    continue;
                }
                b'[' | b'{' => {
                    self.open.push(self.singles.len());
                    self.singles.push(true);
                }
                b']' | b'}' => drop(self.open.pop()),
                b',' => {
                    if let Some(container) = self.open.last() {
                        self.singles[*container] = false;
                    }
                }
                _ => {}
            }
            at += 1;
        }
    }
}
