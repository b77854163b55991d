//! The one connection that all requests of a runtime share, and its renewal.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use cloakroom_core::near::Moment;
use cloakroom_core::store::Stored;
use cloakroom_core::together::Together;
use cloakroom_core::{Error, Result, SessionKey};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, Pipeline, RedisError, RedisResult, ServerErrorKind, Value};
use tokio::runtime::{self, Handle};
use tokio::sync::Mutex;
use tracing::{debug, warn};

use crate::dial::{Connection, dial};
use crate::failure::{self, Stage};
use crate::options::RedisOptions;
use crate::sentinel::Sentinels;
use crate::tracking::Tracking;

/// Loads that go together.
pub(crate) type Loads = Together<SessionKey, Result<Stored>>;

/// A connection to one server, made when it is first needed, and made anew after it broke.
///
/// Each runtime has its own: the task that drives a connection ends with the runtime it was made in, and on a site
/// whose threads each have a runtime (actix-web) no request waits for another thread.
pub(crate) struct Link {
    route: Route,
    config: AsyncConnectionConfig,
    tracking: Option<Tracking>,
    address: String,
    connect_timeout: Duration,
    response_timeout: Duration,
    lines: RwLock<Vec<Held>>,
    /// Whether the server refused a command for many sessions: from then on each load goes alone.
    apart: AtomicBool,
    /// Whether the server refused to compare by itself: a script does, until a new connection may lead to a newer server.
    by_script: AtomicBool,
    /// Held by whoever connects, so that a crowd makes one connection.
    connecting: Mutex<u64>,
}

/// How to come to the server.
pub(crate) enum Route {
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

/// A connection for whoever needs it.
struct Held {
    /// Whose it is; everybody's if there is a near cache, which knows what it hears on one connection.
    runtime: Option<runtime::Id>,
    line: Line,
    loads: Arc<Loads>,
}

/// What goes to the server in one piece.
#[derive(Clone, Copy)]
pub(crate) enum Question<'a> {
    Command(&'a Cmd),
    /// Several, of which the one in this place matters: its error is the error of all. The answer is an array, in which
    /// the others may be errors.
    Commands(&'a Pipeline, usize),
}

impl<'a> From<&'a Cmd> for Question<'a> {
    fn from(command: &'a Cmd) -> Self {
        Self::Command(command)
    }
}

impl<'a> From<&'a mut Cmd> for Question<'a> {
    fn from(command: &'a mut Cmd) -> Self {
        Self::Command(command)
    }
}

impl Question<'_> {
    async fn ask(self, connection: &mut MultiplexedConnection) -> RedisResult<Value> {
        match self {
            Self::Command(command) => connection.send_packed_command(command).await?.extract_error(),
            Self::Commands(commands, place) => {
                let mut answers = connection.send_packed_commands(commands, 0, commands.len()).await?;
                if let Some(answer) = answers.get_mut(place) {
                    *answer = std::mem::replace(answer, Value::Nil).extract_error()?;
                }
                Ok(Value::Array(answers))
            }
        }
    }
}

/// A server's answer.
pub(crate) struct Answer {
    pub(crate) value: Value,
    /// The number of the connection that it came on.
    pub(crate) line: u64,
    /// When the question was sent, if there is a near cache.
    pub(crate) asked: Option<Moment>,
}

impl Link {
    /// Prepares a connection, and makes none. With `tracking`, the server is asked to tell what changes.
    pub(crate) fn new(options: &RedisOptions, tracking: Option<Tracking>) -> Result<Self> {
        Ok(Self {
            route: Route::new(options)?,
            config: AsyncConnectionConfig::new()
                .set_connection_timeout(Some(options.connect_timeout))
                .set_response_timeout(Some(options.response_timeout))
                // How many commands wait for the socket; the crate's own 50 makes a crowd queue twice.
                .set_pipeline_buffer_size(1_024)
                // How many bytes are gathered at most; the crate's own 8 KiB are a dozen sessions.
                .set_write_backpressure_boundary(65_536),
            tracking,
            address: options.address(),
            connect_timeout: options.connect_timeout,
            response_timeout: options.response_timeout,
            lines: RwLock::default(),
            apart: AtomicBool::new(false),
            by_script: AtomicBool::new(false),
            connecting: Mutex::new(0),
        })
    }

    /// Where the server is, without user and password.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Sends a command and waits for its answer; once more on a new connection if the old one had broken.
    pub(crate) async fn send(&self, question: impl Into<Question<'_>>) -> Result<Answer> {
        self.send_noting(question, &mut false).await
    }

