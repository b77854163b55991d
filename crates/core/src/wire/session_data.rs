//! A session's dictionary to and from what the engines store.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::memo::Memo;
use super::signing::{Secrets, TimestampSigner};
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::values::Values;

/// The salt of the text that Django's db, cached_db and file engines store. A custom store class in Django has
/// `django.contrib.sessions.` and its qualified name instead: see [`Codec::signed_with_salt`].
pub const SALT: &str = "django.contrib.sessions.SessionStore";

/// What the setting `SESSION_SERIALIZER` names: a dictionary to and from bytes.
///
/// Input for `loads` has passed the check of its signature, unless the engine is one without signatures. What `dumps` wrote
/// it has to read as the same dictionary, each time: what was read or written lately is [remembered](SignedText), and then
/// not asked for.
pub trait Serializer: Send + Sync + 'static {
    /// Writes a dictionary.
    ///
    /// # Errors
    /// [`ErrorKind::Unrepresentable`] if the format has no place for something in it.
    fn dumps(&self, values: &Values) -> Result<Vec<u8>>;

    /// Reads a dictionary.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupted`] if the bytes are no such thing.
    fn loads(&self, data: Vec<u8>) -> Result<Values>;
}

/// Django's default serializer: JSON.
#[derive(Clone, Copy, Debug, Default)]
pub struct JsonSerializer;

impl Serializer for JsonSerializer {
    fn dumps(&self, values: &Values) -> Result<Vec<u8>> {
        let mut json = Vec::new();
        values.write_json(&mut json)?;
        Ok(json)
    }

    fn loads(&self, data: Vec<u8>) -> Result<Values> {
        Values::parse(data)
    }
}

/// A form in which dictionaries are stored: what stands behind a [`Codec`].
pub trait Format: Send + Sync + 'static {
    /// The form's name in messages.
    fn name(&self) -> &'static str;

    /// Writes a payload; `now` is the time of signing, where there is one.
    ///
    /// # Errors
    /// [`ErrorKind::Unrepresentable`] if the form has no place for something in the dictionary.
    fn encode(&self, values: &Values, now: Timestamp) -> Result<Bytes>;

    /// Reads a payload.
    ///
    /// # Errors
    /// [`ErrorKind::BadSignature`] if it bears no valid signature but should, [`ErrorKind::Corrupted`] or
    /// [`ErrorKind::TooLarge`] if it cannot be read for another reason.
    fn decode(&self, payload: &[u8]) -> Result<Values>;

    /// As [`decode`](Self::decode), and when the payload was written, if its form says so.
    ///
    /// # Errors
    /// As [`decode`](Self::decode).
    fn decode_dated(&self, payload: &[u8]) -> Result<(Values, Option<Timestamp>)> {
        self.decode(payload).map(|values| (values, None))
    }

    /// As [`decode`](Self::decode), of a payload that what is read may share, and whether the payload is as we would
    /// write it today: not signed with a fallback secret.
    ///
    /// # Errors
    /// As [`decode`](Self::decode).
    fn read(&self, payload: &Bytes) -> Result<(Values, bool)> {
        self.decode(payload).map(|values| (values, true))
    }

    /// A payload that Django's cache reads as `None`, hence as no session at all, and that is unlike one with another
    /// `nonce`; `None` if the form has no such thing. The cached_db engine marks deleted sessions with it.
    fn nothing(&self, nonce: u64) -> Option<Bytes> {
        let _ = nonce;
        None
    }

    /// Whether a payload is one that [`nothing`](Self::nothing) made, or that Django wrote for `None`.
    fn is_nothing(&self, payload: &[u8]) -> bool {
        let _ = payload;
        false
    }
}

/// Turns dictionaries into the payloads of an engine's store and back. Clones are cheap.
#[derive(Clone)]
pub struct Codec(Arc<dyn Format>);

impl Codec {
    /// A codec for any form.
    pub fn new(format: impl Format) -> Self {
        Self(Arc::new(format))
    }

    /// The signed text of Django's db, cached_db and file engines, around a serializer of one's own.
    pub fn signed(secrets: &Secrets, serializer: Arc<dyn Serializer>) -> Self {
        Self::signed_with_salt(secrets, SALT, serializer)
    }

    /// As [`signed`](Self::signed) with another salt: what a custom store class in Django reads and writes.
    pub fn signed_with_salt(secrets: &Secrets, salt: &str, serializer: Arc<dyn Serializer>) -> Self {
        Self::new(SignedText::new(secrets, salt, serializer))
    }

