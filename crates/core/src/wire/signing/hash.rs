//! The keyed hashes behind signatures.

use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::digest::Digest;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Sha224, Sha256, Sha384, Sha512};

use crate::error::{Error, ErrorKind};

/// A hash function that signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// `sha1`
    Sha1,
    /// `sha224`
    Sha224,
    /// `sha256`, which Django uses unless told otherwise.
    Sha256,
    /// `sha384`
    Sha384,
    /// `sha512`
    Sha512,
}

impl FromStr for Algorithm {
    type Err = Error;

    /// Reads an algorithm's name in Python's `hashlib`.
    fn from_str(name: &str) -> Result<Self, Error> {
        Ok(match name {
            "sha1" => Self::Sha1,
            "sha224" => Self::Sha224,
            "sha256" => Self::Sha256,
            "sha384" => Self::Sha384,
            "sha512" => Self::Sha512,
            _ => {
                return Err(Error::new(
                    ErrorKind::Configuration,
                    format!("{name:?} is not an algorithm for signing here: sha1, sha224, sha256, sha384 or sha512"),
                ));
            }
        })
    }
}

/// The key that a signer with this salt makes of a secret.
pub fn derived_key(algorithm: Algorithm, salt: &str, secret: &[u8]) -> Vec<u8> {
    fn hash<D: Digest>(salt: &str, secret: &[u8]) -> Vec<u8> {
        D::new().chain_update(salt).chain_update("signer").chain_update(secret).finalize().to_vec()
    }
    match algorithm {
        Algorithm::Sha1 => hash::<Sha1>(salt, secret),
        Algorithm::Sha224 => hash::<Sha224>(salt, secret),
        Algorithm::Sha256 => hash::<Sha256>(salt, secret),
        Algorithm::Sha384 => hash::<Sha384>(salt, secret),
        Algorithm::Sha512 => hash::<Sha512>(salt, secret),
    }
}

/// A hash that has taken its key already: a clone of it is cheaper than keying anew.
#[derive(Clone)]
pub(super) enum Keyed {
    Sha1(Hmac<Sha1>),
    Sha224(Hmac<Sha224>),
    Sha256(Hmac<Sha256>),
    Sha384(Hmac<Sha384>),
    Sha512(Hmac<Sha512>),
}

impl Keyed {
    pub(super) fn new(algorithm: Algorithm, salt: &str, secret: &[u8]) -> Self {
        fn keyed<M: KeyInit>(key: &[u8]) -> M {
            M::new_from_slice(key).expect("HMAC takes keys of any length")
        }
        let key = &derived_key(algorithm, salt, secret);
        match algorithm {
            Algorithm::Sha1 => Self::Sha1(keyed(key)),
            Algorithm::Sha224 => Self::Sha224(keyed(key)),
            Algorithm::Sha256 => Self::Sha256(keyed(key)),
            Algorithm::Sha384 => Self::Sha384(keyed(key)),
            Algorithm::Sha512 => Self::Sha512(keyed(key)),
        }
    }

    /// The signature of a message.
    pub(super) fn signature(&self, message: &[u8]) -> Signature {
        fn sign<M: Mac + Clone>(keyed: &M, message: &[u8]) -> Signature {
            let mut signature = Signature { text: [0; Signature::MAX_LENGTH], length: 0 };
            let hash = keyed.clone().chain_update(message).finalize().into_bytes();
            let length = URL_SAFE_NO_PAD.encode_slice(hash, &mut signature.text);
            signature.length = length.expect("there is room for the longest hash");
            signature
        }
        match self {
            Self::Sha1(keyed) => sign(keyed, message),
            Self::Sha224(keyed) => sign(keyed, message),
            Self::Sha256(keyed) => sign(keyed, message),
            Self::Sha384(keyed) => sign(keyed, message),
            Self::Sha512(keyed) => sign(keyed, message),
        }
    }

    /// How long its signatures are, in bytes.
    pub(super) fn signature_length(&self) -> usize {
        let hash = match self {
            Self::Sha1(_) => 20,
            Self::Sha224(_) => 28,
            Self::Sha256(_) => 32,
            Self::Sha384(_) => 48,
            Self::Sha512(_) => 64,
        };
        (hash * 4_usize).div_ceil(3)
    }
}

/// A hash as text, URL-safe base64 without padding, that takes no memory of its own.
pub(super) struct Signature {
    text: [u8; Self::MAX_LENGTH],
    length: usize,
}

impl Signature {
    /// Of SHA-512.
    const MAX_LENGTH: usize = 86;

    pub(super) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.text[..self.length]).expect("base64 is ASCII")
    }
}

/// Compares in a time that depends on the lengths alone. Texts are compared, not bytes, since another base64 text of
/// the same bytes is not a valid signature.
pub(crate) fn constant_time_eq(a: &str, b: &str) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let difference = a.bytes().zip(b.bytes()).fold(0, |difference, (a, b)| std::hint::black_box(difference | (a ^ b)));
    std::hint::black_box(difference) == 0
}
