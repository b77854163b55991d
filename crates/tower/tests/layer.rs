//! The layer among other services.

use std::convert::Infallible;
use std::sync::Arc;

use cloakroom_core::conformance::probe::{Fault, Operation, ProbeStore};
use cloakroom_core::engine::Engine;
use cloakroom_core::engine::memory::MemoryStore;
use cloakroom_core::exchange::{Exchange, Policy};
use cloakroom_core::wire::cookie::{CookieAttributes, CookieWriter};
use cloakroom_core::wire::expiry::ExpiryRules;
use cloakroom_core::wire::session_data::Codec;
use cloakroom_core::{Clock, KeySource};
use cloakroom_tower::{ErrorKind, SessionLayer, session_slot};
use http::header::{COOKIE, SET_COOKIE, VARY};
use http::{Request, Response};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

type Body = Vec<u8>;

fn site(cookie: &str, every: bool) -> (SessionLayer, Arc<ProbeStore>) {
    let clock = Clock::system();
    let store = Arc::new(ProbeStore::new(MemoryStore::new(clock.clone())));
    let cookie = CookieWriter::new(&CookieAttributes { name: cookie.into(), ..Default::default() }).unwrap();
    let policy = Policy { save_every_request: every, ..Policy::new(cookie, ExpiryRules::default()) };
    let engine = Engine::Store { store: store.clone(), codec: Codec::json() };
    (SessionLayer::new(Exchange::new(engine, policy, clock, KeySource::system())), store)
}

async fn count(request: Request<Body>) -> Result<Response<Body>, cloakroom_tower::Error> {
    let session = session_slot(request.extensions())?.load().await?;
    let count = session.update("count", |n: Option<u64>| n.unwrap_or(0) + 1)?;
    Ok(Response::new(count.to_string().into_bytes()))
}

fn request(cookies: &[&str]) -> Request<Body> {
    let mut request = Request::new(Body::new());
    for cookie in cookies {
        request.headers_mut().append(COOKIE, cookie.parse().unwrap());
    }
    request
}

/// `name=value` of each cookie that was set.
fn cookies<B>(response: &Response<B>) -> Vec<String> {
    let cookies = response.headers().get_all(SET_COOKIE).iter();
    cookies.map(|cookie| cookie.to_str().unwrap().split(';').next().unwrap().to_owned()).collect()
}

#[test]
fn a_missing_layer_is_named() {
    let error = session_slot(request(&[]).extensions()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotInstalled);
    assert_eq!(error.status(), 500);
    let text = error.to_string();
    assert!(text.contains("add the session layer") && text.contains(".layer(sessions.layer())"), "{text}");
}

#[tokio::test]
async fn any_middleware_uses_the_session_of_the_handler() {
    let (layer, store) = site("sessionid", false);
    // It writes before the handler runs, and reads after it.
    let service = ServiceBuilder::new()
        .layer(layer)
        .layer(tower::layer::layer_fn(|inner| {
            service_fn(move |request: Request<Body>| {
                let mut inner: tower::util::BoxCloneService<_, Response<Body>, cloakroom_tower::Error> =
                    Clone::clone(&inner);
                async move {
                    let slot = session_slot(request.extensions())?.clone();
                    slot.load().await?.insert("count", &41)?;
                    let mut response = inner.call(request).await?;
                    let seen = slot.load().await?.get::<u64>("count")?.unwrap();
                    response.headers_mut().insert("x-count", seen.into());
                    Ok::<_, cloakroom_tower::Error>(response)
                }
            })
        }))
        .service(tower::util::BoxCloneService::new(service_fn(count)));
    let response = service.oneshot(request(&[])).await.unwrap();
    assert_eq!(response.headers()["x-count"], "42");
    assert_eq!(response.body(), b"42");
    assert_eq!(store.take_calls(), [Operation::Create]);
}

