//! How often a part of the program has warned.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Counts the warnings of one module, where it is the subscriber.
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

    /// How many there were.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }
}

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::WARN && metadata.target() == self.module
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
    fn event(&self, _: &Event<'_>) {
        self.count.fetch_add(1, Ordering::SeqCst);
    }
}
