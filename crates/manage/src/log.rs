//! What the command writes to standard error while it works.

use std::fmt;
use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::response::Response;
use tracing::{Event, Instrument, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::trace;

/// Starts the log. It goes to standard error, so that what a script reads stays clean. `RUST_LOG=cloakroom=debug` shows
/// each step of each request.
pub(crate) fn start() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn,cloakroom=info"));
    let colours = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(colours).event_format(Lines);
    tracing_subscriber::registry().with(lines.with_filter(filter)).with(trace::layer()).init();
}

/// Lets the log say of each step to which request it belongs. Costs nothing where no steps are logged.
pub(crate) fn around(site: Router) -> Router {
    match tracing::enabled!(Level::DEBUG) {
        true => site.layer(middleware::from_fn(in_span)),
        false => site,
    }
}

async fn in_span(request: Request, next: Next) -> Response {
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    // Not the query, which may hold values.
    let (method, path) = (request.method(), request.uri().path());
    let span = tracing::debug_span!("request", message = format_args!("#{number} {method} {path}"));
    next.run(request).instrument(span).await
}

/// A line for each event: when, how grave, in which request, what. Our own messages say where they come from.
struct Lines;

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut line: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        SystemTime.format_time(&mut line)?;
        let metadata = event.metadata();
        let (colour, plain) = match (line.has_ansi_escapes(), *metadata.level()) {
            (false, _) => ("", ""),
            (true, Level::ERROR) => ("\x1b[31m", "\x1b[0m"),
            (true, Level::WARN) => ("\x1b[33m", "\x1b[0m"),
            (true, Level::INFO) => ("\x1b[32m", "\x1b[0m"),
            (true, _) => ("\x1b[34m", "\x1b[0m"),
        };
        write!(line, " {colour}{:>5}{plain} ", metadata.level())?;
        for span in context.event_scope().into_iter().flatten() {
            if let Some(fields) = span.extensions().get::<FormattedFields<N>>()
                && !fields.is_empty()
            {
                write!(line, "{fields}: ")?;
            }
        }
        if !metadata.target().starts_with("cloakroom") {
            write!(line, "{}: ", metadata.target())?;
        }
        context.format_fields(line.by_ref(), event)?;
        writeln!(line)
    }
}
