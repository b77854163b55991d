//! tower-sessions under axum. Its stores in databases and in Redis are made for version 0.14.

use std::str::FromStr;

use anyhow::bail;
use axum::Router;
use tower_sessions_moka_store::MokaStore;
use tower_sessions_redis_store::RedisStore;
use tower_sessions_redis_store::fred::prelude::{ClientLike, Config, Pool, ReconnectPolicy};
use tower_sessions_sqlx_store::sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use tower_sessions_sqlx_store::sqlx::{PgPool, SqlitePool};
use tower_sessions_sqlx_store::{PostgresStore, SqliteStore};

use crate::{Args, Store};

/// The routes on the version that the stores are made for.
mod on_14 {
    use tower_sessions_14::{Session, SessionManagerLayer, SessionStore};
    include!("tower_routes.rs");
}

/// The same routes on the newest version.
mod on_15 {
    use tower_sessions::{Session, SessionManagerLayer, SessionStore};
    include!("tower_routes.rs");
}

pub(crate) async fn router(args: &Args) -> anyhow::Result<Router> {
    Ok(match args.store {
        Store::Memory => on_15::router(tower_sessions::MemoryStore::default()),
        Store::Moka => on_14::router(MokaStore::new(None)),
        Store::Sqlite => on_14::router(sqlite(args).await?),
        Store::Postgres => on_14::router(postgres(args).await?),
        Store::Redis => {
            // Without a policy it would not connect again after a restart of the server.
            let pool = Pool::new(Config::from_url(&args.url)?, None, None, Some(ReconnectPolicy::default()), 6)?;
            pool.init().await?;
            on_14::router(RedisStore::new(pool))
        }
        Store::SignedCookies | Store::PrivateCookies => bail!("tower-sessions keeps nothing in the cookie"),
    })
}

pub(crate) async fn sqlite(args: &Args) -> anyhow::Result<SqliteStore> {
    // As safe as Cloakroom's, or the comparison would not be one.
    let synchronous = if args.synchronous_normal { SqliteSynchronous::Normal } else { SqliteSynchronous::Full };
    let options = SqliteConnectOptions::from_str(&args.url)?
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(synchronous);
    let store = SqliteStore::new(SqlitePool::connect_with(options).await?);
    store.migrate().await?;
    Ok(store)
}

pub(crate) async fn postgres(args: &Args) -> anyhow::Result<PostgresStore> {
    let store = PostgresStore::new(PgPool::connect(&args.url).await?);
    store.migrate().await?;
    Ok(store)
}
