//! Who is compared with whom: bare axum, Cloakroom's engines, and other libraries, each as a site of its own over servers
//! that are shared.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use cloakroom_test_servers::{Kind, Options, Server};
use serde::Serialize;
use tempfile::TempDir;

use crate::engine::{Backing, Engine};
use crate::site::{Recipe, Site};

/// A row of the comparison.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Contestant {
    /// The library.
    pub library: String,
    /// Where it keeps sessions, in words.
    pub store: String,
    /// What it is compared with: those that keep sessions in the same place.
    pub group: &'static str,
    #[serde(skip)]
    kind: SiteKind,
}

#[derive(Clone, Debug, PartialEq)]
enum SiteKind {
    Bare,
    BareActix,
    /// An engine, and options behind its URL.
    Cloakroom(Engine, String),
    /// An engine, on actix-web.
    CloakroomActix(Engine),
    /// Arguments of the peers' site, and the engine whose place its sessions have.
    Peer(&'static [&'static str], Engine),
}

/// Sites that keep sessions in their own memory.
pub const IN_PROCESS: &str = "in process";
/// The group of the stores that are a cookie.
pub const COOKIE: &str = "cookie";
const GROUPS: [&str; 10] = [
    IN_PROCESS,
    COOKIE,
    "SQLite, FULL",
    "SQLite, NORMAL",
    "PostgreSQL",
    "Redis",
    "Valkey",
    "file",
    "MariaDB, Memcached, cached_db",
    "of your own",
];

/// The store of the row whose files are in the system's memory, where `/tmp` is on many systems.
const IN_TMPFS: &str = "file, in a tmpfs";
/// Where such a file system is on nearly every Linux.
const TMPFS: &str = "/dev/shm";

const OURS: &str = "Cloakroom";
const TOWER: &str = "tower-sessions";
const ACTIX: &str = "actix-session";
const AXUM: &str = "axum_session";

/// All rows, bare axum first.
pub fn all() -> Vec<Contestant> {
    let ours = |group, engine, store: &str, query: &str| Contestant {
        library: OURS.to_owned(),
        store: store.to_owned(),
        group,
        kind: SiteKind::Cloakroom(engine, query.to_owned()),
    };
    let peer = |group, engine, library: &str, store: &str, arguments| Contestant {
        library: library.to_owned(),
        store: store.to_owned(),
        group,
        kind: SiteKind::Peer(arguments, engine),
    };
    let ours_on_actix = |group, engine, store: &str| Contestant {
        library: OURS.to_owned(),
        store: format!("{store}, on actix-web"),
        group,
        kind: SiteKind::CloakroomActix(engine),
    };
    let [memory, cookie, full, normal, postgres, redis, valkey, file, others, _] = GROUPS;
    let bare = Contestant { library: "bare axum".into(), store: String::new(), group: "", kind: SiteKind::Bare };
    let bare_actix =
        Contestant { library: "bare actix-web".into(), store: String::new(), group: "", kind: SiteKind::BareActix };
    vec![
        bare,
        bare_actix,
        ours(memory, Engine::Memory, "memory", ""),
        peer(memory, Engine::Memory, TOWER, "memory", &[TOWER, "memory"]),
        peer(memory, Engine::Memory, TOWER, "moka", &[TOWER, "moka"]),
        peer(memory, Engine::Memory, AXUM, "memory", &["axum-session", "memory"]),
        ours(cookie, Engine::SignedCookies, "signed_cookies", ""),
        ours_on_actix(cookie, Engine::SignedCookies, "signed_cookies"),
        peer(cookie, Engine::SignedCookies, ACTIX, "cookie, encrypted", &[ACTIX, "private-cookies"]),
        ours(full, Engine::Sqlite, "SQLite", ""),
        peer(full, Engine::Sqlite, TOWER, "SQLite", &[TOWER, "sqlite"]),
        peer(full, Engine::Sqlite, AXUM, "SQLite with a copy", &["axum-session", "sqlite"]),
        ours(normal, Engine::Sqlite, "SQLite, NORMAL", "synchronous=normal"),
        peer(normal, Engine::Sqlite, TOWER, "SQLite, NORMAL", &[TOWER, "sqlite", "--synchronous-normal"]),
        peer(
            normal,
            Engine::Sqlite,
            AXUM,
            "SQLite, NORMAL, with a copy",
            &["axum-session", "sqlite", "--synchronous-normal"],
        ),
        ours(postgres, Engine::Postgres, "PostgreSQL", ""),
        ours(postgres, Engine::Postgres, "PostgreSQL, near cache", "near_cache_megabytes=64"),
        peer(postgres, Engine::Postgres, TOWER, "PostgreSQL", &[TOWER, "postgres"]),
        ours(redis, Engine::Redis, "Redis", ""),
        ours_on_actix(redis, Engine::Redis, "Redis"),
        ours(redis, Engine::Redis, "Redis, near cache", "near_cache_megabytes=64"),
        peer(redis, Engine::Redis, TOWER, "Redis", &[TOWER, "redis"]),
        peer(redis, Engine::Redis, ACTIX, "Redis", &[ACTIX, "redis"]),
        peer(redis, Engine::Redis, AXUM, "Redis with a copy", &["axum-session", "redis"]),
        ours(valkey, Engine::Valkey, "Valkey", ""),
        ours_on_actix(valkey, Engine::Valkey, "Valkey"),
        peer(valkey, Engine::Valkey, TOWER, "Valkey", &[TOWER, "redis"]),
        peer(valkey, Engine::Valkey, ACTIX, "Valkey", &[ACTIX, "redis"]),
        peer(valkey, Engine::Valkey, AXUM, "Valkey with a copy", &["axum-session", "redis"]),
        ours(file, Engine::File, "file", ""),
        ours(file, Engine::File, IN_TMPFS, ""),
        ours(others, Engine::Mariadb, "MariaDB", ""),
        ours(others, Engine::Memcached, "Memcached", ""),
        ours(others, Engine::CachedDb, "cached_db, PostgreSQL", ""),
    ]
}

