//! What went wrong between us and the server, in words that say what to do.

use std::sync::Arc;
use std::time::Duration;

use cloakroom_core::{Error, ErrorKind};
use redis::{RedisError, ServerErrorKind};

/// What was under way when it went wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Making a connection: the network, TLS, user and password, the database's number.
    Connecting,
    /// A command on a connection that stands.
    Asking,
}

/// An error of ours from an error of the driver. Neither has passwords or session keys in it.
pub(crate) fn explain(error: RedisError, stage: Stage, address: &str, patience: Duration) -> Error {
    use ErrorKind::{Configuration, Corrupted, Unavailable};

    let patience = patience.as_secs_f64();
    // Scripts of older servers wrap the code of what failed in them.
    let code = error.code().unwrap_or_default().to_owned();
    let detail = error.detail().unwrap_or_default().to_owned();
    let tls = tls_failure(&error);
    let says = |word: &str| code == word || detail.contains(word);
    let (kind, what) = match error.kind() {
        redis::ErrorKind::AuthenticationFailed => (Configuration, REFUSED_LOGIN.to_owned()),
        _ if says("NOAUTH") || says("Authentication required") => {
            (Configuration, "wants a password: give it in LOCATION, as in redis://:PASSWORD@HOST/0, or in OPTIONS".into())
        }
        _ if says("WRONGPASS") => (Configuration, REFUSED_LOGIN.into()),
        redis::ErrorKind::Server(ServerErrorKind::NoPerm) => (
            Configuration,
            format!(
                "does not allow this user what sessions need (GET, SET, EXPIRE, PEXPIRE, DEL, EVAL, EVALSHA, and SCAN for \
                 lists): {detail}"
            ),
        ),
        _ if says("WRONGTYPE") => (
            Corrupted,
            "holds something else than a session under the session's key, a list or a hash: it is left as it is. \
             Another program uses the same names; give the cache another KEY_PREFIX or database number"
                .into(),
        ),
        _ if says("READONLY") => (
            Unavailable,
            "is a read-only replica: LOCATION has to begin with the primary. While a replica takes over, this passes"
                .into(),
        ),
        _ if says("OOM") => (
            Unavailable,
            "is full (`maxmemory`) and takes no writes: give it more memory, or a `maxmemory-policy` that drops what is \
             not a session"
                .into(),
        ),
        _ if says("LOADING") => (Unavailable, "is still loading its data: this passes when it is done".into()),
        _ if says("MISCONF") => {
            (Unavailable, "takes no writes, since it cannot save its data to its disk: look at its log".into())
        }
        _ if says("NOREPLICAS") => (Unavailable, "takes no writes, since too few replicas follow it".into()),
        _ if says("MASTERDOWN") => (Unavailable, "is a replica that has lost its primary".into()),
        _ if says("BUSY") => (Unavailable, "is busy with a script that does not end: look at it".into()),
        redis::ErrorKind::Server(
            ServerErrorKind::Moved
            | ServerErrorKind::Ask
            | ServerErrorKind::ClusterDown
            | ServerErrorKind::TryAgain
            | ServerErrorKind::CrossSlot,
        ) => (
            Configuration,
            "belongs to a Redis Cluster, which is not supported: use one server, or one with replicas".into(),
        ),
        _ if says("DB index is out of range") || says("invalid DB index") => {
            (Configuration, "has no database of this number: see its setting `databases`".into())
        }
        redis::ErrorKind::Parse if stage == Stage::Connecting => {
            (Configuration, "does not speak Redis' protocol: is LOCATION in CACHES right?".into())
        }
        _ if error.is_timeout() && stage == Stage::Connecting => {
            (Unavailable, format!("took no connection within {patience} s: {LOOK}"))
        }
        _ if error.is_timeout() => (
            Unavailable,
            format!(
                "did not answer within {patience} s: it is overloaded or frozen. For a slow network, raise \
                 `socket_timeout` in OPTIONS"
            ),
        ),
        _ if error.is_connection_refusal() => {
            (Unavailable, "takes no connections: start it, or correct LOCATION in CACHES".into())
        }
        _ if tls.is_some() => (
            Configuration,
            format!(
                "and we cannot agree on TLS ({}): give the certificate of its authority as `ssl_ca_certs` in OPTIONS, and \
                 write rediss:// only for a port that speaks TLS",
                tls.unwrap_or_default()
            ),
        ),
        _ if error.is_connection_dropped() && stage == Stage::Connecting => (
            Unavailable,
            "closed the connection at once: it is starting or stopping, has too many clients, or its port speaks TLS \
             (write rediss://)"
                .into(),
        ),
        _ if error.is_connection_dropped() => (Unavailable, "closed the connection: it was stopped or restarted".into()),
        _ if error.is_io_error() => (Unavailable, format!("cannot be reached ({error}): {LOOK}")),
        _ => (Unavailable, format!("answered with an error: {error}")),
    };
    Error::new(kind, format!("the Redis server at {address} {what}")).with_source(error)
}

const REFUSED_LOGIN: &str = "refused the user name or the password of LOCATION or OPTIONS in CACHES";
const LOOK: &str = "look whether it runs, and whether LOCATION in CACHES is right, with rediss:// for a port that speaks \
                    TLS and redis:// for one that does not";

/// What TLS says, if it failed.
fn tls_failure(error: &RedisError) -> Option<String> {
    // The driver holds its source shared, and an error of input and output hides what it wraps from `source`.
    let source = std::error::Error::source(error)?;
    let source = source.downcast_ref::<Arc<dyn std::error::Error + Send + Sync>>()?;
    let wrapped = source.downcast_ref::<std::io::Error>()?.get_ref()?;
    wrapped.downcast_ref::<rustls::Error>().map(ToString::to_string)
}

/// The answer was none that the command has.
pub(crate) fn unexpected(address: &str, command: &str) -> Error {
    Error::new(
        ErrorKind::Unavailable,
        format!("the Redis server at {address} gave an answer to {command} that this command does not have"),
    )
}

/// The connection broke while the server worked, and looking at what stands now does not tell what it did.
pub(crate) fn unknown_outcome(address: &str) -> Error {
    Error::new(
        ErrorKind::Unavailable,
        format!(
            "the connection to the Redis server at {address} broke during a save, and nobody can tell whether it was \
             carried out"
        ),
    )
}
