//! What a site acknowledged, session by session, and what a look at a session afterwards says about it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde_json::{Map, Value};

use crate::count::{Count, Verdict};

/// The key that increments count in.
pub const COUNTER: &str = "counter";

/// The key that only the write of this number sets; its value is the number.
pub fn key_of(write: u64) -> String {
    format!("w{write}")
}

/// How a session ended, as far as its visitor knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum End {
    /// It did not.
    #[default]
    None,
    /// By a sign-out.
    SignedOut,
    /// Perhaps by a sign-out: nobody answered.
    PerhapsSignedOut,
    /// Perhaps it has another key: the rotation failed.
    PerhapsRotated,
}

/// A session, by the key under which the changes were acknowledged.
#[derive(Clone, Debug, Default)]
struct Session {
    /// Numbers of writes, and when each was sent.
    writes: Vec<(u64, Instant)>,
    /// When each increment was sent.
    increments: Vec<Instant>,
    /// Increments of which nobody knows whether they were made.
    unsure: u64,
    end: End,
    /// All was found at the end of its life.
    found: bool,
    /// What is to be said of it, if that is known already.
    verdict: Option<Verdict>,
}

/// A session with all keys that it had.
#[derive(Clone, Debug)]
pub struct Family {
    /// The name under which the ledger has it: its last key.
    pub name: String,
    /// The cookie to look for it with.
    pub cookie: String,
    /// The keys that it had before.
    pub former: Vec<String>,
    session: Session,
}

impl Family {
    /// What a look at this session says: `data` is what can be read with its cookie. `forgets` tells whether a server
    /// may have forgotten what it was sent at a time.
    pub fn judge(&self, data: &Map<String, Value>, forgets: impl Fn(Instant) -> bool) -> Count {
        let session = &self.session;
        let increments = session.increments.len() as u64;
        let mut count = Count { acknowledged: self.acknowledged(), ..Count::default() };
        let gone = data.is_empty();
        match session.end {
            End::SignedOut => {
                count.signed_out = count.acknowledged;
                count.revived = u64::from(!gone);
                return count;
            }
            End::None | End::PerhapsSignedOut | End::PerhapsRotated => {}
        }
        let mut missing = |sent: Instant| match session.end {
            // A server forgets all of a session or nothing.
            _ if gone && forgets(sent) => count.forgotten += 1,
            End::PerhapsSignedOut if gone => count.signed_out += 1,
            End::PerhapsRotated if gone => count.unreachable += 1,
            _ => count.lost += 1,
        };
        for (number, sent) in &session.writes {
            match data.get(&key_of(*number)).and_then(Value::as_u64) == Some(*number) {
                true => count.found += 1,
                false => missing(*sent),
            }
        }
        let counted = data.get(COUNTER).and_then(Value::as_u64).unwrap_or(0);
        let made = counted.min(increments);
        session.increments[made as usize..].iter().for_each(|sent| missing(*sent));
        count.found += made;
        count.twice = counted.saturating_sub(increments + session.unsure);
        if session.found {
            count.forgotten_after_found = count.forgotten;
        }
        count
    }

    /// What is to be said if the site does not answer.
    pub fn unanswered(&self) -> Count {
        Count { acknowledged: self.acknowledged(), unanswered: self.acknowledged(), ..Count::default() }
    }

    fn acknowledged(&self) -> u64 {
        (self.session.writes.len() + self.session.increments.len()) as u64
    }

    /// Each acknowledged change that should be there and is not, in words, with the time since `begin` at which it was
    /// sent: for people who look for the cause.
    pub fn losses(&self, data: &Map<String, Value>, begin: Instant) -> Vec<String> {
        let session = &self.session;
        let end = match session.end {
            End::None => "",
            End::SignedOut => ", signed out",
            End::PerhapsSignedOut => ", perhaps signed out",
            End::PerhapsRotated => ", perhaps rotated",
        };
        let former =
            if self.former.is_empty() { String::new() } else { format!(" (before: {})", self.former.join(", ")) };
        let place = format!("of session {}{former}{end}, which holds {} items", self.name, data.len());
        let at = |sent: &Instant| format!("sent at {:.3} s", sent.duration_since(begin).as_secs_f64());
        let writes = session.writes.iter().filter(|(number, _)| !data.contains_key(&key_of(*number)));
        let mut losses: Vec<String> =
            writes.map(|(number, sent)| format!("{} {place}, {}", key_of(*number), at(sent))).collect();
        let counted = data.get(COUNTER).and_then(Value::as_u64).unwrap_or(0);
        let made = session.increments.len() as u64;
        if counted < made {
            let times: Vec<String> = session.increments.iter().map(at).collect();
            losses.push(format!("{} of {made} increments {place}: {}", made - counted, times.join(", ")));
        }
        losses
    }

