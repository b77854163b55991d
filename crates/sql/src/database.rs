//! A database of whichever kind a URL names.

use std::sync::Arc;

use cloakroom_core::peek::Peek;
use cloakroom_core::store::Store;
use cloakroom_core::sweep::Turns;
use cloakroom_core::wire::expiry::TimeZone;
use cloakroom_core::{Clock, Error, ErrorKind, Result};

use crate::migrate::{Outcome, Plan};
use crate::url::Url;

/// The store on a database whose kind is known from its URL alone, at run time.
#[derive(Debug)]
#[non_exhaustive]
pub enum AnySqlStore {
    /// On SQLite.
    #[cfg(feature = "sqlite")]
    Sqlite(crate::SqliteStore),
    /// On PostgreSQL.
    #[cfg(feature = "postgres")]
    Postgres(crate::PostgresStore),
    /// On MySQL or MariaDB.
    #[cfg(feature = "mysql")]
    MySql(crate::MySqlStore),
}

/// The same expression for the store of every kind.
macro_rules! each {
    ($any:expr, $store:ident => $result:expr) => {
        match $any {
            #[cfg(feature = "sqlite")]
            AnySqlStore::Sqlite($store) => $result,
            #[cfg(feature = "postgres")]
            AnySqlStore::Postgres($store) => $result,
            #[cfg(feature = "mysql")]
            AnySqlStore::MySql($store) => $result,
        }
    };
}

impl AnySqlStore {
    /// Opens the database that a `DATABASE_URL` names; what it may say is told at
    /// [`SqliteOptions::from_url`](crate::SqliteOptions::from_url) and
    /// [`ServerOptions::from_url`](crate::ServerOptions::from_url). A missing SQLite file is made if `create_if_missing`
    /// says so. `zone` is the one in which dates are stored, `None` for UTC; PostgreSQL needs none.
    ///
    /// # Errors
    /// As the `open` of each kind, and [`ErrorKind::Configuration`] for a kind whose feature is not compiled in.
    #[allow(unused_variables, reason = "each kind needs others")]
    pub async fn open(url: &str, create_if_missing: bool, zone: Option<TimeZone>, clock: Clock) -> Result<Self> {
        let scheme = Url::split(url).scheme;
        Ok(match scheme {
            #[cfg(feature = "sqlite")]
            "sqlite" | "sqlite3" => {
                let mut options = crate::SqliteOptions::from_url(url)?;
                if create_if_missing {
                    // If not, the URL may still say so.
                    options = options.create_if_missing(true);
                }
                Self::Sqlite(crate::SqliteStore::open(options.time_zone(zone), clock).await?)
            }
            #[cfg(feature = "postgres")]
            "postgres" | "postgresql" | "pgsql" => {
                Self::Postgres(crate::PostgresStore::open(crate::ServerOptions::from_url(url)?, clock).await?)
            }
            #[cfg(feature = "mysql")]
            "mysql" | "mariadb" => {
                let options = crate::ServerOptions::from_url(url)?.time_zone(zone);
                Self::MySql(crate::MySqlStore::open(options, clock).await?)
            }
            _ => {
                let feature = match scheme {
                    "sqlite" | "sqlite3" => "sqlite",
                    "postgres" | "postgresql" | "pgsql" => "postgres",
                    "mysql" | "mariadb" => "mysql",
                    _ => {
                        return Err(Error::new(
                            ErrorKind::Configuration,
                            format!("DATABASE_URL begins with {scheme:?}; known are sqlite, postgres and mysql"),
                        ));
                    }
                };
                return Err(Error::new(
                    ErrorKind::Configuration,
                    format!(
                        "DATABASE_URL names a database of the kind {feature}, which is not built into this program: \
                         turn on the feature `{feature}` of the crate `cloakroom`"
                    ),
                ));
            }
        })
    }

    /// The store, for an engine.
    pub fn into_store(self) -> Arc<dyn Store> {
        each!(self, store => Arc::new(store))
    }

    /// The store, and who decides which of the nodes that share its database sweeps it.
    pub fn into_store_with_turns(self) -> (Arc<dyn Store>, Arc<dyn Turns>) {
        let (store, turns, _) = self.into_parts();
        (store, turns)
    }

    /// The store, who decides which of the nodes that share its database sweeps it, and how tools look into it.
    pub fn into_parts(self) -> (Arc<dyn Store>, Arc<dyn Turns>, Arc<dyn Peek>) {
        each!(self, store => {
            let store = Arc::new(store);
            (store.clone(), store.clone(), store)
        })
    }

    /// As [`SqlStore::count_expired`](crate::SqlStore::count_expired).
    ///
    /// # Errors
    /// As there.
    pub async fn count_expired(&self) -> Result<u64> {
        each!(self, store => store.count_expired().await)
    }

    /// Whether sessions that were read are kept in this process, which only PostgreSQL's store can do.
    pub fn has_near_cache(&self) -> bool {
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres(store) => store.has_near_cache(),
            #[allow(unreachable_patterns, reason = "PostgreSQL may be the only kind")]
            _ => false,
        }
    }

    /// As [`PostgresStore::near_cache_trigger`](crate::PostgresStore).
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] if the database is none of PostgreSQL's.
    #[cfg(feature = "postgres")]
    pub fn near_cache_trigger(&self) -> Result<crate::NearCacheTrigger<'_>> {
        match self {
            Self::Postgres(store) => Ok(store.near_cache_trigger()),
            #[allow(unreachable_patterns, reason = "PostgreSQL may be the only kind")]
            _ => Err(Error::new(
                ErrorKind::Configuration,
                "there is a near cache for PostgreSQL only, and DATABASE_URL names another kind of database",
            )),
        }
    }

    /// As [`Migrations::sql`](crate::Migrations::sql).
    pub fn migration_sql(&self) -> Vec<String> {
        each!(self, store => store.migrations().sql())
    }

    /// As [`Migrations::plan`](crate::Migrations::plan).
    ///
    /// # Errors
    /// As there.
    pub async fn migration_plan(&self) -> Result<Plan> {
        each!(self, store => store.migrations().plan().await)
    }

    /// As [`Migrations::apply`](crate::Migrations::apply).
    ///
    /// # Errors
    /// As there.
    pub async fn migrate(&self) -> Result<Outcome> {
        each!(self, store => store.migrations().apply().await)
    }

    /// As [`Migrations::is_migrated`](crate::Migrations::is_migrated).
    ///
    /// # Errors
    /// As there.
    pub async fn is_migrated(&self) -> Result<bool> {
        each!(self, store => store.migrations().is_migrated().await)
    }
}
