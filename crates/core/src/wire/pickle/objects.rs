//! What a pickle has made: objects that refer to each other.

use std::borrow::Cow;

/// A place in what was read: in the pickle, or behind it in [`Objects::extra`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: u32,
    pub(super) len: u32,
}

/// An object, or the place of one that others may share.
#[derive(Clone, Copy, Debug)]
pub(super) enum Item {
    None,
    Bool(bool),
    Int(i64),
    /// A longer integer: its decimal digits.
    Long(Span),
    Float(f64),
    /// Python's text in UTF-8, with halves of surrogate pairs perhaps.
    Text(Span),
    /// A list, a tuple or a dictionary.
    Container(u32),
    /// An instance of a class, or a class or function itself: it is not made, only its name is known.
    Foreign(u32),
}

pub(super) enum Container {
    List(Vec<Item>),
    Tuple(Vec<Item>),
    Dict(Vec<(Item, Item)>),
}

/// What is known of a foreign object.
#[derive(Clone, Copy)]
pub(super) enum Foreign {
    Known(&'static str),
    Named { module: Span, name: Span },
}

/// All objects of a pickle, and the last that stood on its stack.
pub(super) struct Objects<'a> {
    pub(super) input: &'a [u8],
    /// Text that had to be decoded, and digits of long integers.
    pub(super) extra: Vec<u8>,
    pub(super) containers: Vec<Container>,
    pub(super) foreign: Vec<Foreign>,
    pub(super) root: Item,
}

/// The name of a type is cut to so many characters in messages.
const MAX_NAME: usize = 120;

impl<'a> Objects<'a> {
    pub(super) fn new(input: &'a [u8]) -> Self {
        Self { input, extra: Vec::new(), containers: Vec::with_capacity(8), foreign: Vec::new(), root: Item::None }
    }

    pub(super) fn bytes(&self, span: Span) -> &[u8] {
        let (start, len) = (span.start as usize, span.len as usize);
        match start.checked_sub(self.input.len()) {
            Some(start) => &self.extra[start..start + len],
            None => &self.input[start..start + len],
        }
    }

    pub(super) fn container(&self, at: u32) -> &Container {
        &self.containers[at as usize]
    }

    /// The name of an object's type as Python would show it: `datetime.datetime`.
    pub(super) fn type_name(&self, item: Item) -> Cow<'static, str> {
        Cow::Borrowed(match item {
            Item::None => "NoneType",
            Item::Bool(_) => "bool",
            Item::Int(_) | Item::Long(_) => "int",
            Item::Float(_) => "float",
            Item::Text(_) => "str",
            Item::Container(at) => match self.container(at) {
                Container::List(_) => "list",
                Container::Tuple(_) => "tuple",
                Container::Dict(_) => "dict",
            },
            Item::Foreign(at) => match self.foreign[at as usize] {
                Foreign::Known(name) => name,
                Foreign::Named { module, name } => return Cow::Owned(self.qualified(module, name)),
            },
        })
    }

    fn qualified(&self, module: Span, name: Span) -> String {
        let text = |span| String::from_utf8_lossy(self.bytes(Span { len: span_limit(span), ..span })).into_owned();
        let (module, name) = (text(module), text(name));
        let whole = match module.as_str() {
            "builtins" | "__builtin__" => name,
            _ => format!("{module}.{name}"),
        };
        // It ends up in messages and logs, and comes from whoever wrote the pickle.
        whole.chars().take(MAX_NAME).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
    }

    /// Whether a named object comes from the module that rebuilds instances of other classes.
    pub(super) fn is_rebuilder(&self, foreign: u32) -> bool {
        match self.foreign[foreign as usize] {
            Foreign::Named { module, .. } => matches!(self.bytes(module), b"copyreg" | b"copy_reg"),
            Foreign::Known(_) => false,
        }
    }

    /// Whether a named object is the function that makes `bytes` in the protocols which have no instruction for it.
    pub(super) fn is_bytes_maker(&self, foreign: u32) -> bool {
        match self.foreign[foreign as usize] {
            Foreign::Named { module, name } => self.bytes(module) == b"_codecs" && self.bytes(name) == b"encode",
            Foreign::Known(_) => false,
        }
    }
}

/// No more of a name is looked at than could be shown.
fn span_limit(span: Span) -> u32 {
    span.len.min(4 * MAX_NAME as u32)
}
