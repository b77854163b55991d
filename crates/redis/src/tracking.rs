//! Asking the server to tell what changes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cloakroom_core::{Error, Result};
use redis::{AsyncConnectionConfig, Pipeline, ProtocolVersion, PushInfo, RedisError, Value};
use tracing::warn;

use crate::dial::Connection;
use crate::failure::Stage;
use crate::link::{Link, Route};
use crate::near::NearCache;
use crate::options::RedisOptions;

/// A near cache, and connections on which the server tells it of changes.
pub(crate) struct Tracking {
    pub(crate) near: Arc<NearCache>,
    route: Route,
    /// What a user of the server has to be allowed: a name such as the sessions have.
    name: String,
    warned: AtomicBool,
}

impl Tracking {
    pub(crate) fn new(options: &RedisOptions, near: Arc<NearCache>) -> Result<Self> {
        let options = RedisOptions { protocol: ProtocolVersion::RESP3, ..options.clone() };
        Ok(Self {
            near,
            route: Route::new(&options)?,
            name: options.keys.prefix().to_owned(),
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
        let near = Arc::clone(&self.near);
        let tell = move |push: PushInfo| -> Result<(), std::convert::Infallible> {
            near.told(number, &push);
            Ok(())
        };
        let mut connection = match self.route.connect(&config.clone().set_push_sender(tell), link).await {
            Ok(connection) => connection,
            Err(error) if speaks_an_older_protocol(&error) => return Ok(self.without(link, &error)),
            Err(error) => return Err(error),
        };
        // Everything that will be needed, so that a user who may not do it is found out now.
        let mut questions = Pipeline::with_capacity(3);
        questions.cmd("CLIENT").arg("TRACKING").arg("ON").arg("OPTIN");
        questions.cmd("CLIENT").arg("CACHING").arg("YES");
        questions.cmd("PTTL").arg(&self.name);
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

/// Whether the server refused the greeting of RESP3, which older ones and some proxies do not know.
fn speaks_an_older_protocol(error: &Error) -> bool {
    let refused = |error: &RedisError| {
        error.kind() == redis::ErrorKind::RESP3NotSupported
            || error.code() == Some("NOPROTO")
            || error.detail().is_some_and(|detail| detail.contains("HELLO"))
    };
    std::error::Error::source(error).and_then(|source| source.downcast_ref::<RedisError>()).is_some_and(refused)
}
