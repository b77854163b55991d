//! The whole policy of a request and its response: when a session is loaded, saved and deleted, and which headers
//! tell the browser. Adapters for web frameworks call [`Exchange::open`] and [`Exchange::commit`], and write what
//! they are told.

use std::borrow::Cow;
use std::ops::ControlFlow::{self, Break, Continue};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tracing::{debug, error, warn};

use crate::clock::{Clock, Timestamp};
use crate::engine::Engine;
use crate::error::{ErrorKind, Result};
use crate::key::KeySource;
use crate::persist::{Keeper, Whole};
pub use crate::session::Session;
use crate::settings::OnUnavailable;
pub use crate::slot::SessionSlot;
use crate::state::{Retired, State};
use crate::wire::cookie::{self, CookieWriter};
use crate::wire::expiry::{EXPIRY_KEY, ExpiryRules};

/// What the exchange needs to know of the settings. More may be added: start from [`new`](Self::new).
#[derive(Clone)]
pub struct Policy {
    /// The session cookie.
    pub cookie: CookieWriter,
    /// How long sessions live.
    pub expiry: ExpiryRules,
    /// `SESSION_SAVE_EVERY_REQUEST`: every request with a session renews its expiry and sends the cookie again.
    pub save_every_request: bool,
    /// `SESSION_ON_UNAVAILABLE`: what a visitor gets while the store does not answer.
    pub on_unavailable: OnUnavailable,
}

impl Policy {
    /// Django's policy for such a cookie and such lifetimes.
    pub fn new(cookie: CookieWriter, expiry: ExpiryRules) -> Self {
        Self { cookie, expiry, save_every_request: false, on_unavailable: OnUnavailable::Error }
    }
}

/// One site's sessions: opens a session at the beginning of a request, and commits it at the end. Clones are cheap and
/// share everything.
#[derive(Clone)]
pub struct Exchange(Arc<Keeper>);

/// What a response has to carry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The value of a `Set-Cookie` header to add.
    pub set_cookie: Option<String>,
    /// Whether the response depends on the session cookie: then `Vary` has to name `Cookie`, see [`vary_on_cookie`].
    pub vary: bool,
}

/// What the end of a request still has to do.
enum Work {
    /// Nothing: the answer is this one.
    Done(Answer),
    /// Delete the record of a session that ended, then give this answer.
    Delete(Answer),
    /// Save, then send the cookie.
    Save,
}

impl Exchange {
    /// An exchange on an engine.
    pub fn new(engine: Engine, policy: Policy, clock: Clock, keys: KeySource) -> Self {
        let Policy { cookie, expiry, save_every_request, on_unavailable } = policy;
        Self(Arc::new(Keeper::new(engine, cookie, save_every_request, expiry, clock, keys, on_unavailable)))
    }

    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.0.engine
    }

    /// The clock that sessions go by.
    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// The rules by which sessions expire.
    pub fn expiry_rules(&self) -> &ExpiryRules {
        &self.0.rules
    }

    /// The name of the session cookie.
    pub fn cookie_name(&self) -> &str {
        self.0.cookie.name()
    }

    /// The session of a request that carries these `Cookie` headers. Does no I/O.
    ///
    /// The headers are input of a stranger; any bytes are fine.
    pub fn open<'a>(&self, cookie_headers: impl Iterator<Item = &'a [u8]>) -> SessionSlot {
        let (presented, key) = cookie::find_key(cookie_headers, self.cookie_name());
        // A cookie that presents no key is removed even if nobody touches the session.
        let untouched = !self.0.save_every_request & (presented == key.is_some());
        let slot = SessionSlot::new(Arc::clone(&self.0), key, presented, untouched);
        debug!(presented = slot.cookie_presented(), key = slot.presented_key(), "open: cookie read");
        slot
    }

    /// Whether this exchange, or a clone of it, opened the slot. An adapter that finds such a slot in a request stands
    /// within another one of the same site: it leaves the request and its response alone.
    pub fn owns(&self, slot: &SessionSlot) -> bool {
        std::ptr::eq(Arc::as_ptr(&self.0), slot.keeper())
    }

    /// [`SessionSlot::commit`] of a slot that this exchange opened.
    ///
    /// # Errors
    /// As there.
    pub async fn commit(&self, slot: &SessionSlot, status: u16) -> Result<Answer> {
        slot.commit(status).await
    }

    /// [`SessionSlot::commit_without_io`] of a slot that this exchange opened.
    pub fn commit_without_io(&self, slot: &SessionSlot, status: u16) -> Option<Answer> {
        slot.commit_without_io(status)
    }
}

