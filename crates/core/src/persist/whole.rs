//! Saves that are carried out whole, even if nobody waits for them any more.
//!
//! A request can be given up at any moment: its visitor closes the browser, a time-out layer drops it. Half of a
//! rotation, or of a sign-out with a new session after it, is nothing that may stay.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tracing::warn;

use crate::error::Result;
use crate::sync;
use crate::sync::atomic::{AtomicBool, Ordering};

/// What a save and those who wait for it tell each other.
#[derive(Default)]
pub(crate) struct Progress {
    begun: AtomicBool,
    given_up: AtomicBool,
}

impl Progress {
    /// From here on something may have been changed: the save has to come to its end.
    pub(crate) fn begin(&self) {
        self.begun.store(true, Ordering::Relaxed);
    }

    /// Whether nobody waits for the save any more, so that nobody learns of a new key either.
    pub(crate) fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Relaxed)
    }
}

/// Work that has no effect if it is dropped before it has begun, and that the runtime finishes if it is dropped later.
pub(crate) struct Whole {
    work: Option<Pin<Box<dyn Future<Output = Result<()>> + Send>>>,
    progress: Arc<Progress>,
    /// Whether the work is being polled: if it is dropped then, it has panicked, and cannot go on.
    polled: bool,
}

impl Whole {
    pub(crate) fn new<F>(work: impl FnOnce(Arc<Progress>) -> F) -> Self
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let progress = Arc::new(Progress::default());
        Self { work: Some(Box::pin(work(Arc::clone(&progress)))), progress, polled: false }
    }
}

impl Future for Whole {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.polled = true;
        let polled = self.work.as_mut().expect("a future is not polled after it is done").as_mut().poll(cx);
        self.polled = false;
        if polled.is_ready() {
            self.work = None;
        }
        polled
    }
}

impl Drop for Whole {
    fn drop(&mut self) {
        let Some(work) = self.work.take() else { return };
        if self.polled || !self.progress.begun.load(Ordering::Relaxed) {
            return;
        }
        self.progress.given_up.store(true, Ordering::Relaxed);
        // Without a runtime there is no store that could answer.
        sync::spawn(async move {
            if let Err(error) = work.await {
                warn!(%error, "a request was given up while its session was saved, and that failed");
            }
        });
    }
}
