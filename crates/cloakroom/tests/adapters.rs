//! The suite for framework adapters on routers as applications build them, with this crate's errors.

use std::sync::Arc;

use cloakroom::{Error, SessionSlot};
use cloakroom_core::conformance::exchange::{Adapter, Reply, Visit};
use cloakroom_core::exchange::Exchange;

mod in_axum {
    use axum::body::{Body, Bytes, to_bytes};
    use axum::extract::State;
    use axum::http::header::{COOKIE, HeaderName, HeaderValue};
    use axum::http::{Request, Response};
    use axum::{Extension, Router, routing::any};
    use cloakroom::SessionLayer;
    use tower::ServiceExt;

    use super::*;

    struct Axum;

    async fn page(
        State(visit): State<Arc<Visit>>,
        Extension(slot): Extension<SessionSlot>,
    ) -> Result<Response<Body>, Error> {
        let reply = visit.handle(&slot).await?;
        let mut response = Response::new(Body::from(Bytes::from(reply.body)));
        *response.status_mut() = reply.status.try_into().unwrap();
        for (name, value) in reply.headers {
            let (name, value) = (HeaderName::try_from(name).unwrap(), HeaderValue::from_bytes(&value).unwrap());
            response.headers_mut().append(name, value);
        }
        Ok(response)
    }

    impl Adapter for Axum {
        async fn send(&self, exchange: Exchange, visit: Visit) -> Reply {
            let mut request = Request::new(Body::empty());
            for line in visit.cookie_headers() {
                request.headers_mut().append(COOKIE, HeaderValue::from_bytes(line).unwrap());
            }
            let router = Router::new().route("/", any(page)).with_state(Arc::new(visit));
            let Ok(response) = router.layer(SessionLayer::new(exchange)).oneshot(request).await;
            let headers = response.headers().iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()));
            let (status, headers) = (response.status().as_u16(), headers.collect());
            Reply { status, headers, body: to_bytes(response.into_body(), usize::MAX).await.unwrap().to_vec() }
        }
    }

    cloakroom_core::exchange_conformance!(Axum);
}

mod in_actix {
    use actix_web::body::to_bytes;
    use actix_web::http::StatusCode;
    use actix_web::http::header::{COOKIE, HeaderName, HeaderValue};
    use actix_web::test::{TestRequest, call_service, init_service};
    use actix_web::{App, HttpResponse, web};
    use cloakroom::SessionMiddleware;

    use super::*;

    struct Actix;

    async fn page(visit: web::Data<Visit>, slot: web::ReqData<SessionSlot>) -> Result<HttpResponse, Error> {
        let reply = visit.handle(&slot).await?;
        let mut response = HttpResponse::build(StatusCode::from_u16(reply.status).unwrap());
        for (name, value) in reply.headers {
            response.append_header((HeaderName::try_from(name).unwrap(), HeaderValue::from_bytes(&value).unwrap()));
        }
        Ok(response.body(reply.body))
    }

    impl Adapter for Actix {
        async fn send(&self, exchange: Exchange, visit: Visit) -> Reply {
            let mut request = TestRequest::default();
            for line in visit.cookie_headers() {
                request = request.append_header((COOKIE, HeaderValue::from_bytes(line).unwrap()));
            }
            let app = App::new().app_data(web::Data::new(visit)).route("/", web::to(page));
            let app = init_service(app.wrap(SessionMiddleware::new(exchange))).await;
            let response = call_service(&app, request.to_request()).await;
            let headers = response.headers().iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()));
            let (status, headers) = (response.status().as_u16(), headers.collect());
            Reply { status, headers, body: to_bytes(response.into_body()).await.unwrap().to_vec() }
        }
    }

    cloakroom_core::exchange_conformance!(Actix);
}
