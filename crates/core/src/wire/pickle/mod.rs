//! Python's pickle, as data: what Django's cache back ends store, read without ever executing anything.
//!
//! A pickle is a program for a small stack machine, and Python's own reader lets it call any function. The reader here
//! knows the instructions that make plain data, in protocols 0 to 5: dictionaries, lists, tuples (which become lists),
//! text, numbers, booleans, `None`. An instruction that names or calls a class leaves a mark in place of the object:
//! the session's item that holds it is opaque (see [`Values`]), all others can be read, and nothing is written over it.
//!
//! Input may come from anyone who can write to the cache. Memory and work are bounded by [`MAX_PICKLE`],
//! [`MAX_OBJECTS`], [`MAX_EXPANDED`] and JSON's [`MAX_DEPTH`](crate::json::MAX_DEPTH), whatever the pickle says about
//! its own sizes, and however often it refers to the same object.

mod decimal;
mod emit;
mod machine;
mod objects;
mod straight;
mod write;

#[cfg(test)]
mod tests;

use bytes::Bytes;

use super::session_data::{Codec, Format};
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::values::Values;

/// The largest pickle that is read, in bytes.
pub const MAX_PICKLE: usize = 64 << 20;

/// How many objects a pickle that is read may make.
pub const MAX_OBJECTS: usize = 1 << 20;

/// The longest JSON text that a pickle may come to, in bytes, once what is shared in it is written out.
///
/// A small one has less: 4 MB and 16 times its own size.
pub const MAX_EXPANDED: usize = 64 << 20;

/// So much, and 16 times its own size, any pickle may come to.
const ALWAYS_EXPANDED: usize = 4 << 20;

/// The pickle protocol that is written. Python reads them all, whichever it writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// Protocol 2, of Python 2.3.
    V2 = 2,
    /// Protocol 3, of Python 3.0.
    V3 = 3,
    /// Protocol 4, of Python 3.4, and what Python up to 3.13 writes by default.
    V4 = 4,
    /// Protocol 5, of Python 3.8: the highest.
    V5 = 5,
}

impl Protocol {
    /// What Django's own back ends for Redis and Memcached write.
    pub const DJANGO: Self = Self::V5;
    /// What django-redis writes, unless its option `PICKLE_VERSION` says otherwise.
    pub const DJANGO_REDIS: Self = Self::V4;

    /// The protocol of django-redis' option `PICKLE_VERSION`; -1 is the highest. For 0 and 1, which Python 3 still
    /// writes but no reader needs, 2 is written.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] if there is no such protocol.
    pub fn from_option(version: i64) -> Result<Self> {
        Ok(match version {
            ..0 | 5 => Self::V5,
            0..=2 => Self::V2,
            3 => Self::V3,
            4 => Self::V4,
            _ => {
                let message =
                    format!("PICKLE_VERSION is {version}; write a protocol from 0 to 5, or -1 for the highest");
                return Err(Error::new(ErrorKind::Configuration, message));
            }
        })
    }
}

/// Reads a pickled session, as Python's `pickle.loads`, without executing anything.
///
/// Keys that are no text become it as in Python's `json`; a key that cannot stands as an opaque item under the name of
/// its type, such as `<tuple>`.
///
/// # Errors
/// [`ErrorKind::Corrupted`] if the bytes are not a pickle that Python could read, or no dictionary;
/// [`ErrorKind::TooLarge`] if it is larger, or comes to more, than is read here.
pub fn loads(pickle: &[u8]) -> Result<Values> {
    if let Some(values) = straight::values(pickle) {
        return Ok(values);
    }
    by_machine(pickle)
}

/// Reads whatever can be read; [`straight`] only what is plain, to the same end.
fn by_machine(pickle: &[u8]) -> Result<Values> {
    let objects = machine::run(pickle)?;
    emit::values(&objects)
}

/// Pickles a session as Python would.
///
/// Python refers back to what it met before if it is the same object. Here that is a text that was written before.
///
/// # Errors
/// [`ErrorKind::Unrepresentable`] if an item is opaque.
pub fn dumps(values: &Values, protocol: Protocol) -> Result<Vec<u8>> {
    values.check_writable()?;
    Ok(write::pickle(values, protocol))
}

impl Codec {
    /// Pickles, what Django's cache back ends store. They read any protocol.
    pub fn pickle(protocol: Protocol) -> Self {
        Self::new(Pickle(protocol))
    }
}

struct Pickle(Protocol);

impl Format for Pickle {
    fn name(&self) -> &'static str {
        "pickle"
    }

    fn encode(&self, values: &Values, _: Timestamp) -> Result<Bytes> {
        dumps(values, self.0).map(Bytes::from)
    }

    fn decode(&self, payload: &[u8]) -> Result<Values> {
        loads(payload)
    }

    fn nothing(&self, nonce: u64) -> Option<Bytes> {
        // Python does not read what follows the end.
        Some([0x80, self.0 as u8, b'N', b'.'].into_iter().chain(nonce.to_be_bytes()).collect())
    }

    fn is_nothing(&self, payload: &[u8]) -> bool {
        matches!(payload, [0x80, _, b'N', b'.', ..] | [b'N', b'.', ..])
    }
}
