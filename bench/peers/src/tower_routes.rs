// The routes on one version of tower-sessions, whose names are there where this is included.

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Map, Value, json};

use crate::COOKIE;

pub(super) fn router<S: SessionStore + Clone>(store: S) -> Router {
    let layer = SessionManagerLayer::new(store.clone()).with_secure(false).with_name(COOKIE);
    Router::new()
        .route("/set", get(set))
        .route("/get", get(read))
        .route("/incr", get(incr))
        .route("/all", get(all::<S>))
        .route("/cycle", get(cycle::<S>))
        .route("/logout", get(logout))
        .route("/none", get(none))
        .route("/read", get(name))
        .route("/write", get(write))
        .route("/login", get(login))
        .route("/fill", post(fill))
        .layer(layer)
        .with_state(store)
}

type Params = Query<crate::Query>;
type Answer = Result<Json<Value>, Failure>;

/// The library's errors are no responses. A failed store is the server's fault.
struct Failure;

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        eprintln!("{error}");
        Self
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        StatusCode::INTERNAL_SERVER_ERROR.into_response()
    }
}

async fn set(session: Session, Query(query): Params) -> Answer {
    session.insert(&query.k, query.v).await?;
    query.hold().await;
    Ok(Json(json!({"ok": true})))
}

async fn read(session: Session, Query(query): Params) -> Answer {
    let value: Option<u64> = session.get(&query.k).await?;
    query.hold().await;
    Ok(Json(json!({"found": value.is_some(), "value": value})))
}

async fn incr(session: Session, Query(query): Params) -> Answer {
    let value = session.get::<u64>(&query.k).await?.unwrap_or(0) + 1;
    session.insert(&query.k, value).await?;
    query.hold().await;
    Ok(Json(json!({"value": value})))
}

/// The library does not list a session's keys: the store is asked for its record.
async fn all<S: SessionStore>(session: Session, State(store): State<S>) -> Answer {
    let record = match session.id() {
        Some(id) => store.load(&id).await?,
        None => None,
    };
    Ok(Json(
        json!({"key": record.as_ref().map(|record| record.id.to_string()), "data": record.map(|r| r.data).unwrap_or_default()}),
    ))
}

async fn cycle<S: SessionStore>(session: Session, State(store): State<S>) -> Answer {
    // The library takes an id that nobody has for a session until it loads it.
    let before = match session.id() {
        Some(id) => store.load(&id).await?.map(|record| record.id.to_string()),
        None => None,
    };
    session.cycle_id().await?;
    Ok(Json(json!({"before": before})))
}

async fn logout(session: Session) -> Answer {
    session.flush().await?;
    Ok(Json(json!({"ok": true})))
}

async fn none() -> &'static str {
    "nothing"
}

async fn name(session: Session) -> Result<String, Failure> {
    Ok(session.get("name").await?.unwrap_or_default())
}

async fn write(session: Session) -> Result<String, Failure> {
    let count = session.get::<u64>("count").await?.unwrap_or(0) + 1;
    session.insert("count", count).await?;
    Ok(count.to_string())
}

async fn login(session: Session) -> Result<&'static str, Failure> {
    session.cycle_id().await?;
    session.insert("_auth_user_id", "1815").await?;
    Ok("welcome")
}

async fn fill(session: Session, Json(items): Json<Map<String, Value>>) -> Result<&'static str, Failure> {
    for (key, value) in items {
        session.insert_value(&key, value).await?;
    }
    Ok("filled")
}
