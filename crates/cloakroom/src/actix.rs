//! The extractor and the error response for actix-web.

use std::future::Future;
use std::pin::Pin;

use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::http::header::ContentType;
use actix_web::{FromRequest, HttpRequest, HttpResponse, ResponseError};
use cloakroom_actix::session_slot;

use crate::{Error, Result, Session};

/// An extractor of actix-web, too.
///
/// `Option<Session>` is actix-web's own and takes every failure for `None`, a store that is down among them: the
/// visitor then looks like one without a session. No cookie is cleared for it, but to tell the one from the other take
/// `Result<Session, cloakroom::Error>`: its error says by [`kind`](cloakroom_core::Error::kind) whether there are no
/// sessions here ([`NotInstalled`](crate::ErrorKind::NotInstalled)) or the store failed.
///
/// `web::ReqData<SessionSlot>` gives the slot, without loading the session.
impl FromRequest for Session {
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self>>>>;

    /// Loads the request's session, in at most one round trip.
    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let slot = session_slot(request);
        Box::pin(async move { Ok(slot?.load().await?.into()) })
    }
}

impl ResponseError for Error {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// An opaque answer for the visitor; the cause goes to the log.
    fn error_response(&self) -> HttpResponse {
        self.log();
        let status = self.status_code();
        let reason = status.canonical_reason().unwrap_or_default();
        HttpResponse::build(status).insert_header(ContentType::plaintext()).body(reason)
    }
}
