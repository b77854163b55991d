//! Short texts for the visitor's next page: Django's message framework, where it keeps messages in the session.
//!
//! Django's templates show what is added here, and the reverse, if the site has
//! `MESSAGE_STORAGE = "django.contrib.messages.storage.session.SessionStorage"`. Its default storage keeps messages in
//! a cookie, and looks into the session only for what did not fit there.
//!
//! ```
//! use cloakroom::django::messages;
//! use cloakroom::testing::Visitor;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), cloakroom::Error> {
//! let mut visitor = Visitor::new()?;
//! messages::add(&*visitor.session().await?, messages::SUCCESS, "Your coat hangs on hook 7.")?;
//! visitor.respond(302).await?;
//!
//! let session = visitor.session().await?;
//! for message in messages::take(&session)? {
//!     assert_eq!((message.level, message.text.as_str()), (messages::SUCCESS, "Your coat hangs on hook 7."));
//! }
//! assert!(messages::peek(&session)?.is_empty());
//! # Ok(())
//! # }
//! ```

use cloakroom_core::wire::django_items::{MESSAGES_KEY, Messages};
use cloakroom_core::{Result, Session};

pub use cloakroom_core::wire::django_items::Message;

/// The level of messages for developers.
pub const DEBUG: i64 = 10;
/// The level of information.
pub const INFO: i64 = 20;
/// The level of what went well.
pub const SUCCESS: i64 = 25;
/// The level of what may go wrong.
pub const WARNING: i64 = 30;
/// The level of what went wrong.
pub const ERROR: i64 = 40;

/// Adds a message, as Django's usual call does.
///
/// # Errors
/// As [`push`].
pub fn add(session: &Session, level: i64, text: impl Into<String>) -> Result<()> {
    push(session, Message { level, text: text.into(), safe: false, extra_tags: Some(String::new()) })
}

/// Adds a message with all that belongs to it. Of requests at the same time, the messages of both are kept.
///
/// # Errors
/// [`ErrorKind::Type`](crate::ErrorKind::Type) if what stands in the session are no messages; they are left alone.
pub fn push(session: &Session, message: Message) -> Result<()> {
    let push = move |present: Option<Messages>| {
        let mut messages = present.unwrap_or_default();
        messages.0.push(message.clone());
        messages
    };
    session.update(MESSAGES_KEY, push).map(drop)
}

/// The messages, which stay where they are.
///
/// # Errors
/// As [`push`].
pub fn peek(session: &Session) -> Result<Vec<Message>> {
    Ok(session.get::<Messages>(MESSAGES_KEY)?.unwrap_or_default().0)
}

/// The messages, which are taken out of the session: those that another request adds at the same time stay for the
/// next page.
///
/// # Errors
/// As [`push`].
pub fn take(session: &Session) -> Result<Vec<Message>> {
    let messages = peek(session)?;
    if !session.contains_key(MESSAGES_KEY) {
        return Ok(messages);
    }
    let taken = messages.clone();
    session.update_or_remove(MESSAGES_KEY, move |present: Option<Messages>| {
        let mut left = present?;
        for taken in &taken {
            if let Some(at) = left.0.iter().position(|message| message == taken) {
                left.0.remove(at);
            }
        }
        (!left.0.is_empty()).then_some(left)
    })?;
    Ok(messages)
}