    /// As [`send`](Self::send). Notes in `broke` if a connection broke under a first attempt, of which nobody knows whether
    /// the server carried it out; whatever the second one is answered.
    pub(crate) async fn send_noting(&self, question: impl Into<Question<'_>>, broke: &mut bool) -> Result<Answer> {
        let question = question.into();
        let mut last_attempt = false;
        loop {
            let mut line = self.line().await?;
            let asked = self.tracking.as_ref().map(|tracking| tracking.near.now());
            let error = match question.ask(&mut line.connection.multiplexed).await {
                Ok(value) => {
                    if let (Some(tracking), Some(asked)) = (&self.tracking, asked) {
                        tracking.near.answered(line.number, asked);
                    }
                    return Ok(Answer { value, line: line.number, asked });
                }
                Err(error) => error,
            };
            let refused = is_refused_by_replica(&error);
            // A connection on which an answer did not come may lead nowhere, as after a change of the primary: the next
            // operation makes a new one, as Python's client does. Answers under way on this one still arrive.
            if error.is_unrecoverable_error() || error.is_timeout() || refused {
                debug!(address = self.address, %error, "the connection to Redis is given up");
                self.give_up(line.number);
            }
            let dropped = error.is_connection_dropped();
            if last_attempt || !(dropped || refused) {
                return Err(self.failure(error, Stage::Asking));
            }
            last_attempt = true;
            // What a replica refused, it has not carried out.
            *broke |= dropped;
        }
    }

    /// The loads that are about to use the present connection, if there is one, and if loads may go together.
    pub(crate) fn loads(&self) -> Option<Arc<Loads>> {
        if self.apart.load(Ordering::Relaxed) { None } else { self.find(|held| held.loads.clone()) }
    }

    /// Lets each load go alone from now on.
    pub(crate) fn go_apart(&self) {
        self.apart.store(true, Ordering::Relaxed);
    }

    /// Whether the server may compare a value by itself before it replaces it.
    pub(crate) fn compares(&self) -> bool {
        !self.by_script.load(Ordering::Relaxed)
    }

    /// Lets a script compare, as long as the connection lasts.
    pub(crate) fn compare_by_script(&self) {
        self.by_script.store(true, Ordering::Relaxed);
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
        // In a box: a command does not carry along what is hardly ever needed.
        Box::pin(tokio::time::timeout(patience, self.connect())).await.unwrap_or_else(|_| Err(late()))
    }

    async fn connect(&self) -> Result<Line> {
        let mut last = self.connecting.lock().await;
        if let Some(line) = self.present() {
            return Ok(line);
        }
        *last += 1;
        let number = *last;
        let connection = self
            .open(number)
            .await
            .inspect_err(|error| warn!(address = self.address, %error, "no connection to Redis"))?;
        self.by_script.store(false, Ordering::Relaxed);
        let line = Line { number, connection };
        let mut lines = self.lines.write().unwrap_or_else(PoisonError::into_inner);
        // Those of runtimes that are no more.
        lines.retain(|held| !held.line.connection.is_over());
        lines.push(Held { runtime: self.runtime(), line: line.clone(), loads: Arc::default() });
        debug!(address = self.address, number = line.number, "connected to Redis");
        Ok(line)
    }

    async fn open(&self, number: u64) -> Result<Connection> {
        if let Some(tracking) = &self.tracking
            && let Some(connection) = tracking.connect(self, &self.config, number).await?
        {
            tracking.near.rely_on(number);
            return Ok(connection);
        }
        self.route.connect(&self.config, self).await
    }

    /// Whose connection the present task is to use.
    fn runtime(&self) -> Option<runtime::Id> {
        self.tracking.is_none().then(|| Handle::current().id())
    }

    fn present(&self) -> Option<Line> {
        self.find(|held| held.line.clone())
    }

    fn find<T>(&self, of: impl FnOnce(&Held) -> T) -> Option<T> {
        let runtime = self.runtime();
        let lines = self.lines.read().unwrap_or_else(PoisonError::into_inner);
        lines.iter().find(|held| held.runtime == runtime).map(of)
    }

    /// Gives up a connection, unless that was done already.
    fn give_up(&self, number: u64) {
        let mut lines = self.lines.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = lines.iter().position(|held| held.line.number == number) {
            lines.swap_remove(place);
            if let Some(tracking) = &self.tracking {
                tracking.near.give_up(number);
            }
        }
    }
}

impl Route {
    /// The way that the options describe; nothing is sent.
    pub(crate) fn new(options: &RedisOptions) -> Result<Self> {
        Ok(match options.sentinels.is_empty() {
            true => Self::Server(options.client()?),
            false => Self::Service(Sentinels::new(options)?),
        })
    }

    /// A new connection.
    pub(crate) async fn connect(&self, config: &AsyncConnectionConfig, link: &Link) -> Result<Connection> {
        match self {
            Self::Server(client) => {
                dial(client, config, link.connect_timeout).await.map_err(|error| link.failure(error, Stage::Connecting))
            }
            Self::Service(sentinels) => sentinels.connect(config).await,
        }
    }
}

/// Whether a write was refused by a server that is, or has become, a replica: the name may lead to another server now.
fn is_refused_by_replica(error: &RedisError) -> bool {
    error.kind() == redis::ErrorKind::Server(ServerErrorKind::ReadOnly)
        // Scripts of servers before version 7 wrap the code.
        || error.detail().is_some_and(|detail| detail.contains("READONLY"))
}
