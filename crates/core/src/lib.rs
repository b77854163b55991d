//! The heart of Cloakroom: Django's session framework for Rust, without a web framework and without a driver.
//!
//! Applications use the `cloakroom` crate. This one is for authors of stores, framework adapters and tools.

// Built by `crates/model`, this is for the tests there: the ones here need locks that nobody schedules.
#![cfg(not(all(test, feature = "model")))]

pub mod clock;
#[cfg(feature = "conformance")]
pub mod conformance;
mod delta;
pub mod engine;
mod error;
pub mod exchange;
pub mod json;
mod key;
#[cfg(feature = "near")]
pub mod near;
pub mod peek;
mod persist;
mod session;
pub mod settings;
mod slot;
mod spread;
mod state;
pub mod store;
pub mod sweep;
mod sync;
pub mod together;
mod values;
pub mod wire;

pub use clock::{Clock, Timestamp};
pub use error::{Error, ErrorKind, Result};
pub use json::RawJson;
pub use key::{KeySource, SessionKey};
pub use session::Session;
pub use settings::{Settings, SettingsError};
pub use slot::SessionSlot;
pub use values::Values;
pub use wire::expiry::Expiry;
