//! One server: its connections, and what goes wrong with them.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cloakroom_core::together::{Joined, Together};
use cloakroom_core::{Error, ErrorKind, Result};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::connection::{Connection, Failure, Reply, Request};
use crate::options::{Address, MemcachedOptions};

/// A connection that lay idle for longer is not used again: something on the way may have forgotten it silently.
const MAX_IDLE: Duration = Duration::from_secs(60);
/// How many bytes a request may store that goes together with others. Larger ones gain nothing by it, and hold them up.
const LARGE: usize = 1 << 14;

/// A server with its pool of connections.
pub(crate) struct Server {
    address: Address,
    connect_timeout: Duration,
    timeout: Duration,
    max_connections: usize,
    slots: Semaphore,
    /// The one used last is at the back.
    idle: Mutex<VecDeque<(Connection, Instant)>>,
    together: Together<Request, Result<Reply>>,
}

impl Server {
    pub(crate) fn new(address: Address, options: &MemcachedOptions) -> Self {
        Self {
            address,
            connect_timeout: options.connect_timeout,
            timeout: options.timeout,
            max_connections: options.max_connections,
            slots: Semaphore::new(options.max_connections),
            idle: Mutex::default(),
            together: Together::default(),
        }
    }

    /// The answer to a request, which goes together with others that are about to be sent.
    ///
    /// Dropped half-way, one that goes alone closes its connection, on which an answer is outstanding.
    pub(crate) async fn ask(self: &Arc<Self>, request: Request) -> Result<Reply> {
        let mut _alone = None;
        if request.size() <= LARGE {
            match self.together.join(|| request.clone(), |requests| Arc::clone(self).many(requests)).await {
                Joined::Answered(answer) => return answer,
                Joined::Alone(alone) => _alone = Some(alone),
                Joined::Lost if request.is_repeatable() => {}
                // A second attempt could meet what the first one has stored, and take it for another's.
                Joined::Lost => return Err(self.lost()),
            }
        }
        // In a box: one that goes together with others has no room for an exchange of its own.
        Box::pin(self.alone(&request)).await
    }

    async fn alone(&self, request: &Request) -> Result<Reply> {
        let (requests, mut replies) = (std::slice::from_ref(request), Vec::with_capacity(1));
        let mut ended = self.exchange(requests, &mut replies, true).await;
        if ended.as_ref().is_err_and(|broken| broken.is_stale && request.is_repeatable()) {
            ended = self.exchange(requests, &mut replies, false).await;
        }
        match (ended, replies.pop()) {
            (_, Some(reply)) => self.checked(reply, request),
            (Err(broken), None) => Err(broken.error),
            (Ok(()), None) => Err(self.silent()),
        }
    }

    /// The answers to many. To `None` belongs a request that may well succeed by itself.
    async fn many(self: Arc<Self>, requests: Vec<Request>) -> Vec<Option<Result<Reply>>> {
        let mut replies = Vec::with_capacity(requests.len());
        let ended = self.exchange(&requests, &mut replies, true).await;
        let answered = replies.len();
        let mut answers: Vec<_> =
            replies.into_iter().zip(&requests).map(|(reply, request)| Some(self.checked(reply, request))).collect();
        if let Err(Broken { error, is_stale }) = ended {
            let error = Arc::new(error);
            let left = requests[answered..].iter();
            answers.extend(left.map(|request| (!is_stale || !request.is_repeatable()).then(|| Err(error.shared()))));
        }
        answers
    }

    /// One exchange, on a connection of the pool, if that may be, or on a new one.
    async fn exchange(
        &self,
        requests: &[Request],
        replies: &mut Vec<Reply>,
        may_be_pooled: bool,
    ) -> std::result::Result<(), Broken> {
        let slot = timeout(self.connect_timeout, self.slots.acquire()).await.map_err(|_| self.busy())?;
        // The semaphore is never closed.
        let _slot = slot.map_err(|_| self.busy())?;
        let pooled = if may_be_pooled { self.idle_connection() } else { None };
        let is_pooled = pooled.is_some();
        let mut connection = match pooled {
            Some(connection) => connection,
            None => Box::pin(self.connect()).await?,
        };
        match timeout(self.timeout, connection.exchange(requests, replies)).await {
            Ok(Ok(())) => {
                self.put_back(connection);
                Ok(())
            }
            Ok(Err(failure)) => Err(Broken {
                is_stale: is_pooled && matches!(failure, Failure::Lost(_)),
                error: self.failed(&failure).with_source(failure_source(&failure)),
            }),
            Err(_) => Err(self.silent().into()),
        }
    }

