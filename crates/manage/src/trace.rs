//! What happens to sessions, as it happens: the library's trace events, kept for whoever looks on.
//!
//! A page sees what the log would see: there is one mechanism. While nobody looks on, an event costs a look at one
//! counter.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tracing::field::{Field, Visit};
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

/// The events of one piece of work.
type Record = Arc<Mutex<Vec<Event>>>;

tokio::task_local! {
    static RECORD: Record;
}

/// How many pieces of work are being recorded.
static RECORDING: AtomicUsize = AtomicUsize::new(0);

/// Counts one recording for as long as it lives, however the work ends.
struct Recording;

impl Recording {
    fn begin() -> Self {
        RECORDING.fetch_add(1, Ordering::Relaxed);
        Self
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        RECORDING.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Does a piece of work, and tells what happened to sessions in it.
pub(crate) async fn record<T>(work: impl Future<Output = T>) -> (T, Vec<Event>) {
    let record = Record::default();
    let _recording = Recording::begin();
    let done = RECORD.scope(record.clone(), work).await;
    let events = std::mem::take(&mut *record.lock().unwrap_or_else(PoisonError::into_inner));
    (done, events)
}

/// The layer of the log through which [`record`] sees events.
pub(crate) fn layer<S: Subscriber + for<'a> LookupSpan<'a>>() -> impl Layer<S> {
    let of_sessions = |metadata: &Metadata<'_>| metadata.is_event() && metadata.target().starts_with("cloakroom");
    let looked_at = move |metadata: &Metadata<'_>, _: &Context<'_, S>| {
        RECORDING.load(Ordering::Relaxed) > 0 && of_sessions(metadata) && RECORD.try_with(|_| ()).is_ok()
    };
    let filter = dynamic_filter_fn(looked_at).with_max_level_hint(LevelFilter::DEBUG);
    let never_elsewhere = move |metadata: &'static Metadata<'static>| match of_sessions(metadata) {
        true => tracing::subscriber::Interest::sometimes(),
        false => tracing::subscriber::Interest::never(),
    };
    Recorder.with_filter(filter.with_callsite_filter(never_elsewhere))
}

struct Recorder;

impl<S: Subscriber> Layer<S> for Recorder {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let mut kept = Event { level: *event.metadata().level(), message: String::new(), fields: Vec::new() };
        event.record(&mut kept);
        let _ = RECORD.try_with(|record| record.lock().unwrap_or_else(PoisonError::into_inner).push(kept));
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
