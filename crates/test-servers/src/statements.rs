//! The statements that a program runs on SQLite, which has no server that counts them: sqlx reports each one, and so does
//! the store for those that it runs without sqlx.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

static LIST: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// The statements of this program from the first call on, each by its first word, in order. Whoever looks may take them
/// out, but must not keep the guard while statements run. Opening a connection runs some too, each a `PRAGMA`.
///
/// # Panics
/// If the program's trace events go to somebody else.
pub fn statements() -> MutexGuard<'static, Vec<String>> {
    static WATCHED: OnceLock<()> = OnceLock::new();
    WATCHED.get_or_init(|| tracing::subscriber::set_global_default(Watch).expect("nobody else watches this program"));
    LIST.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Watch;

impl Subscriber for Watch {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        ["sqlx::query", "cloakroom_sql::sqlite::glance", "cloakroom_sql::sqlite::writer"].contains(&metadata.target())
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        event.record(&mut Summary);
    }
}

struct Summary;

impl Visit for Summary {
    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "summary" {
            let verb = value.split_whitespace().next().unwrap_or_default().to_owned();
            LIST.lock().unwrap_or_else(PoisonError::into_inner).push(verb);
        }
    }
}
