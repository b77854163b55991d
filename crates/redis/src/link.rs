//! The one connection that all requests share, and its renewal.

use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use cloakroom_core::{Error, Result};
use redis::{AsyncConnectionConfig, Client, Cmd, RedisError, ServerErrorKind, Value};
use tokio::sync::Mutex;
use tracing::{debug, warn};

use crate::dial::{Connection, dial};
use crate::failure::{self, Stage};
use crate::options::RedisOptions;
use crate::sentinel::Sentinels;

/// A connection to one server, made when it is first needed, and made anew after it broke.
pub(crate) struct Link {
    route: Route,
    config: AsyncConnectionConfig,
    address: String,
    connect_timeout: Duration,
    response_timeout: Duration,
    current: RwLock<Option<Line>>,
    /// Held by whoever connects, so that a crowd makes one connection.
    connecting: Mutex<u64>,
}

/// How to come to the server.
enum Route {
    Server(Client),
    /// Sentinels say which server it is now.
    Service(Sentinels),
}

/// One connection; the number tells it from those before and after.
#[derive(Clone)]
struct Line {
    number: u64,
    connection: Connection,
}

/// A server's answer.
pub(crate) struct Answer {
    pub(crate) value: Value,
    /// The connection broke under a first attempt, of which nobody knows whether the server carried it out.
    pub(crate) after_a_break: bool,
}

impl Link {
    /// Prepares a connection, and makes none.
    pub(crate) fn new(options: &RedisOptions) -> Result<Self> {
        Ok(Self {
            route: match options.sentinels.is_empty() {
                true => Route::Server(options.client()?),
                false => Route::Service(Sentinels::new(options)?),
            },
            config: AsyncConnectionConfig::new()
                .set_connection_timeout(Some(options.connect_timeout))
                .set_response_timeout(Some(options.response_timeout))
                // How many commands wait for the socket; the crate's own 50 makes a crowd queue twice.
                .set_pipeline_buffer_size(1_024)
                // How many bytes are gathered at most; the crate's own 8 KiB are a dozen sessions.
                .set_write_backpressure_boundary(65_536),
            address: options.address(),
            connect_timeout: options.connect_timeout,
            response_timeout: options.response_timeout,
            current: RwLock::new(None),
            connecting: Mutex::new(0),
        })
    }

    /// Where the server is, without user and password.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Sends a command and waits for its answer; once more on a new connection if the old one had broken.
    pub(crate) async fn send(&self, command: &Cmd) -> Result<Answer> {
        let mut after_a_break = false;
        let mut last_attempt = false;
        loop {
            let mut line = self.line().await?;
            let error = match command.query_async::<Value>(&mut line.connection.multiplexed).await {
                Ok(value) => return Ok(Answer { value, after_a_break }),
                Err(error) => error,
            };
            let refused = is_refused_by_replica(&error);
            // A connection on which an answer did not come may lead nowhere, as after a change of the primary: the next
            // operation makes a new one, as Python's client does. Answers under way on this one still arrive.
            if error.is_unrecoverable_error() || error.is_timeout() || refused {
                debug!(address = self.address, %error, "the connection to Redis is given up");
                self.give_up(line.number);
            }
            let broke = error.is_connection_dropped();
            if last_attempt || !(broke || refused) {
                return Err(self.failure(error, Stage::Asking));
            }
            last_attempt = true;
            // What a replica refused, it has not carried out.
            after_a_break = broke;
        }
    }

    /// An error of the server or of the way to it, in words.
    pub(crate) fn failure(&self, error: RedisError, stage: Stage) -> Error {
        let patience = match stage {
            Stage::Connecting => self.connect_timeout,
            Stage::Asking => self.response_timeout,
        };
        failure::explain(error, stage, &self.address, patience)
    }

    /// The present connection, or a new one.
    async fn line(&self) -> Result<Line> {
        if let Some(line) = self.present() {
            return Ok(line);
        }
        // The time for waiting behind others who try the same is limited too.
        let patience = match &self.route {
            Route::Server(_) => self.connect_timeout,
            Route::Service(_) => 2 * self.connect_timeout,
        };
        let late = || self.failure(std::io::Error::from(std::io::ErrorKind::TimedOut).into(), Stage::Connecting);
        tokio::time::timeout(patience, self.connect()).await.unwrap_or_else(|_| Err(late()))
    }

    async fn connect(&self) -> Result<Line> {
        let mut last = self.connecting.lock().await;
        if let Some(line) = self.present() {
            return Ok(line);
        }
        let connection = match &self.route {
            Route::Server(client) => dial(client, &self.config, self.connect_timeout)
                .await
                .map_err(|error| self.failure(error, Stage::Connecting)),
            Route::Service(sentinels) => sentinels.connect(&self.config).await,
        };
        let connection =
            connection.inspect_err(|error| warn!(address = self.address, %error, "no connection to Redis"))?;
        *last += 1;
        let line = Line { number: *last, connection };
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(line.clone());
        debug!(address = self.address, number = line.number, "connected to Redis");
        Ok(line)
    }

    fn present(&self) -> Option<Line> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Gives up a connection, unless another one is in its place already.
    fn give_up(&self, number: u64) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if current.as_ref().is_some_and(|line| line.number == number) {
            *current = None;
        }
    }
}

/// Whether a write was refused by a server that is, or has become, a replica: the name may lead to another server now.
fn is_refused_by_replica(error: &RedisError) -> bool {
    error.kind() == redis::ErrorKind::Server(ServerErrorKind::ReadOnly)
        // Scripts of servers before version 7 wrap the code.
        || error.detail().is_some_and(|detail| detail.contains("READONLY"))
}
