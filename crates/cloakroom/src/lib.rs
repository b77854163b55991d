//! Django's session framework for Rust web services: same settings, same behaviour, same bytes in the store and in the
//! cookie. Concurrent requests never lose each other's changes, and a signed-out session never comes back.
//!
//! ```no_run
//! use axum::{Router, routing::get};
//! use cloakroom::{Session, Sessions};
//!
//! async fn visits(session: Session) -> Result<String, cloakroom::Error> {
//!     let n: u64 = session.update("visits", |n: Option<u64>| n.unwrap_or(0) + 1)?;
//!     Ok(format!("visit {n}"))
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let sessions = Sessions::from_env().await?; // SESSION_ENGINE, SECRET_KEY, DATABASE_URL, ...
//! let app = Router::new().route("/", get(visits)).layer(sessions.layer());
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:8000").await?;
//! axum::serve(listener, app).await?;
//! # Ok(())
//! # }
//! ```
//!
//! The database's table is made by `cloakroom migrate`, the command of the `cloakroom-manage` crate, or by Django's own
//! `migrate`.

#[cfg(feature = "actix")]
mod actix;
#[cfg(feature = "axum")]
mod axum;
pub mod django;
mod error;
mod open;
mod session;
mod sessions;
pub mod testing;

#[cfg(feature = "actix")]
pub use cloakroom_actix::SessionMiddleware;
pub use cloakroom_core as core;
pub use cloakroom_core::json::RawJson;
pub use cloakroom_core::settings::Settings;
pub use cloakroom_core::store::Store;
pub use cloakroom_core::wire::expiry::{DateTime, Expiry};
pub use cloakroom_core::wire::session_data::Serializer;
pub use cloakroom_core::{Clock, ErrorKind, SessionKey, SessionSlot, Timestamp, Values};
#[cfg(feature = "inspector")]
pub use cloakroom_inspector as inspector;
#[cfg(feature = "tower")]
pub use cloakroom_tower::{SessionLayer, SessionService};

pub use error::{Error, Result};
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
pub use open::open_database;
pub use session::Session;
pub use sessions::Sessions;
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/guide.md")]
struct Guide;
