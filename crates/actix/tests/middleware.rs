//! The middleware among other middleware.

use std::sync::Arc;

use actix_web::body::{MessageBody, to_bytes};
use actix_web::dev::{Service, ServiceRequest, ServiceResponse};
use actix_web::error::{ErrorBadRequest, ErrorInternalServerError};
use actix_web::http::header::{COOKIE, SET_COOKIE, VARY};
use actix_web::middleware::{Next, from_fn};
use actix_web::test::{TestRequest, call_service, init_service, try_call_service};
use actix_web::{App, HttpRequest, web};
use cloakroom_actix::{ErrorKind, SessionMiddleware, session_slot};
use cloakroom_core::conformance::probe::{Fault, Operation, ProbeStore};
use cloakroom_core::engine::Engine;
use cloakroom_core::engine::memory::MemoryStore;
use cloakroom_core::exchange::{Exchange, Policy};
use cloakroom_core::wire::cookie::{CookieAttributes, CookieWriter};
use cloakroom_core::wire::expiry::ExpiryRules;
use cloakroom_core::wire::session_data::Codec;
use cloakroom_core::{Clock, KeySource};

fn site(cookie: &str, every: bool) -> (SessionMiddleware, Arc<ProbeStore>) {
    let clock = Clock::system();
    let store = Arc::new(ProbeStore::new(MemoryStore::new(clock.clone())));
    let cookie = CookieWriter::new(&CookieAttributes { name: cookie.into(), ..Default::default() }).unwrap();
    let policy = Policy { save_every_request: every, ..Policy::new(cookie, ExpiryRules::default()) };
    let engine = Engine::Store { store: store.clone(), codec: Codec::json() };
    (SessionMiddleware::new(Exchange::new(engine, policy, clock, KeySource::system())), store)
}

async fn count(request: HttpRequest) -> actix_web::Result<String> {
    let slot = session_slot(&request).map_err(ErrorInternalServerError)?;
    let session = slot.load().await.map_err(ErrorInternalServerError)?;
    Ok(session.update("count", |n: Option<u64>| n.unwrap_or(0) + 1).map_err(ErrorInternalServerError)?.to_string())
}

fn get(path: &str, cookies: &[String]) -> actix_http::Request {
    let request = TestRequest::with_uri(path);
    cookies.iter().fold(request, |request, cookie| request.append_header((COOKIE, cookie.as_str()))).to_request()
}

/// `name=value` of each cookie that was set.
fn cookies<B>(response: &ServiceResponse<B>) -> Vec<String> {
    let cookies = response.headers().get_all(SET_COOKIE);
    cookies.map(|cookie| cookie.to_str().unwrap().split(';').next().unwrap().to_owned()).collect()
}

