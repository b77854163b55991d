//! Whose turn it is to sweep: a lock of the server's.

use std::time::Duration;

use async_trait::async_trait;
use cloakroom_core::Result;
use cloakroom_core::sweep::Turn;
use sqlx::{ConnectOptions, Connection, Database};

use crate::dialect::{Dialect, Run};

const DOING: &str = "take the turn to sweep";
/// How long to wait for a lock where statements may take as long as they like.
const PATIENCE: Duration = Duration::from_secs(30);

/// A lock of the server's, held by a connection of its own for as long as that is open: neither does a sweep take a
/// place of the pool for so long, nor does the lock outlive its node.
struct Locked<C>(C);

#[async_trait]
impl<C: Connection> Turn for Locked<C> {
    async fn end(self: Box<Self>) {
        // A server that does not hear of it notices that the connection is gone.
        let _ = tokio::time::timeout(PATIENCE, self.0.close()).await;
    }
}

/// Takes a lock of the server's: the last of these statements gives a row if it is ours.
pub(crate) async fn lock<D: Dialect>(dialect: &D, statements: &[&'static str]) -> Result<Option<Box<dyn Turn>>>
where
    <D::Db as Database>::Connection: 'static,
{
    let connections = dialect.pools().await?.write;
    let locking = async {
        let mut conn = connections.pool().connect_options().connect().await?;
        let mut ours = false;
        for statement in statements {
            let arguments = dialect.arguments(&[]).map_err(sqlx::Error::Encode)?;
            ours = D::Db::fetch_optional(&mut conn, statement, arguments).await?.is_some();
        }
        if ours {
            return Ok(Some(conn));
        }
        conn.close().await.map(|()| None)
    };
    match tokio::time::timeout(dialect.patience().unwrap_or(PATIENCE), locking).await {
        Ok(locked) => {
            let conn = locked.map_err(|e| dialect.error(DOING, e))?;
            Ok(conn.map(|conn| Box::new(Locked(conn)) as Box<dyn Turn>))
        }
        Err(_) => Err(dialect.silence(DOING)),
    }
}
