//! The demonstration site: pages that show what a session is, and one route for each thing a session can do, to be
//! tried with curl.

mod routes;

use axum::Router;
use axum::routing::get;
use cloakroom::Sessions;
use cloakroom::django::Auth;

use crate::pages;

/// The site on these sessions.
pub(crate) fn router(sessions: &Sessions) -> Router {
    Router::new()
        .merge(pages::router())
        .route("/set", get(routes::set))
        .route("/get", get(routes::get))
        .route("/del", get(routes::del))
        .route("/all", get(routes::all))
        .route("/incr", get(routes::incr))
        .route("/login", get(routes::login))
        .route("/logout", get(routes::logout))
        .route("/whoami", get(routes::whoami))
        .route("/cycle", get(routes::cycle))
        .route("/clear", get(routes::clear))
        .route("/flush", get(routes::flush))
        .route("/save", get(routes::save))
        .route("/expiry", get(routes::expiry))
        .route("/info", get(routes::info))
        .route("/noop", get(routes::noop))
        .route("/bulk", get(routes::bulk))
        .route("/testcookie", get(routes::testcookie))
        .layer(sessions.layer())
        .with_state(Auth::new(sessions.settings()))
}
