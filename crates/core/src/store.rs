//! The contract between the session framework and the places where sessions are kept.

use async_trait::async_trait;
use bytes::Bytes;

use crate::clock::Timestamp;
use crate::error::Result;
use crate::key::SessionKey;

/// A place where session records are kept: a table, a directory, a cache.
///
/// A store meets neither JSON nor cryptography: it keeps opaque payloads under keys, each with a moment at which it
/// expires. Everything above (format, merge, response policy) is built on these operations, and each of them is one
/// exchange with whatever keeps the data. Seven are required; [`rotate`](Self::rotate) is for stores that can do in one
/// exchange what otherwise takes two.
///
/// # What every implementation must hold
/// - **`Err` is a failure of the system**, never an expected outcome. A missing record is `None` or `Gone`; a store
///   that cannot be reached is [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable). One mistaken for the other
///   signs visitors out.
/// - **Expired is gone** for `load` and `touch`, by the [`Clock`](crate::Clock) the store was given. A record whose
///   expiry equals now has expired. For `replace` and `delete` an expired record that still stands may count as
///   either; for `create` it may count as taken.
/// - **No operation but `create` makes a record.** `replace`, `touch` and `rotate` on a record that was deleted answer
///   `Gone`; so a signed-out session never comes back.
/// - **`replace`, `rotate` and guarded `delete` are atomic compare-and-swap** on the record's [`Version`], also between
///   processes, if the store can be shared between processes.
/// - Keys come only from the framework and satisfy [`SessionKey::is_storable`]: a store need not check them.
///
/// The suite in `conformance::store` (feature `conformance`) tries all of it.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// The record under `key`, unless there is none or it has expired. Never creates anything.
    async fn load(&self, key: &SessionKey) -> Result<Option<Stored>>;

    /// Makes a record, if none stands under `key`.
    async fn create(&self, key: &SessionKey, payload: Bytes, expiry: Timestamp) -> Result<Created>;

    /// Replaces the record under `key` if it still is the `version` that was loaded.
    async fn replace(&self, key: &SessionKey, version: &Version, payload: Bytes, expiry: Timestamp)
    -> Result<Replaced>;

    /// Moves the expiry of a record that stands, without rewriting its payload. Its [`Version`] may stay or change.
    async fn touch(&self, key: &SessionKey, expiry: Timestamp) -> Result<Touched>;

    /// Deletes the record under `key`; with a `version`, only if it still is that one.
    ///
    /// Rotation deletes the old record with a version, so that a change which another request made meanwhile is
    /// carried over and not deleted with it. A sign-out deletes whatever stands there.
    async fn delete(&self, key: &SessionKey, version: Option<&Version>) -> Result<Deleted>;

    /// Replaces the record under `old` by one under `new`, if it still is the `version` that was loaded: all of it at
    /// once, in one exchange.
    ///
    /// A store that cannot do so leaves everything as it is and answers [`Rotated::Unsupported`], as this default does.
    /// A rotation then is a `create` under the new key and a guarded `delete` of the old record. A store that wraps
    /// another one passes the call on; the lint `clippy::missing_trait_methods` sees to that.
    async fn rotate(
        &self,
        old: &SessionKey,
        version: &Version,
        new: &SessionKey,
        payload: Bytes,
        expiry: Timestamp,
    ) -> Result<Rotated> {
        let _ = (old, version, new, payload, expiry);
        Ok(Rotated::Unsupported)
    }

    /// Removes up to `batch` expired records, so that a call is bounded work and concurrent writers keep going.
    async fn clear_expired(&self, batch: usize) -> Result<Cleared>;

    /// Up to `limit` keys in ascending order, those after `after`; expired records may be among them.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) where the technology cannot list.
    async fn list(&self, after: Option<&SessionKey>, limit: usize) -> Result<Vec<SessionKey>>;
}

/// A record as it stands in a store.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The bytes that were stored.
    pub payload: Bytes,
    /// What `replace` and guarded `delete` compare.
    pub version: Version,
    /// When the record expires; [`Timestamp::MAX`] if the store cannot tell, because a server keeps the time and does
    /// not hand it out with the payload.
    pub expiry: Timestamp,
}

/// A store's own token for one state of one record: a counter, a `cas` number, or the payload itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Version(VersionRepr);

#[derive(Clone, PartialEq, Eq)]
enum VersionRepr {
    Counter(u64),
    Payload(Bytes),
}

impl Version {
    /// A version that is a number.
    pub fn counter(number: u64) -> Self {
        Self(VersionRepr::Counter(number))
    }

    /// A version that is the stored payload itself, for stores that compare it. Cloning `Bytes` copies nothing.
    pub fn payload(payload: Bytes) -> Self {
        Self(VersionRepr::Payload(payload))
    }

    /// The number, if this is one.
    pub fn as_counter(&self) -> Option<u64> {
        match self.0 {
            VersionRepr::Counter(number) => Some(number),
            VersionRepr::Payload(_) => None,
        }
    }

    /// The payload, if this is one.
    pub fn as_payload(&self) -> Option<&Bytes> {
        match &self.0 {
            VersionRepr::Payload(payload) => Some(payload),
            VersionRepr::Counter(_) => None,
        }
    }
}

impl std::fmt::Debug for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            VersionRepr::Counter(number) => write!(f, "Version({number})"),
            VersionRepr::Payload(payload) => write!(f, "Version({} bytes)", payload.len()),
        }
    }
}

/// The outcome of [`Store::create`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Created {
    /// The record stands, at this version.
    Created(Version),
    /// A record stands under the key already; it was not touched.
    Taken,
}

/// The outcome of [`Store::replace`].
#[derive(Clone, Debug)]
pub enum Replaced {
    /// The new payload stands, at this version.
    Replaced(Version),
    /// Another version stands, and is handed over; it was not touched.
    Conflict(Stored),
    /// No record stands; none was made.
    Gone,
}

/// The outcome of [`Store::rotate`].
#[derive(Clone, Debug)]
pub enum Rotated {
    /// The new payload stands under the new key, at this version, and nothing under the old one.
    Rotated(Version),
    /// A record stands under the new key already; neither was touched.
    Taken,
    /// Another version than the one given stands under the old key, and is handed over; it was not touched.
    Conflict(Stored),
    /// No record stands under the old key; none was made.
    Gone,
    /// This store cannot do that in one exchange; nothing was touched.
    Unsupported,
}

/// The outcome of [`Store::touch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touched {
    /// The expiry was moved.
    Touched,
    /// No record stands; none was made.
    Gone,
}

/// The outcome of [`Store::delete`].
#[derive(Clone, Debug)]
pub enum Deleted {
    /// A record stood, and no longer does.
    Deleted,
    /// No record stood.
    Gone,
    /// Another version than the one given stands, and is handed over; it was not touched.
    Conflict(Stored),
}

/// The outcome of [`Store::clear_expired`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cleared {
    /// How many records this call removed.
    pub removed: u64,
    /// Whether more may be left: call again.
    pub more: bool,
}
