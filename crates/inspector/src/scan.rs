//! Going through many records in bounded steps.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use cloakroom_core::{Result, SessionKey};
use futures_util::future::join_all;

use crate::{Details, Handle, Inspector, Record};

/// So many keys are asked for at once. Engines without an order look at all of theirs for each page of a list, so a page
/// is large; it takes some 60 bytes a key.
const KEYS: usize = 5_000;
/// So many records are read at the same time, and so many at most are in memory: the site's own requests go on.
const AT_ONCE: usize = 8;

/// How much one step may do at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// So many records are looked at.
    pub records: u64,
    /// No further record is looked at after so long.
    pub time: Duration,
}

impl Step {
    /// What a page does for one request: 20,000 records, two seconds.
    pub const PAGE: Self = Self { records: 20_000, time: Duration::from_secs(2) };
    /// No bound, for a command that can be interrupted.
    pub const ALL: Self = Self { records: u64::MAX, time: Duration::MAX };
}

/// Which sessions are wanted by their state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Show {
    /// Any.
    #[default]
    All,
    /// Those that are found when presented.
    Live,
    /// Those that have ended and wait for a sweep.
    Expired,
    /// Those whose data cannot be read.
    Corrupted,
}

impl Show {
    /// All of them.
    pub const EACH: [Self; 4] = [Self::All, Self::Live, Self::Expired, Self::Corrupted];

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Live => "live",
            Self::Expired => "expired",
            Self::Corrupted => "corrupted",
        }
    }
}

/// Which sessions are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Those of this user alone.
    pub user: Option<String>,
    /// Those in this state.
    pub show: Show,
}

impl Filter {
    /// Whether a session is wanted.
    pub fn fits(&self, record: &Record) -> bool {
        let shown = match self.show {
            Show::All => true,
            Show::Live => !record.expired && record.problem.is_none(),
            Show::Expired => record.expired,
            Show::Corrupted => record.problem.is_some(),
        };
        shown && (self.user.is_none() || self.user == record.user)
    }
}

/// A part of a list.
#[derive(Clone, Debug)]
pub struct Listing {
    /// The sessions that were found, in the order of their keys.
    pub records: Vec<Record>,
    /// How many were looked at.
    pub scanned: u64,
    /// Where to go on; `None` at the end.
    pub next: Option<Handle>,
}

impl Inspector {
    /// Up to `limit` sessions that a filter lets through, those after `after`, as far as one step goes.
    ///
    /// If the session that `after` names is gone, those whose keys begin like its come once more.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](cloakroom_core::ErrorKind::Unsupported) where the engine cannot list; that of the
    /// store, if it fails.
    pub async fn list(&self, filter: &Filter, after: Option<&Handle>, limit: usize, step: Step) -> Result<Listing> {
        // Without a filter each key is a row, and one more shows whether there is another page.
        let keys = if *filter == Filter::default() { limit.saturating_add(1).min(KEYS) } else { KEYS };
        let mut walk = Walk::begin(self, after, keys, step).await?;
        let mut records = Vec::new();
        while records.len() < limit
            && let Some(details) = walk.next().await?
        {
            if filter.fits(&details.record) {
                records.push(details.record);
            }
        }
        let more = walk.has_more().await?;
        let next = walk.last.as_ref().filter(|_| more).map(|key| self.handle(key));
        Ok(Listing { records, scanned: walk.scanned, next })
    }
}

/// Goes through records one by one, as far as a step goes.
pub(crate) struct Walk<'a> {
    inspector: &'a Inspector,
    /// The last key that was listed.
    listed: Option<SessionKey>,
    page: usize,
    keys: VecDeque<SessionKey>,
    /// Nothing comes after these keys.
    complete: bool,
    ready: VecDeque<Details>,
    step: Step,
    begin: Instant,
    pub(crate) scanned: u64,
    /// The key of the record that was handed out last.
    pub(crate) last: Option<SessionKey>,
}

impl<'a> Walk<'a> {
    pub(crate) async fn begin(
        inspector: &'a Inspector,
        after: Option<&Handle>,
        page: usize,
        step: Step,
    ) -> Result<Self> {
        let begin = Instant::now();
        let listed = match after {
            None => None,
            Some(handle) => inspector.resolve(handle).await?.or_else(|| handle.before()),
        };
        let (keys, ready) = (VecDeque::new(), VecDeque::new());
        Ok(Self { inspector, listed, page, keys, complete: false, ready, step, begin, scanned: 0, last: None })
    }

    /// A walk for work that looks at everything.
    pub(crate) async fn through(inspector: &'a Inspector, after: Option<&Handle>, step: Step) -> Result<Self> {
        Self::begin(inspector, after, KEYS, step).await
    }

    /// The next record; `None` at the end, or at the end of the step.
    pub(crate) async fn next(&mut self) -> Result<Option<Details>> {
        // A step gets on by one record at least, however slow the store is.
        while self.scanned == 0 || (self.scanned < self.step.records && self.begin.elapsed() < self.step.time) {
            if let Some(details) = self.ready.pop_front() {
                self.scanned += 1;
                self.last = Some(details.record.key.clone());
                return Ok(Some(details));
            }
            if !self.list().await? {
                return Ok(None);
            }
            let left = usize::try_from(self.step.records - self.scanned).unwrap_or(usize::MAX).max(1);
            let keys: Vec<SessionKey> = self.keys.drain(..AT_ONCE.min(left).min(self.keys.len())).collect();
            for found in join_all(keys.iter().map(|key| self.inspector.look(key, true))).await {
                self.ready.extend(found?);
            }
        }
        Ok(None)
    }

    /// Whether there is a record after the last one that was handed out.
    pub(crate) async fn has_more(&mut self) -> Result<bool> {
        Ok(!self.ready.is_empty() || self.list().await?)
    }

    /// Sees to it that there are keys; `false` if there are no more.
    async fn list(&mut self) -> Result<bool> {
        while self.keys.is_empty() && !self.complete {
            let keys = self.inspector.store()?.list(self.listed.as_ref(), self.page).await?;
            self.complete = keys.len() < self.page;
            if let Some(last) = keys.last() {
                self.listed = Some(last.clone());
            }
            // What no cookie can name belongs to nobody.
            self.keys.extend(keys.into_iter().filter(SessionKey::is_storable));
        }
        Ok(!self.keys.is_empty())
    }
}
