//! One server: its connections, and what goes wrong with them.

use std::collections::VecDeque;
use std::io;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use cloakroom_core::{Error, ErrorKind, Result};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::connection::{Connection, Failure, Reply, Request};
use crate::options::{Address, MemcachedOptions};

/// A connection that lay idle for longer is not used again: something on the way may have forgotten it silently.
const MAX_IDLE: Duration = Duration::from_secs(60);

/// A server with its pool of connections.
pub(crate) struct Server {
    address: Address,
    connect_timeout: Duration,
    timeout: Duration,
    max_connections: usize,
    slots: Semaphore,
    /// The one used last is at the back.
    idle: Mutex<VecDeque<(Connection, Instant)>>,
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
        }
    }

    /// One exchange, on a connection of the pool or on a new one.
    ///
    /// Dropped half-way, it closes its connection, on which an answer is outstanding.
    pub(crate) async fn exchange(&self, request: &Request) -> Result<Reply> {
        let slot = timeout(self.connect_timeout, self.slots.acquire()).await.map_err(|_| self.busy())?;
        // The semaphore is never closed.
        let _slot = slot.map_err(|_| self.busy())?;
        let (mut connection, mut pooled) = match self.idle_connection() {
            Some(connection) => (connection, true),
            None => (self.connect().await?, false),
        };
        loop {
            let Ok(answer) = timeout(self.timeout, connection.exchange(request)).await else {
                return Err(self.silent());
            };
            match answer {
                Ok(reply) => {
                    self.put_back(connection);
                    return Ok(reply);
                }
                // The server may have closed the connection while the request was on its way, as one does that stops.
                Err(Failure::Lost(_)) if pooled && request.is_repeatable() => {
                    connection = self.connect().await?;
                    pooled = false;
                }
                Err(failure) => {
                    let error = self.failed(&failure, request).with_source(failure_source(&failure));
                    if matches!(failure, Failure::Server(_)) {
                        self.put_back(connection);
                    }
                    return Err(error);
                }
            }
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

    fn silent(&self) -> Error {
        unavailable(format!(
            "Memcached at {} did not answer within {:?}: it is overloaded or frozen, or OPTIONS.timeout is too short",
            self.address, self.timeout
        ))
    }

    fn failed(&self, failure: &Failure, request: &Request) -> Error {
        let address = &self.address;
        match failure {
            Failure::Lost(error) => {
                unavailable(format!("Memcached at {address} closed the connection before it answered: {error}"))
            }
            Failure::Server(said) if said.contains("too large") => Error::new(
                ErrorKind::TooLarge,
                format!(
                    "the session comes to {} bytes, more than Memcached at {address} takes (its option -I, 1 MB unless \
                     set); what was stored before stands unchanged",
                    request.size()
                ),
            ),
            Failure::Server(said) if said.contains("out of memory") => unavailable(format!(
                "Memcached at {address} has no memory left for a session of {} bytes; what was stored before stands \
                 unchanged. Give it more (its option -m), and let it evict (without -M)",
                request.size()
            )),
            Failure::Server(said) => unavailable(format!("Memcached at {address} failed: {said}")),
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
