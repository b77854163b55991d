//! Asking Redis Sentinel which server is the primary now.

use std::time::Duration;

use cloakroom_core::{Error, ErrorKind, Result};
use redis::{AsyncConnectionConfig, Client, RedisResult, Value};
use tokio::task::JoinSet;
use tracing::debug;

use crate::dial::{Connection, dial};
use crate::failure::{self, Stage};
use crate::options::RedisOptions;

/// The sentinels that watch over a service. They are asked for every new connection: that is how a change of the
/// primary is followed.
pub(crate) struct Sentinels {
    clients: Vec<Client>,
    options: RedisOptions,
}

impl Sentinels {
    /// Prepares the connections, and makes none.
    pub(crate) fn new(options: &RedisOptions) -> Result<Self> {
        options.service()?;
        // For a server as the sentinels name it: whether its certificates can be read shows now.
        options.for_server("localhost".into(), 0).client()?;
        let clients = options.for_sentinels().map(|sentinel| sentinel.client()).collect::<Result<_>>()?;
        Ok(Self { clients, options: options.clone() })
    }

    /// A connection to the first server that a sentinel calls the primary and that says so itself.
    ///
    /// All are asked at once, so that one that is down does not hold up the others.
    pub(crate) async fn connect(&self, config: &AsyncConnectionConfig) -> Result<Connection> {
        let service = self.options.service()?;
        let mut asked = JoinSet::new();
        for client in &self.clients {
            let timeout = Some(self.options.connect_timeout);
            let config = AsyncConnectionConfig::new().set_connection_timeout(timeout).set_response_timeout(timeout);
            asked.spawn(primary(client.clone(), config, service.to_owned()));
        }
        let mut tried = Vec::new();
        let mut failure = None;
        while let Some(answer) = asked.join_next().await {
            let place = match answer {
                Ok(Ok(Some(place))) => place,
                Ok(Ok(None)) => {
                    // What another one says of a server is worth more than that this one knows nothing.
                    failure.get_or_insert_with(|| unknown(service));
                    continue;
                }
                Ok(Err(error)) => {
                    debug!(service, %error, "a sentinel does not answer");
                    failure.get_or_insert_with(|| self.failure(error, "a sentinel of "));
                    continue;
                }
                Err(_) => continue,
            };
            if tried.contains(&place) {
                continue;
            }
            let (host, port) = place.clone();
            tried.push(place);
            let client = self.options.for_server(host, port).client()?;
            match confirmed(&client, config, self.options.connect_timeout).await {
                Ok(Some(connection)) => return Ok(connection),
                Ok(None) => failure = Some(changing(service)),
                Err(error) => failure = Some(self.failure(error, "")),
            }
        }
        Err(failure.unwrap_or_else(|| changing(service)))
    }

    fn failure(&self, error: redis::RedisError, whose: &str) -> Error {
        let address = format!("{whose}{}", self.options.address());
        failure::explain(error, Stage::Connecting, &address, self.options.connect_timeout)
    }
}

/// Where the primary is, by one sentinel; `None` if it watches over no service of this name.
async fn primary(client: Client, config: AsyncConnectionConfig, service: String) -> RedisResult<Option<(String, u16)>> {
    let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
    redis::cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(service).query_async(&mut connection).await
}

/// A connection to a server, if that says itself that it is a primary: a sentinel may not know yet, or not any more.
async fn confirmed(
    client: &Client,
    config: &AsyncConnectionConfig,
    timeout: Duration,
) -> RedisResult<Option<Connection>> {
    let mut connection = dial(client, config, timeout).await?;
    let role: Vec<Value> = redis::cmd("ROLE").query_async(&mut connection.multiplexed).await?;
    let is_primary = matches!(role.first(), Some(Value::BulkString(role)) if role == b"master");
    Ok(is_primary.then_some(connection))
}

fn unknown(service: &str) -> Error {
    Error::new(
        ErrorKind::Configuration,
        format!(
            "the sentinels watch over no Redis service that is called {service:?}: LOCATION has to name it, as in \
             redis://NAME/0"
        ),
    )
}

fn changing(service: &str) -> Error {
    Error::new(
        ErrorKind::Unavailable,
        format!(
            "the Redis service {service:?} has no primary at the moment: this passes when a replica has taken over"
        ),
    )
}
