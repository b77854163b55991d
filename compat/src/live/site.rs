//! Two sites over one store: `cloakroom serve`, and a real Django with the same routes, from one set of settings.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::{Mutex, OnceLock, PoisonError};

use cloakroom_test_servers::{Django, Kind, Options, Server, shared};
use tempfile::TempDir;
use ureq::Agent;

use super::database::Database;
use super::http::agent;
use super::memcached::Memcached;
use super::process::{Finished, Process};
use super::python::{python, root};
use super::redis::Redis;

pub use super::engine::Engine;

/// What every deployment signs with unless a test says otherwise.
pub const SECRET: &str = "the cloakroom of a theatre keeps ten thousand coats apart";

/// The arguments that make our command a site on a free port.
pub const SERVE: &[&str] = &["serve", "--addr", "127.0.0.1:0"];

/// Settings and a place for the store; sites and commands are started from it.
pub struct Deployment {
    directory: TempDir,
    engine: Engine,
    settings: Vec<(String, String)>,
    database: Database,
    cache: Option<Cache>,
}

/// A cache on a server.
struct Cache {
    server: CacheServer,
    /// What the keys of sessions start with.
    prefix: String,
}

enum CacheServer {
    /// A database of its own on a server that other tests use too.
    Redis(Mutex<Redis>),
    /// A server of its own, since a Memcached has no databases, and lists the keys of all who use it.
    Memcached(Box<Server>),
}

impl Deployment {
    /// An empty store for an engine. The table is not there yet: see [`migrated`](Deployment::migrated).
    pub fn new(engine: Engine) -> Deployment {
        let directory = TempDir::with_prefix("cloakroom-").expect("a temporary directory");
        let database = Database::at(match engine.database() {
            Some((kind, _)) => available(kind).database(),
            None => format!("sqlite://{}", directory.path().join("sessions.sqlite3").display()),
        });
        let mut deployment = Deployment { directory, engine, settings: Vec::new(), database, cache: None };
        deployment.set("SECRET_KEY", SECRET);
        deployment.set("SESSION_ENGINE", engine.module());
        if engine == Engine::File {
            let path = deployment.files();
            std::fs::create_dir(&path).expect("a directory for sessions");
            deployment.set("SESSION_FILE_PATH", path.to_str().expect("a path in UTF-8"));
        }
        if let Some(kind) = engine.cache_server() {
            deployment.make_cache(kind);
        }
        deployment
    }

    fn make_cache(&mut self, kind: Kind) {
        let (location, server) = match kind {
            Kind::Memcached => {
                // It takes the longer to list its keys, the larger its hash table is.
                let small = Options::new(kind).args(["-t", "1", "-o", "hashpower=12"]).start();
                let server = small.expect("asked for before a deployment is made");
                (server.address(), CacheServer::Memcached(Box::new(server)))
            }
            _ => {
                let url = available(kind).database();
                let redis = Redis::at(&url);
                (url, CacheServer::Redis(Mutex::new(redis)))
            }
        };
        self.set("CACHES", &self.engine.caches(&location, "site").expect("an engine with a cache"));
        let name = if self.engine == Engine::CachedDb { "cached_db" } else { "cache" };
        self.cache = Some(Cache { server, prefix: format!("site:1:django.contrib.sessions.{name}") });
    }

    /// The same with the table made by `cloakroom migrate`, for the engine that needs one.
    pub fn migrated(engine: Engine) -> Deployment {
        let deployment = Deployment::new(engine);
        if engine.has_table() {
            deployment.command(&["migrate"]).ok();
        }
        deployment
    }

