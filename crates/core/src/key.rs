//! Session keys: what a client presents, and what we draw.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex};

use crate::error::{Error, ErrorKind};

/// The characters of a generated key, Django's own: no upper case, since some stores compare without case.
const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
/// What fits into 40 bytes with its length: more than any key that is drawn.
const INLINE: usize = 38;

/// The key of a session, as the cookie carries it.
///
/// A key is a bearer secret: who has it, has the session. `Debug` shows its first four characters only, there is
/// no `Display`, and the whole text is had from [`as_str`](Self::as_str) alone.
#[derive(Clone)]
pub struct SessionKey(Repr);

/// Keys of the usual length stand inline, so that opening a session allocates nothing for its key.
#[derive(Clone)]
enum Repr {
    Inline { len: u8, bytes: [u8; INLINE] },
    Heap(Arc<str>),
}

impl SessionKey {
    /// A presented key has at least this many characters (code points, not bytes).
    pub const MIN_LENGTH: usize = 8;
    /// A generated key has this many characters.
    pub const GENERATED_LENGTH: usize = 32;
    /// No store is asked for a key longer than this, in bytes. Django's table holds 40 characters.
    pub const MAX_STORED_LENGTH: usize = 128;

    /// The key that a client presented, or `None` if it is too short to be one.
    ///
    /// As in Django, nothing but the length is looked at here; whether a store is asked for the key is decided by
    /// [`is_storable`](Self::is_storable).
    pub fn presented(text: &str) -> Option<Self> {
        let enough = match text.as_bytes().first_chunk::<{ Self::MIN_LENGTH }>() {
            Some(start) => start.is_ascii() || text.chars().take(Self::MIN_LENGTH).count() == Self::MIN_LENGTH,
            None => false,
        };
        enough.then(|| Self::from_text(text))
    }

    /// As [`presented`](Self::presented) for text that is ASCII.
    pub(crate) fn presented_ascii(text: &[u8]) -> Option<Self> {
        debug_assert!(text.is_ascii());
        if text.len() < Self::MIN_LENGTH {
            return None;
        }
        Some(match Self::inline(text) {
            Some(key) => key,
            None => Self(Repr::Heap(std::str::from_utf8(text).expect("ASCII is text").into())),
        })
    }

    /// The key of this text, which [`is_drawn`].
    #[inline]
    pub(crate) fn drawn(text: &[u8; Self::GENERATED_LENGTH]) -> Self {
        let mut bytes = [0; INLINE];
        bytes[..Self::GENERATED_LENGTH].copy_from_slice(text);
        Self(Repr::Inline { len: Self::GENERATED_LENGTH as u8, bytes })
    }

    /// Any text as a key, without a check. The signed-cookies engine, whose key is the whole signed text, uses it.
    pub(crate) fn from_text(text: &str) -> Self {
        Self::inline(text.as_bytes()).unwrap_or_else(|| Self(Repr::Heap(text.into())))
    }

    /// A key that stands inline, if these bytes of a text are few enough.
    fn inline(text: &[u8]) -> Option<Self> {
        let mut bytes = [0; INLINE];
        bytes.get_mut(..text.len())?.copy_from_slice(text);
        Some(Self(Repr::Inline { len: text.len() as u8, bytes }))
    }

    /// The key's text.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Repr::Inline { len, bytes } => {
                std::str::from_utf8(&bytes[..usize::from(*len)]).expect("made from a str, and never cut")
            }
            Repr::Heap(text) => text,
        }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Repr::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Repr::Heap(text) => text.as_bytes(),
        }
    }

    /// Whether the key can stand in a store at all: `a-z` and `0-9` only, 8 to 128 of them.
    ///
    /// Any other key belongs to no session that Django or we ever made. The exchange answers it as an unknown key
    /// without asking the store, so no odd character ever reaches a file system, a cache protocol or a database.
    pub fn is_storable(&self) -> bool {
        let text = self.as_bytes();
        (Self::MIN_LENGTH..=Self::MAX_STORED_LENGTH).contains(&text.len()) && is_drawn(text)
    }

    /// The first four characters and an ellipsis: what logs and pages show of a key.
    pub fn masked(&self) -> String {
        let mut text: String = self.as_str().chars().take(4).collect();
        text.push('…');
        text
    }
}

/// Whether all characters are of the [`ALPHABET`]. Looks at all in any case: that takes several at a time.
pub(crate) fn is_drawn(text: &[u8]) -> bool {
    text.iter().fold(true, |good, b| good & (b.is_ascii_lowercase() | b.is_ascii_digit()))
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionKey({})", self.masked())
    }
}

impl PartialEq for SessionKey {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}
impl Eq for SessionKey {}
impl Hash for SessionKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(self.as_bytes());
    }
}
impl PartialOrd for SessionKey {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for SessionKey {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

/// Where new keys come from: the system's generator, or in tests a list.
#[derive(Clone, Debug, Default)]
pub struct KeySource(Option<Arc<Mutex<std::collections::VecDeque<SessionKey>>>>);

impl KeySource {
    /// Keys from the operating system's cryptographically secure generator, each character drawn uniformly.
    pub fn system() -> Self {
        Self(None)
    }

    /// The given keys in their order, then keys of the system. For tests that replay a recorded session.
    pub fn scripted<'a>(keys: impl IntoIterator<Item = &'a str>) -> Self {
        Self(Some(Arc::new(Mutex::new(keys.into_iter().map(SessionKey::from_text).collect()))))
    }

    /// Draws a key.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] if the system has no randomness to give.
    pub fn draw(&self) -> Result<SessionKey, Error> {
        if let Some(script) = &self.0
            && let Some(key) = script.lock().unwrap_or_else(|e| e.into_inner()).pop_front()
        {
            return Ok(key);
        }
        let mut key = [0; INLINE];
        let mut filled = 0;
        let mut random = [0; 48];
        while filled < SessionKey::GENERATED_LENGTH {
            getrandom::fill(&mut random).map_err(|e| {
                Error::new(ErrorKind::Unavailable, "the system gave no random bytes for a session key").with_source(e)
            })?;
            // 252 is the largest multiple of 36 in a byte: larger bytes would favour the first letters.
            for byte in random.iter().filter(|&&b| b < 252) {
                if filled == SessionKey::GENERATED_LENGTH {
                    break;
                }
                key[filled] = ALPHABET[usize::from(byte % 36)];
                filled += 1;
            }
        }
        Ok(SessionKey(Repr::Inline { len: SessionKey::GENERATED_LENGTH as u8, bytes: key }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawn_keys_are_storable_and_differ() {
        let source = KeySource::system();
        let (a, b) = (source.draw().unwrap(), source.draw().unwrap());
        assert_ne!(a, b);
        assert_eq!(a.as_str().len(), SessionKey::GENERATED_LENGTH);
        assert!(a.is_storable() && b.is_storable());
    }

    #[test]
    fn every_letter_is_drawn_about_equally_often() {
        let source = KeySource::system();
        let mut counts = [0u32; 36];
        for _ in 0..4_000 {
            for byte in source.draw().unwrap().as_str().bytes() {
                counts[ALPHABET.iter().position(|&a| a == byte).unwrap()] += 1;
            }
        }
        // 128,000 letters, 3,556 each; the standard deviation is 59, and six of them are never seen by chance.
        assert!(counts.iter().all(|&n| (3_200..3_910).contains(&n)), "{counts:?}");
    }

    #[test]
    fn debug_shows_four_characters() {
        let key = SessionKey::presented("abcdefgh12345678").unwrap();
        assert_eq!(format!("{key:?}"), "SessionKey(abcd…)");
    }
}