    /// The signed text of Django's db, cached_db and file engines, with JSON in it: Django's default.
    pub fn signed_json(secrets: &Secrets) -> Self {
        Self::signed(secrets, Arc::new(JsonSerializer))
    }

    /// Plain JSON.
    pub fn json() -> Self {
        Self::new(Json)
    }

    /// For what never leaves this process: neither has it to be looked at byte by byte when it is read, nor does it take
    /// as much memory as JSON. Whatever else is read, what another process wrote so included, is
    /// [`ErrorKind::Corrupted`].
    pub fn in_process() -> Self {
        Self::new(InProcess)
    }

    /// Writes a payload; `now` is the time of signing, where there is one.
    ///
    /// # Errors
    /// [`ErrorKind::Unrepresentable`] if the form has no place for something in the dictionary.
    pub fn encode(&self, values: &Values, now: Timestamp) -> Result<Bytes> {
        values.check_writable()?;
        self.0.encode(values, now)
    }

    /// Reads a payload, however old it is: the store knows when a session expires.
    ///
    /// # Errors
    /// [`ErrorKind::BadSignature`] if it bears no valid signature but should, [`ErrorKind::Corrupted`] or
    /// [`ErrorKind::TooLarge`] if it cannot be read for another reason, a value that is no dictionary among them.
    pub fn decode(&self, payload: &[u8]) -> Result<Values> {
        self.0.decode(payload)
    }

    /// As [`decode`](Self::decode), and when the payload was written, in whole seconds, if its form says so: signed
    /// text does.
    ///
    /// # Errors
    /// As [`decode`](Self::decode).
    pub fn decode_dated(&self, payload: &[u8]) -> Result<(Values, Option<Timestamp>)> {
        self.0.decode_dated(payload)
    }

    /// As [`decode`](Self::decode), of a payload that what is read may share, and whether the payload is as we would
    /// write it today; if not, the next save rewrites it.
    ///
    /// # Errors
    /// As [`decode`](Self::decode).
    pub fn read(&self, payload: &Bytes) -> Result<(Values, bool)> {
        self.0.read(payload)
    }

    /// A payload that reads as no session at all; see [`Format::nothing`].
    pub fn nothing(&self, nonce: u64) -> Option<Bytes> {
        self.0.nothing(nonce)
    }

    /// Whether a payload reads as no session at all; see [`Format::is_nothing`].
    pub fn is_nothing(&self, payload: &[u8]) -> bool {
        self.0.is_nothing(payload)
    }

    /// The form's name in messages.
    pub(crate) fn name(&self) -> &'static str {
        self.0.name()
    }
}

impl fmt::Debug for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Codec({})", self.name())
    }
}

/// Signed text around a serializer: what stands in Django's table and files, and in the cookie of `signed_cookies`.
///
/// What was read or written lately is known by its text, byte for byte, and is not verified, unpacked and parsed again: up
/// to 1,024 sessions, in up to 8 MiB, none of which takes more than 512 KiB. Clones share that.
#[derive(Clone)]
pub struct SignedText {
    signer: TimestampSigner,
    serializer: Arc<dyn Serializer>,
    memo: Arc<Memo<Signed>>,
}

/// What is in a text.
#[derive(Clone)]
struct Signed {
    values: Values,
    signed_at: Timestamp,
    /// Whether with the current secret, and no fallback.
    current: bool,
}

impl SignedText {
    /// Signed text with this salt.
    pub fn new(secrets: &Secrets, salt: &str, serializer: Arc<dyn Serializer>) -> Self {
        Self { signer: TimestampSigner::new(secrets, salt), serializer, memo: Arc::new(Memo::new()) }
    }

    /// The dictionary and when it was signed.
    ///
    /// # Errors
    /// As [`Codec::decode`].
    pub fn read(&self, payload: &[u8]) -> Result<(Values, Timestamp)> {
        let Signed { values, signed_at, .. } = self.look(payload, || Bytes::copy_from_slice(payload))?;
        Ok((values, signed_at))
    }

    /// The text of a dictionary signed now.
    ///
    /// # Errors
    /// As [`Codec::encode`].
    pub fn write(&self, values: &Values, now: Timestamp) -> Result<String> {
        let text = self.sign(values, now)?;
        self.remember(Bytes::copy_from_slice(text.as_bytes()), values, now);
        Ok(text)
    }