#[tokio::test]
async fn nested_layers_of_one_site_are_one() {
    for every in [false, true] {
        let (layer, store) = site("sessionid", every);
        let service = layer.clone().layer(layer.layer(service_fn(count)));
        let first = service.clone().oneshot(request(&[])).await.unwrap();
        assert_eq!((first.body().as_slice(), cookies(&first).len()), (&b"1"[..], 1));
        assert_eq!(store.take_calls(), [Operation::Create]);

        let second = service.oneshot(request(&[&cookies(&first)[0]])).await.unwrap();
        assert_eq!((second.body().as_slice(), cookies(&second)), (&b"2"[..], cookies(&first)));
        assert_eq!(second.headers().get_all(VARY).iter().count(), 1);
        assert_eq!(store.take_calls(), [Operation::Load, Operation::Replace]);
    }
}

#[tokio::test]
async fn nested_layers_of_two_sites_keep_apart() {
    let ((outer, outer_store), (inner, _)) = (site("outer", false), site("inner", false));
    let service = outer.layer(inner.layer(service_fn(count)));
    let first = service.clone().oneshot(request(&[])).await.unwrap();
    assert_eq!(cookies(&first).len(), 1, "the handler uses the inner one");
    assert!(cookies(&first)[0].starts_with("inner="));
    let second = service.oneshot(request(&[&cookies(&first)[0]])).await.unwrap();
    assert_eq!(second.body(), b"2");
    assert_eq!(outer_store.take_calls(), [], "nobody touched the outer session");
}

#[tokio::test]
async fn a_service_that_fails_saves_nothing_and_signs_out_all_the_same() {
    let (layer, store) = site("sessionid", false);
    let service = layer.layer(service_fn(async |request: Request<Body>| {
        let slot = session_slot(request.extensions()).unwrap();
        let session = slot.load().await.map_err(|_| "load")?;
        session.insert("item", "x").unwrap();
        match request.uri().path() {
            "/ok" => return Ok(Response::new(Body::new())),
            "/flush" => session.flush(),
            _ => {}
        }
        Err("the service has failed")
    }));
    let to = |path: &str, cookies: &[&str]| {
        let mut request = request(cookies);
        *request.uri_mut() = path.parse().unwrap();
        service.clone().oneshot(request)
    };
    let cookie = &cookies(&to("/ok", &[]).await.unwrap())[0];
    store.take_calls();
    assert_eq!(to("/", &[cookie]).await.unwrap_err(), "the service has failed");
    assert_eq!(store.take_calls(), [Operation::Load]);
    // The failure of the service goes first, whatever becomes of its session.
    store.fail(Operation::Delete, Fault::Refused);
    assert_eq!(to("/flush", &[cookie]).await.unwrap_err(), "the service has failed");
    store.heal();
    assert_eq!(store.take_calls(), [Operation::Load, Operation::Delete]);
    assert_eq!(to("/flush", &[cookie]).await.unwrap_err(), "the service has failed");
    assert_eq!(store.inner().list(None, 10).await.unwrap(), []);
}

#[tokio::test]
async fn a_slot_outlives_its_request() {
    // A task that goes on after the response saves by itself.
    let (layer, store) = site("sessionid", false);
    let (send, mut slots) = tokio::sync::mpsc::unbounded_channel();
    let service = layer.layer(service_fn(move |request: Request<Body>| {
        send.send(session_slot(request.extensions()).unwrap().clone()).unwrap();
        count(request)
    }));
    service.oneshot(request(&[])).await.unwrap();
    let session = slots.recv().await.unwrap().load().await.unwrap();
    session.insert("later", &true).unwrap();
    session.save().await.unwrap();
    assert_eq!(store.take_calls(), [Operation::Create, Operation::Replace]);
    let key = session.key().unwrap();
    let stored = store.inner().load(&key).await.unwrap().unwrap();
    assert_eq!(stored.payload.as_ref(), b"{\"count\":1,\"later\":true}");
}

#[tokio::test]
async fn readiness_is_that_of_the_service_behind() {
    let (layer, _) = site("sessionid", false);
    let ready = service_fn(async |_: Request<Body>| Ok::<_, Infallible>(Response::new(Body::new())));
    let mut service = layer.layer(tower::limit::ConcurrencyLimit::new(ready, 1));
    assert!(service.ready().await.is_ok());
    let under_way = service.call(request(&[]));
    assert!(
        tokio::select! { biased; _ = service.ready() => false, () = std::future::ready(()) => true },
        "a service that is at its limit was called ready"
    );
    under_way.await.unwrap();
    assert!(service.ready().await.is_ok());
}
