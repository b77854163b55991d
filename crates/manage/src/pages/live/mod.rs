//! The live trace: the steps of each request, as they happen.
//!
//! While nobody looks on, a request costs one look at a flag more. Somebody looks on who has the page's stream open, or
//! has asked for the page a moment ago: that is for browsers without a script, which show what there is and reload.

mod kept;
mod page;
mod stream;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::get;
use cloakroom::core::wire::cookie;
use cloakroom::inspector::Access;
use maud::html;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{layout, local};
use crate::trace::{self, Event, Look, Witness};
use kept::{Filter, Kept};

/// So long after the page was asked for, steps are kept for the next time.
const MOMENT: Duration = Duration::from_secs(5 * 60);
const PATH: &str = "/trace";
/// The cookie by which the requests of a watcher's own browser are known, whatever becomes of its session.
const MARK: &str = "cloakroom_trace";

/// What is kept for those who look on, and who they are. Clones share it.
#[derive(Clone)]
pub(crate) struct Live(Arc<Inner>);

struct Inner {
    kept: Mutex<Kept>,
    /// How many look on.
    looking: AtomicUsize,
    /// Until when steps are kept for a page that was asked for.
    until: Mutex<Option<Instant>>,
    moment: Duration,
    /// Wakes the streams; `true` ends them.
    news: watch::Sender<bool>,
}

/// Somebody looks on at this site for as long as this lives.
struct Onlooker {
    live: Live,
    _look: Look,
}

impl Live {
    pub(crate) fn new() -> Self {
        Self::lasting(MOMENT)
    }

    /// For tests, with a moment of another length.
    fn lasting(moment: Duration) -> Self {
        Self(Arc::new(Inner {
            kept: Mutex::default(),
            looking: AtomicUsize::new(0),
            until: Mutex::new(None),
            moment,
            news: watch::Sender::new(false),
        }))
    }

    /// Ends all streams: a site that is to stop waits for the requests under way, and a stream would never end.
    pub(crate) fn end(&self) {
        self.0.news.send_replace(true);
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        lock(&self.0.kept)
    }

    fn is_looked_at(&self) -> bool {
        self.0.looking.load(Ordering::SeqCst) > 0
    }

    fn look(&self) -> Onlooker {
        self.0.looking.fetch_add(1, Ordering::SeqCst);
        Onlooker { live: self.clone(), _look: Look::begin() }
    }

    /// Somebody has asked for the page, and may do so again in a moment.
    fn look_for_a_moment(&self) {
        let end = Instant::now() + self.0.moment;
        if lock(&self.0.until).replace(end).is_some() {
            // A task waits already, and will find that it has to wait longer.
            return;
        }
        let onlooker = self.look();
        tokio::spawn(async move {
            let until = &onlooker.live.0.until;
            let mut end = end;
            loop {
                tokio::time::sleep_until(end).await;
                let mut until = lock(until);
                match *until {
                    Some(later) if later > end => end = later,
                    _ => return *until = None,
                }
            }
        });
    }
}

impl Drop for Onlooker {
    fn drop(&mut self) {
        let mut kept = self.live.kept();
        if self.live.0.looking.fetch_sub(1, Ordering::SeqCst) == 1 {
            kept.forget();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One request whose steps are kept.
struct Watched {
    live: Live,
    number: u64,
}

impl Watched {
    fn change(&self, change: impl FnOnce(&mut Kept, u64)) {
        change(&mut self.live.kept(), self.number);
        self.live.0.news.send_modify(|_| {});
    }
}

impl Witness for Watched {
    fn see(&self, event: Event) {
        self.change(|kept, number| kept.step(number, event));
    }
}

/// The end of a request, told even if it is given up.
struct End(Arc<Watched>, Option<u16>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.change(|kept, number| kept.end(number, self.1));
    }
}

/// Adds the page to a site whose requests it shows, for those whom `access` lets in; without `live` a page that says how
/// to get it.
pub(crate) fn around(site: Router, live: Option<Live>, access: Access) -> Router {
    let Some(live) = live else {
        return site.route(PATH, get(page::off));
    };
    let trace = Router::new()
        .route(PATH, get(page::page))
        .route("/trace/events", get(stream::events))
        .route_layer(middleware::from_fn_with_state(access, local::guard))
        .route(page::SCRIPT_PATH, get(page::script))
        .with_state(live.clone())
        .layer(middleware::from_fn(super::guard));
    // The page's own requests have no session, and are no part of what it shows.
    site.layer(middleware::from_fn_with_state(live, watch_request)).merge(trace)
}

async fn watch_request(State(live): State<Live>, request: Request, next: Next) -> Response {
    if !live.is_looked_at() || request.uri().path() == layout::STYLE_PATH {
        return next.run(request).await;
    }
    let browser = mark(request.headers());
    let number = live.kept().begin(request.method().as_str(), request.uri().path(), browser);
    let watched = Arc::new(Watched { live, number });
    let mut end = End(watched.clone(), None);
    let response = trace::before(watched, next.run(request)).await;
    end.1 = Some(response.status().as_u16());
    response
}

/// The mark of the browser that sends these headers.
fn mark(headers: &HeaderMap) -> Option<Arc<str>> {
    let mark = cookie::find(headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes), MARK)?;
    (!mark.is_empty() && mark.len() <= 64).then(|| mark.into())
}

/// What somebody wants to see, as the address says it.
#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Wanted {
    /// `browser` for the requests of the asker's own.
    of: String,
    /// The key of a session, or how it begins.
    session: String,
    /// The last change that was seen.
    after: u64,
}

impl Wanted {
    fn filter(&self, mark: Option<Arc<str>>) -> Filter {
        match (self.of.as_str(), self.key()) {
            // A browser without a mark has made no request that is known.
            ("browser", _) => Filter::Browser(mark.unwrap_or_default()),
            (_, Some(key)) => Filter::Key(key),
            _ => Filter::All,
        }
    }

    /// The start of a key, as masked keys show it: who gives the whole key does not see it again.
    fn key(&self) -> Option<String> {
        let start: String = self.session.trim().trim_end_matches('…').chars().take(4).collect();
        (!start.is_empty()).then_some(start)
    }
}

fn too_many() -> Response {
    let message = "Too many look on already. Close another window with this page, and reload.";
    layout::failure(StatusCode::SERVICE_UNAVAILABLE, html! { p { (message) } })
}
