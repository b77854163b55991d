//! The service around a service: opens, commits, writes headers.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use actix_web::HttpMessage;
use actix_web::HttpResponse;
use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{Service, ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{COOKIE, ContentType, HeaderMap, HeaderValue, SET_COOKIE, VARY};
use cloakroom_core::exchange::{Answer, Commit, Exchange, vary_on_cookie};
use cloakroom_core::{Error, SessionSlot};
use pin_project_lite::pin_project;

use crate::error::Answered;

/// The response of a [`SessionService`]: the inner one, or that of a session that could not be saved.
pub type Response<B> = ServiceResponse<EitherBody<B>>;

/// The service that [`SessionMiddleware`](crate::SessionMiddleware) makes of another.
pub struct SessionService<S> {
    inner: S,
    exchange: Exchange,
}

impl<S> SessionService<S> {
    pub(crate) fn new(inner: S, exchange: Exchange) -> Self {
        Self { inner, exchange }
    }
}

impl<S, B> Service<ServiceRequest> for SessionService<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = actix_web::Error>,
    B: MessageBody,
{
    type Response = Response<B>;
    type Error = actix_web::Error;
    type Future = ResponseFuture<S::Future, B>;

    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&self, request: ServiceRequest) -> Self::Future {
        if request.extensions().get().is_some_and(|slot| self.exchange.owns(slot)) {
            // A scope was wrapped in an application that is wrapped already: that one answers for the session.
            return ResponseFuture { stage: Stage::Passing { future: self.inner.call(request) } };
        }
        let slot = self.exchange.open(request.headers().get_all(COOKIE).map(HeaderValue::as_bytes));
        request.extensions_mut().insert(slot.clone());
        ResponseFuture { stage: Stage::Handling { future: self.inner.call(request), slot } }
    }
}

type Outcome<B> = Result<ServiceResponse<B>, actix_web::Error>;

pin_project! {
    /// The response of a [`SessionService`], after its session was saved.
    pub struct ResponseFuture<F, B> {
        #[pin]
        stage: Stage<F, B>,
    }
}

pin_project! {
    #[project = StageProj]
    enum Stage<F, B> {
        Passing { #[pin] future: F },
        Handling { #[pin] future: F, slot: SessionSlot },
        Committing { commit: Commit, outcome: Option<Outcome<B>> },
    }
}

impl<F, B> Future for ResponseFuture<F, B>
where
    F: Future<Output = Outcome<B>>,
    B: MessageBody,
{
    type Output = Outcome<EitherBody<B>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut stage = self.project().stage;
        loop {
            match stage.as_mut().project() {
                StageProj::Passing { future } => {
                    return future.poll(cx).map_ok(ServiceResponse::map_into_left_body);
                }
                StageProj::Handling { future, slot } => {
                    let outcome = ready!(future.poll(cx));
                    // An error that a middleware further in raised is a response that is yet to be made of it.
                    let status = match &outcome {
                        Ok(response) => response.status(),
                        Err(error) => error.as_response_error().status_code(),
                    };
                    let status = status.as_u16();
                    let nothing = slot.has_nothing_to_commit(status).then(Answer::default);
                    if let Some(answer) = nothing.or_else(|| slot.commit_without_io(status)) {
                        return Poll::Ready(answered(outcome, Ok(answer)));
                    }
                    let commit = slot.commit(status);
                    stage.set(Stage::Committing { commit, outcome: Some(outcome) });
                }
                StageProj::Committing { commit, outcome } => {
                    let committed = ready!(Pin::new(commit).poll(cx));
                    let outcome = outcome.take().expect("a future is not polled after it is done");
                    return Poll::Ready(answered(outcome, committed));
                }
            }
        }
    }
}

/// The response, or the error, with what the exchange decided.
fn answered<B: MessageBody>(outcome: Outcome<B>, committed: Result<Answer, Error>) -> Outcome<EitherBody<B>> {
    match (outcome, committed) {
        (Ok(mut response), Ok(answer)) => {
            write(response.headers_mut(), &answer);
            Ok(response.map_into_left_body())
        }
        (Ok(response), Err(error)) => Ok(response.into_response(refusal(&error)).map_into_right_body()),
        (Err(cause), Ok(answer)) if answer == Answer::default() => Err(cause),
        (Err(cause), committed) => Err(Answered { cause, committed }.into()),
    }
}

/// Writes what the exchange decided.
pub(crate) fn write(headers: &mut HeaderMap, answer: &Answer) {
    if let Some(cookie) = &answer.set_cookie {
        // The cookie writer lets nothing through that a header cannot hold.
        if let Ok(value) = HeaderValue::try_from(cookie) {
            headers.append(SET_COOKIE, value);
        }
    }
    if answer.vary {
        let vary = vary_on_cookie(headers.get_all(VARY).filter_map(|value| value.to_str().ok()));
        if let Ok(value) = HeaderValue::try_from(&*vary) {
            headers.insert(VARY, value);
        }
    }
}

/// Stands in for a response whose session could not be saved: what that says would not be true. The answer is opaque;
/// the exchange has logged the cause.
pub(crate) fn refusal(error: &Error) -> HttpResponse {
    let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    HttpResponse::build(status).insert_header(ContentType::plaintext()).finish()
}
