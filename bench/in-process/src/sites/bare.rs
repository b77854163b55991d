//! The same answers without sessions: what everything else is compared with.

use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use axum::Router;
use axum::extract::Request;
use axum::routing::get;
use tower_layer::Layer;
use tower_service::Service;

static VISITS: AtomicU64 = AtomicU64::new(1);

pub(super) fn router() -> Router {
    Router::new()
        .route("/none", get(async || super::NONE))
        .route("/read", get(async || String::from("Ada Lovelace")))
        .route("/write", get(async || format!("visit {}", VISITS.fetch_add(1, Ordering::Relaxed) + 1)))
        .route("/login", get(async || "welcome"))
}

/// Bare axum with a layer that does nothing but what any layer of its kind has to do: hand the request on.
pub(super) fn layered() -> Router {
    router().layer(Empty)
}

#[derive(Clone)]
struct Empty;

impl<S> Layer<S> for Empty {
    type Service = Through<S>;

    fn layer(&self, inner: S) -> Through<S> {
        Through(inner)
    }
}

#[derive(Clone)]
struct Through<S>(S);

impl<S: Service<Request>> Service<Request> for Through<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> S::Future {
        self.0.call(request)
    }
}
