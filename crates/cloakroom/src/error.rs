//! The error that handlers return.

use std::fmt;
use std::ops::Deref;

/// A failure of a session: what happened, and its [`kind`](cloakroom_core::Error::kind).
///
/// With feature `axum` or `actix` a handler may return it: the visitor sees an opaque answer (400 if the session was deleted
/// meanwhile, 503 if the store does not answer, else 500), the log sees the cause.
pub struct Error(pub(crate) cloakroom_core::Error);

/// `Result` with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Tells the log what the visitor is not told, when the error becomes a response.
    #[cfg(any(feature = "axum", feature = "actix"))]
    pub(crate) fn log(&self) {
        let (kind, source) = (self.kind(), std::error::Error::source(self));
        if self.status() >= 500 {
            tracing::error!(error = %self, ?kind, ?source, "session");
        } else {
            tracing::warn!(error = %self, ?kind, ?source, "session");
        }
    }
}

impl From<cloakroom_core::Error> for Error {
    fn from(error: cloakroom_core::Error) -> Self {
        Self(error)
    }
}

impl From<Error> for cloakroom_core::Error {
    fn from(error: Error) -> Self {
        error.0
    }
}

impl Deref for Error {
    type Target = cloakroom_core::Error;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.0)
    }
}