/// The end of a request. The slot knows the exchange that opened it, so that an adapter keeps nothing else.
impl SessionSlot {
    /// Carries out what was done to the session, now that the response's status is known and before it begins.
    ///
    /// # Errors
    /// The request's changes are then not saved, and the response must be replaced by one with the error's
    /// [`status`](crate::Error::status), without a session cookie. The error is logged here.
    pub fn commit(&self, status: u16) -> Commit {
        Commit { slot: self.clone(), step: Step::Begin { status } }
    }

    /// Whether the response stays as it is since nobody touched the session: by far the most usual end of a request, which
    /// takes next to nothing to find out. `false` says only that [`commit`](Self::commit) has to look.
    #[inline]
    pub fn has_nothing_to_commit(&self, status: u16) -> bool {
        let nothing = self.is_untouched();
        if nothing && self.cookie_presented() {
            debug!(status, "commit: untouched");
        }
        nothing
    }

    /// [`commit`](Self::commit) for the usual case that there is nothing to do but to answer; `None` if the store has
    /// to be asked.
    pub fn commit_without_io(&self, status: u16) -> Option<Answer> {
        match self.decide(status) {
            Work::Done(answer) => Some(answer),
            Work::Delete(_) | Work::Save => None,
        }
    }

    /// Django's decision table.
    #[inline]
    fn decide(&self, status: u16) -> Work {
        let keeper = self.keeper();
        let state = self.state();
        if state.detached || matches!(keeper.engine, Engine::Off) {
            return Work::Done(Answer::default());
        }
        let flushed = state.retired.as_ref().is_some_and(|retired| retired.only.is_none());
        let answer = |answer, why: &str| {
            if flushed {
                return Work::Delete(answer);
            }
            if state.accessed || self.cookie_presented() {
                debug!(status, "commit: {why}");
            }
            Work::Done(answer)
        };
        let as_accessed = Answer { set_cookie: None, vary: state.accessed };
        if state.is_empty() {
            return match self.cookie_presented() {
                true => answer(removal(keeper), "the session is empty, its cookie is removed"),
                false => answer(as_accessed, "the session is empty, there is nothing to save"),
            };
        }
        if !(state.modified || state.moved || keeper.save_every_request) {
            return answer(
                as_accessed,
                if state.accessed { "nothing was changed, nothing is saved" } else { "untouched" },
            );
        }
        if status < 500 {
            return Work::Save;
        }
        if state.moved && !flushed {
            // An early save has given the session another key, and the one that the browser has is worth nothing.
            return Work::Done(cookie(keeper, &state).unwrap_or(as_accessed));
        }
        answer(as_accessed, "a server error, nothing is saved")
    }

    /// After the session was read: the save, or the answer if there is nothing to save.
    fn save_or_answer(&self) -> ControlFlow<Result<Answer>, Step> {
        let keeper = self.keeper();
        let (wanted, modified, accessed) = {
            let state = self.state();
            if (state.is_unreadable() || state.is_unreachable()) && !state.modified {
                // Nothing was changed, and what stands there is not ours to renew.
                return Break(Ok(Answer { set_cookie: None, vary: state.accessed }));
            }
            let wanted = state.unsaved || (keeper.save_every_request && !state.saved);
            if wanted {
                let why = if state.unsaved { "it was changed" } else { "SESSION_SAVE_EVERY_REQUEST" };
                debug!(why, "commit: the session is to be saved");
            }
            (wanted, state.modified, state.accessed)
        };
        match wanted {
            true => Continue(Step::Save { work: self.whole_save(), modified, accessed }),
            false => Break(self.answer_saved()),
        }
    }

    /// The answer after a save.
    fn answer_saved(&self) -> Result<Answer> {
        let (keeper, state) = (self.keeper(), self.state());
        if state.key.is_none() && self.cookie_presented() {
            debug!("commit: the session was ended while it was saved, its cookie is removed");
            return Ok(removal(keeper));
        }
        cookie(keeper, &state)
    }
}

/// The end of a request under way: what [`SessionSlot::commit`] returns. It needs no box to be kept or polled.
#[must_use = "a session is committed only if this is awaited"]
pub struct Commit {
    slot: SessionSlot,
    step: Step,
}

/// How far a commit is.
enum Step {
    Begin {
        status: u16,
    },
    /// `SESSION_SAVE_EVERY_REQUEST` decides by what the session holds, so it has to be read first.
    Read(Pin<Box<dyn Future<Output = Result<()>> + Send>>),
    Save {
        work: Whole,
        modified: bool,
        accessed: bool,
    },
    Delete {
        work: Whole,
        answer: Answer,
    },
}

