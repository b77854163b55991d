//! The stream of what happens: server-sent events, each a request as it stands now.

use std::collections::VecDeque;
use std::convert::Infallible;

use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use tokio::sync::watch;

use super::{Live, Onlooker, Wanted, mark, page, too_many};

/// So many requests are made ready to be sent at a time.
const AT_ONCE: usize = 16;

pub(super) async fn events(State(live): State<Live>, Query(wanted): Query<Wanted>, headers: HeaderMap) -> Response {
    // A browser that lost the connection says what it had seen by then.
    let seen = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok()).unwrap_or(wanted.after);
    let filter = wanted.filter(mark(&headers));
    let Some(watcher) = Watcher::join(live, filter, seen) else { return too_many() };
    let events = stream::unfold(watcher, |mut watcher| async move {
        let event = watcher.next().await?;
        Some((Ok::<_, Infallible>(event), watcher))
    });
    Sse::new(events).keep_alive(KeepAlive::default()).into_response()
}

/// Somebody who reads the stream, at their own pace: what they are to be sent is made when they take it.
struct Watcher {
    live: Live,
    id: u64,
    news: watch::Receiver<bool>,
    ready: VecDeque<sse::Event>,
    _onlooker: Onlooker,
}

impl Watcher {
    fn join(live: Live, filter: super::Filter, seen: u64) -> Option<Self> {
        let mut news = live.0.news.subscribe();
        news.mark_changed();
        let id = live.kept().join(filter, seen)?;
        let onlooker = live.look();
        Some(Self { live, id, news, ready: VecDeque::new(), _onlooker: onlooker })
    }

    /// The next event; `None` when the site stops.
    async fn next(&mut self) -> Option<sse::Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if *self.news.borrow_and_update() {
                return None;
            }
            let news = self.live.kept().news(self.id, AT_ONCE);
            if news.fresh {
                self.ready.push_back(sse::Event::default().event("fresh").data("now"));
            }
            if news.missed > 0 {
                self.ready.push_back(sse::Event::default().event("missed").data(news.missed.to_string()));
            }
            for request in &news.requests {
                let event = sse::Event::default().event("request").id(request.changed.to_string());
                self.ready.push_back(event.data(page::block(request).into_string()));
            }
            if self.ready.is_empty() {
                self.news.changed().await.ok()?;
            }
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.live.kept().leave(self.id);
    }
}
