//! Logging in and out so that Django agrees.

use std::any::type_name;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use cloakroom_core::settings::Settings;
use cloakroom_core::wire::django_auth::{AuthHasher, BACKEND_KEY, Fit, HASH_KEY, MODEL_BACKEND, USER_ID_KEY};
use cloakroom_core::wire::django_items::CSRF_KEY;
use cloakroom_core::{Error, ErrorKind, Result, Session};

use super::csrf;

/// Django's logins under a site's settings: made once, and shared. See the [module](super) for an example.
///
/// Everything is done to the session in memory, and saved with it. Clones are cheap.
#[derive(Clone, Debug)]
pub struct Auth(Arc<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    hasher: AuthHasher,
    backends: Vec<String>,
    csrf_use_sessions: bool,
}

/// A user who is to be logged in.
#[derive(Clone)]
pub struct User {
    id: String,
    backend: String,
    password: Option<String>,
}

impl User {
    /// A user of Django's default back end: the primary key (a number, a UUID, ...), and the password field as it
    /// stands in the database, `pbkdf2_sha256$...`. Never the password itself.
    pub fn new(id: impl fmt::Display, password_field: impl Into<String>) -> Self {
        Self { id: id.to_string(), backend: MODEL_BACKEND.to_owned(), password: Some(password_field.into()) }
    }

    /// A user whose logins no change of a password ends. Django accepts such a login only of a user type without a
    /// session auth hash, which its own user types are not.
    pub fn without_password(id: impl fmt::Display) -> Self {
        Self { id: id.to_string(), backend: MODEL_BACKEND.to_owned(), password: None }
    }

    /// The same user, authenticated by the back end with this dotted path. Django has to list it in
    /// `AUTHENTICATION_BACKENDS`.
    #[must_use]
    pub fn with_backend(mut self, path: impl Into<String>) -> Self {
        self.backend = path.into();
        self
    }
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User").field("id", &self.id).field("backend", &self.backend).finish_non_exhaustive()
    }
}

/// The login that a session holds. Whether it still counts, the user's row has to say: see [`Auth::confirm`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    id: String,
    backend: String,
}

impl Login {
    /// The user's primary key as text.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The user's primary key as your type: an integer, a UUID.
    ///
    /// # Errors
    /// [`ErrorKind::Type`] if it is none. Django raises then, too: the session belongs to another table of users.
    pub fn parse_id<T: FromStr>(&self) -> Result<T> {
        self.id.parse().map_err(|_| {
            Error::new(
                ErrorKind::Type,
                format!(
                    "the session's {USER_ID_KEY} is no {}: it was made for another type of users",
                    type_name::<T>()
                ),
            )
        })
    }

    /// The dotted path of the authentication back end that logged the user in.
    pub fn backend(&self) -> &str {
        &self.backend
    }
}

impl Auth {
    /// Logins under these settings: `SECRET_KEY`, `SECRET_KEY_FALLBACKS` and `CSRF_USE_SESSIONS`.
    /// `AUTHENTICATION_BACKENDS` is Django's default, see [`with_backends`](Self::with_backends).
    pub fn new(settings: &Settings) -> Self {
        Self(Arc::new(Inner {
            hasher: AuthHasher::new(settings.secrets()),
            backends: vec![MODEL_BACKEND.to_owned()],
            csrf_use_sessions: settings.csrf_use_sessions(),
        }))
    }

    /// The same with these `AUTHENTICATION_BACKENDS`: a login by another back end counts for nothing.
    #[must_use]
    pub fn with_backends(mut self, paths: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Arc::make_mut(&mut self.0).backends = paths.into_iter().map(Into::into).collect();
        self
    }

    /// Who is logged in as far as the session knows; `None` for an anonymous visitor. Changes nothing.
    ///
    /// As Django, it looks at the key and the back end; a login by a back end that is not listed counts for nothing.
    pub fn login(&self, session: &Session) -> Option<Login> {
        let id = user_id(session)?;
        let backend = session.get::<String>(BACKEND_KEY).ok().flatten()?;
        self.0.backends.contains(&backend).then_some(Login { id, backend })
    }

    /// Whether the session's login still holds, given the password field of its user as it stands in the database now.
    ///
    /// A login that does not is flushed, as Django does: all data of the session goes with it. One that was made under
    /// a fallback secret holds; the session then gets a new key, and the hash under the current secret.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] if the system has no randomness to give for a new key.
    pub fn confirm(&self, session: &Session, password_field: &str) -> Result<bool> {
        let hash = session.get::<String>(HASH_KEY).ok().flatten().unwrap_or_default();
        match self.0.hasher.fit(&hash, password_field) {
            Fit::Current => Ok(true),
            Fit::Fallback => {
                session.cycle_key()?;
                session.insert(HASH_KEY, &self.0.hasher.hash(password_field))?;
                Ok(true)
            }
            Fit::No => {
                session.flush();
                Ok(false)
            }
        }
    }

    /// Logs a user in whom you have authenticated.
    ///
    /// What an anonymous visitor had in the session stays there, under a new key, so that a key known before is worth
    /// nothing. What *another* user had in it, or the same one before a change of the password, is flushed. The
    /// CSRF secret is replaced, if the session holds it.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] if the system has no randomness to give for a new key.
    pub fn log_in(&self, session: &Session, user: &User) -> Result<()> {
        let hash = user.password.as_ref().map(|password| self.0.hasher.hash(password)).unwrap_or_default();
        if session.contains_key(USER_ID_KEY) {
            let same_user = user_id(session).is_some_and(|present| present == user.id);
            let same_hash = || session.get::<String>(HASH_KEY).ok().flatten().as_ref() == Some(&hash);
            if !same_user || !(hash.is_empty() || same_hash()) {
                session.flush();
            }
        } else {
            session.cycle_key()?;
        }
        session.extend([(USER_ID_KEY, &user.id), (BACKEND_KEY, &user.backend), (HASH_KEY, &hash)])?;
        if self.0.csrf_use_sessions || session.contains_key(CSRF_KEY) {
            csrf::rotate(session)?;
        }
        Ok(())
    }

    /// Logs the visitor out: the session ends, with all its data and its record.
    pub fn log_out(&self, session: &Session) {
        session.flush();
    }

    /// Keeps this session logged in although its user's password was changed, under a new key; call it after the new
    /// field was stored. The user's other sessions end when they are next [confirmed](Self::confirm). If the
    /// password of another user was changed, by an administrator perhaps, only the key changes.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] if the system has no randomness to give for a new key.
    pub fn password_changed(&self, session: &Session, user: &User) -> Result<()> {
        session.cycle_key()?;
        if let Some(password) = &user.password
            && user_id(session).is_some_and(|present| present == user.id)
        {
            session.insert(HASH_KEY, &self.0.hasher.hash(password))?;
        }
        Ok(())
    }
}

/// The key of the session's user: text, or a number in sessions that other programs wrote.
fn user_id(session: &Session) -> Option<String> {
    let raw = session.get_raw(USER_ID_KEY)?;
    match raw.as_str().starts_with('"') {
        true => session.get(USER_ID_KEY).ok().flatten(),
        false => Some(raw.as_str().to_owned()).filter(|text| text.parse::<i128>().is_ok()),
    }
}
