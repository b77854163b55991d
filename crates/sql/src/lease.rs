//! A connection of a pool for the time of one statement.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::{Database, Pool};

/// A connection that goes back to its pool when it is dropped, if it answers in time.
///
/// sqlx asks a connection that comes back whether it is well, and waits for the answer as long as it takes, while the
/// connection keeps its place in the pool. Behind a server that fell silent such places would be lost to the pool until
/// the operating system gives up, which takes a quarter of an hour.
pub(crate) struct Lease<DB: Database> {
    connection: Option<PoolConnection<DB>>,
    patience: Option<Duration>,
}

const HELD: &str = "a lease holds its connection until its end";

impl<DB: Database> Lease<DB> {
    pub(crate) async fn new(pool: &Pool<DB>, patience: Option<Duration>) -> sqlx::Result<Self> {
        Ok(Self { connection: Some(pool.acquire().await?), patience })
    }

    /// Gives the connection up: it is closed at once, without a word to the server.
    pub(crate) fn discard(mut self) {
        if let Some(connection) = self.connection.take() {
            drop(connection.detach());
        }
    }

    /// Closes the connection at the end, instead of putting it back.
    pub(crate) fn close_on_drop(&mut self) {
        if let Some(connection) = &mut self.connection {
            connection.close_on_drop();
        }
        self.patience = None;
    }
}

impl<DB: Database> Deref for Lease<DB> {
    type Target = DB::Connection;

    fn deref(&self) -> &DB::Connection {
        self.connection.as_ref().expect(HELD)
    }
}

impl<DB: Database> DerefMut for Lease<DB> {
    fn deref_mut(&mut self) -> &mut DB::Connection {
        self.connection.as_mut().expect(HELD)
    }
}

impl<DB: Database> Drop for Lease<DB> {
    fn drop(&mut self) {
        let Some(mut connection) = self.connection.take() else { return };
        let Some(patience) = self.patience else { return };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => {
                // Dropped unfinished, this closes the connection and frees its place.
                let returned = connection.return_to_pool();
                runtime.spawn(async move {
                    let _ = tokio::time::timeout(patience, returned).await;
                });
            }
            Err(_) => drop(connection.detach()),
        }
    }
}