    /// What was said of it at the end of its life, if that was not good.
    pub fn verdict(&self) -> Option<&Verdict> {
        self.session.verdict.as_ref()
    }
}

/// The book of what was acknowledged to one visitor.
#[derive(Debug, Default)]
pub struct Ledger(Mutex<Book>);

#[derive(Debug, Default)]
struct Book {
    sessions: HashMap<String, Session>,
    /// From a former key to the next.
    moved: HashMap<String, String>,
    /// The cookies of sessions that are not called by their cookie.
    cookies: HashMap<String, String>,
}

impl Book {
    fn session(&mut self, name: &str) -> &mut Session {
        self.sessions.entry(name.to_owned()).or_default()
    }

    fn last<'a>(&'a self, mut name: &'a str) -> &'a str {
        while let Some(next) = self.moved.get(name) {
            name = next;
        }
        name
    }
}

impl Ledger {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A write was acknowledged, and is in this session.
    pub fn wrote(&self, session: &str, number: u64, sent: Instant) {
        self.book().session(session).writes.push((number, sent));
    }

    /// An increment was acknowledged, and is in this session.
    pub fn counted(&self, session: &str, sent: Instant) {
        self.book().session(session).increments.push(sent);
    }

    /// An increment of this session was not acknowledged, and was perhaps made.
    pub fn perhaps_counted(&self, session: &str) {
        self.book().session(session).unsure += 1;
    }

    /// The session has got another key.
    pub fn rotated(&self, from: &str, to: &str) {
        let mut book = self.book();
        if from != to {
            book.session(to);
            book.moved.insert(from.to_owned(), to.to_owned());
        }
    }

    /// A rotation was asked for, and nobody knows what became of it.
    pub fn perhaps_rotated(&self, session: &str) {
        self.book().session(session).end = End::PerhapsRotated;
    }

    /// The session ended by a sign-out.
    pub fn signed_out(&self, session: &str) {
        self.book().session(session).end = End::SignedOut;
    }

    /// A sign-out was asked for, and nobody knows what became of it.
    pub fn perhaps_signed_out(&self, session: &str) {
        self.book().session(session).end = End::PerhapsSignedOut;
    }

    /// The cookie of a session that is not called by it.
    pub fn has_cookie(&self, session: &str, cookie: &str) {
        if session != cookie {
            self.book().cookies.insert(session.to_owned(), cookie.to_owned());
        }
    }

    /// All of a session was found at the end of its life.
    pub fn found(&self, session: &str) {
        self.book().session(session).found = true;
    }

    /// Something was wrong with a session at the end of its life.
    pub fn accused(&self, session: &str, verdict: Verdict) {
        self.book().session(session).verdict = Some(verdict);
    }

