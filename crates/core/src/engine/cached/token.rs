//! The versions that a store with a cache in front hands out: what the row was, and what the cache's entry was.

use bytes::{Buf, BufMut, Bytes};

use crate::error::{Error, ErrorKind, Result};
use crate::store::Version;

/// What a change is based on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Base {
    /// This version of the row.
    Row(Version),
    /// This data, as it was seen in a cache that does not know versions.
    Seen(Bytes),
}

/// A version of the whole: the row's, and that of the cache's entry, if one stood there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) base: Base,
    pub(super) entry: Option<Version>,
}

const ROW: u8 = 1;
const SEEN: u8 = 2;

const NONE: u8 = 0;
const COUNTER: u8 = 1;
const PAYLOAD: u8 = 2;
/// The payload that stands beside it.
const SAME: u8 = 3;

impl From<Token> for Version {
    fn from(token: Token) -> Self {
        let mut bytes = Vec::new();
        match &token.base {
            Base::Row(version) => {
                bytes.put_u8(ROW);
                push_version(&mut bytes, Some(version), &[]);
            }
            Base::Seen(seen) => {
                bytes.put_u8(SEEN);
                push_bytes(&mut bytes, seen);
            }
        }
        push_version(&mut bytes, token.entry.as_ref(), &[]);
        Version::payload(bytes.into())
    }
}

impl TryFrom<&Version> for Token {
    type Error = Error;

    fn try_from(version: &Version) -> Result<Self> {
        let read = || {
            let bytes = version.as_payload()?;
            let mut rest = bytes.clone();
            let base = match rest.try_get_u8().ok()? {
                ROW => {
                    let (version, after) = take_version(&rest)?;
                    rest = after;
                    Base::Row(version.of(&Bytes::new())?)
                }
                SEEN => Base::Seen(take_bytes(&mut rest)?),
                _ => return None,
            };
            let (entry, _) = take_version(&rest)?;
            Some(Self { base, entry: entry.of(&Bytes::new()) })
        };
        read().ok_or_else(|| Error::new(ErrorKind::Unsupported, "this version comes from another store"))
    }
}

fn push_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.put_u64(bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn take_bytes(rest: &mut Bytes) -> Option<Bytes> {
    let length = usize::try_from(rest.try_get_u64().ok()?).ok()?;
    (length <= rest.len()).then(|| rest.split_to(length))
}

/// Appends a version; that of a payload which stands beside it anyway takes a byte.
pub(super) fn push_version(out: &mut Vec<u8>, version: Option<&Version>, beside: &[u8]) {
    match version.map(|version| (version.as_counter(), version.as_payload())) {
        Some((Some(counter), _)) => {
            out.put_u8(COUNTER);
            out.put_u64(counter);
        }
        Some((_, Some(payload))) if !beside.is_empty() && *payload == beside => out.put_u8(SAME),
        Some((_, Some(payload))) => {
            out.put_u8(PAYLOAD);
            push_bytes(out, payload);
        }
        _ => out.put_u8(NONE),
    }
}

/// A version as it was written.
pub(super) enum Written {
    None,
    Version(Version),
    Same,
}

impl Written {
    /// The version, if there is one; `beside` is the payload that stood beside it.
    pub(super) fn of(self, beside: &Bytes) -> Option<Version> {
        match self {
            Self::None => None,
            Self::Version(version) => Some(version),
            Self::Same => Some(Version::payload(beside.clone())),
        }
    }
}

/// Reads a version, and returns what follows it.
pub(super) fn take_version(bytes: &Bytes) -> Option<(Written, Bytes)> {
    let mut rest = bytes.clone();
    let version = match rest.try_get_u8().ok()? {
        NONE => Written::None,
        COUNTER => Written::Version(Version::counter(rest.try_get_u64().ok()?)),
        PAYLOAD => Written::Version(Version::payload(take_bytes(&mut rest)?)),
        SAME => Written::Same,
        _ => return None,
    };
    Some((version, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn version() -> impl Strategy<Value = Version> {
        prop_oneof![
            any::<u64>().prop_map(Version::counter),
            any::<Vec<u8>>().prop_map(|payload| Version::payload(payload.into())),
        ]
    }

    proptest! {
        #[test]
        fn tokens_come_back(
            base in prop_oneof![
                version().prop_map(Base::Row),
                any::<Vec<u8>>().prop_map(|seen| Base::Seen(seen.into())),
            ],
            entry in proptest::option::of(version()),
        ) {
            let token = Token { base, entry };
            prop_assert_eq!(&Token::try_from(&Version::from(token.clone())).unwrap(), &token);
        }

        #[test]
        fn versions_stand_beside_their_payload(version in version(), same: bool, payload: Vec<u8>) {
            let payload = Bytes::from(payload);
            let version = if same { Version::payload(payload.clone()) } else { version };
            let mut out = Vec::new();
            push_version(&mut out, Some(&version), &payload);
            out.extend_from_slice(&payload);
            let (written, rest) = take_version(&out.into()).unwrap();
            prop_assert_eq!(written.of(&payload), Some(version));
            prop_assert_eq!(rest, payload);
        }

        #[test]
        fn foreign_versions_are_refused_or_read(bytes: Vec<u8>) {
            let _ = Token::try_from(&Version::payload(bytes.into()));
        }
    }

    #[test]
    fn a_counter_is_from_another_store() {
        assert_eq!(Token::try_from(&Version::counter(1)).unwrap_err().kind(), ErrorKind::Unsupported);
    }
}
