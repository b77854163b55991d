//! Connections of a pool, each lent for the time of one statement.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sqlx::pool::PoolConnection;
use sqlx::{Database, Pool};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long a connection may rest and be used again without a question. One that rested longer goes back to the pool,
/// which asks whether it is well, and lets go of what nobody needs.
const REST: Duration = Duration::from_secs(60);
/// How long a connection is used before the pool may renew it.
const AGE: Duration = Duration::from_secs(20 * 60);

/// The connections of a pool.
///
/// A pool of sqlx asks each connection that comes back whether it is well: one more round trip for every statement.
/// Connections of a pool of ours do not go back, then, but rest here until the next statement. An application's own pool
/// gets its connections back, since they are not ours alone.
#[derive(Debug)]
pub(crate) struct Connections<DB: Database> {
    pool: Pool<DB>,
    /// As many as the pool has places, if the pool is ours.
    places: Option<Arc<Semaphore>>,
    resting: Mutex<Vec<Resting<DB>>>,
}

#[derive(Debug)]
struct Resting<DB: Database> {
    connection: PoolConnection<DB>,
    born: Instant,
    since: Instant,
}

impl<DB: Database> Connections<DB> {
    /// Connections of a pool that nobody else uses.
    pub(crate) fn of_our_own(pool: Pool<DB>) -> Arc<Self> {
        let places = usize::try_from(pool.options().get_max_connections()).unwrap_or(Semaphore::MAX_PERMITS);
        let places = Some(Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS))));
        Arc::new(Self { pool, places, resting: Mutex::default() })
    }

    /// Connections of an application's own pool.
    pub(crate) fn of_others(pool: Pool<DB>) -> Arc<Self> {
        Arc::new(Self { pool, places: None, resting: Mutex::default() })
    }

    /// The pool that they come from.
    pub(crate) fn pool(&self) -> &Pool<DB> {
        &self.pool
    }

    /// Lends a connection. It goes back when the lease is dropped: at once to rest here if it is known to be sound, and
    /// otherwise to the pool, if it answers within `patience`.
    ///
    /// # Errors
    /// [`sqlx::Error::PoolTimedOut`] if there is none within the pool's time, and what opening one came to.
    pub(crate) async fn lend(self: &Arc<Self>, patience: Option<Duration>) -> sqlx::Result<Lease<DB>> {
        let place = match &self.places {
            None => None,
            Some(places) => {
                let patience = self.pool.options().get_acquire_timeout();
                // Here and below, what is seldom needed stands in a box: otherwise the future of each operation has room
                // for it, which for opening a connection is many kilobytes.
                Some(match places.clone().try_acquire_owned() {
                    Ok(place) => place,
                    Err(_) => Box::pin(tokio::time::timeout(patience, places.clone().acquire_owned()))
                        .await
                        .map_err(|_| sqlx::Error::PoolTimedOut)?
                        .map_err(|_| sqlx::Error::PoolClosed)?,
                })
            }
        };
        let mut lease =
            Lease { connection: None, born: Instant::now(), sound: false, patience, home: self.clone(), place };
        let rested = self.resting().pop();
        if let Some(Resting { connection, born, since }) = rested {
            lease.connection = Some(connection);
            if since.elapsed() < REST && born.elapsed() < AGE {
                lease.born = born;
                return Ok(lease);
            }
            lease.put_back();
        }
        lease.connection = Some(Box::pin(self.pool.acquire()).await?);
        Ok(lease)
    }

    fn resting(&self) -> MutexGuard<'_, Vec<Resting<DB>>> {
        self.resting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<DB: Database> Drop for Connections<DB> {
    fn drop(&mut self) {
        // Giving them back takes a runtime, and there may be none any more. A detached one is just closed.
        for resting in self.resting().drain(..) {
            drop(resting.connection.detach());
        }
    }
}

/// A connection that is lent.
///
/// sqlx asks a connection that goes back to its pool whether it is well, and waits for the answer as long as it takes,
/// while the connection keeps its place in the pool. Behind a server that fell silent such places would be lost to the
/// pool until the operating system gives up, which takes a quarter of an hour.
pub(crate) struct Lease<DB: Database> {
    connection: Option<PoolConnection<DB>>,
    born: Instant,
    sound: bool,
    patience: Option<Duration>,
    home: Arc<Connections<DB>>,
    place: Option<OwnedSemaphorePermit>,
}

const HELD: &str = "a lease holds its connection until its end";

impl<DB: Database> Lease<DB> {
    /// The statement is done and its answer read: the connection is as good as before.
    pub(crate) fn sound(&mut self) {
        self.sound = true;
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

    /// Puts the connection back into its pool.
    fn put_back(&mut self) {
        let Some(mut connection) = self.connection.take() else { return };
        let Some(patience) = self.patience else { return };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => {
                // Dropped unfinished, this closes the connection and frees its place.
                let returned = connection.return_to_pool();
                let place = self.place.take();
                runtime.spawn(async move {
                    let _ = tokio::time::timeout(patience, returned).await;
                    drop(place);
                });
            }
            Err(_) => drop(connection.detach()),
        }
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
        if self.sound
            && self.place.is_some()
            && let Some(connection) = self.connection.take()
        {
            let resting = Resting { connection, born: self.born, since: Instant::now() };
            self.home.resting().push(resting);
        } else {
            self.put_back();
        }
    }
}
