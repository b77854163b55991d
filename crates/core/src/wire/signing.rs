//! Django's `signing` module: text with a signature, with a time of signing, and JSON in it.

mod base62;
mod hash;
mod payload;
mod small;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

pub use self::base62::{b62_decode, b62_encode};
use self::hash::Keyed;
pub(crate) use self::hash::constant_time_eq;
pub use self::hash::{Algorithm, derived_key};
use self::payload::Effort;
pub use self::payload::MAX_UNPACKED;
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::wire::digits::Digits;

/// The salt of a [`Signer`], unless its user has one of their own.
pub const SIGNER_SALT: &str = "django.core.signing.Signer";
/// The salt of a [`TimestampSigner`], unless its user has one of their own.
pub const TIMESTAMP_SIGNER_SALT: &str = "django.core.signing.TimestampSigner";
/// The salt of `signing.dumps` and `signing.loads`, unless their user has one of their own.
pub const DUMPS_SALT: &str = "django.core.signing";

/// `SECRET_KEY` and `SECRET_KEY_FALLBACKS`: the current key signs, all of them verify. `Debug` shows neither.
#[derive(Clone, Default)]
pub struct Secrets {
    current: Arc<[u8]>,
    fallbacks: Arc<[Vec<u8>]>,
}

impl Secrets {
    /// A current key (text counts by its UTF-8 bytes), and no fallbacks.
    pub fn new(current: impl Into<Vec<u8>>) -> Self {
        Self { current: current.into().into(), fallbacks: Arc::default() }
    }

    /// The same current key with these former keys, which still verify.
    #[must_use]
    pub fn with_fallbacks(mut self, fallbacks: impl IntoIterator<Item = impl Into<Vec<u8>>>) -> Self {
        self.fallbacks = fallbacks.into_iter().map(Into::into).collect();
        self
    }

    /// Whether the current key is empty: nothing should be signed with it.
    pub fn is_empty(&self) -> bool {
        self.current.is_empty()
    }

    /// The current key, then the former ones.
    pub(crate) fn all(&self) -> impl Iterator<Item = &[u8]> {
        std::iter::once(&*self.current).chain(self.fallbacks.iter().map(Vec::as_slice))
    }

    /// How many former keys there are.
    pub fn fallback_count(&self) -> usize {
        self.fallbacks.len()
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets(*** and {} fallbacks)", self.fallbacks.len())
    }
}

/// Signs text: `VALUE:SIGNATURE`.
///
/// The keys are derived once, when the signer is made; keep it.
#[derive(Clone)]
pub struct Signer {
    /// The current key, then the fallbacks.
    keys: Arc<[Keyed]>,
    separator: Cow<'static, str>,
}

impl Signer {
    /// A signer with `:` as its separator and SHA-256.
    pub fn new(secrets: &Secrets, salt: &str) -> Self {
        Self::keyed(secrets, salt, Algorithm::Sha256, Cow::Borrowed(":"))
    }

    /// A signer with a separator and an algorithm (`sha1`, `sha224`, `sha256`, `sha384`, `sha512`) of one's own.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] if there is no such algorithm here, or if the separator is empty or consists only
    /// of characters that Django takes for part of a signature.
    pub fn with_options(secrets: &Secrets, salt: &str, separator: &str, algorithm: &str) -> Result<Self> {
        let algorithm = algorithm.parse()?;
        // Django's rule, `^[A-z0-9-_=]*$`: its range also holds what stands between `Z` and `a`, and its `$` does not
        // look at a newline at the end.
        let looked_at = separator.strip_suffix('\n').unwrap_or(separator);
        if looked_at.bytes().all(|b| matches!(b, b'A'..=b'z' | b'0'..=b'9' | b'-' | b'=')) {
            return Err(Error::new(
                ErrorKind::Configuration,
                format!("unsafe separator for signed text: {separator:?} (it could be part of a signature)"),
            ));
        }
        Ok(Self::keyed(secrets, salt, algorithm, Cow::Owned(separator.to_owned())))
    }

