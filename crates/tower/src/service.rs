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
        let slot = open(&self.exchange, &mut request);
        ResponseFuture { stage: Stage::Handling { future: self.inner.call(request), slot } }
    }
}

/// Gives the request its session, unless it has it: a router with the layer was nested in another with the same one, and
/// that one answers for the session.
fn open<B>(exchange: &Exchange, request: &mut Request<B>) -> Option<SessionSlot> {
    if request.extensions().get().is_some_and(|slot| exchange.owns(slot)) {
        return None;
    }
    let headers = request.headers();
    let slot = if headers.len() == headers.keys_len() {
        exchange.open(headers.get(&COOKIE).map(HeaderValue::as_bytes).into_iter())
    } else {
        exchange.open(headers.get_all(&COOKIE).iter().map(HeaderValue::as_bytes))
    };
    request.extensions_mut().insert(slot.clone());
    Some(slot)
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
        // Without a slot, the session is another's to commit.
        Handling { #[pin] future: F, slot: Option<SessionSlot> },
        // What the inner service has come to, as it was polled.
        Committing { commit: Commit, outcome: Poll<Result<Response<R>, E>> },
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
        match stage.as_mut().project() {
            StageProj::Handling { future, slot } => {
                let mut outcome = future.poll(cx);
                if let (Poll::Ready(handled), Some(slot)) = (&mut outcome, slot)
                    && let Some(commit) = commit(slot, handled, cx)
                {
                    stage.set(Stage::Committing { commit, outcome });
                    return Poll::Pending;
                }
                outcome
            }
            StageProj::Committing { commit, outcome } => {
                let committed = ready!(Pin::new(commit).poll(cx));
                let mut outcome = std::mem::replace(outcome, Poll::Pending);
                if let Poll::Ready(handled) = &mut outcome {
                    answer(handled, committed);
                }
                outcome
            }
        }
    }
}

/// Commits the session and completes the response, as far as that needs no waiting; returns the commit if it does.
fn commit<R: Default, E>(
    slot: &SessionSlot,
    outcome: &mut Result<Response<R>, E>,
    cx: &mut Context<'_>,
) -> Option<Commit> {
    let status = outcome.as_ref().map_or(500, |response| response.status().as_u16());
    if slot.has_nothing_to_commit(status) {
        return None;
    }
    if let Some(answer) = slot.commit_without_io(status) {
        if let Ok(response) = outcome {
            write(response.headers_mut(), answer);
        }
        return None;
    }
    let mut commit = slot.commit(status);
    // A store in memory answers at once, and then nothing needs to be kept.
    match Pin::new(&mut commit).poll(cx) {
        Poll::Ready(committed) => answer(outcome, committed),
        Poll::Pending => return Some(commit),
    }
    None
}

/// Tells in the response what became of its session.
fn answer<R: Default, E>(outcome: &mut Result<Response<R>, E>, committed: Result<Answer, Error>) {
    if let Ok(response) = outcome {
        match committed {
            Ok(answer) => write(response.headers_mut(), answer),
            Err(error) => refuse(response, &error),
        }
    }
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
