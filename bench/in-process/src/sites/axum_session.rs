//! axum_session, which keeps everything in memory.

use axum::Router;
use axum::routing::get;
use axum_session::{SessionConfig, SessionLayer, SessionNullPool, SessionStore};

type Session = axum_session::Session<SessionNullPool>;

pub(super) async fn router() -> anyhow::Result<Router> {
    let store = SessionStore::<SessionNullPool>::new(None, SessionConfig::default()).await?;
    Ok(Router::new()
        .route("/none", get(async || super::NONE))
        .route("/read", get(read))
        .route("/write", get(write))
        .route("/login", get(login))
        .layer(SessionLayer::new(store)))
}

async fn read(session: Session) -> String {
    session.get("name").unwrap_or_default()
}

async fn write(session: Session) -> String {
    let visits = session.get("visits").unwrap_or(0u64) + 1;
    session.set("visits", visits);
    format!("visit {visits}")
}

async fn login(session: Session) -> &'static str {
    for (key, value) in crate::items() {
        session.set(key, value);
    }
    "welcome"
}