    fn idle_connection(&self) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        while let Some((connection, since)) = idle.pop_back() {
            if since.elapsed() > MAX_IDLE {
                // All others are older.
                idle.clear();
            } else if connection.is_quiet() {
                return Some(connection);
            }
        }
        None
    }

    fn put_back(&self, connection: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        idle.push_back((connection, Instant::now()));
        // A burst leaves connections that are not needed any more.
        while idle.front().is_some_and(|(_, since)| since.elapsed() > MAX_IDLE) {
            idle.pop_front();
        }
    }

    async fn connect(&self) -> Result<Connection> {
        match timeout(self.connect_timeout, Connection::open(&self.address)).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => {
                let message = format!(
                    "Memcached at {} cannot be reached: {error}; is it running, and is LOCATION of CACHES right?",
                    self.address
                );
                Err(Error::new(ErrorKind::Unavailable, message).with_source(error))
            }
            Err(_) => {
                let message = format!(
                    "Memcached at {} took no connection within {:?}: it is overloaded, or a firewall drops what is \
                     sent to it",
                    self.address, self.connect_timeout
                );
                Err(unavailable(message))
            }
        }
    }

    fn busy(&self) -> Error {
        unavailable(format!(
            "no connection to Memcached at {} became free within {:?}, of {} at most: it is slow, or \
             OPTIONS.max_pool_size is too small",
            self.address, self.connect_timeout, self.max_connections
        ))
    }

    fn lost(&self) -> Error {
        unavailable(format!(
            "what became of a change on Memcached at {} is unknown: the runtime that sent it has ended",
            self.address
        ))
    }

    fn silent(&self) -> Error {
        unavailable(format!(
            "Memcached at {} did not answer within {:?}: it is overloaded or frozen, or OPTIONS.timeout is too short",
            self.address, self.timeout
        ))
    }

    /// A reply, unless it says that the server could not do what it was asked to.
    fn checked(&self, reply: Reply, request: &Request) -> Result<Reply> {
        let address = &self.address;
        let Reply::Failed(said) = reply else { return Ok(reply) };
        let error = if said.contains("too large") {
            Error::new(
                ErrorKind::TooLarge,
                format!(
                    "the session comes to {} bytes, more than Memcached at {address} takes (its option -I, 1 MB unless \
                     set); what was stored before stands unchanged",
                    request.size()
                ),
            )
        } else if said.contains("out of memory") {
            unavailable(format!(
                "Memcached at {address} has no memory left for a session of {} bytes; what was stored before stands \
                 unchanged. Give it more (its option -m), and let it evict (without -M)",
                request.size()
            ))
        } else {
            unavailable(format!("Memcached at {address} failed: {said}"))
        };
        Err(error.with_source(format!("{said:?}")))
    }

    fn failed(&self, failure: &Failure) -> Error {
        let address = &self.address;
        match failure {
            Failure::Lost(error) => {
                unavailable(format!("Memcached at {address} closed the connection before it answered: {error}"))
            }
            Failure::Refused(said) if said == "ERROR" => configuration(format!(
                "the server at {address} does not know Memcached's meta commands: Memcached 1.6 or newer is needed"
            )),
            Failure::Refused(said) if said.contains("unauthenticated") => configuration(format!(
                "Memcached at {address} wants a password (its option -Y), which Django's clients cannot send either"
            )),
            Failure::Refused(said) => unavailable(format!("Memcached at {address} refused the request: {said}")),
            Failure::Nonsense(said) => configuration(format!(
                "the server at {address} does not speak Memcached's protocol, it said {said:?}: is LOCATION of CACHES \
                 right?"
            )),
        }
    }
}

/// Why an exchange ended before all was answered.
struct Broken {
    error: Error,
    /// A connection of the pool broke, as it does when its server stops: another one may well work.
    is_stale: bool,
}

impl From<Error> for Broken {
    fn from(error: Error) -> Self {
        Self { error, is_stale: false }
    }
}

fn failure_source(failure: &Failure) -> Box<dyn std::error::Error + Send + Sync> {
    match failure {
        Failure::Lost(error) => Box::new(io::Error::new(error.kind(), error.to_string())),
        other => other.to_string().into(),
    }
}

fn unavailable(message: String) -> Error {
    Error::new(ErrorKind::Unavailable, message)
}

fn configuration(message: String) -> Error {
    Error::new(ErrorKind::Configuration, message)
}
