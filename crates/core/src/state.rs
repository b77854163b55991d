//! What is known of one request's session, and how each operation changes it. No I/O happens here.

use std::sync::Arc;

use bytes::Bytes;
use tracing::debug;
use tracing::field::{DisplayValue, display};

use crate::delta::{Change, Delta, Updater};
use crate::error::{Error, ErrorKind, Result};
use crate::json::RawJson;
use crate::key::SessionKey;
use crate::store::Version;
use crate::values::Values;

/// What stands in the store under the session's key.
#[derive(Clone, Debug)]
pub(crate) enum Record {
    /// The store was not asked yet.
    Unread,
    /// Nothing: there is no key, or it was drawn for a record that is yet to be made.
    Absent,
    /// The record that was loaded or saved, at this version.
    Standing(Version),
    /// Nobody knows: the store did not answer, and the visitor is served without a session, which is empty and
    /// read-only.
    Unreachable,
    /// A record that we cannot read: tampered with, damaged, or signed with another secret. It is never overwritten.
    Unreadable,
    /// Nothing any more: the session was loaded, and then ended elsewhere. No save makes it again.
    Gone,
}

/// A record that the next save deletes, whose session goes on under another key or not at all.
#[derive(Clone, Debug)]
pub(crate) struct Retired {
    pub(crate) key: SessionKey,
    /// A rotation deletes only the version whose changes were carried over; a sign-out deletes whatever stands there.
    pub(crate) only: Option<Version>,
}

/// The state of one request's session.
pub(crate) struct State {
    pub(crate) key: Option<SessionKey>,
    pub(crate) record: Record,
    /// What the standing record holds, as it was loaded or saved.
    pub(crate) payload: Bytes,
    pub(crate) retired: Option<Arc<Retired>>,
    pub(crate) values: Values,
    pub(crate) delta: Delta,
    pub(crate) loaded: bool,
    pub(crate) accessed: bool,
    pub(crate) modified: bool,
    /// Something is to be saved that was not saved yet. Unlike `modified`, a save resets it.
    pub(crate) unsaved: bool,
    /// A save succeeded in this request, and nothing changed since.
    pub(crate) saved: bool,
    /// The record is signed with a fallback secret: the next save rewrites it, even if nothing changed.
    pub(crate) stale: bool,
    /// A save has moved the record to another key than the browser's, and deleted that one.
    pub(crate) moved: bool,
    /// How often the session was ended. A save that was under way meanwhile is none of what follows.
    pub(crate) ends: u32,
    /// How many changes were made to it.
    pub(crate) edits: u64,
    /// A save's outcome is unknown; trying again could apply the changes twice.
    pub(crate) in_doubt: bool,
    /// The response is none of this session's business any more.
    pub(crate) detached: bool,
}

impl State {
    #[inline]
    pub(crate) fn new(key: Option<SessionKey>) -> Self {
        Self {
            record: if key.is_some() { Record::Unread } else { Record::Absent },
            loaded: false,
            key,
            payload: Bytes::new(),
            retired: None,
            values: Values::new(),
            delta: Delta::default(),
            accessed: false,
            modified: false,
            unsaved: false,
            saved: false,
            stale: false,
            moved: false,
            ends: 0,
            edits: 0,
            in_doubt: false,
            detached: false,
        }
    }

    /// Django's `is_empty`: no key, and no data that was loaded or set. Does not load.
    pub(crate) fn is_empty(&self) -> bool {
        self.key.is_none() && self.values.is_empty()
    }

    pub(crate) fn is_unreadable(&self) -> bool {
        matches!(self.record, Record::Unreadable)
    }

    /// Whether the store did not answer, and changes are therefore refused.
    pub(crate) fn is_unreachable(&self) -> bool {
        matches!(self.record, Record::Unreachable)
    }

    /// The reason why a change is refused, if it is.
    pub(crate) fn check_writable(&self) -> Result<()> {
        if self.is_unreachable() { Err(unreachable()) } else { Ok(()) }
    }

    /// The store holds nothing under the presented key: it is dropped, never adopted.
    pub(crate) fn found_nothing(&mut self) {
        self.key = None;
        self.record = Record::Absent;
        self.values = Values::new();
        self.loaded = true;
    }

    pub(crate) fn found(&mut self, values: Values, record: Record) {
        self.values = values;
        self.record = record;
        self.loaded = true;
    }