impl Contestant {
    /// A row of one's own: an engine of Cloakroom with options, as `redis?socket_timeout=2`.
    pub fn extra(text: &str) -> anyhow::Result<Self> {
        use clap::ValueEnum;
        let (engine, query) = text.split_once('?').unwrap_or((text, ""));
        let engine = Engine::from_str(engine, true).map_err(|_| anyhow::anyhow!("there is no engine {engine:?}"))?;
        Ok(Self {
            library: OURS.to_owned(),
            store: text.to_owned(),
            group: GROUPS[GROUPS.len() - 1],
            kind: SiteKind::Cloakroom(engine, query.to_owned()),
        })
    }

    /// What it is called on the command line.
    pub fn id(&self) -> String {
        let words = format!("{} {}", self.library, self.store).to_lowercase();
        let parts: Vec<&str> =
            words.split(|c: char| !c.is_ascii_alphanumeric()).filter(|part| !part.is_empty()).collect();
        parts.join("-")
    }

    /// A directory for what it keeps, in a file system of the kind that it is told to be in.
    fn directory(&self) -> anyhow::Result<TempDir> {
        if self.store == IN_TMPFS {
            return tempfile::tempdir_in(TMPFS)
                .with_context(|| format!("{TMPFS} cannot be used: leave {} out with --only", self.id()));
        }
        tempfile::tempdir().context("no temporary directory")
    }

    /// Whether it is Cloakroom.
    pub fn is_ours(&self) -> bool {
        matches!(self.kind, SiteKind::Cloakroom(..) | SiteKind::CloakroomActix(_))
    }

    /// Whether its site is in the program with the other libraries.
    pub fn is_with_peers(&self) -> bool {
        !matches!(self.kind, SiteKind::Bare | SiteKind::Cloakroom(..))
    }

    /// Whether it is what all others are measured by.
    pub fn is_bare(&self) -> bool {
        self.kind == SiteKind::Bare
    }

    /// Whether each request is to be answered by a session's own counter.
    pub fn has_sessions(&self) -> bool {
        !matches!(self.kind, SiteKind::Bare | SiteKind::BareActix)
    }

    fn engine(&self) -> Option<Engine> {
        match self.kind {
            SiteKind::Bare | SiteKind::BareActix => None,
            SiteKind::Cloakroom(engine, _) | SiteKind::CloakroomActix(engine) | SiteKind::Peer(_, engine) => {
                Some(engine)
            }
        }
    }
}

