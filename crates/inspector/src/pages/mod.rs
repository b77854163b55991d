//! The pages: rendered here, without a script, for whoever may see them.

mod access;
mod forms;
mod frame;
mod list;
mod picture;
mod revoke;
mod session;
mod stats;

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRequestParts, OriginalUri};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use cloakroom_core::{Error, ErrorKind, Timestamp};
use maud::{Markup, html};

use crate::{Inspector, Step};
pub use access::{Access, Refusal, is_own_request};
use forms::Forms;
use frame::Frame;
pub use frame::Page;

/// The inspector as pages: a router to be mounted where its operators look for it.
///
/// ```
/// # use cloakroom_inspector::{Access, Inspector, Pages};
/// # fn mount(inspector: Inspector) -> axum::Router {
/// let pages = Pages::new(inspector, Access::loopback());
/// axum::Router::new().nest("/inspector", pages.into_router())
/// # }
/// ```
///
/// Mount it outside of the session layer: it neither needs the visitor's session nor touches it.
pub struct Pages {
    inspector: Inspector,
    access: Access,
    frame: Option<Frame>,
    step: Step,
}

/// What all requests share.
struct Site {
    inspector: Inspector,
    access: Access,
    forms: Forms,
    frame: Option<Frame>,
    step: Step,
}

impl Pages {
    /// Pages for those whom `access` lets in.
    pub fn new(inspector: Inspector, access: Access) -> Self {
        Self { inspector, access, frame: None, step: Step::PAGE }
    }

    /// The same within the frame of a site: `frame` makes a whole document of each page, in HTML.
    #[must_use]
    pub fn in_frame(mut self, frame: impl Fn(&Page) -> String + Send + Sync + 'static) -> Self {
        self.frame = Some(Arc::new(frame));
        self
    }

    /// The same, where one request looks at no more than this: [`Step::PAGE`] otherwise.
    #[must_use]
    pub fn with_step(mut self, step: Step) -> Self {
        self.step = step;
        self
    }

    /// The router, to be nested anywhere. With [`Access::loopback`] the server has to say who connects:
    /// `into_make_service_with_connect_info::<SocketAddr>()`.
    pub fn into_router<S: Clone + Send + Sync + 'static>(self) -> Router<S> {
        let Self { inspector, access, frame, step } = self;
        let forms = Forms::new(inspector.settings());
        let site = Arc::new(Site { inspector, access, forms, frame, step });
        Router::new()
            .route("/", get(list::page))
            .route("/find", post(session::find))
            .route("/find/revoke", post(revoke::by_key))
            .route("/session/{handle}", get(session::page))
            .route("/session/{handle}/revoke", get(revoke::ask).post(revoke::one))
            .route("/user/revoke", get(revoke::ask_user).post(revoke::user))
            .route("/stats", get(stats::page))
            .fallback(nowhere)
            .layer(axum::middleware::from_fn_with_state(site.clone(), access::guard))
            .route(frame::STYLE_PATH, get(frame::style))
            .with_state(site)
    }
}

/// Where a request came in, and the cookie that marks its visitor.
struct Here {
    /// The path under which the router is mounted, without a slash at its end.
    base: String,
    visitor: Option<String>,
}

impl Here {
    /// The address of the first page, which has no slash at its end where the router is nested.
    fn root(&self) -> &str {
        if self.base.is_empty() { "/" } else { &self.base }
    }
}

impl<S: Sync> FromRequestParts<S> for Here {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let inner = parts.uri.path();
        let outer = parts.extensions.get::<OriginalUri>().map_or(inner, |uri| uri.path());
        let base = outer.strip_suffix(inner).unwrap_or(outer).trim_end_matches('/').to_owned();
        let cookies = parts.headers.get_all(header::COOKIE).iter().map(|value| value.as_bytes());
        Ok(Self { base, visitor: forms::visitor(cookies) })
    }
}

impl Site {
    fn page(&self, here: &Here, title: &str, content: Markup) -> Response {
        Html(frame::document(self.frame.as_ref(), &here.base, title, content)).into_response()
    }

    /// A page that says why there is no other.
    fn failure(&self, here: &Here, status: StatusCode, message: Markup) -> Response {
        let title = status.canonical_reason().unwrap_or("Failure");
        let content = html! { h1 { (title) } div.notice.bad role="alert" { (message) } };
        (status, self.page(here, title, content)).into_response()
    }

    /// The page for what the store, or the engine, could not do.
    fn trouble(&self, here: &Here, error: &Error) -> Response {
        let status = match error.kind() {
            // Nothing is wrong: this engine is like that.
            ErrorKind::Unsupported | ErrorKind::NotInstalled => StatusCode::OK,
            _ => {
                tracing::error!(%error, source = ?std::error::Error::source(error), "inspector");
                StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
            }
        };
        let content = html! {
            h1 { "Sessions" }
            (tabs(here, ""))
            div.notice.bad[status != StatusCode::OK] role="alert" { p { (error.to_string()) } }
            @if error.kind() == ErrorKind::Unsupported { (session::finder(self, here)) }
        };
        self.forms.remember(here, (status, self.page(here, "Sessions", content)).into_response())
    }

    fn no_session(&self, here: &Here) -> Response {
        let message = html! { p { "There is no such session: it was revoked, it was removed after it had expired, or it got \
        another key." } p { a href=(here.root()) { "All sessions" } } };
        self.failure(here, StatusCode::NOT_FOUND, message)
    }
}

async fn nowhere(axum::extract::State(site): axum::extract::State<Arc<Site>>, here: Here) -> Response {
    site.failure(&here, StatusCode::NOT_FOUND, html! { p { "There is no such page here." } })
}

/// The pages of the inspector.
fn tabs(here: &Here, present: &str) -> Markup {
    html! {
        ul.tabs {
            @for (address, name) in [(here.root().to_owned(), "Sessions"), (format!("{}/stats", here.base), "Statistics")] {
                li { a href=(address) aria-current=[(name == present).then_some("page")] { (name) } }
            }
        }
    }
}

/// A moment, and how far away it is.
fn moment(time: Timestamp, now: Timestamp) -> Markup {
    let date = cloakroom_core::wire::expiry::DateTime::from(Timestamp::from_secs(time.as_secs()));
    html! { time datetime=(date) { (date.civil_text(' ')) " UTC" } " " small { (distance(time.micros_since(now))) } }
}

/// A distance in time, in one unit.
fn distance(micros: i64) -> String {
    let seconds = (micros / 1_000_000).unsigned_abs();
    let (number, unit) = match seconds {
        0..60 => (seconds, "second"),
        60..3_600 => (seconds / 60, "minute"),
        3_600..86_400 => (seconds / 3_600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    let plural = if number == 1 { "" } else { "s" };
    if micros < 0 { format!("{number} {unit}{plural} ago") } else { format!("in {number} {unit}{plural}") }
}

/// A number of bytes.
fn bytes(count: u64) -> String {
    match count {
        0..1_024 => format!("{count} B"),
        1_024..1_048_576 => format!("{:.1} KiB", count as f64 / 1_024.0),
        _ => format!("{:.1} MiB", count as f64 / 1_048_576.0),
    }
}

/// A count with its thousands apart.
fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A text, cut where it becomes too long for a page.
fn short(text: &str, length: usize) -> Markup {
    match text.char_indices().nth(length) {
        None => html! { (text) },
        Some((end, _)) => html! { (text[..end]) "…" span.cut { " (" (text.chars().count()) " characters)" } },
    }
}
