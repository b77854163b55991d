//! Where sessions live: a store with the codec for its payloads, or the cookie itself.

pub mod cached;
pub mod file;
pub mod memory;
mod page;
pub mod signed_cookies;

use std::sync::Arc;

use crate::store::Store;
use crate::wire::session_data::Codec;
use signed_cookies::SignedCookies;

/// A session engine.
#[derive(Clone)]
pub enum Engine {
    /// Records in a store, with the codec that Django's engine of that kind uses.
    Store {
        /// Where the records are kept.
        store: Arc<dyn Store>,
        /// How a session's data becomes a record's payload.
        codec: Codec,
    },
    /// No record anywhere: the cookie carries the data, signed.
    SignedCookies(SignedCookies),
    /// Sessions are switched off; using one is an error that says so.
    Off,
}

impl Engine {
    /// The store, for the engines that have one.
    pub fn store(&self) -> Option<&Arc<dyn Store>> {
        match self {
            Self::Store { store, .. } => Some(store),
            Self::SignedCookies(_) | Self::Off => None,
        }
    }
}
