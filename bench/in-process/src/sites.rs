//! The routes `/none`, `/read`, `/write` and `/login` on bare axum, on Cloakroom, and on its peers.

#[cfg(feature = "peers")]
mod axum_session;
mod bare;
mod cloakroom;
#[cfg(feature = "peers")]
mod tower_sessions;

use ::cloakroom::SessionService;
use axum::Router;
use axum::extract::Request;
use axum::response::Response;
use tower_layer::Layer;
use tower_service::Service;

/// What `/none` answers everywhere: it leaves the session alone.
const NONE: &str = "nothing was asked for";

/// The routes that are measured.
pub const ROUTES: [&str; 3] = ["/none", "/read", "/write"];

/// The sites, and what each is; bare axum first.
pub const ALL: &[(&str, &str)] = &[
    ("bare", "bare axum"),
    ("empty-layer", "bare axum with a layer that does nothing"),
    ("memory", "Cloakroom, sessions in this process, by `Router::layer`"),
    ("memory-around", "the same, with the layer around the whole router"),
    ("memory-signed", "the same as the first, in the signed form that databases keep"),
    ("signed_cookies", "Cloakroom, sessions in the cookie"),
    #[cfg(feature = "peers")]
    ("tower-sessions", "tower-sessions, its store in memory"),
    #[cfg(feature = "peers")]
    ("axum_session", "axum_session, in memory"),
];

/// A site that is called without a network.
pub enum Site {
    /// A router, with its layers in it.
    Router(Router),
    /// A router with Cloakroom's layer around it.
    Around(SessionService<Router>),
}

impl Site {
    /// A site by its name in [`ALL`].
    ///
    /// # Errors
    /// If there is no such site, or it cannot be built.
    pub async fn open(name: &str) -> anyhow::Result<Self> {
        Ok(Self::Router(match name {
            "bare" => bare::router(),
            "empty-layer" => bare::layered(),
            "memory-around" => {
                return Ok(Self::Around(cloakroom::sessions("memory").await?.layer().layer(cloakroom::router())));
            }
            #[cfg(feature = "peers")]
            "tower-sessions" => tower_sessions::router(),
            #[cfg(feature = "peers")]
            "axum_session" => axum_session::router().await?,
            engine => cloakroom::router().layer(cloakroom::sessions(engine).await?.layer()),
        }))
    }

    pub(crate) async fn call(&mut self, request: Request) -> Response {
        let response = match self {
            Self::Router(router) => router.call(request).await,
            Self::Around(router) => router.call(request).await,
        };
        match response {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}