    fn sign(&self, values: &Values, now: Timestamp) -> Result<String> {
        values.check_writable()?;
        let data = self.serializer.dumps(values)?;
        Ok(self.signer.sign_session(&data, now))
    }

    /// What reading a text would say that these values were just written to.
    fn remember(&self, payload: Bytes, values: &Values, now: Timestamp) {
        let signed_at = Timestamp::from_secs(now.as_micros() / 1_000_000);
        let signed = Signed { values: values.clone(), signed_at, current: true };
        if let Some(place) = self.memo.place(&payload) {
            self.memo.put(place, payload, signed, values.size());
        }
    }

    /// What is in a payload, which `shared` makes fit to be kept.
    fn look(&self, payload: &[u8], shared: impl FnOnce() -> Bytes) -> Result<Signed> {
        let place = self.memo.place(payload);
        if let Some(known) = place.and_then(|place| self.memo.get(place, payload)) {
            return Ok(known);
        }
        let (data, signed_at, current) = self.signer.unsign_json_of_any_age(text(payload)?)?;
        let signed = Signed { values: self.serializer.loads(data)?, signed_at, current };
        if let Some(place) = place {
            self.memo.put(place, shared(), signed.clone(), signed.values.size());
        }
        Ok(signed)
    }
}

fn text(payload: &[u8]) -> Result<&str> {
    std::str::from_utf8(payload)
        .map_err(|_| Error::new(ErrorKind::BadSignature, "what is stored is no text, so it is not signed"))
}

impl Format for SignedText {
    fn name(&self) -> &'static str {
        "signed text"
    }

    fn encode(&self, values: &Values, now: Timestamp) -> Result<Bytes> {
        let payload = Bytes::from(self.sign(values, now)?);
        self.remember(payload.clone(), values, now);
        Ok(payload)
    }

    fn decode(&self, payload: &[u8]) -> Result<Values> {
        Ok(SignedText::read(self, payload)?.0)
    }

    fn read(&self, payload: &Bytes) -> Result<(Values, bool)> {
        let Signed { values, current, .. } = self.look(payload, || payload.clone())?;
        Ok((values, current))
    }

    fn decode_dated(&self, payload: &[u8]) -> Result<(Values, Option<Timestamp>)> {
        SignedText::read(self, payload).map(|(values, signed_at)| (values, Some(signed_at)))
    }
}

struct Json;

impl Format for Json {
    fn name(&self) -> &'static str {
        "JSON"
    }

    fn encode(&self, values: &Values, _: Timestamp) -> Result<Bytes> {
        // The codec has checked that they can be written.
        Ok(values.json_bytes().into())
    }

    fn decode(&self, payload: &[u8]) -> Result<Values> {
        Values::parse(payload.to_vec())
    }

    fn read(&self, payload: &Bytes) -> Result<(Values, bool)> {
        Ok((Values::parse_shared(payload.clone())?, true))
    }

    fn nothing(&self, nonce: u64) -> Option<Bytes> {
        Some(json_nothing(nonce))
    }

    fn is_nothing(&self, payload: &[u8]) -> bool {
        is_json_nothing(payload)
    }
}

struct InProcess;

impl Format for InProcess {
    fn name(&self) -> &'static str {
        "packed JSON of this process"
    }

    fn encode(&self, values: &Values, _: Timestamp) -> Result<Bytes> {
        // The codec has checked that they can be written.
        Ok(values.pack().into())
    }

    fn decode(&self, payload: &[u8]) -> Result<Values> {
        Values::unpack(Bytes::copy_from_slice(payload))
    }

    fn read(&self, payload: &Bytes) -> Result<(Values, bool)> {
        Ok((Values::unpack(payload.clone())?, true))
    }
}

/// [`Format::nothing`] of forms that are JSON.
pub(super) fn json_nothing(nonce: u64) -> Bytes {
    // White space after the value is of no account, so the nonce is written in it.
    let white = (0..u64::BITS).map(|bit| if nonce >> bit & 1 == 0 { b' ' } else { b'\t' });
    b"null".iter().copied().chain(white).collect()
}

/// [`Format::is_nothing`] of forms that are JSON.
pub(super) fn is_json_nothing(payload: &[u8]) -> bool {
    payload.trim_ascii() == b"null"
}
