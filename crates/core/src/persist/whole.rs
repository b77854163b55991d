//! Saves that are carried out whole, even if nobody waits for them any more.
//!
//! A request can be given up at any moment: its visitor closes the browser, a time-out layer drops it. Half of a
//! rotation, or of a sign-out with a new session after it, is nothing that may stay.

use std::pin::Pin;
use std::task::{Context, Poll};

use tracing::warn;

use crate::error::Result;
use crate::slot::SessionSlot;
use crate::sync;
use crate::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// What a session's saves and those who wait for them tell each other. Saves take turns: one at most has begun and not
/// ended.
#[derive(Default)]
pub(crate) struct Progress {
    /// How many saves there were, and the number of the one that began last.
    saves: AtomicU32,
    begun: AtomicU32,
    given_up: AtomicBool,
}

impl Progress {
    /// The number of a new save.
    pub(crate) fn new_save(&self) -> u32 {
        self.saves.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn of(&self, save: u32) -> ProgressOf<'_> {
        ProgressOf { progress: self, save }
    }
}

/// The progress of one save.
#[derive(Clone, Copy)]
pub(crate) struct ProgressOf<'a> {
    progress: &'a Progress,
    save: u32,
}

impl ProgressOf<'_> {
    /// From here on something may have been changed: the save has to come to its end.
    pub(crate) fn begin(self) {
        self.progress.given_up.store(false, Ordering::Relaxed);
        self.progress.begun.store(self.save, Ordering::Relaxed);
    }

    /// Whether nobody waits any more for the save, which has begun, so that nobody learns of a new key either.
    pub(crate) fn is_given_up(self) -> bool {
        self.progress.given_up.load(Ordering::Relaxed)
    }

    /// Says that nobody waits for the save any more; `false` if it has not begun.
    fn give_up(self) -> bool {
        let begun = self.progress.begun.load(Ordering::Relaxed) == self.save;
        if begun {
            self.progress.given_up.store(true, Ordering::Relaxed);
        }
        begun
    }
}

/// Work that has no effect if it is dropped before it has begun, and that the runtime finishes if it is dropped later.
pub(crate) struct Whole {
    work: Option<Pin<Box<dyn Future<Output = Result<()>> + Send>>>,
    slot: SessionSlot,
    save: u32,
    /// Whether the work is being polled: if it is dropped then, it has panicked, and cannot go on.
    polled: bool,
}

impl Whole {
    /// Work on this session, which is given the number of its save.
    pub(crate) fn new<F>(slot: &SessionSlot, work: impl FnOnce(SessionSlot, u32) -> F) -> Self
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let save = slot.progress().new_save();
        Self { work: Some(Box::pin(work(slot.clone(), save))), slot: slot.clone(), save, polled: false }
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
        if self.polled || !self.slot.progress().of(self.save).give_up() {
            return;
        }
        // Without a runtime there is no store that could answer.
        sync::spawn(async move {
            if let Err(error) = work.await {
                warn!(%error, "a request was given up while its session was saved, and that failed");
            }
        });
    }
}
