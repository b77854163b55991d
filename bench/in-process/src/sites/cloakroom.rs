//! Cloakroom.

use std::sync::Arc;

use anyhow::bail;
use axum::Router;
use axum::routing::get;
use cloakroom::core::engine::Engine;
use cloakroom::core::engine::memory::MemoryStore;
use cloakroom::core::settings::EngineName;
use cloakroom::core::wire::session_data::Codec;
use cloakroom::{Clock, Error, Session, Sessions, Settings};

/// Sessions in the memory of this process, in the form of the engine `cache` or in the signed form of `db`; or in the
/// cookie.
pub(super) async fn sessions(engine: &str) -> anyhow::Result<Sessions> {
    let settings = Settings::builder().secret_key("a secret of fifty characters, such as Django makes");
    Ok(match engine {
        "memory" => {
            // What `SESSION_ENGINE = "cache"` is without a server, with room for more than a million.
            let store = Arc::new(MemoryStore::with_max_entries(Clock::system(), 2_000_000));
            Sessions::with_engine(settings.build()?, Engine::Store { store, codec: Codec::in_process() })?
        }
        "memory-signed" => Sessions::with_store(settings.build()?, Arc::new(MemoryStore::new(Clock::system())))?,
        "signed_cookies" => Sessions::from_settings(settings.engine(EngineName::SignedCookies).build()?).await?,
        other => bail!("there is no site {other:?}"),
    })
}

pub(super) fn router() -> Router {
    Router::new()
        .route("/none", get(async || super::NONE))
        .route("/read", get(read))
        .route("/write", get(write))
        .route("/login", get(login))
}

async fn read(session: Session) -> Result<String, Error> {
    Ok(session.get("name")?.unwrap_or_default())
}

async fn write(session: Session) -> Result<String, Error> {
    let visits: u64 = session.update("visits", |visits: Option<u64>| visits.unwrap_or(0) + 1)?;
    Ok(format!("visit {visits}"))
}

async fn login(session: Session) -> Result<&'static str, Error> {
    for (key, value) in crate::items() {
        session.insert(key, &value)?;
    }
    Ok("welcome")
}