    fn keyed(secrets: &Secrets, salt: &str, algorithm: Algorithm, separator: Cow<'static, str>) -> Self {
        Self { keys: secrets.all().map(|secret| Keyed::new(algorithm, salt, secret)).collect(), separator }
    }

    /// The signature of a value, without the value.
    pub fn signature(&self, value: &str) -> String {
        self.keys[0].signature(value.as_bytes()).as_str().to_owned()
    }

    /// The value, the separator and the signature.
    pub fn sign(&self, value: &str) -> String {
        let mut text = String::with_capacity(value.len() + self.overhead());
        text.push_str(value);
        self.sign_all(text)
    }

    /// How many bytes signed text is longer than what was signed.
    fn overhead(&self) -> usize {
        self.separator.len() + self.keys[0].signature_length()
    }

    fn sign_all(&self, mut text: String) -> String {
        let signature = self.keys[0].signature(text.as_bytes());
        text.push_str(&self.separator);
        text.push_str(signature.as_str());
        text
    }

    /// The value out of signed text, if the signature is right.
    ///
    /// # Errors
    /// [`ErrorKind::BadSignature`] otherwise.
    pub fn unsign<'a>(&self, signed: &'a str) -> Result<&'a str> {
        Ok(self.verify(signed)?.0)
    }

    /// What stands before the last separator, and after it.
    fn split<'a>(&self, text: &'a str) -> Option<(&'a str, &'a str)> {
        match self.separator.as_bytes() {
            // A single character, as it nearly always is, takes a tenth of the search.
            [byte] => text.rsplit_once(char::from(*byte)),
            _ => text.rsplit_once(&*self.separator),
        }
    }

    /// [`unsign`](Self::unsign), and which of the keys it was.
    fn verify<'a>(&self, signed: &'a str) -> Result<(&'a str, usize)> {
        let (value, signature) = self
            .split(signed)
            .ok_or_else(|| Error::new(ErrorKind::BadSignature, "the signed text has no separator"))?;
        // Every key is tried only until one fits: which one it was is no secret, the comparison itself is constant.
        match self.keys.iter().position(|key| constant_time_eq(key.signature(value.as_bytes()).as_str(), signature)) {
            Some(key) => Ok((value, key)),
            None => Err(Error::new(ErrorKind::BadSignature, "the signature does not match")),
        }
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({} keys)", self.keys.len())
    }
}

/// Signs text together with the second of signing: `VALUE:TIMESTAMP:SIGNATURE`.
#[derive(Clone, Debug)]
pub struct TimestampSigner(Signer);

impl TimestampSigner {
    /// A signer with `:` as its separator and SHA-256.
    pub fn new(secrets: &Secrets, salt: &str) -> Self {
        Self(Signer::new(secrets, salt))
    }

    /// As this signer, with a separator and an algorithm of one's own; see [`Signer::with_options`].
    ///
    /// # Errors
    /// As [`Signer::with_options`].
    pub fn with_options(secrets: &Secrets, salt: &str, separator: &str, algorithm: &str) -> Result<Self> {
        Signer::with_options(secrets, salt, separator, algorithm).map(Self)
    }

    /// The value, the time of signing and the signature.
    pub fn sign(&self, value: &str, now: Timestamp) -> String {
        self.sign_with(now, |room| {
            let mut text = String::with_capacity(value.len() + room);
            text.push_str(value);
            text
        })
    }

    /// Signs the text that `value` makes with room for so many more bytes, so that nothing is copied once more.
    fn sign_with(&self, now: Timestamp, value: impl FnOnce(usize) -> String) -> String {
        // Python's int() cuts the fraction off, before 1970 as well.
        let time = now.as_micros() / 1_000_000;
        let time = Digits::new::<62>(time < 0, time.unsigned_abs().into());
        let mut text = value(self.0.separator.len() + time.as_str().len() + self.0.overhead());
        text.push_str(&self.0.separator);
        text.push_str(time.as_str());
        self.0.sign_all(text)
    }

