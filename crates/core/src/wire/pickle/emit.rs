//! Writes what a pickle made as the JSON texts of a session's items.

use super::objects::{Container, Item, Objects, Span};
use super::{ALWAYS_EXPANDED, MAX_EXPANDED};
use crate::error::{Error, ErrorKind, Result};
use crate::json::{self, MAX_DEPTH};
use crate::values::{Text, Values};
use crate::wire::digits::Digits;

/// The dictionary that a pickle is.
pub(super) fn values(objects: &Objects<'_>) -> Result<Values> {
    let entries = match objects.root {
        Item::Container(at) => objects.container(at),
        _ => return Err(no_dictionary(objects)),
    };
    let Container::Dict(entries) = entries else { return Err(no_dictionary(objects)) };
    let limit = objects.input.len().saturating_mul(16).saturating_add(ALWAYS_EXPANDED).min(MAX_EXPANDED);
    let out = Vec::with_capacity(objects.input.len());
    let mut emitter = Emitter { objects, out, discarded: 0, limit, open: Vec::new() };
    let mut items = Vec::with_capacity(entries.len());
    let mut nameless = 0;
    for (key, value) in entries {
        let start = emitter.out.len();
        let key_written = emitter.key(*key);
        if let Err(Halt::TooLarge) = key_written {
            return Err(emitter.too_large());
        }
        let key_written = key_written.is_ok();
        if !key_written {
            // The item stands under its key's type, and cannot be read: nothing may be written over it.
            let name = objects.type_name(*key);
            nameless += 1;
            let number = if nameless > 1 { format!(" {nameless}") } else { String::new() };
            json::escape_wtf8(&mut emitter.out, format!("<{name}{number}>").as_bytes());
        }
        let middle = emitter.out.len();
        let value = match emitter.value(*value) {
            Ok(()) if key_written => Text::source(middle..emitter.out.len()),
            Ok(()) => {
                emitter.discard(middle);
                Text::Opaque(as_a_key(objects, *key).into())
            }
            Err(Halt::Opaque(what)) => {
                emitter.discard(middle);
                Text::Opaque(what.into())
            }
            Err(Halt::TooLarge) => return Err(emitter.too_large()),
        };
        items.push((start..middle, value));
    }
    Ok(Values::from_spans(emitter.out, items))
}

fn as_a_key(objects: &Objects<'_>, key: Item) -> String {
    format!("{} (as a key)", objects.type_name(key))
}

fn no_dictionary(objects: &Objects<'_>) -> Error {
    let message = format!("a pickled {} is no session, which is a dict", objects.type_name(objects.root));
    Error::new(ErrorKind::Corrupted, message)
}

/// Why a value is not written.
enum Halt {
    /// It holds something that JSON has no form for: of this type.
    Opaque(String),
    TooLarge,
}

struct Emitter<'o> {
    objects: &'o Objects<'o>,
    /// ASCII.
    out: Vec<u8>,
    /// Counts what was written and taken back, so that the work is bounded too.
    discarded: usize,
    limit: usize,
    /// The containers around the present place, and how many of their elements were written. Empty between values.
    open: Vec<(u32, usize)>,
}

impl Emitter<'_> {
    fn discard(&mut self, from: usize) {
        // A sound session has few such items, an attack many: they count so much that it ends soon.
        self.discarded += (self.out.len() - from + 1) * 16;
        self.out.truncate(from);
        self.open.clear();
    }

    /// Writes a value. There is no recursion; an object that contains itself ends at the greatest depth.
    fn value(&mut self, item: Item) -> std::result::Result<(), Halt> {
        self.start(item)?;
        while let Some((at, written)) = self.open.last_mut() {
            let index = *written;
            *written += 1;
            let container = self.objects.container(*at);
            let (entry, close) = match container {
                Container::List(items) | Container::Tuple(items) => (items.get(index).map(|item| (None, *item)), b']'),
                Container::Dict(items) => (items.get(index).map(|(key, item)| (Some(*key), *item)), b'}'),
            };
            let Some((key, item)) = entry else {
                self.out.push(close);
                self.open.pop();
                continue;
            };
            if index > 0 {
                self.out.push(b',');
            }
            if let Some(key) = key {
                self.out.push(b'"');
                self.key(key)?;
                self.out.extend_from_slice(b"\":");
            }
            self.start(item)?;
        }
        Ok(())
    }

    /// Writes a value that holds no others, or opens a container.
    fn start(&mut self, item: Item) -> std::result::Result<(), Halt> {
        if self.out.len() + self.discarded > self.limit {
            return Err(Halt::TooLarge);
        }
        match item {
            Item::Text(span) => {
                self.out.push(b'"');
                self.text(span)?;
                self.out.push(b'"');
            }
            Item::Container(at) => {
                if self.open.len() == MAX_DEPTH {
                    let name = self.objects.type_name(item);
                    return Err(Halt::Opaque(format!("{name} nested too deeply, or in itself")));
                }
                self.out.push(if let Container::Dict(_) = self.objects.container(at) { b'{' } else { b'[' });
                self.open.push((at, 0));
            }
            Item::Foreign(_) => return Err(Halt::Opaque(self.objects.type_name(item).into_owned())),
            _ => self.scalar(item),
        }
        Ok(())
    }

    fn scalar(&mut self, item: Item) {
        match item {
            Item::None => self.out.extend_from_slice(b"null"),
            Item::Bool(true) => self.out.extend_from_slice(b"true"),
            Item::Bool(false) => self.out.extend_from_slice(b"false"),
            Item::Int(value) => {
                let digits = Digits::new::<10>(value < 0, value.unsigned_abs().into());
                self.out.extend_from_slice(digits.as_bytes());
            }
            Item::Long(span) => self.out.extend_from_slice(self.objects.bytes(span)),
            Item::Float(value) => {
                let mut text = String::new();
                json::write_float(&mut text, value);
                self.out.extend_from_slice(text.as_bytes());
            }
            Item::Text(_) | Item::Container(_) | Item::Foreign(_) => unreachable!("not a scalar"),
        }
    }

    /// Writes a key as it stands between quotation marks, if Python's json takes such a key.
    fn key(&mut self, key: Item) -> std::result::Result<(), Halt> {
        match key {
            Item::Text(span) => self.text(span)?,
            Item::Container(_) | Item::Foreign(_) => return Err(Halt::Opaque(as_a_key(self.objects, key))),
            _ => self.scalar(key),
        }
        Ok(())
    }

    /// Writes text as it stands between quotation marks. Escapes make it up to six times as long.
    fn text(&mut self, span: Span) -> std::result::Result<(), Halt> {
        let text = self.objects.bytes(span);
        let room = self.limit.saturating_sub(self.out.len() + self.discarded);
        if text.len() > room / 6 {
            let bound = |byte: &u8| match byte {
                b' '..=b'~' => 1,
                0x80.. => 3,
                _ => 6,
            };
            if text.iter().map(bound).sum::<usize>() > room {
                return Err(Halt::TooLarge);
            }
        }
        json::escape_wtf8(&mut self.out, text);
        Ok(())
    }

    fn too_large(&self) -> Error {
        let limit = self.limit;
        let message = format!("a pickle comes to more than {limit} bytes of JSON, which is more than is read");
        Error::new(ErrorKind::TooLarge, message)
    }
}