/// The sites' programs.
#[derive(Clone, Debug)]
pub struct Programs {
    /// Bare axum and Cloakroom.
    pub ours: PathBuf,
    /// The other libraries, and sites on actix-web, if any of them takes part.
    pub peers: Option<PathBuf>,
}

impl Programs {
    fn peers(&self) -> anyhow::Result<PathBuf> {
        self.peers.clone().context("the peers' program is missing")
    }
}

/// Servers, of each kind one, started when they are first needed.
#[derive(Debug, Default)]
pub struct Servers(Vec<(Kind, Arc<Server>)>);

impl Servers {
    fn get(&mut self, kind: Kind) -> anyhow::Result<Arc<Server>> {
        if let Some((_, server)) = self.0.iter().find(|(known, _)| *known == kind) {
            return Ok(server.clone());
        }
        let arguments: &[&str] = match kind {
            // The server's own default, which is too much for tests.
            Kind::Postgres => &["-c", "shared_buffers=128MB"],
            Kind::MariaDb => &["--innodb-buffer-pool-size=128M", "--innodb-log-file-size=96M"],
            // As Redis is without a configuration, but for its dumps now and then.
            Kind::Redis | Kind::Valkey => &["--appendonly", "no"],
            Kind::Memcached => &["-m", "1024"],
        };
        let server = Options::new(kind).durable().args(arguments.iter().copied()).start();
        let server = Arc::new(server.context("install it, or leave those rows out with --only")?);
        self.0.push((kind, server.clone()));
        Ok(server)
    }

    /// What the servers say that they are.
    pub fn versions(&self) -> Vec<String> {
        self.0
            .iter()
            .filter_map(|(kind, server)| Some(format!("{} {}", kind.name(), version(*kind, server)?)))
            .collect()
    }
}

fn version(kind: Kind, server: &Server) -> Option<String> {
    use std::io::{Read, Write};
    let told = match kind {
        Kind::Postgres => server.sql("postgres", "SHOW server_version"),
        Kind::MariaDb => server.sql("mysql", "SELECT version()"),
        Kind::Redis | Kind::Valkey | Kind::Memcached => {
            let mut stream = std::net::TcpStream::connect(server.address()).ok()?;
            let question: &[u8] =
                if matches!(kind, Kind::Redis | Kind::Valkey) { b"INFO server\r\n" } else { b"version\r\n" };
            stream.write_all(question).ok()?;
            let mut answer = vec![0; 4096];
            let read = stream.read(&mut answer).ok()?;
            let answer = String::from_utf8_lossy(&answer[..read]).into_owned();
            let line = |name| answer.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
            line("valkey_version:").or_else(|| line("redis_version:")).or_else(|| line("VERSION "))?
        }
    };
    told.split(['-', ' ', '\n', '\r']).next().map(str::to_owned)
}

/// A site that runs, with the servers behind it.
#[derive(Debug)]
pub struct Running {
    /// The site.
    pub site: Site,
    /// The numbers of the servers' processes.
    pub servers: Vec<u32>,
    /// Removed when the site has ended.
    _directory: TempDir,
}

impl Running {
    /// Starts the site of a row, which keeps what it has in a directory of its own.
    pub fn start(contestant: &Contestant, programs: &Programs, servers: &mut Servers) -> anyhow::Result<Self> {
        let temporary = contestant.directory()?;
        let directory = temporary.path();
        let kinds = contestant.engine().map_or(&[][..], Engine::kinds);
        let running: Vec<_> = kinds.iter().map(|kind| servers.get(*kind)).collect::<anyhow::Result<_>>()?;
        let pids = running.iter().filter_map(|server| server.pid()).collect();
        let backing = contestant.engine().map(|engine| Backing::over(engine, running, false));
        let (program, mut arguments, environment) = match (&contestant.kind, &backing) {
            (SiteKind::Cloakroom(_, query), Some(backing)) => {
                (programs.ours.clone(), Vec::new(), with_query(backing.settings(directory), query))
            }
            (SiteKind::CloakroomActix(_), Some(backing)) => {
                (programs.peers()?, vec!["cloakroom-actix".to_owned()], backing.settings(directory))
            }
            (SiteKind::BareActix, _) => (programs.peers()?, vec!["bare-actix".to_owned()], Vec::new()),
            (SiteKind::Peer(arguments, _), Some(backing)) => {
                let program = programs.peers()?;
                let mut arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
                arguments.extend(["--url".to_owned(), backing.url(directory)]);
                (program, arguments, Vec::new())
            }
            _ => (programs.ours.clone(), vec!["--bare".to_owned()], Vec::new()),
        };
        arguments.extend(["--workers".to_owned(), "2".to_owned()]);
        let recipe = Recipe { program, arguments, environment, directory: directory.to_owned() };
        if matches!(contestant.kind, SiteKind::Cloakroom(..)) && backing.as_ref().is_some_and(Backing::has_database) {
            migrate(recipe.command().args(&recipe.arguments).arg("--migrate"))?;
        }
        let site = Site::start(recipe, &directory.join("log"))
            .with_context(|| format!("{} cannot take part", contestant.id()))?;
        Ok(Self { site, servers: pids, _directory: temporary })
    }
}