    /// The value out of signed text and the time of its signing, if the signature is right and not older than
    /// `max_age` seconds at `now`. A time of signing in the future is accepted.
    ///
    /// # Errors
    /// [`ErrorKind::BadSignature`], [`ErrorKind::SignatureExpired`], or [`ErrorKind::Corrupted`] if what was signed
    /// bears no time.
    pub fn unsign<'a>(&self, signed: &'a str, now: Timestamp, max_age: Option<f64>) -> Result<(&'a str, Timestamp)> {
        let (value, time) = self.timed(self.0.unsign(signed)?)?;
        if let Some(max_age) = max_age {
            let age = now.as_micros() as f64 / 1e6 - time as f64;
            if age > max_age {
                let message = format!("the signature is {age} seconds old, more than the {max_age} allowed");
                return Err(Error::new(ErrorKind::SignatureExpired, message));
            }
        }
        Ok((value, moment(time)))
    }

    /// Verified text without the second of signing, and that.
    fn timed<'a>(&self, verified: &'a str) -> Result<(&'a str, i128)> {
        let (value, time) = self
            .0
            .split(verified)
            .ok_or_else(|| Error::new(ErrorKind::Corrupted, "the signed text bears no time of signing"))?;
        Ok((value, base62::saturating(time)?))
    }

    /// [`unsign_json`](Self::unsign_json) of text of any age, and whether it bears the current secret's signature.
    pub(crate) fn unsign_json_of_any_age(&self, signed: &str) -> Result<(Vec<u8>, Timestamp, bool)> {
        let (verified, key) = self.0.verify(signed)?;
        let (packed, time) = self.timed(verified)?;
        Ok((payload::unpack(packed)?, moment(time), key == 0))
    }

    /// JSON as signed text, what Django's `sign_object` makes: compressed on request, if that is shorter.
    pub fn sign_json(&self, json: &[u8], now: Timestamp, compress: bool) -> String {
        let effort = if compress { Effort::Usual } else { Effort::None };
        self.sign_with(now, |room| payload::pack(json, effort, room))
    }

    /// [`sign_json`](Self::sign_json) for session data, which is compressed wherever Django would; for a small one, zlib
    /// would take longer than all the rest of a request.
    pub(crate) fn sign_session(&self, json: &[u8], now: Timestamp) -> String {
        self.sign_with(now, |room| payload::pack(json, Effort::Quick, room))
    }

    /// The JSON out of signed text and the time of its signing, what Django's `unsign_object` reads. The JSON itself
    /// is not looked at.
    ///
    /// # Errors
    /// As [`unsign`](Self::unsign); [`ErrorKind::Corrupted`] as well if the verified text is not what
    /// [`sign_json`](Self::sign_json) makes, [`ErrorKind::TooLarge`] if it unpacks to more than [`MAX_UNPACKED`].
    pub fn unsign_json(&self, signed: &str, now: Timestamp, max_age: Option<f64>) -> Result<(Vec<u8>, Timestamp)> {
        let (payload, time) = self.unsign(signed, now, max_age)?;
        Ok((payload::unpack(payload)?, time))
    }
}

/// The moment of so many seconds, as near as there is one.
fn moment(seconds: i128) -> Timestamp {
    let micros = seconds.saturating_mul(1_000_000).clamp(i64::MIN.into(), i64::MAX.into());
    Timestamp::from_micros(micros as i64)
}

/// JSON as signed text, as Django's `signing.dumps(value, salt=salt, compress=compress)`.
pub fn dumps(json: &[u8], secrets: &Secrets, salt: &str, now: Timestamp, compress: bool) -> String {
    TimestampSigner::new(secrets, salt).sign_json(json, now, compress)
}

/// The JSON out of signed text and the time of its signing, as Django's `signing.loads`.
///
/// # Errors
/// As [`TimestampSigner::unsign_json`].
pub fn loads(
    signed: &str,
    secrets: &Secrets,
    salt: &str,
    now: Timestamp,
    max_age: Option<f64>,
) -> Result<(Vec<u8>, Timestamp)> {
    TimestampSigner::new(secrets, salt).unsign_json(signed, now, max_age)
}

#[cfg(test)]
mod tests;
