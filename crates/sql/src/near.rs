//! Records that were read, kept in this process, where the database tells what changes.

use std::sync::Arc;

use cloakroom_core::SessionKey;
use cloakroom_core::near::{Changing, Kept, Moment, NearCache, Reservation};
use cloakroom_core::store::{Stored, Version};
use tracing::debug;

/// What a [dialect](crate::Dialect) has of a near cache: `()` where there is none, which costs nothing.
pub trait Near: Send + Sync {
    /// What is held while a record is being loaded.
    type Place<'a>: Send
    where
        Self: 'a;

    /// What is held while a record is being changed.
    type Changing<'a>: Send
    where
        Self: 'a;

    /// A record that may be served without asking the database.
    fn get(&self, key: &SessionKey) -> Option<Stored>;

    /// A place for what the database is about to be asked for.
    fn reserve<'a>(&'a self, key: &'a SessionKey) -> Self::Place<'a>;

    /// Keeps what was loaded, if the record did not change meanwhile, and hands it on.
    fn keep(place: Self::Place<'_>, stored: Option<Stored>) -> Option<Stored>;

    /// To be held from before a record is changed until that is done or given up.
    fn changing<'a>(&'a self, key: &'a SessionKey) -> Self::Changing<'a>;
}

impl Near for () {
    type Place<'a> = ();
    type Changing<'a> = ();

    fn get(&self, _: &SessionKey) -> Option<Stored> {
        None
    }

    fn reserve<'a>(&'a self, _: &'a SessionKey) {}

    fn keep((): (), stored: Option<Stored>) -> Option<Stored> {
        stored
    }

    fn changing<'a>(&'a self, _: &'a SessionKey) {}
}

impl Near for Option<Arc<NearCache>> {
    type Place<'a> = Option<(Reservation<'a>, Moment)>;
    type Changing<'a> = Option<Changing<'a>>;

    fn get(&self, key: &SessionKey) -> Option<Stored> {
        let Kept { payload, end } = self.as_ref()?.get(key.as_str())?;
        debug!(key = %key.masked(), bytes = payload.len(), "near cache: hit");
        Some(Stored { version: Version::payload(payload.clone()), payload, expiry: end })
    }

    fn reserve<'a>(&'a self, key: &'a SessionKey) -> Self::Place<'a> {
        let cache = self.as_ref()?;
        Some((cache.reserve(key.as_str())?, cache.now()))
    }

    /// A record ends here when it does by our clock, or earlier if that is set back.
    fn keep(place: Self::Place<'_>, stored: Option<Stored>) -> Option<Stored> {
        if let (Some((place, asked)), Some(stored)) = (place, &stored) {
            let line = place.line();
            place.keep(line, stored.payload.clone(), asked.until(stored.expiry));
        }
        stored
    }

    fn changing<'a>(&'a self, key: &'a SessionKey) -> Option<Changing<'a>> {
        self.as_ref().map(|cache| cache.changing(key.as_str()))
    }
}
