//! tower-sessions with its store in memory.

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use tower_sessions::{MemoryStore, Session, SessionManagerLayer};

pub(super) fn router() -> Router {
    Router::new()
        .route("/none", get(async || super::NONE))
        .route("/read", get(read))
        .route("/write", get(write))
        .route("/login", get(login))
        .layer(SessionManagerLayer::new(MemoryStore::default()).with_secure(false))
}

fn failed(_: tower_sessions::session::Error) -> StatusCode {
    StatusCode::INTERNAL_SERVER_ERROR
}

async fn read(session: Session) -> Result<String, StatusCode> {
    Ok(session.get("name").await.map_err(failed)?.unwrap_or_default())
}

async fn write(session: Session) -> Result<String, StatusCode> {
    let visits = session.get("visits").await.map_err(failed)?.unwrap_or(0u64) + 1;
    session.insert("visits", visits).await.map_err(failed)?;
    Ok(format!("visit {visits}"))
}

async fn login(session: Session) -> Result<&'static str, StatusCode> {
    for (key, value) in crate::items() {
        session.insert_value(key, value).await.map_err(failed)?;
    }
    Ok("welcome")
}
