//! A payload is read once, though two ask what is in it: the store for its expiry, then the session for its data.

use std::cell::RefCell;
use std::sync::Arc;

use bytes::Bytes;

use super::Dating;
use crate::clock::Timestamp;
use crate::error::Result;
use crate::values::Values;
use crate::wire::expiry::{EXPIRY_KEY, ExpiryRules, Lifetime};
use crate::wire::session_data::{Codec, Format};

thread_local! {
    /// What this thread has read or written last, until somebody asks for it.
    static LAST: RefCell<Option<Known>> = const { RefCell::new(None) };
}

/// What a payload holds, by its codec; and whether that would write it so today.
struct Known {
    codec: Codec,
    payload: Bytes,
    read: (Values, bool),
}

/// A codec for a [`FileStore`](super::FileStore)'s payloads, and how the store dates them: by what the codec reads and
/// these rules say.
///
/// Whichever of both has a payload first hands what is in it over to the other on the same thread, as long as it is the
/// same payload, byte for byte: so a load reads it once, and a save not at all.
pub fn dated(codec: Codec, rules: ExpiryRules) -> (Codec, Dating) {
    let once = Once(codec);
    let dating = once.clone();
    let lifetime = move |payload: &Bytes| {
        // What cannot be read has no expiry of its own: it goes when a session without one would.
        let values = dating.look(payload).unwrap_or_default();
        rules.lifetime(values.get_raw(EXPIRY_KEY)).unwrap_or(Lifetime::Sliding(rules.cookie_age))
    };
    (Codec::new(once), Arc::new(lifetime))
}

/// The form of a codec that hands over.
#[derive(Clone)]
struct Once(Codec);

impl Once {
    fn hand_over(&self, payload: &Bytes, read: (Values, bool)) {
        LAST.set(Some(Known { codec: self.0.clone(), payload: payload.clone(), read }));
    }

    fn take(&self, payload: &[u8]) -> Option<(Values, bool)> {
        let is_it = |known: &mut Known| known.codec.is_same(&self.0) && known.payload == payload;
        LAST.with_borrow_mut(|last| last.take_if(is_it)).map(|known| known.read)
    }

    /// What is in a payload that was just written, or that somebody is going to read.
    fn look(&self, payload: &Bytes) -> Result<Values> {
        if let Some((values, _)) = self.take(payload) {
            return Ok(values);
        }
        let read = self.0.read(payload)?;
        let values = read.0.clone();
        self.hand_over(payload, read);
        Ok(values)
    }
}

impl Format for Once {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn encode(&self, values: &Values, now: Timestamp) -> Result<Bytes> {
        let payload = self.0.encode(values, now)?;
        self.hand_over(&payload, (values.clone(), true));
        Ok(payload)
    }

    fn decode(&self, payload: &[u8]) -> Result<Values> {
        self.take(payload).map_or_else(|| self.0.decode(payload), |(values, _)| Ok(values))
    }

    fn decode_dated(&self, payload: &[u8]) -> Result<(Values, Option<Timestamp>)> {
        self.0.decode_dated(payload)
    }

    fn read(&self, payload: &Bytes) -> Result<(Values, bool)> {
        self.take(payload).map_or_else(|| self.0.read(payload), Ok)
    }

    fn is_current(&self, payload: &[u8]) -> bool {
        self.0.is_current(payload)
    }

    fn nothing(&self, nonce: u64) -> Option<Bytes> {
        self.0.nothing(nonce)
    }

    fn is_nothing(&self, payload: &[u8]) -> bool {
        self.0.is_nothing(payload)
    }
}
