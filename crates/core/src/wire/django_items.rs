//! Items that other parts of Django keep in a session: flash messages and the CSRF secret.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Error, ErrorKind, Result};
use crate::json;

/// The session item of Django's messages, where they are kept in the session.
pub const MESSAGES_KEY: &str = "_messages";

/// The session item of the CSRF secret, where `CSRF_USE_SESSIONS` is true.
pub const CSRF_KEY: &str = "_csrftoken";

/// The characters of CSRF secrets and tokens.
pub const CSRF_ALPHABET: &[u8; 62] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

/// How many characters a CSRF secret has; a masked token has twice as many.
pub const CSRF_SECRET_LENGTH: usize = 32;

/// How JSON marks a message, so that one is told from a list that only looks like it.
const MESSAGE_MARK: &str = "__json_message";

/// A message for the visitor, as Django's message framework keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// How grave it is: 10 debug, 20 information, 25 success, 30 warning, 40 error, or a site's own.
    pub level: i64,
    /// The text.
    pub text: String,
    /// Whether the text is HTML that is put into a page as it is. Django's `mark_safe`.
    pub safe: bool,
    /// Names for style sheets, with spaces between them. Django's usual call gives the empty text.
    pub extra_tags: Option<String>,
}

/// The item [`MESSAGES_KEY`]: serde writes it as text, and reads text or the list itself, as Django does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Messages(pub Vec<Message>);

impl Serialize for Messages {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&encode_messages(&self.0))
    }
}

impl<'de> Deserialize<'de> for Messages {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Item {
            Text(String),
            List(Vec<Stored>),
        }
        let messages = match Item::deserialize(deserializer)? {
            Item::Text(text) => decode_messages(&text),
            Item::List(stored) => stored.into_iter().map(Message::try_from).collect(),
        };
        messages.map(Self).map_err(serde::de::Error::custom)
    }
}

/// The text of the item [`MESSAGES_KEY`]: JSON, with Python's default separators, which have spaces.
///
/// The item is this *text*; in the stored session it is thus JSON within JSON.
pub fn encode_messages(messages: &[Message]) -> String {
    let mut out = String::from("[");
    for (place, message) in messages.iter().enumerate() {
        if place > 0 {
            out.push_str(", ");
        }
        out.push_str(&format!("[\"{MESSAGE_MARK}\", {}, {}, ", u8::from(message.safe), message.level));
        push_text(&mut out, &message.text);
        if let Some(tags) = &message.extra_tags {
            out.push_str(", ");
            push_text(&mut out, tags);
        }
        out.push(']');
    }
    out.push(']');
    out
}

fn push_text(out: &mut String, text: &str) {
    out.push('"');
    json::escape(out, text);
    out.push('"');
}

/// Reads the text of the item [`MESSAGES_KEY`].
///
/// # Errors
/// [`ErrorKind::Corrupted`] if it is not JSON, [`ErrorKind::Type`] if it is not a list of messages.
pub fn decode_messages(text: &str) -> Result<Vec<Message>> {
    json::from_str::<Vec<Stored>>(text)?.into_iter().map(Message::try_from).collect()
}

/// A message as it stands in JSON.
#[derive(Deserialize)]
#[serde(untagged)]
enum Stored {
    Tagged(String, i64, i64, String, Option<String>),
    Plain(String, i64, i64, String),
}

impl TryFrom<Stored> for Message {
    type Error = Error;

    fn try_from(stored: Stored) -> Result<Self> {
        let (mark, safe, level, text, extra_tags) = match stored {
            Stored::Tagged(mark, safe, level, text, tags) => (mark, safe, level, text, tags),
            Stored::Plain(mark, safe, level, text) => (mark, safe, level, text, None),
        };
        if mark != MESSAGE_MARK {
            return Err(Error::new(ErrorKind::Type, "a list in the session's messages is not a message"));
        }
        Ok(Message { level, text, safe: safe != 0, extra_tags })
    }
}

/// Draws a CSRF secret: 32 characters.
///
/// # Errors
/// [`ErrorKind::Unavailable`] if the system has no randomness to give.
pub fn new_csrf_secret() -> Result<String> {
    let mut secret = String::with_capacity(CSRF_SECRET_LENGTH);
    let mut random = [0; 48];
    loop {
        getrandom::fill(&mut random).map_err(|e| {
            Error::new(ErrorKind::Unavailable, "the system gave no random bytes for a CSRF secret").with_source(e)
        })?;
        // 248 is the largest multiple of 62 in a byte: larger bytes would favour the first letters.
        for byte in random.iter().filter(|&&byte| byte < 248) {
            secret.push(char::from(CSRF_ALPHABET[usize::from(byte % 62)]));
            if secret.len() == CSRF_SECRET_LENGTH {
                return Ok(secret);
            }
        }
    }
}