fn migrate(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output().context("the site's program cannot be started")?;
    ensure!(output.status.success(), "no session table:\n{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Adds options to the URL of the place where sessions are kept.
fn with_query(mut settings: Vec<(String, String)>, query: &str) -> Vec<(String, String)> {
    let url = ["DATABASE_URL", "CACHE_URL"]
        .iter()
        .find_map(|name| settings.iter().position(|(setting, _)| setting == name))
        .filter(|_| !query.is_empty());
    if let Some(place) = url {
        let url = &mut settings[place].1;
        *url += if url.contains('?') { "&" } else { "?" };
        *url += query;
    }
    settings
}

/// The rows that were asked for by their names or parts of them, always with bare axum.
pub fn choose(rows: Vec<Contestant>, only: &[String]) -> anyhow::Result<Vec<Contestant>> {
    for part in only {
        if !rows.iter().any(|row| row.id().contains(part.as_str())) {
            let known: Vec<String> = rows.iter().map(Contestant::id).collect();
            bail!("--only {part}: known are {}", known.join(", "));
        }
    }
    let wanted = |row: &Contestant| only.is_empty() || only.iter().any(|part| row.id().contains(part.as_str()));
    Ok(rows.into_iter().filter(|row| row.is_bare() || wanted(row)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_chosen_by_parts_of_their_names() {
        let ids = |only: &[&str]| -> Vec<String> {
            let only: Vec<String> = only.iter().map(|&part| part.to_owned()).collect();
            choose(all(), &only).unwrap().iter().map(Contestant::id).collect()
        };
        let near = "cloakroom-postgresql-near-cache";
        assert_eq!(ids(&["cloakroom-postgresql"]), ["bare-axum", "cloakroom-postgresql", near]);
        assert_eq!(ids(&["postgresql-near"]), ["bare-axum", near]);
        assert_eq!(ids(&["cloakroom-redis"]).len(), 4);
        assert_eq!(ids(&["actix-session", "moka"]).len(), 5);
        assert_eq!(ids(&[]).len(), all().len());
        assert!(choose(all(), &["nobody".to_owned()]).is_err());
        let mut names = ids(&[]);
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all().len(), "every row has a name of its own");
    }

    #[test]
    fn options_go_to_the_place_of_the_sessions() {
        let settings =
            |name: &str, url: &str| vec![("A".to_owned(), "b".to_owned()), (name.to_owned(), url.to_owned())];
        let url = |settings: Vec<(String, String)>, query| with_query(settings, query)[1].1.clone();
        assert_eq!(url(settings("DATABASE_URL", "sqlite:x"), "pool=1"), "sqlite:x?pool=1");
        assert_eq!(
            url(settings("CACHE_URL", "locmem://?max_entries=5"), "version=2"),
            "locmem://?max_entries=5&version=2"
        );
        assert_eq!(url(settings("CACHE_URL", "redis://h"), ""), "redis://h");
        let row = Contestant::extra("redis?socket_timeout=2").unwrap();
        assert_eq!(row.kind, SiteKind::Cloakroom(Engine::Redis, "socket_timeout=2".to_owned()));
        assert!(Contestant::extra("paper").is_err());
    }
}
