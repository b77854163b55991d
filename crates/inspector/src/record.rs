//! One session as it is found in a store.

use std::fmt;

use bytes::Bytes;
use cloakroom_core::wire::expiry::{EXPIRY_KEY, ExpiryRules, Lifetime};
use cloakroom_core::wire::session_data::Codec;
use cloakroom_core::{Error, ErrorKind, SessionKey, Timestamp, Values};

use crate::Handle;

/// What becomes of a session that is presented now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is found.
    Live,
    /// It is over; a sweep will remove it.
    Expired,
    /// Its data cannot be read: it counts as empty, and is left as it stands.
    Corrupted,
}

impl State {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Expired => "expired",
            Self::Corrupted => "corrupted",
        }
    }
}

/// What is shown of a session in a list.
#[derive(Clone, Debug)]
pub struct Record {
    pub(crate) key: SessionKey,
    /// The name by which the session can be asked for.
    pub handle: Handle,
    /// The user who is logged in: Django's `_auth_user_id`, or the item that was [chosen](crate::Inspector::with_user_item).
    pub user: Option<String>,
    /// What is stored, in bytes; `None` if the store hands out nothing of an expired record.
    pub size: Option<usize>,
    /// When it was last saved, to the second; `None` if what is stored does not say so. A renewal of the expiry alone
    /// is no save.
    pub saved: Option<Timestamp>,
    /// When it ends; `None` if only the store knows and does not tell.
    pub expiry: Option<Timestamp>,
    /// Whether it has ended.
    pub expired: bool,
    /// What is wrong with its data.
    pub problem: Option<String>,
}

impl Record {
    /// The key's first four characters.
    pub fn masked(&self) -> String {
        self.key.masked()
    }

    /// What becomes of the session if it is presented now.
    pub fn state(&self) -> State {
        match (&self.problem, self.expired) {
            (Some(_), _) => State::Corrupted,
            (None, true) => State::Expired,
            (None, false) => State::Live,
        }
    }
}

/// A session with its data, of which `Debug` shows the size alone.
#[derive(Clone)]
pub struct Details {
    /// What a list shows.
    pub record: Record,
    /// The data, if it could be read.
    pub values: Option<Values>,
    /// What is stored, as it is.
    pub payload: Bytes,
}

impl fmt::Debug for Details {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Details").field("record", &self.record).field("values", &self.values).finish_non_exhaustive()
    }
}

/// How payloads are read.
#[derive(Clone)]
pub(crate) struct Reader {
    pub(crate) codec: Codec,
    pub(crate) rules: ExpiryRules,
    pub(crate) user_item: String,
}

impl Reader {
    /// What a payload says. `expiry` is the store's, if it tells.
    pub(crate) fn read(
        &self,
        key: SessionKey,
        handle: Handle,
        payload: Bytes,
        expiry: Option<Timestamp>,
        now: Timestamp,
    ) -> Details {
        let mut record = Record {
            key,
            handle,
            user: None,
            size: Some(payload.len()),
            saved: None,
            expiry,
            expired: expiry.is_some_and(|expiry| expiry <= now),
            problem: None,
        };
        let values = match self.codec.decode_dated(&payload) {
            Err(error) => {
                record.problem = Some(explained(&error));
                None
            }
            Ok((values, saved)) => {
                record.saved = saved;
                record.user = user(&values, &self.user_item);
                match self.rules.lifetime(values.get_raw(EXPIRY_KEY)) {
                    Err(error) => record.problem = Some(error.to_string()),
                    Ok(Lifetime::Fixed(end)) if expiry.is_none() => {
                        record.expiry = Some(end);
                        record.expired = end <= now;
                    }
                    Ok(_) => {}
                }
                Some(values)
            }
        };
        Details { record, values, payload }
    }
}

/// Why a payload cannot be read, and what that comes from as a rule.
fn explained(error: &Error) -> String {
    let cause = match error.kind() {
        ErrorKind::BadSignature => {
            "It was signed with another SECRET_KEY, or changed by somebody who has none. If this is so of many sessions, \
             add the former key to SECRET_KEY_FALLBACKS"
        }
        ErrorKind::Corrupted => "It is damaged, or was written by another BACKEND or SERIALIZER than the settings name",
        _ => return error.to_string(),
    };
    format!("{error}. {cause}")
}

/// Who is logged in: text, or a number in sessions that other programs wrote.
fn user(values: &Values, item: &str) -> Option<String> {
    let raw = values.get_raw(item).filter(|_| values.opaque_type(item).is_none())?;
    match raw.starts_with('"') {
        true => values.get(item).ok().flatten(),
        false => Some(raw.to_owned()).filter(|raw| raw.parse::<i128>().is_ok()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_text_or_numbers() {
        for (json, expected) in [
            (r#"{"u":"7"}"#, Some("7")),
            (r#"{"u":7}"#, Some("7")),
            (r#"{"u":"\u00e9"}"#, Some("é")),
            (r#"{"u":[7]}"#, None),
            (r#"{"u":null}"#, None),
            ("{}", None),
        ] {
            assert_eq!(user(&Values::parse(json.into()).unwrap(), "u").as_deref(), expected, "{json}");
        }
        let mut values = Values::new();
        values.insert_opaque("u", "uuid.UUID");
        assert_eq!(user(&values, "u"), None);
    }
}
