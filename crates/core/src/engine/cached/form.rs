//! What a record looks like in the cache.

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use bytes::Bytes;

use super::token::{Base, push_version, take_version};
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::store::Stored;
use crate::values::Values;
use crate::wire::session_data::{Codec, Format};

/// How records stand in the cache of a [`CachedStore`](super::CachedStore).
#[derive(Clone, Debug)]
pub enum CacheForm {
    /// As Django's `cached_db` engine writes and reads them: the plain data, not signed, in the form of a Django cache
    /// back end.
    Django(Codec),
    /// In a form of our own that says which row an entry is, for a cache that Django does not use: one in this process.
    Private {
        /// How long an entry is believed before the database is asked again. A cache in this process does not hear of
        /// what other processes do: this is how long a session that was signed out elsewhere stays readable here.
        max_age: Duration,
    },
}

/// What an entry of the cache says.
pub(super) enum Read {
    Hit {
        payload: Bytes,
        base: Base,
    },
    /// A marker, or too old to be believed.
    Nothing,
    Unreadable(Error),
}

/// The two halves' forms, and the way between them.
pub(super) enum Form {
    Django { cache: Codec, database: Codec },
    Private { max_age: i64, database: Codec },
}

/// The first byte of a payload that came out of Django's cache; JSON follows. Text that Django signs never starts so.
const SEEN: u8 = 0;
/// What an entry in private form starts with: a marker, or a record.
const MARKER: u8 = b'-';
const RECORD: u8 = b'+';

impl Form {
    pub(super) fn new(form: CacheForm, database: Codec) -> Self {
        match form {
            CacheForm::Django(cache) => Self::Django { cache, database },
            CacheForm::Private { max_age } => {
                Self::Private { max_age: i64::try_from(max_age.as_micros()).unwrap_or(i64::MAX), database }
            }
        }
    }

    /// The codec for what the store takes and hands out.
    pub(super) fn codec(&self) -> Codec {
        match self {
            Self::Django { database, .. } => Codec::new(Either { database: database.clone() }),
            Self::Private { database, .. } => database.clone(),
        }
    }

    /// What goes into the cache for a row.
    pub(super) fn write(&self, row: &Stored, now: Timestamp) -> Result<Bytes> {
        match self {
            Self::Django { cache, database } => cache.encode(&database.decode(&row.payload)?, now),
            Self::Private { .. } => {
                let mut entry = Vec::with_capacity(2 * row.payload.len() + 32);
                entry.push(RECORD);
                entry.extend_from_slice(&now.as_micros().to_be_bytes());
                push_version(&mut entry, Some(&row.version), &row.payload);
                entry.extend_from_slice(&row.payload);
                Ok(entry.into())
            }
        }
    }

    /// What an entry of the cache says.
    pub(super) fn read(&self, entry: &Stored, now: Timestamp) -> Read {
        match self {
            Self::Django { cache, .. } if cache.is_nothing(&entry.payload) => Read::Nothing,
            Self::Django { cache, .. } => match cache.decode(&entry.payload) {
                Ok(values) => {
                    let mut payload = vec![SEEN];
                    match values.write_json(&mut payload) {
                        Ok(()) => {
                            let payload = Bytes::from(payload);
                            Read::Hit { base: Base::Seen(payload.clone()), payload }
                        }
                        // It holds a Python value that JSON has no form for, which no row can hold either.
                        Err(failure) => Read::Unreadable(failure),
                    }
                }
                Err(failure) => Read::Unreadable(failure),
            },
            Self::Private { max_age, .. } => match entry.payload.first() {
                Some(&MARKER) => Read::Nothing,
                _ => match private_record(&entry.payload) {
                    // An entry from the future is as good as none: the clock was set back, and nobody knows how old it is.
                    Some((written, _, _)) if !(0..*max_age).contains(&now.micros_since(written)) => Read::Nothing,
                    Some((_, payload, base)) => Read::Hit { payload, base },
                    None => Read::Unreadable(Error::new(ErrorKind::Corrupted, "no entry that this version wrote")),
                },
            },
        }
    }

    /// A new marker, unlike any other; `None` if the cache's form has none.
    pub(super) fn marker(&self) -> Option<Bytes> {
        // Keys drawn from the system's randomness: two markers are alike once in 2^64.
        let nonce = RandomState::new().build_hasher().finish();
        match self {
            Self::Django { cache, .. } => cache.nothing(nonce),
            Self::Private { .. } => {
                let mut marker = vec![MARKER];
                marker.extend_from_slice(&nonce.to_be_bytes());
                Some(marker.into())
            }
        }
    }

    /// Whether a row holds the data that was seen in the cache.
    pub(super) fn holds(&self, row: &Stored, seen: &Bytes) -> bool {
        match self {
            Self::Private { .. } => row.payload == *seen,
            Self::Django { database, .. } => database.decode(&row.payload).is_ok_and(|values| {
                let mut json = vec![SEEN];
                values.write_json(&mut json).is_ok() && json == *seen
            }),
        }
    }

    /// A row's payload on its way out. One that passes itself off as coming from the cache, where nothing is signed,
    /// is no payload.
    pub(super) fn outgoing(&self, payload: Bytes) -> Bytes {
        match self {
            Self::Django { .. } if payload.first() == Some(&SEEN) => Bytes::new(),
            _ => payload,
        }
    }
}

impl fmt::Debug for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Django { cache, .. } => write!(f, "Django({cache:?})"),
            Self::Private { .. } => f.write_str("Private"),
        }
    }
}

/// When an entry in private form was written, and its record.
fn private_record(entry: &Bytes) -> Option<(Timestamp, Bytes, Base)> {
    let rest = entry.strip_prefix(&[RECORD])?;
    let (written, rest) = rest.split_first_chunk::<8>()?;
    let rest = entry.slice_ref(rest);
    let (version, payload) = take_version(&rest)?;
    Some((Timestamp::from_micros(i64::from_be_bytes(*written)), payload.clone(), Base::Row(version.of(&payload)?)))
}

/// The database's form, and what came out of Django's cache.
struct Either {
    database: Codec,
}

impl Format for Either {
    fn name(&self) -> &'static str {
        "the database's form, or data from the cache"
    }

    fn encode(&self, values: &Values, now: Timestamp) -> Result<Bytes> {
        self.database.encode(values, now)
    }

    fn decode(&self, payload: &[u8]) -> Result<Values> {
        match payload.split_first() {
            Some((&SEEN, json)) => Values::parse(json.to_vec()),
            _ => self.database.decode(payload),
        }
    }

    fn read(&self, payload: &Bytes) -> Result<(Values, bool)> {
        match payload.first() {
            Some(&SEEN) => Ok((Values::parse_shared(payload.slice(1..))?, true)),
            _ => self.database.read(payload),
        }
    }
}
