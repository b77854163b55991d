//! Trace events as they come, without the spans around them.

use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// A subscriber that hands the events which are wanted to a function.
pub(crate) struct Listener<W, E> {
    pub(crate) wanted: W,
    pub(crate) event: E,
}

impl<W, E> Subscriber for Listener<W, E>
where
    W: Fn(&Metadata<'_>) -> bool + 'static,
    E: Fn(&Event<'_>) + 'static,
{
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        (self.wanted)(metadata)
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        (self.event)(event);
    }
}
