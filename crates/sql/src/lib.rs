//! Sessions in Django's own table `django_session`, through sqlx.
//!
//! One store body, [`SqlStore`], works for every database; what differs between databases (statement texts, how dates
//! and parameters travel, what an error means) is one [`Dialect`] each, in one file each: [`SqliteStore`],
//! [`PostgresStore`] and [`MySqlStore`], by the features `sqlite` (on by default), `postgres` and `mysql`.
//!
//! ```no_run
//! # async fn example() -> cloakroom_core::Result<()> {
//! use cloakroom_core::Clock;
//! use cloakroom_sql::{SqliteOptions, SqliteStore};
//!
//! let options = SqliteOptions::from_url("sqlite:///srv/site/db.sqlite3")?.create_if_missing(true);
//! let store = SqliteStore::open(options, Clock::system()).await?;
//! store.migrations().apply().await?;
//! # Ok(())
//! # }
//! ```
//!
//! On a server it is the same, with [`ServerOptions`] in place of [`SqliteOptions`]; an application's own sqlx pool goes
//! to `from_pool`.
//!
//! # Adding a dialect
//! Write a file with a type that implements [`Dialect`], and a constructor for `SqlStore<ThatType>`. The body, the
//! migrations and the conformance tests need no change.

#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
mod database;
#[cfg(any(feature = "sqlite", feature = "mysql"))]
mod date;
mod dialect;
mod group;
mod lease;
mod migrate;
#[cfg(feature = "mysql")]
mod mysql;
mod near;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(any(feature = "postgres", feature = "mysql"))]
mod server;
#[cfg(any(feature = "sqlite", feature = "mysql"))]
mod sizes;
#[cfg(feature = "sqlite")]
mod sqlite;
mod store;
mod sync;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
mod url;
mod wish;

#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
pub use database::AnySqlStore;
pub use dialect::{Dialect, Failed, Param, Pools, Run, Schema, Statements, Together};
pub use migrate::{Migrations, Outcome, Plan, State, Step};
#[cfg(feature = "mysql")]
pub use mysql::{MySql, MySqlStore};
pub use near::Near;
#[cfg(feature = "postgres")]
pub use postgres::{NearCacheTrigger, Postgres, PostgresStore};
#[cfg(any(feature = "postgres", feature = "mysql"))]
pub use server::{ServerOptions, SslMode};
#[cfg(feature = "sqlite")]
pub use sqlite::{Sqlite, SqliteOptions, SqliteStore, Synchronous};
pub use store::SqlStore;