    /// Changes a setting for whatever is started from now on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.settings.retain(|(known, _)| known != name);
        self.settings.push((name.to_owned(), value.to_owned()));
    }

    /// The same as an expression.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Deployment {
        self.set(name, value);
        self
    }

    /// The value of a setting that was made.
    pub fn setting(&self, name: &str) -> &str {
        let (_, value) = self.settings.iter().find(|(known, _)| known == name).expect("a setting that was made");
        value
    }

    /// The directory that holds everything of this deployment.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The engine it was made for.
    pub fn engine(&self) -> Engine {
        self.engine
    }

    /// The database that both sides share, if the engine has one; Django keeps its users there in any case.
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// The directory of the file engine.
    pub fn files(&self) -> PathBuf {
        self.directory().join("sessions")
    }

    /// Every stored session as key and content, in the order of keys; expiry aside. Of what a cache holds for a session
    /// that its database no longer has, nothing may be left but a marker.
    pub fn stored(&self) -> Vec<(String, String)> {
        if self.engine == Engine::File {
            return self.stored_files();
        }
        let cached = self.cache.as_ref().map(Cache::items).unwrap_or_default();
        if !self.engine.has_table() {
            return cached;
        }
        let rows: Vec<_> = self.database.sessions().into_iter().map(|row| (row.key, row.data)).collect();
        for (key, entry) in cached {
            let is_stored = rows.iter().any(|(stored, _)| *stored == key);
            assert!(is_stored || is_marker(&entry), "the cache still holds {key}, which was deleted: {entry}");
        }
        rows
    }

    fn stored_files(&self) -> Vec<(String, String)> {
        let mut files: Vec<(String, String)> = std::fs::read_dir(self.files())
            .expect("the directory of sessions")
            .map(|entry| entry.expect("an entry").path())
            .filter_map(|path| {
                let key = path.file_name()?.to_str()?.strip_prefix("sessionid")?.to_owned();
                Some((key, std::fs::read_to_string(&path).ok()?))
            })
            .collect();
        files.sort();
        files
    }

    /// Makes the cache in front of a database forget everything, as it may at any time. Nothing on other engines.
    pub fn forget_cache(&self) {
        if let (Engine::CachedDb, Some(Cache { server: CacheServer::Redis(redis), .. })) = (self.engine, &self.cache) {
            redis.lock().unwrap_or_else(PoisonError::into_inner).ask(&["FLUSHDB"]);
        }
    }

    /// Starts `cloakroom serve` and waits until it listens.
    pub fn cloakroom(&self) -> Site {
        Site::start("cloakroom serve", self.cloakroom_command(SERVE))
    }

    /// Starts `cloakroom serve` and hands over both.
    pub fn running(self) -> Running {
        let command = self.cloakroom_command(SERVE);
        self.running_as(command)
    }

    /// The same with a command that was made from it.
    pub fn running_as(self, command: Command) -> Running {
        let site = Site::start("cloakroom serve", command);
        Running { deployment: self, site }
    }

    /// Starts Django and waits until it answers.
    pub fn django(&self) -> Site {
        // The limits of the request are lifted: what a stranger may send is for Django to judge. And it keeps connections
        // for longer than the visitors do, so that it never closes one that is just being used.
        let options = ["--limit-request-line=0", "--limit-request-field_size=0", "--no-control-socket"];
        let options = options.into_iter().chain(["--threads=4", "--graceful-timeout=5", "--keep-alive=60"]);
        let django = Django::start(self.python_command(), &root().join("compat/django"), "counterpart.wsgi", options);
        Site { agent: agent(), address: django.url(), serving: Serving::Django(Box::new(django)) }
    }

    /// Runs a subcommand of `cloakroom` to its end.
    pub fn command(&self, arguments: &[&str]) -> Finished {
        Finished::run(self.cloakroom_command(arguments))
    }

    /// Runs `manage.py` to its end.
    pub fn manage(&self, arguments: &[&str]) -> Finished {
        let mut command = self.python_command();
        command.arg("manage.py").args(arguments);
        Finished::run(command)
    }

    /// The `cloakroom` command with these settings and no others.
    pub fn cloakroom_command(&self, arguments: &[&str]) -> Command {
        let mut command = self.environment(Command::new(cloakroom_binary()));
        command.args(arguments).current_dir(self.directory());
        if self.engine.has_table() && !self.settings.iter().any(|(name, _)| name == "DATABASE_URL") {
            command.env("DATABASE_URL", self.database.url());
        }
        command
    }

    fn python_command(&self) -> Command {
        let python = python().expect("asked for before a deployment with Django is made");
        let mut command = self.environment(Command::new(python));
        command.current_dir(root().join("compat/django"));
        command.env("DATABASE_URL", self.database.url()).env("PYTHONDONTWRITEBYTECODE", "1");
        command
    }

    /// Nothing of the caller's environment may decide how a site under test behaves.
    fn environment(&self, mut command: Command) -> Command {
        const OURS: &[&str] =
            &["SESSION_", "SECRET_KEY", "DATABASE", "CACHE", "CLOAKROOM_", "CSRF_", "USE_TZ", "TIME_ZONE"];
        for (name, _) in std::env::vars_os() {
            let known = name.to_str().is_some_and(|name| OURS.iter().any(|prefix| name.starts_with(prefix)));
            if known || name == "INSTALLED_APPS" || name == "RUST_LOG" {
                command.env_remove(name);
            }
        }
        command.envs(self.settings.iter().map(|(name, value)| (name, value)));
        command
    }
}

impl Cache {
    /// What it holds of sessions, by key, as text that tells all bytes.
    fn items(&self) -> Vec<(String, String)> {
        match &self.server {
            CacheServer::Redis(redis) => {
                let items = redis.lock().unwrap_or_else(PoisonError::into_inner).items(&self.prefix);
                items.into_iter().map(|(key, value)| (key, value.escape_ascii().to_string())).collect()
            }
            CacheServer::Memcached(server) => {
                let items = Memcached::at(server.address()).items(&self.prefix).into_iter();
                items.map(|(key, item)| (key, format!("{} {}", item.flags, item.value.escape_ascii()))).collect()
            }
        }
    }
}