async fn body(response: ServiceResponse<impl MessageBody>) -> String {
    let bytes = to_bytes(response.into_body()).await.map_err(Into::into).unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[actix_web::test]
async fn a_missing_middleware_is_named() {
    let error = session_slot(&TestRequest::default().to_http_request()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotInstalled);
    let text = error.to_string();
    assert!(text.contains("session middleware") && text.contains(".wrap(sessions.actix_middleware())"), "{text}");
}

#[actix_web::test]
async fn other_middleware_uses_the_session_of_the_handler() {
    async fn around(
        request: ServiceRequest,
        next: Next<impl MessageBody>,
    ) -> actix_web::Result<ServiceResponse<impl MessageBody>> {
        let slot = session_slot(&request).map_err(ErrorInternalServerError)?;
        slot.load().await.and_then(|session| session.insert("count", &41)).map_err(ErrorInternalServerError)?;
        let response = next.call(request).await?;
        let seen: Option<u64> = slot.load().await.and_then(|session| session.get("count")).unwrap();
        assert_eq!(seen, Some(42));
        Ok(response)
    }
    let (sessions, store) = site("sessionid", false);
    let app = init_service(App::new().route("/", web::get().to(count)).wrap(from_fn(around)).wrap(sessions)).await;
    assert_eq!(body(call_service(&app, get("/", &[])).await).await, "42");
    assert_eq!(store.take_calls(), [Operation::Create]);
}

#[actix_web::test]
async fn a_wrapped_scope_in_a_wrapped_application_is_one() {
    for every in [false, true] {
        let (sessions, store) = site("sessionid", every);
        let scope = web::scope("/in").route("", web::get().to(count)).wrap(sessions.clone());
        let app = init_service(App::new().service(scope).wrap(sessions)).await;
        let first = call_service(&app, get("/in", &[])).await;
        let cookie = cookies(&first);
        assert_eq!((cookie.len(), body(first).await.as_str()), (1, "1"));
        assert_eq!(store.take_calls(), [Operation::Create]);

        let second = call_service(&app, get("/in", &cookie)).await;
        assert_eq!(second.headers().get_all(VARY).count(), 1);
        assert_eq!((cookies(&second), body(second).await.as_str()), (cookie, "2"));
        assert_eq!(store.take_calls(), [Operation::Load, Operation::Replace]);
    }
}

#[actix_web::test]
async fn two_sites_keep_apart() {
    let ((outer, outer_store), (inner, _)) = (site("outer", false), site("inner", false));
    let scope = web::scope("/in").route("", web::get().to(count)).wrap(inner);
    let app = init_service(App::new().service(scope).wrap(outer)).await;
    let cookie = cookies(&call_service(&app, get("/in", &[])).await);
    assert!(cookie.len() == 1 && cookie[0].starts_with("inner="), "{cookie:?}");
    assert_eq!(body(call_service(&app, get("/in", &cookie)).await).await, "2");
    assert_eq!(outer_store.take_calls(), [], "nobody touched the outer session");
}

/// Middleware that uses the session and then fails, as the path says.
async fn failing(
    request: ServiceRequest,
    _: Next<impl MessageBody>,
) -> actix_web::Result<ServiceResponse<impl MessageBody>> {
    let slot = session_slot(&request).map_err(ErrorInternalServerError)?;
    let fault = match request.path() {
        "/400" | "/400/flush" => ErrorBadRequest("the middleware says no"),
        "/500" | "/500/flush" => ErrorInternalServerError("the middleware has failed"),
        "/untouched" => return Err::<ServiceResponse, _>(ErrorBadRequest("the middleware says no")),
        other => panic!("no {other}"),
    };
    let session = slot.load().await.map_err(ErrorInternalServerError)?;
    session.insert("item", "x").map_err(ErrorInternalServerError)?;
    if request.path().ends_with("flush") {
        session.flush();
    }
    Err(fault)
}

/// What the server makes of the outcome: status, body, and the response's head.
async fn served(
    app: &impl Service<actix_http::Request, Response = ServiceResponse<impl MessageBody>, Error = actix_web::Error>,
    request: actix_http::Request,
) -> (u16, String, Vec<String>, bool) {
    let Err(error) = try_call_service(app, request).await else { panic!("the middleware has failed") };
    let response = error.error_response();
    assert_eq!(response.status(), error.as_response_error().status_code());
    let cookies = response.headers().get_all(SET_COOKIE).map(|cookie| cookie.to_str().unwrap().to_owned()).collect();
    let (status, varies) = (response.status().as_u16(), response.headers().contains_key(VARY));
    let bytes = to_bytes(response.into_body()).await.unwrap();
    (status, String::from_utf8(bytes.to_vec()).unwrap(), cookies, varies)
}

#[actix_web::test]
async fn an_error_of_other_middleware_is_a_response() {
    let (sessions, store) = site("sessionid", false);
    let app = init_service(App::new().wrap(from_fn(failing)).wrap(sessions)).await;

    // A refusal is saved like any other response, and its cookie is sent.
    let (status, text, set, varies) = served(&app, get("/400", &[])).await;
    assert_eq!((status, text.as_str(), set.len(), varies), (400, "the middleware says no", 1, true));
    assert_eq!(store.take_calls(), [Operation::Create]);
    let cookie = vec![set[0].split(';').next().unwrap().to_owned()];

    // A server error is not saved, and says that it depends on the cookie.
    let (status, text, set, varies) = served(&app, get("/500", &cookie)).await;
    assert_eq!((status, text.as_str(), set.len(), varies), (500, "the middleware has failed", 0, true));
    assert_eq!(store.take_calls(), [Operation::Load]);

    // A save that fails goes first: what the error would say is not true.
    store.fail(Operation::Replace, Fault::Refused);
    let (status, text, set, varies) = served(&app, get("/400", &cookie)).await;
    assert_eq!((status, text.as_str(), set.len(), varies), (503, "", 0, false));
    store.heal();

    // A sign-out is carried out whatever the status.
    for path in ["/400/flush", "/500/flush"] {
        let made = served(&app, get("/400", &[])).await.2;
        let cookie = vec![made[0].split(';').next().unwrap().to_owned()];
        let before = store.inner().list(None, 10).await.unwrap().len();
        let (_, _, set, _) = served(&app, get(path, &cookie)).await;
        assert!(set.len() == 1 && set[0].starts_with("sessionid=\"\";"), "{set:?}");
        assert_eq!(store.inner().list(None, 10).await.unwrap().len(), before - 1);
    }
}

#[actix_web::test]
async fn an_error_that_is_none_of_the_sessions_business_stays_itself() {
    let (sessions, _) = site("sessionid", false);
    let app = init_service(App::new().wrap(from_fn(failing)).wrap(sessions)).await;
    let Err(error) = try_call_service(&app, get("/untouched", &[])).await else { panic!("the middleware has failed") };
    assert!(error.as_error::<actix_web::error::InternalError<&str>>().is_some(), "another error stands in its place");
}
