//! The middleware under the suite for framework adapters.

use actix_web::body::to_bytes;
use actix_web::http::StatusCode;
use actix_web::http::header::{COOKIE, HeaderName, HeaderValue};
use actix_web::{App, HttpRequest, HttpResponse, test, web};
use cloakroom_actix::{SessionMiddleware, session_slot};
use cloakroom_core::conformance::exchange::{Adapter, Reply, Visit};
use cloakroom_core::exchange::Exchange;

struct Actix {
    /// Whether a scope within the application is wrapped, instead of the application.
    scope: bool,
}

async fn handler(request: HttpRequest, visit: web::Data<Visit>) -> HttpResponse {
    let slot = session_slot(&request).unwrap();
    let reply = match visit.handle(&slot).await {
        Ok(reply) => reply,
        Err(error) => Reply::opaque(error.status()),
    };
    let mut response = HttpResponse::build(StatusCode::from_u16(reply.status).unwrap());
    for (name, value) in reply.headers {
        response.append_header((HeaderName::try_from(name).unwrap(), HeaderValue::from_bytes(&value).unwrap()));
    }
    response.body(reply.body)
}

impl Adapter for Actix {
    async fn send(&self, exchange: Exchange, visit: Visit) -> Reply {
        let mut request = test::TestRequest::with_uri("/site/page");
        for line in visit.cookie_headers() {
            request = request.append_header((COOKIE, HeaderValue::from_bytes(line).unwrap()));
        }
        let sessions = SessionMiddleware::new(exchange);
        let app = App::new().app_data(web::Data::new(visit));
        let scope = web::scope("/site").route("/page", web::to(handler));
        let response = match self.scope {
            true => {
                let app = test::init_service(app.service(scope.wrap(sessions))).await;
                test::call_service(&app, request.to_request()).await.map_into_boxed_body()
            }
            false => {
                let app = test::init_service(app.service(scope).wrap(sessions)).await;
                test::call_service(&app, request.to_request()).await.map_into_boxed_body()
            }
        };
        let headers = response.headers().iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()));
        let (status, headers) = (response.status().as_u16(), headers.collect());
        Reply { status, headers, body: to_bytes(response.into_body()).await.unwrap().to_vec() }
    }
}

mod application {
    use super::*;
    cloakroom_core::exchange_conformance!(Actix { scope: false });
}

mod scope {
    use super::*;
    cloakroom_core::exchange_conformance!(Actix { scope: true });
}