/// Whether an entry is a pickle that Django reads as `None`: it ends there, whatever comes after.
fn is_marker(entry: &str) -> bool {
    entry.strip_prefix("\\x80\\x").is_some_and(|rest| rest.get(2..).is_some_and(|rest| rest.starts_with("N.")))
}

fn available(kind: Kind) -> &'static Server {
    shared(kind).expect("asked for before a deployment is made")
}

/// A site that runs until it is dropped.
pub struct Site {
    /// Connections that stay open for the next request. They go before the process: gunicorn waits for them.
    agent: Agent,
    serving: Serving,
    address: String,
}

enum Serving {
    Cloakroom(Mutex<Process>),
    Django(Box<Django>),
}

impl Site {
    fn start(name: &str, command: Command) -> Site {
        let mut process = Process::start(name, command);
        let address = process.wait_for("listening", listening);
        Site { agent: agent(), serving: Serving::Cloakroom(Mutex::new(process)), address }
    }

    /// What asks this site.
    pub fn agent(&self) -> &Agent {
        &self.agent
    }

    /// Where it listens, as the beginning of an address.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// What it printed so far.
    pub fn log(&self) -> String {
        match &self.serving {
            Serving::Cloakroom(_) => self.lock().log(),
            Serving::Django(django) => django.log(),
        }
    }

    /// Waits until its log has a line for which `wanted` holds. The site answers before its log is read here.
    pub fn wait_for_log(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        self.lock().wait_for(what, |log| log.lines().find(|line| wanted(line)).map(str::to_owned))
    }

    /// The number of the process.
    pub fn id(&self) -> u32 {
        self.lock().id()
    }

    /// Whether the process is still there.
    pub fn is_running(&self) -> bool {
        self.lock().is_running()
    }

    /// Asks it to end, as an operator would, and waits.
    pub fn stop(&self) -> ExitStatus {
        self.lock().stop()
    }

    /// Ends it at once, as a power cut would.
    pub fn kill(&self) {
        self.lock().kill();
    }

    /// The Django that this site is.
    pub fn as_django(&self) -> &Django {
        let Serving::Django(django) = &self.serving else { panic!("this one is ours") };
        django
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Process> {
        let Serving::Cloakroom(process) = &self.serving else { panic!("only ours is looked after so") };
        // A test that failed while it looked at the process has said why; the guard is as good as before.
        process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A site of ours, and the deployment that it was started from.
pub struct Running {
    /// What it was started from.
    pub deployment: Deployment,
    site: Site,
}

impl std::ops::Deref for Running {
    type Target = Site;

    fn deref(&self) -> &Site {
        &self.site
    }
}

/// The address in a log that names it: both sides choose a free port themselves and say which.
fn listening(log: &str) -> Option<String> {
    let complete = &log[..log.rfind('\n')?];
    let (_, rest) = complete.split_once("http://127.0.0.1:")?;
    let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
    (port != "0").then(|| format!("http://127.0.0.1:{port}"))
}

/// The `cloakroom` command: `CLOAKROOM_BIN`, or built now from this workspace.
pub fn cloakroom_binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(given) = std::env::var_os("CLOAKROOM_BIN") {
            return PathBuf::from(given);
        }
        let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        build.args(["build", "--quiet", "--package", "cloakroom-manage", "--bin", "cloakroom"]).current_dir(root());
        Finished::run(build).ok();
        // This test lies in `<target>/debug/deps`, the command in `<target>/debug`.
        let test = std::env::current_exe().expect("a test has a path");
        test.ancestors().nth(2).expect("two directories up").join(format!("cloakroom{}", std::env::consts::EXE_SUFFIX))
    })
}

/// Both sites over one store.
pub struct Pair {
    /// What both were started from.
    pub deployment: Deployment,
    /// The real Django.
    pub django: Site,
    /// Ours.
    pub cloakroom: Site,
}

impl Pair {
    /// Starts both; nothing if there is no Python with Django (see [`python`]).
    pub fn start(engine: Engine) -> Option<Pair> {
        Pair::start_with(engine, &[])
    }

    /// The same with settings for both.
    pub fn start_with(engine: Engine, settings: &[(&str, &str)]) -> Option<Pair> {
        if !engine.is_available() {
            return None;
        }
        let mut deployment = Deployment::new(engine);
        for (name, value) in settings {
            deployment.set(name, value);
        }
        // Django keeps its users there, whatever the engine.
        deployment.manage(&["migrate", "--verbosity", "0"]).ok();
        let (django, cloakroom) = (deployment.django(), deployment.cloakroom());
        Some(Pair { deployment, django, cloakroom })
    }

    /// Each as the first and the other as the second.
    pub fn both_ways(&self) -> [(&Site, &Site); 2] {
        [(&self.django, &self.cloakroom), (&self.cloakroom, &self.django)]
    }
}
