//! What Django's authentication keeps in a session.

use std::fmt;

use hmac::digest::Digest;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::signing::{Secrets, constant_time_eq};

/// The session item with the primary key of the user who is logged in, as text.
pub const USER_ID_KEY: &str = "_auth_user_id";
/// The session item with the dotted path of the authentication back end that logged the user in.
pub const BACKEND_KEY: &str = "_auth_user_backend";
/// The session item with the hash of the user's password field; see [`AuthHasher`].
pub const HASH_KEY: &str = "_auth_user_hash";

/// Django's default authentication back end.
pub const MODEL_BACKEND: &str = "django.contrib.auth.backends.ModelBackend";

const SALT: &str = "django.contrib.auth.models.AbstractBaseUser.get_session_auth_hash";

/// Whether a hash in a session fits a user's password field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// It was made with the current secret.
    Current,
    /// It was made with a fallback secret: it should be replaced by the current hash.
    Fallback,
    /// It was not made of this password field.
    No,
}

/// Makes session auth hashes: HMACs of a user's whole password field, as it stands in the database, so that a new
/// password ends the logins made with the former one.
///
/// ```
/// # use cloakroom_core::wire::django_auth::{AuthHasher, Fit};
/// # use cloakroom_core::wire::signing::Secrets;
/// let hasher = AuthHasher::new(&Secrets::new("new").with_fallbacks(["old"]));
/// let field = "pbkdf2_sha256$1000000$salt$hash=";
/// assert_eq!(hasher.fit(&hasher.hash(field), field), Fit::Current);
/// let old = AuthHasher::new(&Secrets::new("old")).hash(field);
/// assert_eq!(hasher.fit(&old, field), Fit::Fallback);
/// assert_eq!(hasher.fit(&old, "another password"), Fit::No);
/// ```
#[derive(Clone)]
pub struct AuthHasher {
    /// Keyed with the current secret, then with the fallbacks.
    keys: Vec<Hmac<Sha256>>,
}

impl AuthHasher {
    /// A hasher under `SECRET_KEY` and `SECRET_KEY_FALLBACKS`.
    pub fn new(secrets: &Secrets) -> Self {
        let keyed = |secret: &[u8]| {
            let key = Sha256::new().chain_update(SALT).chain_update(secret).finalize();
            Hmac::new_from_slice(&key).expect("HMAC takes keys of any length")
        };
        Self { keys: secrets.all().map(keyed).collect() }
    }

    /// The hash of a password field under the current secret: 64 hexadecimal digits.
    pub fn hash(&self, password: &str) -> String {
        hash(&self.keys[0], password)
    }

    /// The hashes of a password field under the fallback secrets, in their order.
    pub fn fallback_hashes(&self, password: &str) -> impl Iterator<Item = String> {
        self.keys[1..].iter().map(move |key| hash(key, password))
    }

    /// Whether a hash fits a password field. How long that takes says nothing about where they differ.
    pub fn fit(&self, hash: &str, password: &str) -> Fit {
        if constant_time_eq(hash, &self.hash(password)) {
            Fit::Current
        } else if self.fallback_hashes(password).any(|fallback| constant_time_eq(hash, &fallback)) {
            Fit::Fallback
        } else {
            Fit::No
        }
    }
}

impl fmt::Debug for AuthHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AuthHasher({} secrets)", self.keys.len())
    }
}

fn hash(key: &Hmac<Sha256>, password: &str) -> String {
    let digest = key.clone().chain_update(password).finalize().into_bytes();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
