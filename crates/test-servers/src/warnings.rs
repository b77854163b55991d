//! How often a part of the program has warned.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tracing::subscriber::DefaultGuard;
use tracing::{Event, Level, Metadata};

use crate::listener::Listener;

/// Counts the warnings of one module, where it listens.
#[derive(Clone, Debug)]
pub struct Warnings {
    module: &'static str,
    count: Arc<AtomicUsize>,
}

impl Warnings {
    /// Those of the module with this path.
    pub fn of(module: &'static str) -> Self {
        Self { module, count: Arc::default() }
    }

    /// Listens on this thread, until the guard is dropped.
    pub fn listen(&self) -> DefaultGuard {
        let Self { module, count } = self.clone();
        tracing::subscriber::set_default(Listener {
            wanted: move |metadata: &Metadata<'_>| *metadata.level() == Level::WARN && metadata.target() == module,
            event: move |_: &Event<'_>| {
                count.fetch_add(1, Ordering::SeqCst);
            },
        })
    }

    /// How many there were.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }
}
