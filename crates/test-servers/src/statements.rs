//! The statements that a program runs on SQLite, which has no server that counts them: sqlx reports each one, and so does
//! the store for those that it runs without sqlx.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use tracing::field::{Field, Visit};
use tracing::{Event, Metadata};

use crate::listener::Listener;

const TARGETS: [&str; 3] = ["sqlx::query", "cloakroom_sql::sqlite::glance", "cloakroom_sql::sqlite::writer"];

static LIST: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// The statements of this program from the first call on, each by its first word, in order. Whoever looks may take them
/// out, but must not keep the guard while statements run. Opening a connection runs some too, each a `PRAGMA`.
///
/// # Panics
/// If the program's trace events go to somebody else.
pub fn statements() -> MutexGuard<'static, Vec<String>> {
    static WATCHED: OnceLock<()> = OnceLock::new();
    WATCHED.get_or_init(|| {
        let listener = Listener {
            wanted: |metadata: &Metadata<'_>| TARGETS.contains(&metadata.target()),
            event: |event: &Event<'_>| event.record(&mut Summary),
        };
        tracing::subscriber::set_global_default(listener).expect("nobody else watches this program");
    });
    LIST.lock().unwrap_or_else(PoisonError::into_inner)
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
