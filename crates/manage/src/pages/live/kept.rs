//! The last requests with their steps, kept while somebody looks on.
//!
//! There is one bounded store of them, and each watcher has a place in it. So a watcher that is slow costs nothing and
//! holds up nobody: what is dropped before it got there is counted for it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::trace::Event;

/// So many requests are kept.
pub(super) const MAX_REQUESTS: usize = 200;
/// So many steps of each; a loop of a thousand changes is no more to look at.
pub(super) const MAX_STEPS: usize = 40;
/// So many streams at a time.
const MAX_WATCHERS: usize = 16;
/// The longest that a text of a step may be, in characters.
const MAX_TEXT: usize = 80;
/// Sessions that one request may be found by. It has one, or two if it changes its key.
const MAX_KEYS: usize = 4;

/// Which requests somebody wants to see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Filter {
    All,
    /// Those of the browser that has this mark.
    Browser(Arc<str>),
    /// Those of the sessions whose keys begin so: all that is shown of a key.
    Key(String),
}

impl Filter {
    fn takes(&self, request: &Request) -> bool {
        match self {
            Self::All => true,
            Self::Browser(mark) => request.browser.as_ref() == Some(mark),
            Self::Key(start) => request.keys.iter().any(|key| key.trim_end_matches('…') == start),
        }
    }
}

/// One request.
#[derive(Clone)]
pub(super) struct Request {
    pub(super) number: u64,
    pub(super) method: String,
    /// Without its query, which may hold values.
    pub(super) path: String,
    pub(super) began: SystemTime,
    pub(super) steps: Vec<Arc<Step>>,
    /// How many steps more there were.
    pub(super) more: u64,
    /// Its status and how long it took, when it is over; no status if it was given up.
    pub(super) end: Option<(Option<u16>, Duration)>,
    browser: Option<Arc<str>>,
    /// The masked keys that its steps name.
    keys: Vec<String>,
    since: Instant,
    /// The number of its last change.
    pub(super) changed: u64,
}

/// One step of a request.
pub(super) struct Step {
    pub(super) event: Event,
    /// How long after the request began.
    pub(super) after: Duration,
    /// The number of this change.
    change: u64,
}

/// A watcher's place.
struct Watcher {
    id: u64,
    filter: Filter,
    /// The last change that it was given.
    seen: u64,
    /// Steps that were dropped before it was given them.
    missed: u64,
}

/// What a watcher is given.
#[derive(Default)]
pub(super) struct News {
    /// Numbers began anew: nothing of what it has is of now.
    pub(super) fresh: bool,
    /// So many steps were dropped since it was given something last.
    pub(super) missed: u64,
    /// The requests that are new or have changed, in the order of their last changes.
    pub(super) requests: Vec<Request>,
}

/// All that is kept.
#[derive(Default)]
pub(super) struct Kept {
    /// By number, without gaps.
    requests: VecDeque<Request>,
    watchers: Vec<Watcher>,
    /// Of the last change, request and watcher. They never begin again, so that an old place is recognised.
    changes: u64,
    numbers: u64,
    ids: u64,
}

impl Kept {
    pub(super) fn begin(&mut self, method: &str, path: &str, browser: Option<Arc<str>>) -> u64 {
        if self.requests.len() == MAX_REQUESTS
            && let Some(dropped) = self.requests.pop_front()
        {
            for watcher in self.watchers.iter_mut().filter(|watcher| watcher.filter.takes(&dropped)) {
                watcher.missed += unseen(&dropped, watcher.seen);
            }
        }
        self.numbers += 1;
        self.changes += 1;
        self.requests.push_back(Request {
            number: self.numbers,
            method: cut(method),
            path: cut(path),
            began: SystemTime::now(),
            steps: Vec::new(),
            more: 0,
            end: None,
            browser,
            keys: Vec::new(),
            since: Instant::now(),
            changed: self.changes,
        });
        self.numbers
    }

