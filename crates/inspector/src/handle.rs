//! Names for sessions that may stand in an address, a log and a shell's history, as a key must not.

use std::fmt;
use std::str::FromStr;

use cloakroom_core::SessionKey;
use cloakroom_core::wire::signing::{Secrets, Signer};

/// The salt of the hash that handles are made with.
const SALT: &str = "cloakroom.inspector.handle";
/// So many characters of the key are shown, here as everywhere.
const SHOWN: usize = 4;
/// So many characters of the hash follow: 96 bits.
const HASHED: usize = 16;

/// A session's name for operators: `abcd-Xq3v…`, the first four characters of its key and a hash of the whole under
/// `SECRET_KEY`.
///
/// Nobody finds the key by it. The site finds the session, since it has to look only at those few keys that begin so.
/// Another `SECRET_KEY` makes other handles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handle(String);

impl Handle {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What the key begins with.
    pub(crate) fn prefix(&self) -> &str {
        &self.0[..SHOWN]
    }

    /// A key behind which come those that begin as this one's, and no other; `None` if all do.
    pub(crate) fn before(&self) -> Option<SessionKey> {
        let mut letters = self.prefix().as_bytes().to_vec();
        // One less, in the order of keys: digits, then letters.
        for letter in letters.iter_mut().rev() {
            *letter = match *letter {
                b'0' => b'z',
                b'a' => b'9',
                other => other - 1,
            };
            if *letter != b'z' {
                letters.resize(SessionKey::MAX_STORED_LENGTH, b'z');
                return String::from_utf8(letters).ok().and_then(|text| SessionKey::presented(&text));
            }
        }
        None
    }
}

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text is no handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoHandle;

impl fmt::Display for NoHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("this is no handle of a session, such as abcd-Xq3vK0Zr9bT2mW1y")
    }
}

impl std::error::Error for NoHandle {}

impl FromStr for Handle {
    type Err = NoHandle;

    fn from_str(text: &str) -> Result<Self, NoHandle> {
        let (shown, hashed) = text.split_once('-').ok_or(NoHandle)?;
        let is_shown = shown.len() == SHOWN && shown.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let is_hashed =
            hashed.len() == HASHED && hashed.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if is_shown && is_hashed { Ok(Self(text.to_owned())) } else { Err(NoHandle) }
    }
}

/// Makes handles.
#[derive(Clone)]
pub(crate) struct Handles(Signer);

impl Handles {
    pub(crate) fn new(secrets: &Secrets) -> Self {
        Self(Signer::new(secrets, SALT))
    }

    pub(crate) fn of(&self, key: &SessionKey) -> Handle {
        let hash = self.0.signature(key.as_str());
        let shown: String = key.as_str().chars().take(SHOWN).collect();
        Handle(format!("{shown}-{}", &hash[..HASHED]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> SessionKey {
        SessionKey::presented(text).unwrap()
    }

    #[test]
    fn a_handle_is_read_as_it_is_written_and_hides_the_key() {
        let handles = Handles::new(&Secrets::new("one"));
        let secret = "abcdefgh12345678";
        let handle = handles.of(&key(secret));
        assert_eq!(handle.as_str().parse(), Ok(handle.clone()));
        assert!(handle.as_str().starts_with("abcd-") && !handle.as_str().contains("efgh"), "{handle}");
        assert_ne!(handle, handles.of(&key("abcdefgh12345679")));
        assert_ne!(handle, Handles::new(&Secrets::new("two")).of(&key(secret)));
        for text in
            ["", "abcd", secret, "abcd-", "ABCD-0123456789abcdef", "abcd-0123456789abcde/", "äbc-0123456789abcdef"]
        {
            assert_eq!(text.parse::<Handle>(), Err(NoHandle), "{text}");
        }
    }

    #[test]
    fn the_keys_of_a_prefix_come_right_after_the_one_before_them() {
        for (prefix, before) in [
            ("abcd", Some("abcc")),
            ("abca", Some("abc9")),
            ("ab00", Some("aazz")),
            ("a000", Some("9zzz")),
            ("0000", None),
        ] {
            let handle: Handle = format!("{prefix}-0123456789abcdef").parse().unwrap();
            let found = handle.before();
            assert_eq!(found.as_ref().map(|key| &key.as_str()[..4]), before);
            let Some(found) = found else { continue };
            assert!(found.is_storable() && found < key(&format!("{prefix}0000")));
            assert!(found > key(&format!("{}zzzzzzzz", before.unwrap())));
        }
    }
}
