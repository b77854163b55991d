//! What is asked of every library: a page without a session, one that reads it, one that counts in it, a login, and one
//! that fills a session.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::extract::{Json, State};
use axum::routing::{get, post};
use cloakroom::{Session, Sessions};
use serde_json::{Map, Value};

/// What a session holds: as much as a login with a cart.
pub const DATA: &str = r#"{"name":"Ada Lovelace","_auth_user_id":"1815","_auth_user_backend":"django.contrib.auth.backends.ModelBackend","_auth_user_hash":"d21b7f1f4c43a1b6e0e3e5ac1ae4a9b0b29bd40fb1cf0bb7a4e5e5bd67a0a4b1","cart":[{"sku":"A-1042","amount":2,"price":"19.90"},{"sku":"B-0007","amount":1,"price":"249.00"},{"sku":"C-3311","amount":12,"price":"0.85"}],"language":"en-gb","theme":"dark","last_seen":"2026-11-26T23:35:00.000000Z","referrer":"https://shop.example.org/catalogue/?page=4","count":1000000}"#;

/// What `/read` answers.
pub const NAME: &str = "Ada Lovelace";

/// The routes with Cloakroom.
pub fn cloakroom(sessions: &Sessions) -> Router {
    Router::new()
        .route("/none", get(none))
        .route("/read", get(read))
        .route("/write", get(write))
        .route("/login", get(login))
        .route("/fill", post(fill))
        .layer(sessions.layer())
}

/// What a handler gives.
pub type Answer<T> = Result<T, cloakroom::Error>;

/// `/none`: no session.
pub async fn none() -> &'static str {
    "nothing"
}

/// `/read`: an item.
pub async fn read(session: Session) -> Answer<String> {
    Ok(session.get("name")?.unwrap_or_default())
}

/// `/write`: a counter.
pub async fn write(session: Session) -> Answer<String> {
    let count: u64 = session.update("count", |count: Option<u64>| count.unwrap_or(0) + 1)?;
    Ok(count.to_string())
}

/// `/login`: a new key, and a user.
pub async fn login(session: Session) -> Answer<&'static str> {
    session.cycle_key()?;
    session.insert("_auth_user_id", "1815")?;
    Ok("welcome")
}

async fn fill(session: Session, Json(items): Json<Map<String, Value>>) -> Answer<&'static str> {
    session.extend(items)?;
    Ok("filled")
}

/// The routes without sessions: what axum alone takes to answer the same.
pub fn bare() -> Router {
    let read = async || NAME.to_owned();
    let write = async |State(count): State<Arc<AtomicU64>>| (count.fetch_add(1, Ordering::Relaxed) + 1).to_string();
    let fill = async |Json(_): Json<Value>| "filled";
    Router::new()
        .route("/none", get(none))
        .route("/read", get(read))
        .route("/write", get(write))
        .route("/login", get(async || "welcome"))
        .route("/fill", post(fill))
        .with_state(Arc::new(AtomicU64::new(1_000_000)))
}
