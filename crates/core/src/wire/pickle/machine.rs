//! The stack machine that a pickle is a program for, without the instructions that would run anything.

mod input;
mod scalars;
mod stack;

use super::objects::{Container, Foreign, Item, Objects};
use super::{MAX_OBJECTS, MAX_PICKLE};
use crate::error::{Error, ErrorKind, Result};
use crate::json;

/// Runs a pickle up to its end; what follows is ignored, as in Python.
///
/// Here as in Python, the whole pickle has to be sound: one broken text, and nothing of it is read.
pub(super) fn run(pickle: &[u8]) -> Result<Objects<'_>> {
    if pickle.len() > MAX_PICKLE {
        let message = format!("a pickle of {} bytes is larger than the {MAX_PICKLE} that are read", pickle.len());
        return Err(Error::new(ErrorKind::TooLarge, message));
    }
    // A session of Python's has an object or two for every 16 bytes, most of which are remembered.
    let objects = (pickle.len() / 12).clamp(8, 64);
    let mut machine = Machine {
        objects: Objects::new(pickle),
        at: 0,
        stack: Vec::with_capacity(objects),
        marks: Vec::with_capacity(4),
        memo: Vec::with_capacity(objects),
        remembered: 0,
        made: 0,
    };
    match machine.run() {
        Ok(()) => Ok(machine.objects),
        Err(Fault::TooMany) => {
            let message = format!("a pickle makes more than the {MAX_OBJECTS} objects that are read");
            Err(Error::new(ErrorKind::TooLarge, message))
        }
        Err(Fault::Broken(what)) => {
            let message = format!("malformed pickle before byte {}: {what}", machine.at);
            Err(Error::new(ErrorKind::Corrupted, message))
        }
    }
}

enum Fault {
    Broken(&'static str),
    TooMany,
}

type Step<T = ()> = Result<T, Fault>;

fn broken<T>(what: &'static str) -> Step<T> {
    Err(Fault::Broken(what))
}

struct Machine<'a> {
    objects: Objects<'a>,
    at: usize,
    stack: Vec<Item>,
    /// Where on the stack the elements of containers under construction begin.
    marks: Vec<usize>,
    memo: Vec<Option<Item>>,
    /// How many entries the memo has; it may have gaps.
    remembered: usize,
    /// How many objects and memo entries there were, so that memory stays bounded.
    made: usize,
}

impl<'a> Machine<'a> {
    fn run(&mut self) -> Step {
        loop {
            let instruction = self.bytes(1)?[0];
            match instruction {
                b'.' => {
                    self.objects.root = self.pop()?;
                    return Ok(());
                }
                0x80 => {
                    if self.bytes(1)?[0] > 5 {
                        return broken("a protocol beyond 5");
                    }
                }
                0x95 => {
                    let length = self.length8()?;
                    self.available(length)?;
                }
                b'(' => {
                    // Each stands for a container whose elements follow; deeper ones could not be written out.
                    if self.marks.len() > json::MAX_DEPTH {
                        return broken("it is nested too deeply");
                    }
                    self.marks.push(self.stack.len());
                }
                b'N' => self.push(Item::None)?,
                0x88 => self.push(Item::Bool(true))?,
                0x89 => self.push(Item::Bool(false))?,
                b'K' => {
                    let value = self.bytes(1)?[0];
                    self.push(Item::Int(value.into()))?;
                }
                b'M' => {
                    let value = u16::from_le_bytes(self.array()?);
                    self.push(Item::Int(value.into()))?;
                }
                b'J' => {
                    let value = i32::from_le_bytes(self.array()?);
                    self.push(Item::Int(value.into()))?;
                }
                0x8a => {
                    let length = self.length1()?;
                    self.long(length)?;
                }
                0x8b => {
                    let length = self.length4()?;
                    self.long(length)?;
                }
                b'I' => self.int_line()?,
                b'L' => {
                    let mut line = self.line()?;
                    if let [rest @ .., b'L'] = self.objects.bytes(line) {
                        line.len = rest.len() as u32;
                    }
                    self.decimal(line)?;
                }
                b'G' => {
                    let value = f64::from_be_bytes(self.array()?);
                    self.push(Item::Float(value))?;
                }
                b'F' => {
                    let line = self.line()?;
                    let text = std::str::from_utf8(self.objects.bytes(line)).ok();
                    match text.and_then(|text| text.trim().parse().ok()) {
                        Some(value) => self.push(Item::Float(value))?,
                        None => return broken("a float that is none"),
                    }
                }
                0x8c => {
                    let length = self.length1()?;
                    self.text(length)?;
                }
                b'X' => {
                    let length = self.length4()?;
                    self.text(length)?;
                }
                0x8d => {
                    let length = self.length8()?;
                    self.text(length)?;
                }
                b'V' => self.unicode_line()?,
                b'U' => {
                    let length = self.length1()?;
                    self.ascii(length)?;
                }
                b'T' => {
                    let length = self.length4()?;
                    self.ascii(length)?;
                }
                b'S' => self.string_line()?,
                b'}' => self.push_container(Container::Dict(Vec::new()))?,
                b']' => self.push_container(Container::List(Vec::new()))?,
                b')' => self.push_container(Container::Tuple(Vec::new()))?,
                0x85..=0x87 => {
                    let items = self.take(usize::from(instruction - 0x84))?;
                    self.push_container(Container::Tuple(items))?;
                }
                b't' => {
                    let items = self.take_marked()?;
                    self.push_container(Container::Tuple(items))?;
                }
                b'l' => {
                    let items = self.take_marked()?;
                    self.push_container(Container::List(items))?;
                }
                b'd' => {
                    let items = self.take_marked()?;
                    self.push_container(Container::Dict(Vec::new()))?;
                    let from = self.stack.len();
                    self.stack.extend(items);
                    self.set_items(from)?;
                }
                b's' => {
                    let from = self.above(2)?;
                    self.set_items(from)?;
                }
                b'u' => {
                    let from = self.unmark()?;
                    self.set_items(from)?;
                }
                b'a' => {
                    let from = self.above(1)?;
                    self.append(from)?;
                }
                b'e' => {
                    let from = self.unmark()?;
                    self.append(from)?;
                }
                b'0' => match self.marks.last() {
                    Some(mark) if *mark == self.stack.len() => drop(self.marks.pop()),
                    _ => drop(self.pop()?),
                },
                b'1' => drop(self.take_marked()?),
                b'2' => {
                    let top = self.top()?;
                    self.push(top)?;
                }
                b'p' => {
                    let line = self.line()?;
                    let index = self.index(line)?;
                    self.remember(index)?;
                }
                b'q' => {
                    let index = self.length1()?;
                    self.remember(index)?;
                }
                b'r' => {
                    let index = self.length4()?;
                    self.remember(index)?;
                }
                0x94 => self.remember(self.remembered)?,
                b'g' => {
                    let line = self.line()?;
                    let index = self.index(line)?;
                    self.recall(index)?;
                }
                b'h' => {
                    let index = self.length1()?;
                    self.recall(index)?;
                }
                b'j' => {
                    let index = self.length4()?;
                    self.recall(index)?;
                }
                other => self.foreign_instruction(other)?,
            }
        }
    }

