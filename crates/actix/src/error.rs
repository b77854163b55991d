//! Errors that pass the middleware on their way to becoming responses.

use std::fmt;

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, ResponseError};
use cloakroom_core::exchange::Answer;

use crate::service::{refusal, write};

/// An error of a middleware further in, and what the exchange decided about the response that it will become.
///
/// actix-web makes a response of an error only when it has passed all middleware, so its headers travel with it.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) cause: actix_web::Error,
    pub(crate) committed: Result<Answer, cloakroom_core::Error>,
}

impl ResponseError for Answered {
    fn status_code(&self) -> StatusCode {
        match &self.committed {
            Ok(_) => self.cause.as_response_error().status_code(),
            Err(error) => refusal(error).status(),
        }
    }

    fn error_response(&self) -> HttpResponse {
        match &self.committed {
            Ok(answer) => {
                let mut response = self.cause.error_response();
                write(response.headers_mut(), answer);
                response
            }
            Err(error) => refusal(error),
        }
    }
}

impl fmt::Display for Answered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cause.fmt(f)
    }
}
