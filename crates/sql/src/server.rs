//! What databases on servers have in common: one pool, whose connections may break or fall silent.

mod options;
pub(crate) mod turn;

use std::sync::Arc;
use std::time::Duration;

use cloakroom_core::{Error, ErrorKind, Result};
use sqlx::pool::PoolOptions;
use sqlx::{Database, Pool};

use crate::dialect::Pools;
use crate::lease::Connections;
pub use options::{ServerOptions, SslMode};

/// How much longer than the server's own limit for a statement we wait for its answer.
const GRACE: Duration = Duration::from_secs(1);

/// A database on a server.
#[derive(Debug)]
pub(crate) struct Server<DB: Database> {
    connections: Arc<Connections<DB>>,
    patience: Option<Duration>,
    place: String,
}

impl<DB: Database> Server<DB> {
    /// An application's own pool.
    pub(crate) fn of(pool: Pool<DB>, place: &str) -> Self {
        let connections = Connections::of_others(pool);
        Self { connections, patience: Some(options::STATEMENT_TIMEOUT + GRACE), place: place.to_owned() }
    }

    /// What a pool of ours starts with.
    pub(crate) fn pool_options(options: &ServerOptions) -> PoolOptions<DB> {
        PoolOptions::new()
            .max_connections(options.pool_size)
            .acquire_timeout(options.acquire_timeout)
            .test_before_acquire(false)
    }

    pub(crate) fn new(pool: Pool<DB>, options: &ServerOptions, place: String) -> Self {
        let connections = Connections::of_our_own(pool);
        Self { connections, patience: options.statement_timeout.map(|timeout| timeout + GRACE), place }
    }

    /// Tries a connection, for the errors that no waiting mends.
    ///
    /// # Errors
    /// Only those of the configuration: a server that is down may be up when it is needed.
    pub(crate) async fn try_out(&self, error: impl Fn(sqlx::Error) -> Error) -> Result<()> {
        let Err(failed) = self.connections.lend(self.patience).await else { return Ok(()) };
        let failed = error(failed);
        if failed.kind() == ErrorKind::Configuration {
            return Err(failed);
        }
        tracing::warn!(error = %failed, "the database cannot be reached now");
        Ok(())
    }

    pub(crate) fn pools(&self) -> Pools<DB> {
        Pools::one(self.connections.clone())
    }

    pub(crate) fn patience(&self) -> Option<Duration> {
        self.patience
    }

    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    pub(crate) fn silence(&self, doing: &'static str) -> Error {
        let patience = self.patience.unwrap_or_default();
        Error::new(
            ErrorKind::Unavailable,
            format!("could not {doing}: {} did not answer within {patience:?}", self.place),
        )
    }

    /// What a failure means, unless the server itself said so: `None` for what it said.
    pub(crate) fn failure(&self, error: &sqlx::Error) -> Option<(ErrorKind, String)> {
        let place = &self.place;
        Some(match error {
            sqlx::Error::Database(_) => return None,
            sqlx::Error::PoolTimedOut => {
                let options = self.connections.pool().options();
                let (size, patience) = (options.get_max_connections(), options.get_acquire_timeout());
                let what = format!(
                    "no connection to {place} within {patience:?}: it is down or cannot be reached, or all {size} \
                     connections of the pool were in use for that long"
                );
                (ErrorKind::Unavailable, what)
            }
            sqlx::Error::PoolClosed => (ErrorKind::Unavailable, format!("the pool for {place} is closed")),
            sqlx::Error::Tls(e) => (ErrorKind::Configuration, encryption(place, e)),
            // So it is reported that the server's certificate is not accepted.
            sqlx::Error::Io(e) if e.kind() == std::io::ErrorKind::InvalidData => {
                (ErrorKind::Configuration, encryption(place, e))
            }
            sqlx::Error::Io(e) if e.kind() == std::io::ErrorKind::NotFound => {
                (ErrorKind::Configuration, format!("a file or socket that DATABASE_URL names for {place} is missing"))
            }
            sqlx::Error::Configuration(e) => (ErrorKind::Configuration, format!("DATABASE_URL for {place}: {e}")),
            sqlx::Error::Encode(e) => {
                (ErrorKind::Unrepresentable, format!("the value cannot be carried to {place} ({e})"))
            }
            other => (ErrorKind::Unavailable, format!("the connection to {place} failed: {other}")),
        })
    }
}

fn encryption(place: &str, error: &dyn std::fmt::Display) -> String {
    format!("no encrypted connection to {place} ({error}): see sslmode and sslrootcert in DATABASE_URL")
}

/// Whether a connection broke under a statement, as far as the driver can tell.
pub(crate) fn is_broken(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(e) => e.kind() != std::io::ErrorKind::InvalidData,
        // What a driver says that reads the end of a conversation where it expects an answer.
        sqlx::Error::Protocol(_) => true,
        _ => false,
    }
}
