//! The layer under the suite for framework adapters, and a layer that is broken on purpose.

use std::convert::Infallible;

use cloakroom_core::conformance::exchange::{Adapter, Reply, Visit, block_on, failures};
use cloakroom_core::exchange::Exchange;
use cloakroom_tower::{SessionLayer, session_slot};
use http::header::{COOKIE, HeaderMap, HeaderName, HeaderValue, VARY};
use http::{Request, Response};
use tower::{Layer, ServiceExt, service_fn};

struct Tower;

fn request(visit: &Visit) -> Request<Visit> {
    let mut request = Request::new(visit.clone());
    for line in visit.cookie_headers() {
        request.headers_mut().append(COOKIE, HeaderValue::from_bytes(line).unwrap());
    }
    request
}

async fn handler(request: Request<Visit>) -> Result<Response<Vec<u8>>, Infallible> {
    let (parts, visit) = request.into_parts();
    let reply = match visit.handle(session_slot(&parts.extensions).unwrap()).await {
        Ok(reply) => reply,
        Err(error) => Reply::opaque(error.status()),
    };
    let mut response = Response::new(reply.body);
    *response.status_mut() = reply.status.try_into().unwrap();
    for (name, value) in reply.headers {
        response.headers_mut().append(HeaderName::try_from(name).unwrap(), HeaderValue::from_bytes(&value).unwrap());
    }
    Ok(response)
}

fn reply(response: Response<Vec<u8>>) -> Reply {
    let headers = response.headers().iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()));
    Reply { status: response.status().as_u16(), headers: headers.collect(), body: response.into_body() }
}

impl Adapter for Tower {
    async fn send(&self, exchange: Exchange, visit: Visit) -> Reply {
        let service = SessionLayer::new(exchange).layer(service_fn(handler));
        let Ok(response) = service.oneshot(request(&visit)).await;
        reply(response)
    }
}

mod layer {
    use super::*;
    cloakroom_core::exchange_conformance!(Tower);
}

/// The layer behind a service that does a little wrong.
struct Broken(fn(&mut HeaderMap));

impl Adapter for Broken {
    async fn send(&self, exchange: Exchange, visit: Visit) -> Reply {
        let service = SessionLayer::new(exchange).layer(service_fn(handler)).map_response(|mut response| {
            (self.0)(response.headers_mut());
            response
        });
        let Ok(response) = service.oneshot(request(&visit)).await;
        reply(response)
    }
}

#[test]
fn a_broken_layer_does_not_pass() {
    let failed = |adapter| {
        let failures = block_on(failures(&adapter));
        failures.iter().map(|failure| failure.check).collect::<Vec<_>>()
    };
    let without_vary = failed(Broken(|headers| {
        headers.remove(VARY);
    }));
    assert!(without_vary.contains(&"decision_table") && without_vary.contains(&"vary_is_merged"), "{without_vary:?}");
    let with_vary = failed(Broken(|headers| {
        headers.insert(VARY, HeaderValue::from_static("Cookie"));
    }));
    assert!(with_vary.contains(&"sessions_off"), "{with_vary:?}");
    assert_eq!(failed(Broken(|_| {})), [""; 0]);
}