/// The token that a page carries for a secret: different each time, so that compression of the page gives no hint.
///
/// # Errors
/// [`ErrorKind::Unavailable`] if the system has no randomness to give, [`ErrorKind::Corrupted`] if the secret is none.
pub fn mask_csrf_secret(secret: &str) -> Result<String> {
    mask_with(secret, &new_csrf_secret()?)
        .ok_or_else(|| Error::new(ErrorKind::Corrupted, "the session's CSRF secret is not 32 letters and digits"))
}

fn mask_with(secret: &str, mask: &str) -> Option<String> {
    Some(mask.to_owned() + &combine(secret, mask, |secret, mask| secret + mask)?)
}

/// The secret in a masked token, or `None` if the text is no token. Old sessions hold one in place of the secret.
pub fn unmask_csrf_token(token: &str) -> Option<String> {
    if token.len() != 2 * CSRF_SECRET_LENGTH || !token.is_ascii() {
        return None;
    }
    let (mask, cipher) = token.split_at(CSRF_SECRET_LENGTH);
    combine(cipher, mask, |cipher, mask| cipher + 62 - mask)
}

/// Whether a token that a client sent, masked or bare, stands for the secret in the session, masked or bare. The
/// comparison takes the same time wherever they differ.
pub fn csrf_token_matches(token: &str, secret: &str) -> bool {
    let bare = |text: &str| match text.len() {
        CSRF_SECRET_LENGTH => combine(text, text, |letter, _| letter),
        _ => unmask_csrf_token(text),
    };
    match (bare(token), bare(secret)) {
        (Some(token), Some(secret)) => {
            token.bytes().zip(secret.bytes()).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
        }
        _ => false,
    }
}

/// Letter by letter, through their places in the alphabet; `None` if one is not in it or the lengths are not a secret's.
fn combine(text: &str, mask: &str, with: impl Fn(usize, usize) -> usize) -> Option<String> {
    let place = |letter: u8| CSRF_ALPHABET.iter().position(|&known| known == letter);
    if text.len() != CSRF_SECRET_LENGTH || mask.len() != CSRF_SECRET_LENGTH {
        return None;
    }
    let letters = text.bytes().zip(mask.bytes());
    letters.map(|(a, b)| Some(char::from(CSRF_ALPHABET[with(place(a)?, place(b)?) % 62]))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn tokens_differ_and_all_match() {
        let secret = new_csrf_secret().unwrap();
        let (a, b) = (mask_csrf_secret(&secret).unwrap(), mask_csrf_secret(&secret).unwrap());
        assert_ne!(a, b);
        for token in [&a, &b, &secret] {
            assert!(csrf_token_matches(token, &secret) && csrf_token_matches(&secret, token));
        }
        assert_eq!(unmask_csrf_token(&a).as_deref(), Some(secret.as_str()));
        let other = new_csrf_secret().unwrap();
        assert!(!csrf_token_matches(&a, &other) && !csrf_token_matches("", "") && !csrf_token_matches("", &secret));
        assert!(mask_csrf_secret("short").is_err());
    }

    #[test]
    fn messages_that_are_none() {
        for text in ["[[\"x\", 0, 20, \"a\"]]", "[[\"__json_message\", 0]]", "{}", "[1]"] {
            assert!(decode_messages(text).is_err(), "{text}");
        }
        assert_eq!(decode_messages("[]").unwrap(), []);
    }

    proptest! {
        #[test]
        fn messages_come_back(text in "\\PC*", level in any::<i64>(), safe: bool, tags in proptest::option::of("\\PC*")) {
            let messages = vec![Message { level, text, safe, extra_tags: tags }; 2];
            let encoded = encode_messages(&messages);
            prop_assert!(encoded.is_ascii());
            prop_assert_eq!(decode_messages(&encoded).unwrap(), messages);
        }

        #[test]
        fn any_text_is_a_token_or_not(a in "\\PC*|[a-zA-Z0-9]{64}|\\PC{32}", b in "\\PC*|[a-zA-Z0-9]{32}") {
            let _ = (csrf_token_matches(&a, &b), decode_messages(&a));
        }
    }
}
