//! The service around a service: opens, commits, writes headers.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use cloakroom_core::exchange::{Answer, Commit, Exchange, vary_on_cookie};
use cloakroom_core::{Error, SessionSlot};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, COOKIE, Entry, SET_COOKIE, VARY};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use pin_project_lite::pin_project;
use tower_service::Service;

/// The service that [`SessionLayer`](crate::SessionLayer) makes of another.
#[derive(Clone)]
pub struct SessionService<S> {
    inner: S,
    exchange: Exchange,
}

impl<S> SessionService<S> {
    pub(crate) fn new(inner: S, exchange: Exchange) -> Self {
        Self { inner, exchange }
    }
}

impl<S, B, R> Service<Request<B>> for SessionService<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: Default,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, R, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        if request.extensions().get().is_some_and(|slot| self.exchange.owns(slot)) {
            // A router with the layer was nested in another with the same one: that one answers for the session.
            return ResponseFuture { stage: Stage::Passing { future: self.inner.call(request) } };
        }
        let slot = self.exchange.open(request.headers().get_all(COOKIE).iter().map(HeaderValue::as_bytes));
        request.extensions_mut().insert(slot.clone());
        ResponseFuture { stage: Stage::Handling { future: self.inner.call(request), slot } }
    }
}

pin_project! {
    /// The response of a [`SessionService`]: the inner service's, after its session was saved.
    ///
    /// If the inner service fails instead of responding, that counts as a server error: nothing is saved, but a session
    /// that was flushed is deleted before the failure is passed on.
    pub struct ResponseFuture<F, R, E> {
        #[pin]
        stage: Stage<F, R, E>,
    }
}

pin_project! {
    #[project = StageProj]
    enum Stage<F, R, E> {
        Passing { #[pin] future: F },
        Handling { #[pin] future: F, slot: SessionSlot },
        Committing { commit: Commit, outcome: Option<Result<Response<R>, E>> },
    }
}

impl<F, R, E> Future for ResponseFuture<F, R, E>
where
    F: Future<Output = Result<Response<R>, E>>,
    R: Default,
{
    type Output = Result<Response<R>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut stage = self.project().stage;
        loop {
            match stage.as_mut().project() {
                StageProj::Passing { future } => return future.poll(cx),
                StageProj::Handling { future, slot } => {
                    let mut outcome = ready!(future.poll(cx));
                    let status = outcome.as_ref().map_or(500, |response| response.status().as_u16());
                    if let Some(answer) = slot.commit_without_io(status) {
                        if let Ok(response) = &mut outcome {
                            write(response.headers_mut(), answer);
                        }
                        return Poll::Ready(outcome);
                    }
                    let mut commit = slot.commit(status);
                    // A store in memory answers at once, and then nothing needs to be kept.
                    match Pin::new(&mut commit).poll(cx) {
                        Poll::Ready(committed) => return Poll::Ready(answered(outcome, committed)),
                        Poll::Pending => stage.set(Stage::Committing { commit, outcome: Some(outcome) }),
                    }
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

/// The inner service's outcome, with what became of its session.
fn answered<R: Default, E>(
    mut outcome: Result<Response<R>, E>,
    committed: Result<Answer, Error>,
) -> Result<Response<R>, E> {
    if let Ok(response) = &mut outcome {
        match committed {
            Ok(answer) => write(response.headers_mut(), answer),
            Err(error) => refuse(response, &error),
        }
    }
    outcome
}

/// Writes what the exchange decided.
fn write(headers: &mut HeaderMap, answer: Answer) {
    if let Some(cookie) = answer.set_cookie {
        // The cookie writer lets nothing through that a header cannot hold.
        if let Ok(value) = HeaderValue::try_from(cookie) {
            headers.append(SET_COOKIE, value);
        }
    }
    if answer.vary {
        match headers.entry(VARY) {
            Entry::Vacant(place) => drop(place.insert(HeaderValue::from_static("Cookie"))),
            Entry::Occupied(mut place) => {
                let vary = vary_on_cookie(place.iter().filter_map(|value| value.to_str().ok()));
                if let Ok(value) = HeaderValue::try_from(&*vary) {
                    place.insert(value);
                }
            }
        }
    }
}

/// Replaces a response whose session could not be saved: what it says would not be true. The answer is opaque; the
/// exchange has logged the cause.
fn refuse<R: Default>(response: &mut Response<R>, error: &Error) {
    *response.status_mut() = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    *response.body_mut() = R::default();
    let headers = response.headers_mut();
    // The handler's other headers, cookies of its own among them, belong to an answer that is not given.
    headers.clear();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
}