    /// Adds a step to a request that is still kept.
    pub(super) fn step(&mut self, number: u64, mut event: Event) {
        let Some(request) = find(&mut self.requests, number) else { return };
        self.changes += 1;
        request.changed = self.changes;
        event.message = cut(&event.message);
        for (name, value) in &mut event.fields {
            *value = cut(value);
            let new = is_key(name) && !value.is_empty() && !request.keys.contains(value);
            if new && request.keys.len() < MAX_KEYS {
                request.keys.push(value.clone());
            }
        }
        if request.steps.len() == MAX_STEPS {
            request.more += 1;
            return;
        }
        request.steps.push(Arc::new(Step { event, after: request.since.elapsed(), change: self.changes }));
    }

    pub(super) fn end(&mut self, number: u64, status: Option<u16>) {
        let Some(request) = find(&mut self.requests, number) else { return };
        self.changes += 1;
        request.changed = self.changes;
        request.end = Some((status, request.since.elapsed()));
    }

    /// The requests that a filter takes, the latest first.
    pub(super) fn latest(&self, filter: &Filter) -> impl Iterator<Item = &Request> {
        self.requests.iter().rev().filter(|request| filter.takes(request))
    }

    /// The number of the last change: who has seen that has seen all.
    pub(super) fn last_change(&self) -> u64 {
        self.changes
    }

    /// A place for a watcher who has seen so much; `None` if there are too many.
    pub(super) fn join(&mut self, filter: Filter, seen: u64) -> Option<u64> {
        if self.watchers.len() == MAX_WATCHERS {
            return None;
        }
        self.ids += 1;
        self.watchers.push(Watcher { id: self.ids, filter, seen, missed: 0 });
        Some(self.ids)
    }

    pub(super) fn leave(&mut self, id: u64) {
        self.watchers.retain(|watcher| watcher.id != id);
    }

    /// What is new for a watcher: at most so many requests at a time.
    pub(super) fn news(&mut self, id: u64, limit: usize) -> News {
        let Some(watcher) = self.watchers.iter_mut().find(|watcher| watcher.id == id) else { return News::default() };
        // A place of another process, whose numbers were higher.
        let fresh = watcher.seen > self.changes;
        if fresh {
            watcher.seen = 0;
        }
        let new = |request: &&Request| request.changed > watcher.seen && watcher.filter.takes(request);
        let mut requests: Vec<&Request> = self.requests.iter().filter(new).collect();
        requests.sort_unstable_by_key(|request| request.changed);
        let all = requests.len() <= limit;
        requests.truncate(limit);
        let requests: Vec<Request> = requests.into_iter().cloned().collect();
        watcher.seen = match requests.last() {
            Some(last) if !all => last.changed,
            _ => self.changes,
        };
        News { fresh, missed: std::mem::take(&mut watcher.missed), requests }
    }

    /// Nobody looks on any more.
    pub(super) fn forget(&mut self) {
        self.requests = VecDeque::new();
    }
}

/// Whether a field holds a masked key.
pub(super) fn is_key(field: &str) -> bool {
    matches!(field, "key" | "new" | "old")
}

fn find(requests: &mut VecDeque<Request>, number: u64) -> Option<&mut Request> {
    let first = requests.front()?.number;
    requests.get_mut(usize::try_from(number.checked_sub(first)?).ok()?)
}

