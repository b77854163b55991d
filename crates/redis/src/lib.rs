//! Sessions in Redis or Valkey, where Django's redis back end and the package django-redis keep them.
//!
//! ```no_run
//! # async fn example() -> cloakroom_core::Result<()> {
//! use cloakroom_core::Clock;
//! use cloakroom_redis::{RedisOptions, RedisStore};
//!
//! let options = RedisOptions::from_url("redis://:password@cache.example.org:6379/1")?;
//! let store = RedisStore::open(options, Clock::system())?; // nothing is sent yet
//! store.ping().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # What it costs
//! One connection for all requests of the process, and one exchange for each operation:
//!
//! | operation | sends |
//! |---|---|
//! | `load` | `GET`; loads that wait at the same moment go as one `MGET` |
//! | `create` | `SET … NX` |
//! | `replace` | `SET … IFEQ … GET`, where the server compares what stands with what was loaded: Valkey from 8.1 on, Redis from 8.4 on; elsewhere one script, by its hash |
//! | guarded `delete` | one script, by its hash, which compares |
//! | `touch` | `EXPIRE`, or `PEXPIRE` |
//! | `delete` | `DEL` |
//! | `list` | `SCAN`, as often as it takes to see every key |
//!
//! The server ends sessions by itself: there is nothing to clear.
//!
//! With [`RedisOptions::near_cache`], sessions that were read are kept in this process until the server says that they
//! changed: a `load` then sends nothing, or `CLIENT CACHING`, `GET` and `PTTL` in one exchange.
//!
//! # One server, or a primary with replicas
//! Django writes to the first server of `LOCATION` and reads from a random one of the others. A session that was read
//! from a replica lags behind, and comparing it with what stands on the primary would fail again and again; so this
//! store reads from the first server too, and never asks the others.
//!
//! [`RedisOptions::sentinels`] name the primary of a service that Redis Sentinel watches over; each new connection asks
//! them anew. A Redis Cluster is not supported.
//!
//! # When the server fails
//! Each error says what to do, comes in bounded time, and leaves what is stored as it is. A connection that broke is
//! made anew by the next operation. An operation that met the break is repeated only where that cannot apply a change
//! twice; otherwise the error says that the outcome is unknown.

mod caches;
mod codec;
mod dial;
mod failure;
mod gather;
mod link;
mod options;
mod sentinel;
mod store;
mod tracking;

pub use codec::codec;
pub use options::{RedisOptions, TimeUnit};
pub use store::RedisStore;
