//! Making a connection to one server.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ConnectionAddr, RedisResult};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::{AbortHandle, JoinSet};

use crate::gather::Gathering;

/// A connection that many use at once. It ends with its last clone.
#[derive(Clone)]
pub(crate) struct Connection {
    pub(crate) multiplexed: MultiplexedConnection,
    driver: Arc<Driver>,
}

impl Connection {
    /// Whether it can be of no use any more, as after the end of the runtime that it was made in.
    pub(crate) fn is_over(&self) -> bool {
        self.driver.0.is_finished()
    }
}

/// The task that writes and reads. With TLS the client has its own, and this one only ends with the runtime.
struct Driver(AbortHandle);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Connects, logs in and chooses the database.
pub(crate) async fn dial(
    client: &Client,
    config: &AsyncConnectionConfig,
    timeout: Duration,
) -> RedisResult<Connection> {
    let dialled = async {
        match client.get_connection_info().addr() {
            ConnectionAddr::Tcp(host, port) => start(client, config, tcp(host, *port).await?).await,
            #[cfg(unix)]
            ConnectionAddr::Unix(path) => start(client, config, tokio::net::UnixStream::connect(path).await?).await,
            // The driver knows how to set up TLS. It writes each command by itself then, which beside the encryption
            // is no matter.
            _ => {
                let multiplexed = client.get_multiplexed_async_connection_with_config(config).await?;
                let driver = Driver(tokio::spawn(std::future::pending::<()>()).abort_handle());
                Ok(Connection { multiplexed, driver: Arc::new(driver) })
            }
        }
    };
    let late = |_| Err(io::Error::from(io::ErrorKind::TimedOut).into());
    tokio::time::timeout(timeout, dialled).await.unwrap_or_else(late)
}

async fn start<S>(client: &Client, config: &AsyncConnectionConfig, socket: S) -> RedisResult<Connection>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let login = client.get_connection_info().redis_settings();
    let (multiplexed, driver) =
        MultiplexedConnection::new_with_config(login, Gathering::new(socket), config.clone()).await?;
    let driver = Driver(tokio::spawn(driver).abort_handle());
    Ok(Connection { multiplexed, driver: Arc::new(driver) })
}

/// The first of the host's addresses that answers.
async fn tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut attempts = JoinSet::new();
    for place in tokio::net::lookup_host((host, port)).await? {
        attempts.spawn(TcpStream::connect(place));
    }
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    while let Some(attempt) = attempts.join_next().await {
        match attempt {
            Ok(Ok(socket)) => {
                // What is to go along has been gathered; the network need not wait for more.
                socket.set_nodelay(true)?;
                return Ok(socket);
            }
            Ok(Err(error)) => failure = error,
            Err(_) => {}
        }
    }
    Err(failure)
}