    /// The instructions for what JSON has no form for. Nothing is imported, called or built: a name stands for it.
    fn foreign_instruction(&mut self, instruction: u8) -> Step {
        match instruction {
            b'C' | b'B' | 0x8e | 0x96 => {
                let (length, name) = match instruction {
                    b'C' => (self.length1()?, "bytes"),
                    b'B' => (self.length4()?, "bytes"),
                    0x8e => (self.length8()?, "bytes"),
                    _ => (self.length8()?, "bytearray"),
                };
                self.bytes(length)?;
                self.push_foreign(Foreign::Known(name))
            }
            0x8f => self.push_foreign(Foreign::Known("set")),
            0x90 => {
                let from = self.unmark()?;
                self.ignore(from)
            }
            0x91 => {
                self.take_marked()?;
                self.push_foreign(Foreign::Known("frozenset"))
            }
            b'c' => {
                let (module, name) = (self.name_line()?, self.name_line()?);
                self.push_foreign(Foreign::Named { module, name })
            }
            0x93 => match (self.pop()?, self.pop()?) {
                (Item::Text(name), Item::Text(module)) => self.push_foreign(Foreign::Named { module, name }),
                _ => broken("a name that is no text"),
            },
            b'R' | 0x81 => {
                let arguments = self.pop()?;
                let called = self.pop()?;
                self.call(called, arguments)
            }
            0x92 => {
                let (_, arguments, called) = (self.pop()?, self.pop()?, self.pop()?);
                self.call(called, arguments)
            }
            b'o' => {
                let items = self.take_marked()?;
                match items.first() {
                    Some(class @ Item::Foreign(_)) => self.push(*class),
                    _ => broken("an instance without a class"),
                }
            }
            b'i' => {
                let (module, name) = (self.name_line()?, self.name_line()?);
                self.take_marked()?;
                self.push_foreign(Foreign::Named { module, name })
            }
            b'b' => {
                let from = self.above(1)?;
                self.ignore(from)
            }
            0x82..=0x84 => {
                self.bytes(1 << (instruction - 0x82))?;
                self.push_foreign(Foreign::Known("object of a registered extension"))
            }
            // Python's own reader needs a program's help for these, and fails in a cache.
            b'P' | b'Q' | 0x97 | 0x98 => broken("it refers to something outside of the pickle"),
            _ => broken("an instruction that does not exist"),
        }
    }

    fn call(&mut self, called: Item, arguments: Item) -> Step {
        let Item::Foreign(name) = called else { return broken("a call of what cannot be called") };
        let Item::Container(at) = arguments else { return broken("a call without arguments") };
        let Container::Tuple(arguments) = self.objects.container(at) else {
            return broken("a call without arguments");
        };
        let result = match arguments.first() {
            Some(class @ Item::Foreign(_)) if self.objects.is_rebuilder(name) => *class,
            _ if self.objects.is_bytes_maker(name) => return self.push_foreign(Foreign::Known("bytes")),
            _ => called,
        };
        self.push(result)
    }
}
