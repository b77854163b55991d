//! tower-sessions under axum.

use std::str::FromStr;

use anyhow::bail;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tower_sessions::{MemoryStore, Session, SessionManagerLayer, SessionStore};
use tower_sessions_redis_store::RedisStore;
use tower_sessions_redis_store::fred::prelude::{ClientLike, Config, Pool, ReconnectPolicy};
use tower_sessions_sqlx_store::sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use tower_sessions_sqlx_store::sqlx::{PgPool, SqlitePool};
use tower_sessions_sqlx_store::{PostgresStore, SqliteStore};

use crate::{Args, COOKIE, Store};

#[tokio::main]
pub(crate) async fn serve(args: Args) -> anyhow::Result<()> {
    let router = match args.store {
        Store::Memory => router(MemoryStore::default()),
        Store::Sqlite => {
            // As safe as Cloakroom's, or the comparison would not be one.
            let options = SqliteConnectOptions::from_str(&args.url)?
                .create_if_missing(true)
                .journal_mode(SqliteJournalMode::Wal)
                .synchronous(SqliteSynchronous::Full);
            let store = SqliteStore::new(SqlitePool::connect_with(options).await?);
            store.migrate().await?;
            router(store)
        }
        Store::Postgres => {
            let store = PostgresStore::new(PgPool::connect(&args.url).await?);
            store.migrate().await?;
            router(store)
        }
        Store::Redis => {
            // Without a policy it would not connect again after a restart of the server.
            let pool = Pool::new(Config::from_url(&args.url)?, None, None, Some(ReconnectPolicy::default()), 6)?;
            pool.init().await?;
            router(RedisStore::new(pool))
        }
        Store::SignedCookies => bail!("tower-sessions keeps nothing in the cookie"),
    };
    axum::serve(TcpListener::bind(args.addr).await?, router).await?;
    Ok(())
}

fn router<S: SessionStore + Clone>(store: S) -> Router {
    let layer = SessionManagerLayer::new(store.clone()).with_secure(false).with_name(COOKIE);
    Router::new()
        .route("/set", get(set))
        .route("/get", get(read))
        .route("/incr", get(incr))
        .route("/all", get(all::<S>))
        .route("/cycle", get(cycle::<S>))
        .route("/logout", get(logout))
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
