//! The pages of the site: rendered here, usable without a script, by keyboard, on a phone, in the dark.

mod browser;
mod course;
mod evidence;
mod flow;
pub(crate) mod inspector;
mod layout;
pub(crate) mod live;
mod local;
mod practice;
mod records;
mod routes;
mod sandbox;
mod steps;
#[cfg(test)]
pub(crate) mod tests;
mod visitors;
mod wishes;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{FromRef, Request};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use cloakroom::inspector::is_own_request;
use cloakroom::{Error, ErrorKind};
use maud::html;
use visitors::Visitors;

/// So many visitors may have a sandbox at a time.
const MAX_VISITORS: usize = 200;
/// A sandbox that nobody uses for so long is cleared away.
const MAX_REST: Duration = Duration::from_secs(30 * 60);

/// What the pages share.
#[derive(Clone)]
pub(crate) struct Pages {
    visitors: Arc<Visitors>,
}

impl FromRef<Pages> for Arc<Visitors> {
    fn from_ref(pages: &Pages) -> Self {
        pages.visitors.clone()
    }
}

/// The pages, yet without sessions. Sandboxes end with the router.
pub(crate) fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let visitors = Visitors::new(MAX_VISITORS, MAX_REST);
    visitors.sweep_in_background();
    Router::new()
        .merge(steps::router())
        .merge(practice::router())
        .route("/routes", get(routes::page))
        .route(layout::STYLE_PATH, get(layout::style))
        .with_state(Pages { visitors })
        .layer(middleware::from_fn(guard))
}

/// No page loads anything from elsewhere or stands in a frame, none but those that say so run a script, and no form of
/// another site counts here.
async fn guard(request: Request, next: Next) -> Response {
    if !is_own_request(request.method(), request.headers()) {
        let message = "This form came from another site, so nothing was done.";
        return layout::failure(StatusCode::FORBIDDEN, html! { p { (message) } });
    }
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; base-uri 'none'; \
             frame-ancestors 'none'",
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "same-origin"),
        (header::CACHE_CONTROL, "no-cache"),
    ] {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

/// The answer when the visitor's session, or a sandbox, cannot be had. The log has the cause.
fn unavailable(error: Error) -> Response {
    let off = error.kind() == ErrorKind::NotInstalled;
    let status = error.into_response().status();
    layout::failure(
        status,
        html! {
            @if off {
                p { "Sessions are switched off on this site by " code { "INSTALLED_APPS" }
                    ", and the pages need one to know you by." }
            } @else {
                p { "Your session cannot be read at the moment. The log of the site says why." }
            }
        },
    )
}

/// The same for what is no session's fault.
fn broken(error: &anyhow::Error) -> Response {
    tracing::error!(error = format!("{error:#}"), "no sandbox could be made");
    let message = "A sandbox could not be made. The log of the site says why.";
    layout::failure(StatusCode::SERVICE_UNAVAILABLE, html! { p { (message) } })
}
