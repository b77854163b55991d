//! A visitor: several requests at a time with one cookie jar, and a ledger of what was acknowledged to them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::client::{Client, Exchange, Outcome, Response};
use crate::course::Course;
use crate::jar::{CookieKind, Jar};
use crate::ledger::{COUNTER, Ledger, key_of};
use crate::tally::Tally;

/// Where changes are that were acknowledged without a cookie to come back with.
const NOWHERE: &str = "nowhere";

/// A visitor. Everything in it is shared by all requests.
#[derive(Debug)]
pub struct Visitor {
    /// The cookie jar.
    pub jar: Jar,
    /// What was acknowledged.
    pub ledger: Ledger,
    kind: CookieKind,
    /// A request is under way that may end the session, or give it another key; or one has failed.
    is_ending: AtomicBool,
}

/// A write that was acknowledged.
#[derive(Clone, Debug)]
pub struct Written {
    /// Its number.
    pub number: u64,
    /// The session that it is in.
    pub session: String,
    /// When it was sent.
    pub sent: Instant,
}

impl Visitor {
    /// Somebody new.
    pub fn new(course: &Course) -> Self {
        let jar = Jar::new(course.cookie, format!("visitor {}", course.number()));
        Self { jar, ledger: Ledger::default(), kind: course.cookie, is_ending: AtomicBool::new(false) }
    }

    /// Sends a request with the cookie of the jar and takes what comes back. With the name of the session that it was
    /// sent for, and of the one that its changes are in if it was answered with 200.
    async fn send(&self, client: &mut Client, tally: &Tally, path: &str) -> (Exchange, Option<String>, Option<String>) {
        let cookie = self.jar.cookie();
        let exchange = client.get(path, cookie.as_deref()).await;
        tally.note(&exchange);
        let before = self.jar.session(cookie.as_deref());
        let after = exchange.ok().and_then(|response| self.jar.take(cookie.as_deref(), response));
        if self.kind == CookieKind::Session
            && let (Some(session), Some(cookie)) = (&after, self.jar.cookie())
        {
            self.ledger.has_cookie(session, &cookie);
        }
        (exchange, before, after)
    }

    /// Sets a key that no other request sets; the handler works for the time `hold` between loading and its end.
    pub async fn set(&self, course: &Course, client: &mut Client, tally: &Tally, hold: Duration) -> Option<Written> {
        let number = course.number();
        let path = format!("/set?k={}&v={number}&sleep={}", key_of(number), hold.as_secs_f64());
        let (exchange, _, after) = self.send(client, tally, &path).await;
        exchange.ok()?;
        let session = after.unwrap_or_else(|| NOWHERE.to_owned());
        self.ledger.wrote(&session, number, exchange.sent);
        Some(Written { number, session, sent: exchange.sent })
    }

    /// Adds one to the counter. Whether that was acknowledged.
    pub async fn count(&self, client: &mut Client, tally: &Tally, hold: Duration) -> bool {
        let path = format!("/incr?k={COUNTER}&sleep={}", hold.as_secs_f64());
        let (exchange, before, after) = self.send(client, tally, &path).await;
        match &exchange.outcome {
            Outcome::Answered(response) if response.status == 200 => {
                self.ledger.counted(after.as_deref().unwrap_or(NOWHERE), exchange.sent);
                return true;
            }
            Outcome::Answered(response) if response.status < 500 => {}
            Outcome::Unsent => {}
            Outcome::Answered(_) | Outcome::Unknown => {
                if let Some(session) = before {
                    self.ledger.perhaps_counted(&session);
                }
            }
        }
        false
    }

    /// Reads what was written. `Some(false)` if it should be there and is not, `None` if that cannot be said.
    pub async fn read(
        &self,
        course: &Course,
        client: &mut Client,
        tally: &Tally,
        written: &Written,
        hold: Duration,
    ) -> Option<bool> {
        let cookie = self.jar.cookie();
        let steady = || {
            let same = self.kind == CookieKind::Session || self.jar.cookie() == cookie;
            same && self.jar.session(cookie.as_deref()).as_ref() == Some(&written.session)
                && !self.is_ending.load(Ordering::SeqCst)
        };
        let before = steady();
        let path = format!("/get?k={}&sleep={}", key_of(written.number), hold.as_secs_f64());
        let exchange = client.get(&path, cookie.as_deref()).await;
        tally.note(&exchange);
        let answer: Value = serde_json::from_slice(&exchange.ok()?.body).ok()?;
        let right = answer["value"].as_u64() == Some(written.number);
        (before && steady() && !course.forgets(written.sent)).then_some(right)
    }

    /// Gives the session a new key. Whether that was acknowledged.
    pub async fn rotate(&self, client: &mut Client, tally: &Tally) -> bool {
        self.is_ending.store(true, Ordering::SeqCst);
        let (exchange, before, after) = self.send(client, tally, "/cycle").await;
        let Some(before) = before else { return false };
        match (exchange.ok(), after) {
            // A session that the site did not find was not rotated: whatever has become of it, it is not in the new one.
            (Some(response), Some(after)) if has_rotated(response) => self.ledger.rotated(&before, &after),
            (Some(_), _) => {}
            (None, _) if is_doubtful(&exchange) => {
                self.ledger.perhaps_rotated(&before);
                return false;
            }
            (None, _) => {}
        }
        self.is_ending.store(false, Ordering::SeqCst);
        exchange.ok().is_some()
    }

    /// Signs out. Whether that was acknowledged, and with which cookie it was asked for.
    pub async fn sign_out(&self, client: &mut Client, tally: &Tally) -> Option<String> {
        self.is_ending.store(true, Ordering::SeqCst);
        let cookie = self.jar.cookie();
        let (exchange, before, _) = self.send(client, tally, "/logout").await;
        let before = before?;
        if exchange.ok().is_some() {
            self.ledger.signed_out(&before);
            // What the session was to the browser until now is what must not be a session any more.
            self.ledger.has_cookie(&before, cookie.as_deref()?);
        } else if is_doubtful(&exchange) {
            self.ledger.perhaps_signed_out(&before);
            return None;
        }
        self.is_ending.store(false, Ordering::SeqCst);
        exchange.ok().and(cookie)
    }
}

/// Whether the session had a key before the rotation, which is what `/cycle` tells.
fn has_rotated(response: &Response) -> bool {
    serde_json::from_slice(&response.body).is_ok_and(|body: Value| body["before"].is_string())
}

/// Whether nobody knows if a request that failed was carried out.
fn is_doubtful(exchange: &Exchange) -> bool {
    match &exchange.outcome {
        Outcome::Answered(response) => response.status >= 500,
        Outcome::Unsent => false,
        Outcome::Unknown => true,
    }
}
