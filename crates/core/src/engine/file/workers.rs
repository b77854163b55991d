//! A few threads that do blocking work.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::oneshot;
use tokio::task::spawn_blocking;

/// How many threads work at the same time at most. More would not be faster: they all change the same directory, which
/// the system lets one of them do at a time. With `fsync`, so many wait for the disk together.
const MOST: usize = 8;

/// Work that blocks, for threads of the runtime that go on with the next piece when they are done with one: under load
/// none of them has to be woken, which costs more than reading a file.
#[derive(Clone, Debug, Default)]
pub(super) struct Workers(Arc<Mutex<Queue>>);

#[derive(Default)]
struct Queue {
    work: VecDeque<Box<dyn FnOnce() + Send>>,
    /// How many threads take from it.
    threads: usize,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Queue({} waiting, {} threads)", self.work.len(), self.threads)
    }
}

impl Workers {
    /// Has the work done. It is done as well if nobody waits for it any more.
    ///
    /// # Errors
    /// If the runtime ends before.
    ///
    /// # Panics
    /// If the work does.
    pub(super) async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
        let (tell, told) = oneshot::channel();
        let work = Box::new(move || {
            // Nobody may listen any more.
            let _ = tell.send(catch_unwind(AssertUnwindSafe(work)));
        });
        if self.add(work) {
            let worker = Worker { workers: self.clone(), is_counted: true };
            spawn_blocking(move || worker.work());
        }
        match told.await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(panic)) => resume_unwind(panic),
            Err(_) => Err(io::Error::other("the runtime ended before the file engine could do its work")),
        }
    }

    /// Whether one more thread is wanted, which is counted already.
    fn add(&self, work: Box<dyn FnOnce() + Send>) -> bool {
        let mut queue = self.lock();
        queue.work.push_back(work);
        let is_wanted = queue.threads < MOST;
        queue.threads += usize::from(is_wanted);
        is_wanted
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// A thread that takes from the queue.
struct Worker {
    workers: Workers,
    is_counted: bool,
}

impl Worker {
    fn work(mut self) {
        while let Some(work) = self.next() {
            work();
        }
    }

    /// The next piece of work. If there is none, this thread does not count any more, from the same moment.
    fn next(&mut self) -> Option<Box<dyn FnOnce() + Send>> {
        let mut queue = self.workers.lock();
        let next = queue.work.pop_front();
        if next.is_none() {
            queue.threads -= 1;
            self.is_counted = false;
        }
        next
    }
}

impl Drop for Worker {
    /// The runtime ended before it began with this thread.
    fn drop(&mut self) {
        if !self.is_counted {
            return;
        }
        let mut queue = self.workers.lock();
        queue.threads -= 1;
        let left = if queue.threads == 0 { std::mem::take(&mut queue.work) } else { VecDeque::new() };
        drop(queue);
        // Who waits for that is told.
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn all_work_is_done_by_a_few() {
        let workers = Workers::default();
        let (at_once, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let tasks: Vec<_> = (0..500)
            .map(|number| {
                let (workers, at_once, most) = (workers.clone(), at_once.clone(), most.clone());
                tokio::spawn(async move {
                    let work = move || {
                        most.fetch_max(at_once.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        std::thread::sleep(Duration::from_micros(100));
                        at_once.fetch_sub(1, Ordering::SeqCst);
                        number
                    };
                    workers.run(work).await.expect("the runtime stands")
                })
            })
            .collect();
        for (number, task) in tasks.into_iter().enumerate() {
            assert_eq!(task.await.expect("no panic"), number);
        }
        assert!((1..=MOST).contains(&most.load(Ordering::SeqCst)), "{most:?}");
        assert_eq!(workers.run(|| 1).await.expect("the runtime stands"), 1, "after a rest as well");
    }

    #[tokio::test]
    async fn a_panic_is_that_of_who_asked() {
        let workers = Workers::default();
        for _ in 0..2 * MOST {
            let asking = workers.clone();
            let error = tokio::spawn(async move { asking.run(|| panic!("on purpose")).await }).await.unwrap_err();
            assert!(error.is_panic());
        }
        assert_eq!(workers.run(|| 1).await.expect("the runtime stands"), 1);
    }

    #[test]
    fn a_runtime_that_ends_holds_nobody_up() {
        let workers = Workers::default();
        let runtime =
            || tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build().expect("a runtime");
        // Its only thread is busy, so that it never begins with ours.
        let busy = runtime();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        busy.spawn_blocking(move || ended.recv());
        let asking = workers.clone();
        let waits = busy.spawn(async move { asking.run(|| 1).await.map_err(|error| error.to_string()) });
        busy.block_on(tokio::task::yield_now());
        busy.shutdown_background();
        end.send(()).expect("it waits");
        drop(waits);
        assert_eq!(runtime().block_on(workers.run(|| 2)).expect("this one stands"), 2);
    }
}
