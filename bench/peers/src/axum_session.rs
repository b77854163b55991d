//! axum_session. In front of a database or Redis it keeps a copy of each session in the process, and reads that.

use std::fmt::Debug;
use std::str::FromStr;

use anyhow::bail;
use axum::routing::{get, post};
use axum::{Json, Router};
use axum_session::{DatabasePool, Session, SessionConfig, SessionLayer, SessionNullPool, SessionStore};
use axum_session_redispool::SessionRedisPool;
use axum_session_sqlx::SessionSqlitePool;
use redis_pool::RedisPool;
use serde_json::{Map, Value};
use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};

use crate::{Args, COOKIE, Store};

pub(crate) async fn router(args: &Args) -> anyhow::Result<Router> {
    match args.store {
        Store::Memory => on::<SessionNullPool>(None).await,
        Store::Sqlite => {
            let synchronous = if args.synchronous_normal { SqliteSynchronous::Normal } else { SqliteSynchronous::Full };
            let options = SqliteConnectOptions::from_str(&args.url)?
                .create_if_missing(true)
                .journal_mode(SqliteJournalMode::Wal)
                .synchronous(synchronous);
            on(Some(SessionSqlitePool::from(SqlitePool::connect_with(options).await?))).await
        }
        Store::Redis => {
            let pool = RedisPool::from(redis::Client::open(args.url.as_str())?);
            on(Some(SessionRedisPool::from(pool))).await
        }
        other => bail!("axum_session is not compared with {other:?}"),
    }
}

async fn on<P: DatabasePool + Clone + Debug + Sync + Send + 'static>(pool: Option<P>) -> anyhow::Result<Router> {
    let config = SessionConfig::default().with_session_name(COOKIE);
    let store = SessionStore::new(pool, config).await?;
    Ok(Router::new()
        .route("/none", get(none))
        .route("/read", get(name::<P>))
        .route("/write", get(write::<P>))
        .route("/login", get(login::<P>))
        .route("/fill", post(fill::<P>))
        .layer(SessionLayer::new(store)))
}

async fn none() -> &'static str {
    "nothing"
}

async fn name<P>(session: Session<P>) -> String
where
    P: DatabasePool + Clone + Debug + Sync + Send + 'static,
{
    session.get("name").unwrap_or_default()
}

async fn write<P>(session: Session<P>) -> String
where
    P: DatabasePool + Clone + Debug + Sync + Send + 'static,
{
    let count = session.get::<u64>("count").unwrap_or(0) + 1;
    session.set("count", count);
    count.to_string()
}

async fn login<P>(session: Session<P>) -> &'static str
where
    P: DatabasePool + Clone + Debug + Sync + Send + 'static,
{
    session.renew();
    session.set("_auth_user_id", "1815");
    "welcome"
}

async fn fill<P>(session: Session<P>, Json(items): Json<Map<String, Value>>) -> &'static str
where
    P: DatabasePool + Clone + Debug + Sync + Send + 'static,
{
    for (key, value) in items {
        session.set(&key, value);
    }
    "filled"
}
