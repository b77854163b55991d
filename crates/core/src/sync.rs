//! What tasks share, and how they leave work to others: one kind for use, and one whose every step a test schedules
//! (`crates/model`).

#[cfg(not(feature = "model"))]
mod kind {
    use std::time::Duration;

    pub(crate) use std::sync::{Mutex, MutexGuard, atomic};

    pub(crate) async fn sleep(time: Duration) {
        tokio::time::sleep(time).await;
    }

    /// Has the runtime do some work, if there is a runtime.
    pub(crate) fn spawn(work: impl Future<Output = ()> + Send + 'static) -> bool {
        let runtime = tokio::runtime::Handle::try_current();
        runtime.map(|runtime| runtime.spawn(work)).is_ok()
    }
}

#[cfg(feature = "model")]
mod kind {
    use std::time::Duration;

    pub(crate) use shuttle::sync::{Mutex, MutexGuard, atomic};

    /// Anything may happen meanwhile, or nothing.
    pub(crate) async fn sleep(_: Duration) {
        shuttle::future::yield_now().await;
    }

    pub(crate) fn spawn(work: impl Future<Output = ()> + Send + 'static) -> bool {
        drop(shuttle::future::spawn(work));
        true
    }
}

pub(crate) use kind::{Mutex, MutexGuard, atomic, sleep, spawn};
