//! Sessions for unit tests: a visitor without a server.
//!
//! ```
//! use cloakroom::testing::Visitor;
//! use cloakroom::{Error, Session};
//!
//! async fn add_to_cart(session: Session, item: &str) -> Result<usize, Error> {
//!     let item = item.to_owned();
//!     let cart: Vec<String> = session.update("cart", move |cart: Option<Vec<String>>| {
//!         let mut cart = cart.unwrap_or_default();
//!         cart.push(item.clone());
//!         cart
//!     })?;
//!     Ok(cart.len())
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Error> {
//! let mut visitor = Visitor::with([("cart", ["tea"])]).await?;
//! assert_eq!(add_to_cart(visitor.session().await?, "honey").await?, 2);
//!
//! let outcome = visitor.respond(200).await?;
//! assert_eq!(outcome.data.get::<Vec<String>>("cart")?.unwrap(), ["tea", "honey"]);
//! assert!(outcome.set_cookie.is_some());
//! # Ok(())
//! # }
//! ```

use std::sync::Arc;

use cloakroom_core::engine::Engine;
use cloakroom_core::engine::memory::MemoryStore;
use cloakroom_core::exchange::Exchange;
use cloakroom_core::settings::Settings;
use cloakroom_core::wire::session_data::Codec;
use cloakroom_core::{Clock, KeySource, SessionSlot, Values};
use serde::Serialize;

use crate::sessions::policy;
use crate::{Result, Session};

/// A browser and a site in one: it keeps the session cookie from one request to the next. Sessions live in memory,
/// for this visitor alone.
pub struct Visitor {
    exchange: Exchange,
    cookie: Option<String>,
    request: Option<SessionSlot>,
}

/// What a response did to the session.
#[derive(Debug)]
pub struct Outcome {
    /// The session's data as a next request would find it.
    pub data: Values,
    /// The `Set-Cookie` header, if one was sent: a new session, a renewed one, or a removal.
    pub set_cookie: Option<String>,
    /// Whether the response varies on `Cookie`.
    pub vary: bool,
}

impl Visitor {
    /// A visitor without a session, under default settings.
    ///
    /// # Errors
    /// None under default settings.
    pub fn new() -> Result<Self> {
        Self::under(Settings::builder().secret_key("only for a unit test"), Clock::system())
    }

    /// A visitor whose session holds this data already.
    ///
    /// # Errors
    /// [`ErrorKind::Unrepresentable`](crate::ErrorKind::Unrepresentable) if a value is not for JSON.
    pub async fn with<K: AsRef<str>, T: Serialize>(data: impl IntoIterator<Item = (K, T)>) -> Result<Self> {
        let mut visitor = Self::new()?;
        visitor.session().await?.extend(data)?;
        visitor.respond(200).await?;
        Ok(visitor)
    }

    /// A visitor under settings of your own, with a clock that the test may move.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`](crate::ErrorKind::Configuration) if the settings are wrong.
    pub fn under(settings: cloakroom_core::settings::SettingsBuilder, clock: Clock) -> Result<Self> {
        let settings = settings.build().map_err(cloakroom_core::Error::from)?;
        let engine = Engine::Store { store: Arc::new(MemoryStore::new(clock.clone())), codec: Codec::in_process() };
        let exchange = Exchange::new(engine, policy(&settings)?, clock, KeySource::system());
        Ok(Self { exchange, cookie: None, request: None })
    }

    /// The session of the request under way, as a handler takes it; begins a request if none is.
    ///
    /// # Errors
    /// None while the session lives in memory.
    pub async fn session(&mut self) -> Result<Session> {
        Ok(self.slot().load().await?.into())
    }

    /// The slot of the request under way, to put into a request's extensions; begins a request if none is.
    pub fn slot(&mut self) -> SessionSlot {
        let cookie = self.cookie.as_ref().map(|value| format!("{}={value}", self.exchange.cookie_name()));
        let exchange = &self.exchange;
        self.request.get_or_insert_with(|| exchange.open(cookie.iter().map(|header| header.as_bytes()))).clone()
    }

    /// Ends the request under way with a response of this status, and tells what that did to the session.
    ///
    /// # Errors
    /// Those of [`Exchange::commit`], as the response's status would tell: the session was deleted meanwhile.
    pub async fn respond(&mut self, status: u16) -> Result<Outcome> {
        let slot = self.slot();
        self.request = None;
        let answer = self.exchange.commit(&slot, status).await?;
        if let Some(header) = &answer.set_cookie {
            let value = header.split(';').next().and_then(|pair| pair.split_once('=')).map_or("", |(_, value)| value);
            self.cookie = (value != "\"\"").then(|| value.to_owned());
        }
        let next = self.slot().load().await?;
        self.request = None;
        Ok(Outcome { data: Values::from(&next), set_cookie: answer.set_cookie, vary: answer.vary })
    }
}
