//! Sessions in the cookie itself: Django's `signed_cookies` engine.
//!
//! The session's key *is* the signed text of all its data. Nothing is stored, so nothing can be revoked: a copied
//! cookie works until it expires, and of two concurrent requests the later cookie wins. This engine is the documented
//! exception to "nothing is lost".

use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::values::Values;
use crate::wire::expiry::{EXPIRY_KEY, ExpiryRules, Lifetime};
use crate::wire::session_data::SignedText;

/// The salt of the cookie's signature.
pub const SALT: &str = "django.contrib.sessions.backends.signed_cookies";

/// Browsers drop a cookie whose name and value together are longer, in bytes (RFC 6265bis, section 5.6).
pub const MAX_COOKIE_LENGTH: usize = 4096;

/// The engine: reads and writes the cookie's value.
#[derive(Clone)]
pub struct SignedCookies {
    text: SignedText,
    rules: ExpiryRules,
    /// What the cookie's name takes of the 4,096 bytes.
    name_length: usize,
}

impl SignedCookies {
    /// An engine that signs with `text`, made with the salt [`SALT`], for a cookie whose name has `name_length` bytes.
    pub fn new(text: SignedText, rules: ExpiryRules, name_length: usize) -> Self {
        Self { text, rules, name_length }
    }

    /// The data of a cookie's value.
    ///
    /// Unlike Django, which knows `SESSION_COOKIE_AGE` only, a session's own expiry is honoured, be it shorter or
    /// longer.
    ///
    /// # Errors
    /// [`ErrorKind::BadSignature`], [`ErrorKind::SignatureExpired`], or [`ErrorKind::Corrupted`].
    pub(crate) fn read(&self, cookie: &str, now: Timestamp) -> Result<Values> {
        let (values, signed_at) = self.text.read(cookie.as_bytes())?;
        let expired = match self.rules.lifetime(values.get_raw(EXPIRY_KEY))? {
            Lifetime::Sliding(seconds) => now.micros_since(signed_at) > seconds.saturating_mul(1_000_000),
            Lifetime::Fixed(end) => now >= end,
        };
        if expired {
            return Err(Error::new(ErrorKind::SignatureExpired, "the session in the cookie has expired"));
        }
        Ok(values)
    }

    /// The cookie's value for this data.
    ///
    /// # Errors
    /// [`ErrorKind::TooLarge`] if a browser would drop the cookie, with its size and the keys that take most of it.
    pub(crate) fn write(&self, values: &Values, now: Timestamp) -> Result<String> {
        let text = self.text.write(values, now)?;
        let length = self.name_length + text.len();
        if length <= MAX_COOKIE_LENGTH {
            return Ok(text);
        }
        let mut sizes: Vec<_> = values.iter().map(|(key, raw)| (raw.len(), key)).collect();
        sizes.sort_by(|a, b| b.cmp(a));
        let largest: Vec<_> = sizes.iter().take(3).map(|(size, key)| format!("{key} ({size} bytes)")).collect();
        Err(Error::new(
            ErrorKind::TooLarge,
            format!(
                "the session's cookie would be {length} bytes, and browsers drop cookies over {MAX_COOKIE_LENGTH}; \
                 the largest keys are {}; store less, or set SESSION_ENGINE to an engine on a server",
                largest.join(", ")
            ),
        ))
    }
}
