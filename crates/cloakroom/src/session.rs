//! The session as handlers take it.

use std::ops::Deref;

/// The session of a request, loaded: a dictionary. With feature `axum` or `actix` it is an extractor.
///
/// All methods are those of [`cloakroom_core::Session`]. It is a type of its own only because a web framework's traits
/// can be implemented for no other.
#[derive(Clone, Debug)]
pub struct Session(cloakroom_core::Session);

impl From<cloakroom_core::Session> for Session {
    fn from(session: cloakroom_core::Session) -> Self {
        Self(session)
    }
}

impl Deref for Session {
    type Target = cloakroom_core::Session;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}
