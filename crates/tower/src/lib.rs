//! Cloakroom's layer for tower: Django's session framework around any HTTP service.
//!
//! The layer puts a [`SessionSlot`] into each request's extensions, and writes the headers that the session's exchange
//! decides on when the response's status is known, before its body begins. A request whose session nobody loads costs
//! no I/O.
//!
//! ```
//! use cloakroom_tower::session_slot;
//! use http::{Request, Response};
//!
//! /// Any service behind the layer reads and writes the session through the request's extensions.
//! async fn greet(request: Request<String>) -> Result<Response<String>, cloakroom_tower::Error> {
//!     let session = session_slot(request.extensions())?.load().await?;
//!     let visits: u64 = session.update("visits", |n: Option<u64>| n.unwrap_or(0) + 1)?;
//!     Ok(Response::new(format!("visit {visits}")))
//! }
//! ```

mod service;

use cloakroom_core::exchange::Exchange;
pub use cloakroom_core::{Error, ErrorKind, Session, SessionSlot};
use http::Extensions;
use tower_layer::Layer;

pub use service::{ResponseFuture, SessionService};

/// The layer that gives every request its session.
#[derive(Clone)]
pub struct SessionLayer {
    exchange: Exchange,
}

impl SessionLayer {
    /// A layer of these sessions. With the `cloakroom` crate, `Sessions::layer()` makes it.
    pub fn new(exchange: Exchange) -> Self {
        Self { exchange }
    }
}

impl<S> Layer<S> for SessionLayer {
    type Service = SessionService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        SessionService::new(inner, self.exchange.clone())
    }
}

/// The slot that the layer put into a request's extensions.
///
/// # Errors
/// [`ErrorKind::NotInstalled`] if the request did not pass the layer.
pub fn session_slot(extensions: &Extensions) -> Result<&SessionSlot, Error> {
    extensions.get().ok_or_else(|| {
        Error::new(
            ErrorKind::NotInstalled,
            "this request has no session: add the session layer to the router, outside the route that uses it, as in \
             `Router::new().route(..).layer(sessions.layer())`",
        )
    })
}