impl Commit {
    fn poll_steps(&mut self, cx: &mut Context<'_>) -> Poll<Result<Answer>> {
        let slot = &self.slot;
        loop {
            let next = match &mut self.step {
                Step::Begin { status } => match slot.decide(*status) {
                    Work::Done(answer) => Break(Ok(answer)),
                    Work::Delete(answer) => Continue(Step::Delete { work: slot.delete_flushed(), answer }),
                    Work::Save if slot.is_loaded() => slot.save_or_answer(),
                    Work::Save => {
                        let slot = slot.clone();
                        Continue(Step::Read(Box::pin(async move { slot.fill().await })))
                    }
                },
                Step::Read(read) => {
                    ready!(read.as_mut().poll(cx))?;
                    slot.save_or_answer()
                }
                Step::Save { work, modified, accessed } => Break(match ready!(Pin::new(work).poll(cx)) {
                    Ok(()) => slot.answer_saved(),
                    Err(failure) if *modified || !slot.keeper().does_without(&failure) => Err(failure),
                    Err(failure) => {
                        // The request has changed nothing, so nothing of it is lost.
                        error!(error = %failure, "commit: the store is unavailable, the session is not renewed");
                        Ok(Answer { set_cookie: None, vary: *accessed })
                    }
                }),
                Step::Delete { work, answer } => {
                    ready!(Pin::new(work).poll(cx))?;
                    debug!(cookie_removed = answer.set_cookie.is_some(), "commit: the session is over");
                    Break(Ok(std::mem::take(answer)))
                }
            };
            match next {
                Continue(step) => self.step = step,
                Break(outcome) => return Poll::Ready(outcome),
            }
        }
    }
}

impl Future for Commit {
    type Output = Result<Answer>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Answer>> {
        let outcome = ready!(self.poll_steps(cx));
        if let Err(failure) = &outcome {
            match failure.kind() {
                ErrorKind::Interrupted => warn!(error = %failure, "commit: the session was interrupted"),
                kind => error!(error = %failure, ?kind, source = ?std::error::Error::source(failure), "commit: failed"),
            }
        }
        Poll::Ready(outcome)
    }
}

/// The answer that gives the browser the key of the record that stands, if one does.
fn cookie(keeper: &Keeper, state: &State) -> Result<Answer> {
    let key = match state.retired.as_deref() {
        // A rotation that was not carried out.
        Some(Retired { key, only: Some(_) }) => Some(key),
        _ => state.key.as_ref(),
    };
    let Some(key) = key else { return Ok(Answer { set_cookie: None, vary: true }) };
    debug!(key = %key.masked(), "commit: the cookie is set");
    Ok(Answer { set_cookie: Some(keeper.cookie.set_key(key, lifetime(keeper, state)?)), vary: true })
}

/// The answer that makes the browser drop the cookie.
fn removal(keeper: &Keeper) -> Answer {
    Answer { set_cookie: Some(keeper.cookie.removal().to_owned()), vary: true }
}

/// `Max-Age` and `expires` of the cookie; neither for one that ends with the browser.
fn lifetime(keeper: &Keeper, state: &State) -> Result<Option<(i64, Timestamp)>> {
    let Keeper { rules, clock, .. } = keeper;
    let item = state.values.readable_plain(EXPIRY_KEY)?;
    if rules.browser_close(item)? {
        return Ok(None);
    }
    let now = clock.now();
    Ok(Some(rules.age(item, now)?.cookie_lifetime(now)))
}

/// The `Vary` header of a response that depends on the session cookie, given the values it already has.
///
/// An element in any letter case that names `Cookie` already counts; if any is `*`, the header is `*`.
///
/// ```
/// # use cloakroom_core::exchange::vary_on_cookie;
/// assert_eq!(vary_on_cookie([]), "Cookie");
/// assert_eq!(vary_on_cookie(["Accept,User-Agent"]), "Accept, User-Agent, Cookie");
/// assert_eq!(vary_on_cookie(["accept, cookie"]), "accept, cookie");
/// assert_eq!(vary_on_cookie(["Accept, *"]), "*");
/// ```
pub fn vary_on_cookie<'a>(present: impl IntoIterator<Item = &'a str>) -> Cow<'static, str> {
    let mut elements: Vec<&str> =
        present.into_iter().flat_map(|value| value.split(',')).map(str::trim).filter(|e| !e.is_empty()).collect();
    if elements.contains(&"*") {
        return "*".into();
    }
    if elements.is_empty() {
        return "Cookie".into();
    }
    if !elements.iter().any(|element| element.eq_ignore_ascii_case("cookie")) {
        elements.push("Cookie");
    }
    elements.join(", ").into()
}
