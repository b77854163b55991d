//! The engines under test, the servers that they need, and the settings that name them.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use cloakroom_test_servers::{Kind, Options, Server};

use crate::jar::CookieKind;

/// Where sessions are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Engine {
    /// A table in SQLite
    Sqlite,
    /// A table in PostgreSQL
    Postgres,
    /// A table in MariaDB
    Mariadb,
    /// Redis or Valkey
    Redis,
    /// Valkey
    Valkey,
    /// Memcached
    Memcached,
    /// A file for each session
    File,
    /// A table in PostgreSQL, with Redis in front
    CachedDb,
    /// The memory of the site's process
    Memory,
    /// The cookie
    SignedCookies,
}

/// Another session library, with the same routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Peer {
    /// tower-sessions: sqlite, postgres, redis, memory
    TowerSessions,
    /// actix-session: redis, signed-cookies
    ActixSession,
}

impl Engine {
    /// The name on the command line.
    pub fn name(self) -> String {
        name(&self)
    }

    /// What the session cookie is.
    pub fn cookie(self) -> CookieKind {
        if self == Self::SignedCookies { CookieKind::Session } else { CookieKind::Key }
    }

    /// The servers that it needs.
    pub fn kinds(self) -> &'static [Kind] {
        match self {
            Self::Postgres => &[Kind::Postgres],
            Self::Mariadb => &[Kind::MariaDb],
            Self::Redis => &[Kind::Redis],
            Self::Valkey => &[Kind::Valkey],
            Self::Memcached => &[Kind::Memcached],
            Self::CachedDb => &[Kind::Postgres, Kind::Redis],
            Self::Sqlite | Self::File | Self::Memory | Self::SignedCookies => &[],
        }
    }

    /// Whether several processes can share the sessions.
    pub fn is_shared(self) -> bool {
        self != Self::Memory
    }
}

impl Peer {
    /// The name on the command line.
    pub fn name(self) -> String {
        name(&self)
    }

    fn has(self, engine: Engine) -> bool {
        match self {
            Self::TowerSessions => {
                matches!(engine, Engine::Sqlite | Engine::Postgres | Engine::Redis | Engine::Memory)
            }
            Self::ActixSession => matches!(engine, Engine::Redis | Engine::SignedCookies),
        }
    }
}

fn name(value: &impl clap::ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

/// The servers of an engine, running.
#[derive(Debug)]
pub struct Backing {
    engine: Engine,
    /// The servers, in the order of their kinds.
    pub servers: Vec<Arc<Server>>,
    /// The site keeps sessions where a restart of this forgets them: a server, or the site itself.
    forgetful: bool,
    urls: Vec<String>,
}

impl Backing {
    /// Starts what the engine needs. Redis keeps its log of commands unless `persistent` is false; databases write to the
    /// disk as in production.
    pub fn start(engine: Engine, persistent: bool) -> anyhow::Result<Self> {
        if !persistent && !engine.kinds().contains(&Kind::Redis) {
            bail!("--no-persistence is for Redis, which `{}` does not use: leave it out", engine.name());
        }
        let mut servers = Vec::new();
        for kind in engine.kinds() {
            let mut options = Options::new(*kind).durable();
            if *kind == Kind::Redis && !persistent {
                options = options.args(["--appendonly", "no"]);
            }
            servers.push(Arc::new(options.start().context("install it, or choose another --engine")?));
        }
        Ok(Self::over(engine, servers, persistent))
    }

    /// An engine over servers that run, of the kinds that it needs, with a database of its own on each.
    pub fn over(engine: Engine, servers: Vec<Arc<Server>>, persistent: bool) -> Self {
        // What a cache forgets, its database knows.
        let forgetful = match engine {
            Engine::Memcached | Engine::Memory => true,
            Engine::Redis | Engine::Valkey => !persistent,
            _ => false,
        };
        let urls = servers.iter().map(|server| server.database()).collect();
        Self { engine, servers, forgetful, urls }
    }

    /// Whether what is broken forgets the sessions by being restarted.
    pub fn is_forgetful(&self) -> bool {
        self.forgetful
    }

    /// The settings of a Cloakroom site, which may make files in a directory.
    pub fn settings(&self, directory: &Path) -> Vec<(String, String)> {
        let url = |place: usize| self.urls[place].clone();
        let (engine, more) = match self.engine {
            Engine::Sqlite => ("db", vec![("DATABASE_URL", sqlite(directory))]),
            Engine::Postgres | Engine::Mariadb => ("db", vec![("DATABASE_URL", url(0))]),
            Engine::Redis | Engine::Valkey | Engine::Memcached => ("cache", vec![("CACHE_URL", url(0))]),
            Engine::File => ("file", vec![("SESSION_FILE_PATH", directory.display().to_string())]),
            Engine::CachedDb => ("cached_db", vec![("DATABASE_URL", url(0)), ("CACHE_URL", url(1))]),
            Engine::Memory => ("cache", vec![("CACHE_URL", "locmem://?max_entries=4000000".to_owned())]),
            Engine::SignedCookies => ("signed_cookies", vec![]),
        };
        let secret = "a torture is no place for a secret that anybody else has to keep";
        let settings = [("SESSION_ENGINE", engine.to_owned()), ("SECRET_KEY", secret.to_owned())];
        settings.into_iter().chain(more).map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// Whether there is a table to be made.
    pub fn has_database(&self) -> bool {
        matches!(self.engine, Engine::Sqlite | Engine::Postgres | Engine::Mariadb | Engine::CachedDb)
    }

    /// The arguments of a peer's site.
    pub fn peer_arguments(&self, peer: Peer, directory: &Path) -> anyhow::Result<Vec<String>> {
        if !peer.has(self.engine) {
            bail!(
                "{} has no engine like `{}`: see --help for those that are compared",
                peer.name(),
                self.engine.name()
            );
        }
        Ok(vec![peer.name(), self.engine.name(), "--url".to_owned(), self.url(directory)])
    }

    /// The URL of the one place where sessions are, empty if that is the site itself.
    pub fn url(&self, directory: &Path) -> String {
        match self.engine {
            Engine::Sqlite => sqlite(directory),
            _ => self.urls.first().cloned().unwrap_or_default(),
        }
    }
}

fn sqlite(directory: &Path) -> String {
    format!("sqlite:{}", directory.join("sessions.sqlite3").display())
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn engines_and_peers_have_names() {
        let names: Vec<String> = Engine::value_variants().iter().map(|engine| engine.name()).collect();
        assert_eq!(
            names,
            [
                "sqlite",
                "postgres",
                "mariadb",
                "redis",
                "valkey",
                "memcached",
                "file",
                "cached-db",
                "memory",
                "signed-cookies"
            ]
        );
        assert_eq!(Peer::TowerSessions.name(), "tower-sessions");
    }
}
