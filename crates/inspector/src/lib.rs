//! Looking into a site's sessions: who is logged in, what a session holds, why one cannot be read, and ending it.
//!
//! An [`Inspector`] lists, decodes, counts and revokes, for commands and for pages alike; [`Pages`] are its pages as an
//! axum router. Applications have it from the `cloakroom` crate, as `Sessions::inspector` with the feature `inspector`.
//!
//! It reads records past the sessions: nothing is created, no expiry is moved, no cache is filled. A key is a bearer
//! secret and never shown; a session is named by a [`Handle`]. Work is bounded: what looks at many records does so in
//! [steps](Step) that can be gone on with.

mod handle;
mod inspector;
mod pages;
mod record;
mod revoke;
mod scan;
mod stats;

pub use cloakroom_core::peek::Records;
pub use handle::{Handle, NoHandle};
pub use inspector::{Inspector, Named};
pub use pages::{Access, Page, Pages, Refusal, is_own_request};
pub use record::{Details, Record, State};
pub use revoke::Revocation;
pub use scan::{Filter, Listing, Show, Step};
pub use stats::{Bar, Stats};