/// How many steps of a request came after a change.
fn unseen(request: &Request, change: u64) -> u64 {
    let kept = request.steps.iter().filter(|step| step.change > change).count() as u64;
    kept + if request.changed > change { request.more } else { 0 }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(MAX_TEXT) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Level;

    fn event(message: &str, fields: &[(&'static str, &str)]) -> Event {
        let fields = fields.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        Event { level: Level::DEBUG, message: message.to_owned(), fields }
    }

    fn numbers(news: &News) -> Vec<u64> {
        news.requests.iter().map(|request| request.number).collect()
    }

    #[test]
    fn a_watcher_is_given_what_changed_and_told_what_it_missed() {
        let mut kept = Kept::default();
        let slow = kept.join(Filter::All, 0).unwrap();
        let quick = kept.join(Filter::All, 0).unwrap();
        let first = kept.begin("GET", "/", None);
        kept.step(first, event("one", &[]));
        assert_eq!((numbers(&kept.news(quick, 9)), numbers(&kept.news(quick, 9))), (vec![1], vec![]));
        kept.step(first, event("two", &[]));
        let news = kept.news(quick, 9);
        assert_eq!((news.requests[0].steps.len(), news.missed), (2, 0), "the whole request, as it stands now");
        for _ in 0..MAX_REQUESTS + 1 {
            let number = kept.begin("GET", "/", None);
            kept.step(number, event("a step", &[]));
        }
        // What is dropped is gone: a late step of it disturbs nothing.
        kept.step(first, event("three", &[]));
        kept.end(first, Some(200));
        let news = kept.news(slow, 5);
        assert_eq!((numbers(&news), news.missed), (vec![3, 4, 5, 6, 7], 3), "two of the first, one of the second");
        let news = kept.news(slow, 1000);
        assert_eq!((news.requests.len(), news.missed), (MAX_REQUESTS - 5, 0), "it is told once");
        let news = kept.news(quick, 1000);
        assert_eq!((news.requests.len(), news.missed), (MAX_REQUESTS, 1), "the first one it had seen");
    }

    #[test]
    fn a_filter_takes_a_request_with_all_its_steps_once_it_is_known_whose_it_is() {
        let mut kept = Kept::default();
        let (mine, other): (Arc<str>, Arc<str>) = ("mine".into(), "other".into());
        let browser = kept.join(Filter::Browser(mine.clone()), 0).unwrap();
        let key = kept.join(Filter::Key("abcd".into()), 0).unwrap();
        let one = kept.begin("GET", "/one", Some(mine));
        let two = kept.begin("GET", "/two", Some(other));
        kept.step(two, event("open: cookie read", &[("key", "")]));
        assert_eq!((numbers(&kept.news(browser, 9)), numbers(&kept.news(key, 9))), (vec![one], vec![]));
        kept.step(two, event("save: create", &[("bytes", "7"), ("key", "abcd…")]));
        let news = kept.news(key, 9);
        assert_eq!((numbers(&news), news.requests[0].steps.len()), (vec![two], 2));
        assert_eq!(kept.latest(&Filter::Key("abcd".into())).count(), 1);
        assert_eq!(kept.latest(&Filter::Key("abc".into())).count(), 0);
        assert_eq!(numbers(&kept.news(browser, 9)), Vec::<u64>::new());
    }

    #[test]
    fn everything_is_bounded() {
        let mut kept = Kept::default();
        let watchers: Vec<_> = std::iter::from_fn(|| kept.join(Filter::All, 0)).take(1_000).collect();
        assert_eq!(watchers.len(), MAX_WATCHERS);
        kept.leave(watchers[0]);
        assert!(kept.join(Filter::All, 0).is_some());
        let number = kept.begin("GET", &"/long".repeat(1_000), None);
        for n in 0..1_000 {
            kept.step(number, event("change: set", &[("item", &"x".repeat(5_000)), ("key", &n.to_string())]));
        }
        let request = kept.latest(&Filter::All).next().unwrap();
        assert_eq!((request.steps.len(), request.more), (MAX_STEPS, 1_000 - MAX_STEPS as u64));
        assert_eq!((request.path.chars().count(), request.keys.len()), (MAX_TEXT + 1, MAX_KEYS));
        assert_eq!(request.steps[0].event.fields[0].1.chars().count(), MAX_TEXT + 1);
        kept.forget();
        assert_eq!(kept.latest(&Filter::All).count(), 0);
    }

    #[test]
    fn a_place_from_before_a_restart_begins_anew() {
        let mut kept = Kept::default();
        let watcher = kept.join(Filter::All, 4_711).unwrap();
        kept.begin("GET", "/", None);
        let news = kept.news(watcher, 9);
        assert!(news.fresh && numbers(&news) == [1]);
        assert!(!kept.news(watcher, 9).fresh);
    }
}
