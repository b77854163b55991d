//! What operations share that wait for each other. A test schedules another kind of it, step by step
//! (`crates/model/tests/lanes`).

pub(crate) use std::sync::{Mutex, MutexGuard};

pub(crate) use tokio::time::timeout;

/// Has the runtime do some work, if there is a runtime; else it is dropped.
pub(crate) fn spawn(work: impl Future<Output = ()> + Send + 'static) {
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn(work);
    }
}
