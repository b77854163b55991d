//! Cloakroom's middleware for actix-web: Django's session framework around an application or a scope.
//!
//! The middleware puts a [`SessionSlot`] into each request's extensions, and writes the headers that the session's
//! exchange decides on when the response's status is known, before its body begins. A request whose session nobody
//! loads costs no I/O.
//!
//! ```
//! use actix_web::{HttpRequest, HttpResponse, error::ErrorInternalServerError};
//! use cloakroom_actix::session_slot;
//!
//! /// Any handler, extractor or middleware behind it reads and writes the session through the request's extensions.
//! async fn greet(request: HttpRequest) -> actix_web::Result<HttpResponse> {
//!     let slot = session_slot(&request).map_err(ErrorInternalServerError)?;
//!     let session = slot.load().await.map_err(ErrorInternalServerError)?;
//!     let visits = session.update("visits", |n: Option<u64>| n.unwrap_or(0) + 1).map_err(ErrorInternalServerError)?;
//!     Ok(HttpResponse::Ok().body(format!("visit {visits}")))
//! }
//! ```
//!
//! The `cloakroom` crate with feature `actix` has the `Session` extractor, and an error that handlers can return.

mod error;
mod service;

use std::future::{Ready, ready};

use actix_web::HttpMessage;
use actix_web::body::MessageBody;
use actix_web::dev::{Service, ServiceRequest, ServiceResponse, Transform};
use cloakroom_core::exchange::Exchange;
pub use cloakroom_core::{Error, ErrorKind, Session, SessionSlot};

pub use service::{Response, ResponseFuture, SessionService};

/// The middleware that gives every request its session: for `App::wrap`, and as well for a scope or a resource.
///
/// An error that middleware further in raises counts as the response that actix-web makes of it, and gets the session's
/// headers then. Until then it is an error of another type with the same status and text, if there are any.
#[derive(Clone)]
pub struct SessionMiddleware {
    exchange: Exchange,
}

impl SessionMiddleware {
    /// A middleware of these sessions. With the `cloakroom` crate, `Sessions::actix_middleware()` makes it.
    pub fn new(exchange: Exchange) -> Self {
        Self { exchange }
    }
}

impl<S, B> Transform<S, ServiceRequest> for SessionMiddleware
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = actix_web::Error>,
    B: MessageBody,
{
    type Response = Response<B>;
    type Error = actix_web::Error;
    type Transform = SessionService<S>;
    type InitError = ();
    type Future = Ready<Result<Self::Transform, ()>>;

    fn new_transform(&self, service: S) -> Self::Future {
        ready(Ok(SessionService::new(service, self.exchange.clone())))
    }
}

/// The slot that the middleware put into a request's extensions.
///
/// # Errors
/// [`ErrorKind::NotInstalled`] if the request did not pass the middleware.
pub fn session_slot(request: &impl HttpMessage) -> Result<SessionSlot, Error> {
    request.extensions().get::<SessionSlot>().cloned().ok_or_else(|| {
        Error::new(
            ErrorKind::NotInstalled,
            "this request has no session: wrap the application, or the scope of the route that uses it, with the session \
             middleware, as in `App::new().wrap(sessions.actix_middleware())`",
        )
    })
}
