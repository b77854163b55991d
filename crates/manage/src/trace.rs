//! What happens to sessions, as it happens: the library's trace events, kept for whoever looks on.
//!
//! A page sees what the log would see: there is one mechanism. While nobody looks on, the layer takes no part in it, and
//! an event costs what it costs without it.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tracing::callsite::rebuild_interest_cache;
use tracing::field::{Field, Visit};
use tracing::subscriber::Interest;
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, dynamic_filter_fn};
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

/// One step of what was done to a session: key names, sizes and masked keys, never values.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) level: Level,
    /// What happened: `save: create`.
    pub(crate) message: String,
    /// The particulars, by stable names: `key`, `bytes`, `error`, …
    pub(crate) fields: Vec<(&'static str, String)>,
}

impl Event {
    /// Whether it tells of a failure.
    pub(crate) fn is_failure(&self) -> bool {
        self.level <= Level::WARN
    }
}

/// Who sees the events of one piece of work as they happen. It must not make events itself.
pub(crate) trait Witness: Send + Sync {
    fn see(&self, event: Event);
}

tokio::task_local! {
    static WITNESS: Arc<dyn Witness>;
}

/// How many look on.
static LOOKING: AtomicUsize = AtomicUsize::new(0);

/// Somebody looks on for as long as this lives, however that ends. The first and the last have every place that makes
/// an event ask anew who wants it.
pub(crate) struct Look(());

impl Look {
    pub(crate) fn begin() -> Self {
        if LOOKING.fetch_add(1, Ordering::SeqCst) == 0 {
            rebuild_interest_cache();
        }
        Self(())
    }
}

impl Drop for Look {
    fn drop(&mut self) {
        if LOOKING.fetch_sub(1, Ordering::SeqCst) == 1 {
            rebuild_interest_cache();
        }
    }
}

/// Does a piece of work before a witness, who sees what happens in it while there is a [`Look`].
pub(crate) fn before<T>(witness: Arc<dyn Witness>, work: impl Future<Output = T>) -> impl Future<Output = T> {
    WITNESS.scope(witness, work)
}

/// Does a piece of work, and tells what happened to sessions in it.
pub(crate) async fn record<T>(work: impl Future<Output = T>) -> (T, Vec<Event>) {
    let record = Arc::new(Record::default());
    let _look = Look::begin();
    let done = before(record.clone(), work).await;
    let events = std::mem::take(&mut *record.0.lock().unwrap_or_else(PoisonError::into_inner));
    (done, events)
}

#[derive(Default)]
struct Record(Mutex<Vec<Event>>);

impl Witness for Record {
    fn see(&self, event: Event) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(event);
    }
}

/// The layer of the log through which witnesses see events.
pub(crate) fn layer<S: Subscriber + for<'a> LookupSpan<'a>>() -> impl Layer<S> {
    let of_sessions = |metadata: &Metadata<'_>| metadata.is_event() && metadata.target().starts_with("cloakroom");
    let looked_at =
        move |metadata: &Metadata<'_>, _: &Context<'_, S>| of_sessions(metadata) && WITNESS.try_with(|_| ()).is_ok();
    let filter = dynamic_filter_fn(looked_at).with_max_level_hint(LevelFilter::DEBUG);
    let asked = move |metadata: &'static Metadata<'static>| {
        if LOOKING.load(Ordering::SeqCst) > 0 && of_sessions(metadata) {
            Interest::sometimes()
        } else {
            Interest::never()
        }
    };
    Recorder.with_filter(filter.with_callsite_filter(asked))
}

struct Recorder;

impl<S: Subscriber> Layer<S> for Recorder {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let mut kept = Event { level: *event.metadata().level(), message: String::new(), fields: Vec::new() };
        event.record(&mut kept);
        let _ = WITNESS.try_with(|witness| witness.see(kept));
    }
}

impl Visit for Event {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            name => self.fields.push((name, format!("{value:?}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::tests::start_trace;

    #[tokio::test]
    async fn each_sees_its_own_events_and_only_while_it_looks_on() {
        start_trace();
        let work = async |name: &'static str| {
            tracing::debug!(name, "begins");
            tokio::task::yield_now().await;
            tracing::warn!(bytes = 7, "ends");
            name
        };
        let wanted = async || tracing::event_enabled!(Level::DEBUG);
        assert!(!wanted().await && record(wanted()).await.0 && !wanted().await);
        work("unseen").await;
        let ((one, first), (two, second)) = tokio::join!(record(work("one")), record(work("two")));
        assert_eq!((one, two), ("one", "two"));
        for (name, events) in [("one", first), ("two", second)] {
            let seen: Vec<_> = events.iter().map(|event| (event.message.as_str(), event.is_failure())).collect();
            assert_eq!(seen, [("begins", false), ("ends", true)]);
            assert_eq!(events[0].fields, [("name", name.to_owned())]);
            assert_eq!(events[1].fields, [("bytes", "7".to_owned())]);
        }
        assert_eq!(record(async { tracing::debug!(target: "hyper", "not of a session") }).await.1.len(), 0);
    }
}
