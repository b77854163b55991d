//! Asking the server to tell what changes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cloakroom_core::near::NearCache;
use cloakroom_core::{Error, Result};
use redis::{AsyncConnectionConfig, Pipeline, ProtocolVersion, PushInfo, PushKind, RedisError, Value};
use tracing::warn;

use crate::dial::Connection;
use crate::failure::Stage;
use crate::link::{Link, Route};
use crate::options::RedisOptions;

/// A near cache, and connections on which the server tells it of changes. The driver tells in the order of the
/// connection, before it hands out what was answered later.
pub(crate) struct Tracking {
    pub(crate) near: Arc<NearCache>,
    route: Route,
    /// What the names of sessions begin with.
    prefix: Arc<str>,
    warned: AtomicBool,
}

impl Tracking {
    pub(crate) fn new(options: &RedisOptions, near: Arc<NearCache>) -> Result<Self> {
        let options = RedisOptions { protocol: ProtocolVersion::RESP3, ..options.clone() };
        Ok(Self {
            near,
            route: Route::new(&options)?,
            prefix: options.keys.prefix().into(),
            warned: AtomicBool::new(false),
        })
    }

    /// A connection on which the server tells of changes; `None` if this server does not do that, or not for this user.
    pub(crate) async fn connect(
        &self,
        link: &Link,
        config: &AsyncConnectionConfig,
        number: u64,
    ) -> Result<Option<Connection>> {
        let (near, prefix) = (Arc::clone(&self.near), Arc::clone(&self.prefix));
        let tell = move |push: PushInfo| -> Result<(), std::convert::Infallible> {
            told(&near, &prefix, number, &push);
            Ok(())
        };
        let mut connection = match self.route.connect(&config.clone().set_push_sender(tell), link).await {
            Ok(connection) => connection,
            Err(error) if speaks_an_older_protocol(&error) => return Ok(self.without(link, &error)),
            Err(error) => return Err(error),
        };
        // Everything that will be needed, so that a user who may not do it is found out now; with a name such as the
        // sessions have.
        let mut questions = Pipeline::with_capacity(3);
        questions.cmd("CLIENT").arg("TRACKING").arg("ON").arg("OPTIN");
        questions.cmd("CLIENT").arg("CACHING").arg("YES");
        questions.cmd("PTTL").arg(&*self.prefix);
        let answers = connection.multiplexed.send_packed_commands(&questions, 0, questions.len()).await;
        match answers.and_then(|answers| Value::Array(answers).extract_error()) {
            Ok(_) => Ok(Some(connection)),
            Err(error) if error.is_unrecoverable_error() || error.is_timeout() => {
                Err(link.failure(error, Stage::Connecting))
            }
            Err(error) => Ok(self.without(link, &error)),
        }
    }

    fn without(&self, link: &Link, error: &dyn std::fmt::Display) -> Option<Connection> {
        if !self.warned.swap(true, Ordering::Relaxed) {
            warn!(
                address = link.address(), %error,
                "the near cache is off: this Redis server does not tell this user what changes (it takes Redis 6, and \
                 CLIENT TRACKING, CLIENT CACHING, PTTL and HELLO to be allowed)"
            );
        }
        None
    }
}

/// What the server, or the driver, tells without being asked.
fn told(near: &NearCache, prefix: &str, line: u64, push: &PushInfo) {
    let name_changed = |name: &[u8]| {
        if let Some(key) = name.strip_prefix(prefix.as_bytes()).and_then(|key| std::str::from_utf8(key).ok()) {
            near.forget(key);
        }
    };
    match (&push.kind, push.data.first()) {
        (PushKind::Invalidate, Some(Value::Array(names))) => {
            for name in names {
                match name {
                    Value::BulkString(name) => name_changed(name),
                    Value::SimpleString(name) => name_changed(name.as_bytes()),
                    _ => near.forget_all(),
                }
            }
        }
        // The whole database was emptied.
        (PushKind::Invalidate, _) => near.forget_all(),
        (PushKind::Disconnection, _) => near.give_up(line),
        _ => {}
    }
}

/// Whether the server refused the greeting of RESP3, which older ones and some proxies do not know.
fn speaks_an_older_protocol(error: &Error) -> bool {
    let refused = |error: &RedisError| {
        error.kind() == redis::ErrorKind::RESP3NotSupported
            || error.code() == Some("NOPROTO")
            || error.detail().is_some_and(|detail| detail.contains("HELLO"))
    };
    std::error::Error::source(error).and_then(|source| source.downcast_ref::<RedisError>()).is_some_and(refused)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use cloakroom_core::Clock;
    use cloakroom_core::near::Moment;

    use super::*;

    /// One that keeps sessions of these keys.
    fn near(keys: &[&str]) -> NearCache {
        let near = NearCache::new(1 << 20, Duration::from_secs(3_600), Clock::system());
        near.rely_on(1);
        near.answered(1, near.now());
        for key in keys {
            near.reserve(key).expect("a place").keep(1, "x".into(), Moment::NEVER);
        }
        near
    }

    fn kept<const N: usize>(near: &NearCache, keys: [&str; N]) -> [bool; N] {
        keys.map(|key| near.get(key).is_some())
    }

    fn invalidate(names: Value) -> PushInfo {
        PushInfo { kind: PushKind::Invalidate, data: vec![names] }
    }

    #[test]
    fn what_is_told_is_forgotten() {
        let near = near(&["a", "b", "c"]);
        let names = vec![Value::BulkString(b"p:a".to_vec()), Value::SimpleString("p:b".into())];
        told(&near, "p:", 1, &invalidate(Value::Array(names)));
        assert_eq!(kept(&near, ["a", "b", "c"]), [false, false, true]);
        // Names of others.
        let names = vec![Value::BulkString(b"q:c".to_vec()), Value::BulkString(b"\xff".to_vec())];
        told(&near, "p:", 1, &invalidate(Value::Array(names)));
        assert_eq!(kept(&near, ["c"]), [true]);
        told(&near, "p:", 1, &invalidate(Value::Nil));
        assert_eq!(kept(&near, ["c"]), [false], "the whole database was emptied");
    }

    #[test]
    fn a_connection_that_is_lost_takes_all_along() {
        let near = near(&["a"]);
        let lost = || PushInfo { kind: PushKind::Disconnection, data: vec![] };
        told(&near, "p:", 7, &lost());
        assert_eq!(kept(&near, ["a"]), [true], "a former connection");
        told(&near, "p:", 1, &lost());
        assert_eq!(kept(&near, ["a"]), [false]);
        assert!(near.reserve("a").is_none(), "nothing can be kept");
    }
}
