//! The cookie jar that all requests of one visitor share.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::client::{Response, SetCookie};

/// What a site's session cookie is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CookieKind {
    /// The key of a record that the site keeps.
    Key,
    /// The session itself.
    Session,
}

/// A visitor's session cookie.
#[derive(Debug)]
pub struct Jar {
    kind: CookieKind,
    /// What the session is called as long as its cookie is the session itself, and changes with every answer.
    name: String,
    cookie: Mutex<Option<String>>,
}

impl Jar {
    /// An empty jar; its name is no other's.
    pub fn new(kind: CookieKind, name: String) -> Self {
        Self { kind, name, cookie: Mutex::new(None) }
    }

    fn locked(&self) -> MutexGuard<'_, Option<String>> {
        self.cookie.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The cookie to send.
    pub fn cookie(&self) -> Option<String> {
        self.locked().clone()
    }

    /// The name of the session that a request with this cookie belongs to.
    pub fn session(&self, cookie: Option<&str>) -> Option<String> {
        match self.kind {
            CookieKind::Key => cookie.map(str::to_owned),
            CookieKind::Session => cookie.map(|_| self.name.clone()),
        }
    }

    /// Takes the cookie of a response to a request that was sent with the cookie `sent`, and tells in which session
    /// that request's changes are, if in any that the visitor can come back to.
    ///
    /// An answer that overtook another one does not put an older key over a newer one: the worst for the site, whose
    /// later requests then all come with the key that has to hold everything.
    pub fn take(&self, sent: Option<&str>, response: &Response) -> Option<String> {
        let mut cookie = self.locked();
        let wanted = self.kind == CookieKind::Session || cookie.as_deref() == sent;
        match &response.cookie {
            SetCookie::No => {}
            SetCookie::Removed if wanted => *cookie = None,
            SetCookie::Value(value) if wanted => *cookie = Some(value.clone()),
            SetCookie::Removed | SetCookie::Value(_) => {}
        }
        let there = match &response.cookie {
            SetCookie::No => sent,
            SetCookie::Removed => None,
            SetCookie::Value(value) => Some(value.as_str()),
        };
        self.session(there)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(cookie: SetCookie) -> Response {
        Response { status: 200, cookie, body: Default::default() }
    }

    fn value(value: &str) -> Response {
        response(SetCookie::Value(value.to_owned()))
    }

    #[test]
    fn a_late_answer_does_not_bring_an_old_key_back() {
        let jar = Jar::new(CookieKind::Key, "name".to_owned());
        assert_eq!(jar.take(None, &value("a")).as_deref(), Some("a"));
        assert_eq!(jar.take(Some("a"), &value("b")).as_deref(), Some("b"));
        assert_eq!(jar.take(Some("a"), &value("a")).as_deref(), Some("a"), "where the change is");
        assert_eq!(jar.cookie().as_deref(), Some("b"));
        assert_eq!(jar.take(Some("b"), &response(SetCookie::No)).as_deref(), Some("b"));
        assert_eq!(jar.take(Some("b"), &response(SetCookie::Removed)), None);
        assert_eq!(jar.cookie(), None);
        assert_eq!(jar.take(None, &response(SetCookie::No)), None);
    }

    #[test]
    fn a_cookie_that_is_the_session_is_the_last_one_that_came() {
        let jar = Jar::new(CookieKind::Session, "name".to_owned());
        jar.take(None, &value("1"));
        jar.take(Some("1"), &value("2"));
        assert_eq!(jar.take(Some("1"), &value("3")).as_deref(), Some("name"));
        assert_eq!(jar.cookie().as_deref(), Some("3"));
    }
}