    /// Every session, by its last name.
    pub fn families(&self) -> BTreeMap<String, Family> {
        let book = self.book();
        let mut families = BTreeMap::<String, Family>::new();
        for (name, session) in &book.sessions {
            let last = book.last(name);
            let family = families.entry(last.to_owned()).or_insert_with(|| Family {
                name: last.to_owned(),
                cookie: book.cookies.get(last).map_or(last, String::as_str).to_owned(),
                former: Vec::new(),
                session: Session { end: book.sessions[last].end, ..Session::default() },
            });
            if name != last {
                family.former.push(name.clone());
            }
            let sum = &mut family.session;
            sum.writes.extend(&session.writes);
            sum.increments.extend(&session.increments);
            sum.unsure += session.unsure;
            sum.found |= session.found;
            sum.verdict = sum.verdict.take().or_else(|| session.verdict.clone());
        }
        families
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    fn never(_: Instant) -> bool {
        false
    }

    fn only(ledger: &Ledger) -> Family {
        let families = ledger.families();
        assert_eq!(families.len(), 1, "{families:?}");
        families.into_values().next().expect("there is one")
    }

    fn judge(ledger: &Ledger, data: Value) -> Count {
        only(ledger).judge(data.as_object().expect("an object"), never)
    }

    /// A session "a" with three writes and three increments, of which one was not answered.
    fn ledger() -> Ledger {
        let ledger = Ledger::default();
        for number in 0..3 {
            ledger.wrote("a", number, Instant::now());
        }
        ledger.counted("a", Instant::now());
        ledger.counted("a", Instant::now());
        ledger.perhaps_counted("a");
        ledger
    }

    #[test]
    fn what_is_there_is_found() {
        for counter in [2, 3] {
            let count = judge(&ledger(), json!({"w0": 0, "w1": 1, "w2": 2, "w9": 9, "counter": counter}));
            assert_eq!(count, Count { acknowledged: 5, found: 5, ..Count::default() });
        }
    }

    #[test]
    fn a_lost_write_is_counted() {
        let count = judge(&ledger(), json!({"w0": 0, "w2": 2, "counter": 2}));
        assert_eq!(count, Count { acknowledged: 5, found: 4, lost: 1, ..Count::default() });
        let count = judge(&ledger(), json!({"w0": 0, "w1": 7, "w2": 2, "counter": 2}));
        assert_eq!((count.found, count.lost), (4, 1), "another value");
        let count = judge(&ledger(), json!({}));
        assert_eq!((count.found, count.lost), (0, 5), "the whole session");
    }

    #[test]
    fn lost_and_invented_increments_are_counted() {
        let count = judge(&ledger(), json!({"w0": 0, "w1": 1, "w2": 2, "counter": 1}));
        assert_eq!((count.found, count.lost, count.twice), (4, 1, 0));
        let count = judge(&ledger(), json!({"w0": 0, "w1": 1, "w2": 2, "counter": 5}));
        assert_eq!((count.found, count.lost, count.twice), (5, 0, 2));
    }

    #[test]
    fn a_server_forgets_whole_sessions_and_only_what_it_had_before_its_restart() {
        let ledger = Ledger::default();
        let early = Instant::now();
        let late = early + Duration::from_secs(1);
        ledger.wrote("a", 1, early);
        ledger.wrote("a", 2, late);
        let forgets = |sent| sent < late;
        let count = only(&ledger).judge(&Map::new(), forgets);
        assert_eq!((count.forgotten, count.lost, count.forgotten_after_found), (1, 1, 0));
        let rest = json!({"w2": 2});
        let count = only(&ledger).judge(rest.as_object().expect("an object"), forgets);
        assert_eq!((count.forgotten, count.lost, count.found), (0, 1, 1), "half a session is not forgotten");
        ledger.found("a");
        assert_eq!(only(&ledger).judge(&Map::new(), forgets).forgotten_after_found, 1);
    }

    #[test]
    fn changes_follow_a_rotation() {
        let ledger = ledger();
        ledger.rotated("a", "b");
        ledger.wrote("b", 3, Instant::now());
        // Acknowledged under the former key, after the rotation.
        ledger.wrote("a", 4, Instant::now());
        let family = only(&ledger);
        assert_eq!(
            (family.name.as_str(), family.cookie.as_str(), &family.former[..]),
            ("b", "b", &["a".to_owned()][..])
        );
        let count = judge(&ledger, json!({"w0": 0, "w1": 1, "w2": 2, "w3": 3, "counter": 2}));
        assert_eq!((count.acknowledged, count.found, count.lost), (7, 6, 1));
        let other = Ledger::default();
        other.wrote("a", 1, Instant::now());
        other.wrote("x", 2, Instant::now());
        assert_eq!(other.families().len(), 2, "a session of its own");
    }

    #[test]
    fn a_revived_session_is_counted() {
        let ledger = ledger();
        ledger.signed_out("a");
        let count = judge(&ledger, json!({}));
        assert_eq!(count, Count { acknowledged: 5, signed_out: 5, ..Count::default() });
        assert_eq!(judge(&ledger, json!({"w0": 0})).revived, 1);
    }

    #[test]
    fn after_a_failed_ending_either_is_right_but_nothing_between() {
        let whole = json!({"w0": 0, "w1": 1, "w2": 2, "counter": 2});
        let part = json!({"w0": 0, "counter": 2});
        let ledger = ledger();
        ledger.perhaps_signed_out("a");
        assert_eq!(judge(&ledger, whole.clone()).found, 5);
        assert_eq!(judge(&ledger, part.clone()).lost, 2);
        assert_eq!(judge(&ledger, json!({})).signed_out, 5);
        ledger.perhaps_rotated("a");
        assert_eq!(judge(&ledger, whole).found, 5);
        assert_eq!(judge(&ledger, part).lost, 2);
        assert_eq!(judge(&ledger, json!({})).unreachable, 5);
    }

    #[test]
    fn a_session_in_the_cookie_is_looked_for_with_its_last_cookie() {
        let ledger = Ledger::default();
        ledger.wrote("visitor 1", 1, Instant::now());
        ledger.has_cookie("visitor 1", "first");
        ledger.has_cookie("visitor 1", "second");
        assert_eq!(only(&ledger).cookie, "second");
    }
}
