//! The extractor and the error response for axum.

use ::http::{StatusCode, request::Parts};
use axum_core::extract::{FromRequestParts, OptionalFromRequestParts};
use axum_core::response::{IntoResponse, Response};
use cloakroom_tower::session_slot;

use crate::{Error, ErrorKind, Session};

impl<S: Sync> FromRequestParts<S> for Session {
    type Rejection = Error;

    /// Loads the request's session, in at most one round trip.
    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Error> {
        Ok(session_slot(&parts.extensions)?.load().await?.into())
    }
}

impl<S: Sync> OptionalFromRequestParts<S> for Session {
    type Rejection = Error;

    /// `None` where there are no sessions: the layer is missing, or `INSTALLED_APPS` does not switch them on. A store
    /// that failed is an error all the same.
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Option<Self>, Error> {
        match <Self as FromRequestParts<S>>::from_request_parts(parts, state).await {
            Ok(session) => Ok(Some(session)),
            Err(error) if error.kind() == ErrorKind::NotInstalled => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl IntoResponse for Error {
    /// An opaque answer for the visitor; the cause goes to the log.
    fn into_response(self) -> Response {
        self.log();
        let status = StatusCode::from_u16(self.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, status.canonical_reason().unwrap_or_default()).into_response()
    }
}
