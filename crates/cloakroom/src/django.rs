//! What Django's other parts keep in the session: logins, messages, the CSRF secret. A site that runs beside Django
//! shares them with it.
//!
//! # Logins
//! The session says which user is logged in; the user's row, in a table of your own or Django's `auth_user`, says
//! whether that login still holds. This is what Django's `request.user` comes to:
//!
//! ```
//! use cloakroom::django::{Auth, User};
//! use cloakroom::testing::Visitor;
//! use cloakroom::{Error, Session, Settings};
//!
//! /// The password field of a user, as it stands in the database.
//! async fn password_field(id: i64) -> Option<String> {
//! #   Some("pbkdf2_sha256$1000000$c2FsdA$aGFzaA=".to_owned()).filter(|_| id == 7)
//! }
//!
//! async fn current_user(auth: &Auth, session: &Session) -> Result<Option<i64>, Error> {
//!     let Some(login) = auth.login(session) else { return Ok(None) };
//!     let id = login.parse_id::<i64>()?;
//!     let Some(password) = password_field(id).await else { return Ok(None) };
//!     // A login that a changed password has ended is flushed here.
//!     Ok(auth.confirm(session, &password)?.then_some(id))
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let settings = Settings::builder().secret_key("the same as Django's").build()?;
//! let auth = Auth::new(&settings); // once, like `Sessions`
//!
//! let mut visitor = Visitor::new()?;
//! let session = visitor.session().await?;
//! assert_eq!(current_user(&auth, &session).await?, None);
//!
//! auth.log_in(&session, &User::new(7, password_field(7).await.unwrap()))?;
//! assert_eq!(current_user(&auth, &session).await?, Some(7));
//!
//! auth.log_out(&session);
//! assert_eq!(current_user(&auth, &session).await?, None);
//! # Ok(())
//! # }
//! ```
//!
//! Whether a password is right is not asked here: Django's hashes are made by many algorithms, for which there are
//! crates. Log in whom you have authenticated.
//!
//! # Messages
//! Short texts for the next page: see [`messages`].
//!
//! # CSRF
//! The secret of a site with `CSRF_USE_SESSIONS`: see [`csrf`].

mod auth;
pub mod csrf;
pub mod messages;

pub use auth::{Auth, Login, User};
pub use cloakroom_core::wire::django_auth::{AuthHasher, BACKEND_KEY, Fit, HASH_KEY, MODEL_BACKEND, USER_ID_KEY};
