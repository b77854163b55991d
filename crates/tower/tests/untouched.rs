//! A request that does not touch its session allocates its slot, and nothing else.
//!
//! One test in this file: the allocator counts for the whole process.

use std::alloc::System;
use std::convert::Infallible;
use std::future::{Future, Ready};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use cloakroom_core::engine::Engine;
use cloakroom_core::engine::memory::MemoryStore;
use cloakroom_core::exchange::{Exchange, Policy};
use cloakroom_core::wire::cookie::{CookieAttributes, CookieWriter};
use cloakroom_core::wire::expiry::ExpiryRules;
use cloakroom_core::wire::session_data::Codec;
use cloakroom_core::{Clock, KeySource};
use cloakroom_tower::SessionLayer;
use http::header::COOKIE;
use http::{Request, Response};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tower_layer::Layer;
use tower_service::Service;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Answers without a look at the session.
#[derive(Clone)]
struct Plain;

impl Service<Request<()>> for Plain {
    type Response = Response<()>;
    type Error = Infallible;
    type Future = Ready<Result<Response<()>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        std::future::ready(Ok(Response::new(())))
    }
}

/// A request with a session cookie, whose extensions hold something already, as a server's do.
fn request() -> Request<()> {
    let mut request = Request::new(());
    let cookie = "theme=dark; sessionid=abcdefghijklmnopqrstuvwxyz012345; other=1";
    request.headers_mut().insert(COOKIE, cookie.parse().unwrap());
    request.extensions_mut().insert("peer");
    request
}

/// How often handling one request allocates.
fn allocations<S>(service: &mut S) -> usize
where
    S: Service<Request<()>, Response = Response<()>, Error = Infallible>,
{
    let request = request();
    let region = Region::new(ALLOCATOR);
    let mut future = std::pin::pin!(service.call(request));
    let polled = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    let allocations = region.change().allocations;
    let Poll::Ready(Ok(response)) = polled else { panic!("nothing has to be waited for") };
    assert!(response.headers().is_empty());
    allocations
}

#[test]
fn an_untouched_session_costs_its_slot() {
    let clock = Clock::system();
    let engine = Engine::Store { store: Arc::new(MemoryStore::new(clock.clone())), codec: Codec::json() };
    let cookie = CookieWriter::new(&CookieAttributes::default()).unwrap();
    let policy = Policy::new(cookie, ExpiryRules::default());
    let exchange = Exchange::new(engine, policy, clock, KeySource::system());
    let mut layered = SessionLayer::new(exchange).layer(Plain);

    // The first request registers the trace's events, once for the process.
    allocations(&mut layered);
    let (plain, layered) = (allocations(&mut Plain), allocations(&mut layered));
    // The slot, and the box in which the request's extensions keep the handle to it.
    assert_eq!(layered - plain, 2);
}
