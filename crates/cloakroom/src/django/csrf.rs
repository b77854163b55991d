//! The CSRF secret of a site whose Django has `CSRF_USE_SESSIONS = True`.
//!
//! ```
//! use cloakroom::django::csrf;
//! use cloakroom::testing::Visitor;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), cloakroom::Error> {
//! let mut visitor = Visitor::new()?;
//! let session = visitor.session().await?;
//! let token = csrf::token(&session)?; // for a hidden field, or the header X-CSRFToken
//! visitor.respond(200).await?;
//!
//! let session = visitor.session().await?;
//! assert!(csrf::check(&session, &token));
//! assert!(!csrf::check(&session, "a guess"));
//! # Ok(())
//! # }
//! ```

use cloakroom_core::wire::django_items::{
    CSRF_KEY, CSRF_SECRET_LENGTH, csrf_token_matches, mask_csrf_secret, new_csrf_secret, unmask_csrf_token,
};
use cloakroom_core::{Result, Session};

/// A token for a page of this session: another one each time, all of which [`check`] accepts. The session's secret is
/// made if it has none.
///
/// # Errors
/// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) if the system has no randomness to give.
pub fn token(session: &Session) -> Result<String> {
    let secret = match secret(session) {
        Some(secret) => secret,
        None => {
            rotate(session)?;
            secret(session).unwrap_or_default()
        }
    };
    mask_csrf_secret(&secret)
}

/// Whether a token that a client sent belongs to this session. Changes nothing; a session without a secret accepts no
/// token.
pub fn check(session: &Session, token: &str) -> bool {
    secret(session).is_some_and(|secret| csrf_token_matches(token, &secret))
}

/// Gives the session a new secret: tokens of the former one are worth nothing any more. A login does this by itself.
///
/// # Errors
/// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) if the system has no randomness to give.
pub fn rotate(session: &Session) -> Result<()> {
    session.insert(CSRF_KEY, &new_csrf_secret()?)
}

/// The session's secret; old sessions hold it masked. What is no secret counts as none.
fn secret(session: &Session) -> Option<String> {
    let stored = session.get::<String>(CSRF_KEY).ok().flatten()?;
    let secret = unmask_csrf_token(&stored).unwrap_or(stored);
    let letters = secret.len() == CSRF_SECRET_LENGTH && secret.bytes().all(|letter| letter.is_ascii_alphanumeric());
    letters.then_some(secret)
}
