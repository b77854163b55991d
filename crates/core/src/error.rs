//! The one error type of this crate.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

/// What went wrong, as a stable name to match on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An item that had to be there is not in the session.
    Missing,
    /// A stored record, or a value in it, is damaged or of a form that we do not read.
    Corrupted,
    /// A value is there, but is not of the type asked for.
    Type,
    /// A value cannot be represented in a session.
    Unrepresentable,
    /// The session was deleted while the request ran, perhaps by signing out in another one.
    Interrupted,
    /// Other requests kept changing the session, and the bounded number of retries ran out.
    Contended,
    /// The store, or something it needs, did not answer or failed.
    Unavailable,
    /// More data than the engine can carry.
    TooLarge,
    /// A setting is missing or wrong.
    Configuration,
    /// Sessions are not switched on here, or the layer that provides them is missing.
    NotInstalled,
    /// The database lacks the session table.
    NotMigrated,
    /// The engine cannot do what was asked.
    Unsupported,
    /// Signed text does not bear a valid signature.
    BadSignature,
    /// Signed text is older than allowed.
    SignatureExpired,
}

/// A failure, with its [kind](Self::kind), a message for the log, and the untouched source.
///
/// The message is meant for developers and operators. What a visitor of a site sees is an opaque answer; the
/// adapters for web frameworks keep to that.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: Cow<'static, str>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of a kind, with a message that says what happened and what to do.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner { kind, message: message.into(), source: None }))
    }

    /// The same error with the failure that caused it.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// The same for one more of those whom it concerns.
    #[must_use]
    pub fn shared(self: &Arc<Self>) -> Self {
        Self::new(self.kind(), self.to_string()).with_source(Arc::clone(self))
    }

    /// What went wrong, as a stable name to match on.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The HTTP status that answers a request which failed with this error: 400 for an interrupted session, 503 if
    /// the store is unavailable or contended, 500 otherwise.
    pub fn status(&self) -> u16 {
        match self.0.kind {
            ErrorKind::Interrupted => 400,
            ErrorKind::Unavailable | ErrorKind::Contended => 503,
            _ => 500,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("message", &self.0.message)
            .field("source", &self.0.source)
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}
