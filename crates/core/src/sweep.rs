//! Removing what has expired, while the site runs on: once, or again and again in the background.

use std::fs::{File, TryLockError};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::error::Result;
use crate::store::Store;

/// How many records a batch removes at most, unless something else is said.
pub const DEFAULT_BATCH: usize = 1_000;

/// A first batch, which tells how fast the store is.
const FIRST_BATCH: usize = 100;
/// How long a batch should take at most: so long may a database with one writer at a time keep others from writing.
const BATCH_TIME: Duration = Duration::from_millis(20);
/// After so much work there is a pause. SQLite does not tell other processes that a lock is free: they look again after
/// 25 ms at the latest, if they have waited for less than an eighth of a second. So a writer waits for no longer than
/// this, a batch and the pause.
const WORK: Duration = Duration::from_millis(40);
const PAUSE: Duration = Duration::from_millis(26);

/// A sweep through a store: removes expired records batch by batch, until none is left. Between batches there are pauses
/// in which the site's own writers get their turn.
///
/// Each batch is complete in itself: a sweep that is dropped or killed, between two of them or within one, leaves nothing
/// to repair, and the next one goes on where it ended. Several sweeps at once do no harm.
///
/// ```
/// # use cloakroom_core::{Clock, engine::memory::MemoryStore, sweep::Sweep};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> cloakroom_core::Result<()> {
/// # let store = MemoryStore::new(Clock::system());
/// let (mut sweep, mut removed) = (Sweep::new(), 0);
/// while let Some(batch) = sweep.next(&store).await? {
///     removed += batch;
/// }
/// # assert_eq!(removed, 0);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Sweep {
    batch: usize,
    most: usize,
    worked: Duration,
    done: bool,
}

impl Sweep {
    /// A sweep in batches of [`DEFAULT_BATCH`] at most.
    pub fn new() -> Self {
        Self::in_batches(DEFAULT_BATCH)
    }

    /// A sweep in batches of so many records at most. Where batches take longer than they should, they get smaller.
    pub fn in_batches(most: usize) -> Self {
        let most = most.max(1);
        Self { batch: most.min(FIRST_BATCH), most, worked: Duration::ZERO, done: false }
    }

    /// Removes the next batch, and returns how many records that were; `None` after the last one.
    ///
    /// # Errors
    /// Those of [`Store::clear_expired`]; what was removed before stays removed. The sweep can be gone on with.
    pub async fn next(&mut self, store: &dyn Store) -> Result<Option<u64>> {
        if self.done {
            return Ok(None);
        }
        if self.worked >= WORK {
            tokio::time::sleep(PAUSE).await;
            self.worked = Duration::ZERO;
        }
        let begin = Instant::now();
        let cleared = store.clear_expired(self.batch).await?;
        self.took(begin.elapsed());
        self.done = !cleared.more;
        Ok(Some(cleared.removed))
    }

    /// Makes batches smaller that took too long, and larger those that took less than half as long as they may.
    fn took(&mut self, time: Duration) {
        self.worked += time;
        if time > BATCH_TIME {
            self.batch = (self.batch / 2).max(FIRST_BATCH.min(self.most));
        } else if time < BATCH_TIME / 2 {
            self.batch = (self.batch * 2).min(self.most);
        }
    }
}

impl Default for Sweep {
    fn default() -> Self {
        Self::new()
    }
}

/// Where several nodes share a store: decides which of them sweeps it in the background. A store that many nodes share
/// brings the means of its own technology, as a lock that its server gives up when the node dies.
#[async_trait]
pub trait Turns: Send + Sync + 'static {
    /// Takes the turn, unless another node has it.
    async fn take(&self) -> Result<Option<Box<dyn Turn>>>;
}

/// A turn to sweep. It ends when it is dropped or when the node dies, too; [`end`](Self::end) is more polite.
#[async_trait]
pub trait Turn: Send {
    /// Gives the turn back.
    async fn end(self: Box<Self>);
}

#[async_trait]
impl Turn for File {
    async fn end(self: Box<Self>) {}
}

/// A turn among the processes that use a directory: an exclusive lock of the directory itself, `None` if another process
/// has it.
///
/// # Errors
/// If the directory cannot be opened, or the file system has no locks.
pub fn turn_in(directory: &Path) -> io::Result<Option<Box<dyn Turn>>> {
    // Elsewhere than on Unix a directory cannot be opened like a file, and a file in it stands for it.
    #[cfg(unix)]
    let lock = File::open(directory)?;
    #[cfg(not(unix))]
    let lock = File::create(directory.join(".cloakroom-sweep"))?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(Box::new(lock))),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Sweeps a store in the background, about every `interval`, on the runtime that is current: this is
/// `SESSION_SWEEP_INTERVAL`. With `turns`, which as a rule are the store's own, only while no other node does.
///
/// The task keeps neither the store nor the runtime alive: without the last user of the store it does nothing more, and
/// it ends with the runtime. Its first sweep comes after a random part of the interval, and the next ones a little earlier or later than they
/// should, so that nodes which start together do not meet each time. A sweep that fails is logged, and the next one comes
/// when it is due.
///
/// # Panics
/// Outside of a tokio runtime.
pub fn in_background(store: &Arc<dyn Store>, turns: Option<Arc<dyn Turns>>, interval: Duration) {
    let (store, turns) = (Arc::downgrade(store), turns.as_ref().map(Arc::downgrade));
    tokio::spawn(async move {
        let mut pause = interval.mul_f64(random());
        loop {
            tokio::time::sleep(pause).await;
            match sweep(&store, turns.as_ref()).await {
                Ok(Some(0)) => debug!("sweep: nothing has expired"),
                Ok(Some(removed)) => info!(removed, "sweep: expired sessions are removed"),
                Ok(None) => debug!("sweep: another node sweeps"),
                Err(error) => {
                    let source = std::error::Error::source(&error);
                    warn!(%error, ?source, "sweep: failed, the next one comes when it is due");
                }
            }
            if store.strong_count() == 0 {
                return;
            }
            pause = interval.mul_f64(0.9 + random() / 5.0);
        }
    });
}

/// One sweep, if it is our turn: how many records were removed. It ends early if nobody uses the store any more.
async fn sweep(store: &Weak<dyn Store>, turns: Option<&Weak<dyn Turns>>) -> Result<Option<u64>> {
    let turn = match turns {
        None => None,
        Some(turns) => match turns.upgrade() {
            None => return Ok(None),
            Some(turns) => match turns.take().await? {
                None => return Ok(None),
                turn => turn,
            },
        },
    };
    let (mut sweep, mut removed) = (Sweep::new(), 0);
    let outcome = loop {
        let Some(store) = store.upgrade() else { break Ok(()) };
        match sweep.next(&*store).await {
            Ok(Some(batch)) => removed += batch,
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    if let Some(turn) = turn {
        turn.end().await;
    }
    outcome.map(|()| Some(removed))
}

/// A number from 0 to 1, another one each time.
fn random() -> f64 {
    RandomState::new().hash_one(0) as f64 / u64::MAX as f64
}