    pub(crate) fn mark_modified(&mut self) {
        self.modified = true;
        self.unsaved = true;
        self.saved = false;
        self.edits += 1;
    }

    /// Makes a change and remembers it; one that fails leaves everything as it was.
    pub(crate) fn change(&mut self, change: Change) -> Result<()> {
        self.accessed = true;
        self.check_writable()?;
        change.apply(&mut self.values)?;
        match &change {
            Change::Set(item, value) | Change::SetDefault(item, value) => self.trace("set", item, value.as_str().len()),
            Change::Remove(item) => self.trace("removed", item, 0),
            Change::Update(item, _) => self.trace("updated", item, self.values.get_raw(item).map_or(0, str::len)),
            Change::Clear => debug!(key = self.masked_key(), "change: cleared"),
        }
        self.delta.push(change);
        self.mark_modified();
        Ok(())
    }

    /// Makes a change for a caller who cannot be told that it is refused: whoever saves the session is.
    pub(crate) fn change_or_mark(&mut self, change: Change) {
        // Only an update's closure can fail otherwise, and that is no such change.
        if self.change(change).is_err() {
            self.mark_modified();
        }
    }

    /// Makes an update whose closure was run already, on what stands here now, and came to `value`.
    pub(crate) fn update(&mut self, key: Arc<str>, value: Option<RawJson>, update: Updater) -> Result<()> {
        self.check_writable()?;
        self.trace("updated", &key, value.as_ref().map_or(0, |value| value.as_str().len()));
        match value {
            Some(value) => self.values.insert_raw(&key, value),
            None => drop(self.values.remove(&key)),
        }
        self.delta.push(Change::Update(key, update));
        self.mark_modified();
        Ok(())
    }

    pub(crate) fn remove(&mut self, key: &str) -> Option<RawJson> {
        self.accessed = true;
        if self.is_unreachable() {
            // Nothing is here, but something may stand there.
            self.mark_modified();
            return None;
        }
        let removed = self.values.remove(key)?;
        self.trace("removed", key, 0);
        self.delta.push(Change::Remove(key.into()));
        self.mark_modified();
        Some(removed)
    }

    /// Ends the session: its data is gone, it has no key, and the next save deletes its record whatever it holds.
    pub(crate) fn flush(&mut self) {
        debug!(key = self.masked_key(), "change: the session is ended");
        match (self.key.take(), &self.record) {
            (Some(key), Record::Standing(_) | Record::Unreadable | Record::Unread | Record::Unreachable) => {
                self.retired = Some(Arc::new(Retired { key, only: None }));
            }
            _ => {
                if let Some(retired) = &mut self.retired {
                    Arc::make_mut(retired).only = None;
                }
            }
        }
        self.record = Record::Absent;
        self.values = Values::new();
        self.delta = Delta::default();
        self.loaded = true;
        self.accessed = true;
        self.moved = false;
        // What may have become of an earlier save does not matter: its record is deleted whatever it holds.
        self.in_doubt = false;
        self.ends += 1;
        self.mark_modified();
    }

    /// Goes on under `new`: the next save makes the new record, and then deletes the old one.
    pub(crate) fn rotate(&mut self, new: SessionKey) {
        debug!(key = self.masked_key(), new = %new.masked(), "change: a new key");
        if let (Some(key), Record::Standing(version)) = (self.key.take(), &self.record) {
            self.retired = Some(Arc::new(Retired { key, only: Some(version.clone()) }));
        }
        self.key = Some(new);
        if !matches!(self.record, Record::Gone) {
            self.record = Record::Absent;
        }
        self.accessed = true;
        self.mark_modified();
    }

    /// Tells of a change: the item's name and its size in bytes, never its value.
    fn trace(&self, what: &str, item: &str, bytes: usize) {
        debug!(key = self.masked_key(), item, bytes, "change: {what}");
    }

    /// The key as the log may show it; nothing for a session without one.
    pub(crate) fn masked_key(&self) -> Option<DisplayValue<String>> {
        self.key.as_ref().map(SessionKey::masked).map(display)
    }
}

/// Why a change of a session is refused whose store did not answer.
fn unreachable() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "the session store did not answer when this session was loaded, and its visitor is served without a session \
         (SESSION_ON_UNAVAILABLE = \"anonymous\"): what is changed could not be saved, and is refused",
    )
}
