//! Private PostgreSQL, MariaDB, Redis, Valkey and Memcached servers and a Django for tests, to be broken at will.
//!
//! Each server listens on a free port of 127.0.0.1, keeps its data in a temporary directory, and is gone with its
//! [`Server`], or with the test program however that ends. Nothing else on the machine is touched. As root, servers
//! run as the user `nobody`, since some refuse root.
//!
//! ```no_run
//! use cloakroom_test_servers::{Kind, Options, require_or_skip, shared};
//!
//! // A test that only needs a database: one server for the whole test program, a fresh database for each test.
//! let Some(server) = shared(Kind::Postgres) else { return };
//! let url = server.database();
//!
//! // A test that breaks its server has one of its own.
//! let Some(server) = require_or_skip(Kind::Redis) else { return };
//! server.kill();
//! server.restart();
//!
//! // With options.
//! let Some(server) = Options::new(Kind::Redis).tls().args(["--maxmemory", "2mb"]).require_or_skip() else { return };
//! # let _ = (url, server);
//! ```
//!
//! A machine without a server's programs leaves out the tests that need it, and says so; with `CLOAKROOM_REQUIRE=all`
//! in the environment these tests fail instead.
//!
//! A test runner that has a process for each test would start the shared servers as often. Under the program
//! `test-servers`, which starts them once and runs a command, all programs share those.

mod certificates;
mod django;
mod kinds;
mod listener;
mod process;
mod programs;
mod run;
mod statements;
mod warnings;

use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use tempfile::TempDir;

pub use django::Django;
use process::{Process, Watcher};
pub use statements::statements;
pub use warnings::Warnings;

/// The user that tests log in as, where a server has users.
pub const USER: &str = "cloakroom";
/// The password of [`USER`], on PostgreSQL and MariaDB.
pub const PASSWORD: &str = "not-to-be-shown";

/// A kind of server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// PostgreSQL. [`USER`] is a superuser.
    Postgres,
    /// MariaDB. [`USER`] may do everything.
    MariaDb,
    /// Redis, or Valkey where that is installed instead. It keeps what it acknowledged through a kill (not through a
    /// power cut).
    Redis,
    /// Valkey, as Redis.
    Valkey,
    /// Memcached. A restart empties it.
    Memcached,
}

impl Kind {
    /// The name that people know it by.
    pub fn name(self) -> &'static str {
        match self {
            Self::Postgres => "PostgreSQL",
            Self::MariaDb => "MariaDB",
            Self::Redis => "Redis",
            Self::Valkey => "Valkey",
            Self::Memcached => "Memcached",
        }
    }
}

/// Why a server cannot be had on this machine: a program is not installed.
#[derive(Clone, Debug)]
pub struct Missing {
    kind: Kind,
    program: &'static str,
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} is not installed: there is no program `{}`", self.kind.name(), self.program)
    }
}

impl std::error::Error for Missing {}

/// How a server is to be started.
#[derive(Clone, Debug)]
pub struct Options {
    kind: Kind,
    args: Vec<String>,
    password: Option<String>,
    tls: bool,
    durable: bool,
}

impl Options {
    /// A server of this kind that is fast and forgets at a power cut.
    pub fn new(kind: Kind) -> Self {
        Self { kind, args: Vec::new(), password: None, tls: false, durable: false }
    }

    /// More arguments for the server's command line, as `["-c", "log_statement=all"]` (PostgreSQL),
    /// `["--read-only=1"]` (MariaDB), `["--maxmemory", "2mb"]` (Redis), `["-I", "512k"]` (Memcached).
    #[must_use]
    pub fn args<I: IntoIterator<Item: Into<String>>>(mut self, args: I) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// A password for Redis. PostgreSQL and MariaDB have [`PASSWORD`] anyway.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self
    }

    /// Encrypted connections, with a certificate for `localhost` and `127.0.0.1` from the authority
    /// [`ca_certificate`](Server::ca_certificate). Redis then takes no others; PostgreSQL and MariaDB take both.
    #[must_use]
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Writes to the disk as a production server does.
    #[must_use]
    pub fn durable(mut self) -> Self {
        self.durable = true;
        self
    }

    /// Starts the server and waits until it is ready.
    ///
    /// # Errors
    /// [`Missing`] if a program that this takes is not installed.
    ///
    /// # Panics
    /// If the server is installed but does not start: that is a failure, not a reason to leave tests out.
    pub fn start(self) -> Result<Server, Missing> {
        Server::launch(self)
    }

    /// As [`require_or_skip`], with these options.
    ///
    /// # Panics
    /// As [`require_or_skip`].
    pub fn require_or_skip(self) -> Option<Server> {
        match self.start() {
            Ok(server) => Some(server),
            Err(missing) => {
                leave_out(&missing);
                None
            }
        }
    }
}

/// Starts a server for the current test; `None`, after a line that says why, on a machine that lacks it.
///
/// # Panics
/// If `CLOAKROOM_REQUIRE=all` is set and the server is missing, or if it is installed but does not start.
pub fn require_or_skip(kind: Kind) -> Option<Server> {
    Options::new(kind).require_or_skip()
}

/// The one server of its kind that the tests of this program share, or of the whole run under the program
/// `test-servers`; each uses a [database](Server::database) of its own, and none may break the server. `None`, after a
/// line that says why, on a machine that lacks it.
///
/// # Panics
/// As [`require_or_skip`].
pub fn shared(kind: Kind) -> Option<&'static Server> {
    static SERVERS: [OnceLock<Result<Server, Missing>>; 5] = [const { OnceLock::new() }; 5];
    match SERVERS[kind as usize].get_or_init(|| match run::given(kind) {
        Some((port, directory)) => Ok(Server::of_others(kind, port, directory)),
        None => Server::start(kind),
    }) {
        Ok(server) => Some(server),
        Err(missing) => {
            leave_out(missing);
            None
        }
    }
}

/// Says that the current test is left out. Past the test harness, which shows only what failed tests print.
fn leave_out(missing: &Missing) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    assert!(
        std::env::var_os("CLOAKROOM_REQUIRE").is_none_or(|required| required != "all"),
        "{missing}, but CLOAKROOM_REQUIRE=all is set"
    );
    let _ = writeln!(std::io::stderr(), "left out: {test}, because {missing}");
}

/// A running server, or one that was stopped and can be [restarted](Self::restart).
#[derive(Debug)]
pub struct Server {
    options: Options,
    port: u16,
    directory: PathBuf,
    /// Nothing if the server belongs to the program that started us.
    own: Option<Own>,
}

/// A process that we started. Fields are dropped in order: the process first, then the directory.
#[derive(Debug)]
struct Own {
    process: Mutex<Process>,
    _temporary: TempDir,
}

impl Own {
    fn new(process: Process, temporary: TempDir) -> Self {
        Self { process: Mutex::new(process), _temporary: temporary }
    }

    fn process(&self) -> MutexGuard<'_, Process> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops the process if it runs, and starts it again.
    fn restart(&self, name: &str) {
        let mut process = self.process();
        process.stop();
        if let Err(log) = process.start() {
            panic!("{name} does not start again:\n{log}");
        }
    }
}

impl Server {
    /// Starts a server and waits until it is ready.
    ///
    /// # Errors
    /// [`Missing`] if it is not installed.
    ///
    /// # Panics
    /// If it is installed but does not start.
    pub fn start(kind: Kind) -> Result<Self, Missing> {
        Self::launch(Options::new(kind))
    }

    fn launch(options: Options) -> Result<Self, Missing> {
        let plan = kinds::Plan::new(&options)?;
        let temporary = tempfile::Builder::new().prefix("cloakroom-").tempdir().expect("a temporary directory");
        let directory = temporary.path().to_owned();
        programs::give_away(&directory);
        let watcher = Watcher::new(&directory);
        plan.prepare(&directory);
        for _ in 0..5 {
            let port = free_port();
            let command = plan.command(&directory, port);
            let mut process = Process::new(watcher.clone(), command, plan.ready(&directory), plan.stop());
            match process.start() {
                Ok(()) => {
                    let own = Some(Own::new(process, temporary));
                    return Ok(Self { options, port, directory, own });
                }
                // Somebody else took the port between our look and the server's.
                Err(log) if log.contains("in use") => {}
                Err(log) => panic!("{} does not start:\n{log}", options.kind.name()),
            }
        }
        panic!("{} finds no free port", options.kind.name())
    }

    fn of_others(kind: Kind, port: u16, directory: PathBuf) -> Self {
        Self { options: Options::new(kind), port, directory, own: None }
    }

    fn own(&self) -> &Own {
        self.own.as_ref().expect("only a test's own server is stopped, killed or looked after")
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        self.options.kind
    }

    /// The TCP port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The directory of its data, log, socket and certificates.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The URL of the server's first database: `postgres://…/postgres`, `mysql://…/mysql`, `redis://…/0` (`rediss://`
    /// with TLS), `memcached://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        match self.options.kind {
            Kind::Postgres => self.url_of("postgres"),
            Kind::MariaDb => self.url_of("mysql"),
            Kind::Redis | Kind::Valkey => self.url_of("0"),
            Kind::Memcached => format!("memcached://{}", self.address()),
        }
    }

    /// The URL of a database of this name.
    pub fn url_of(&self, database: &str) -> String {
        let address = self.address();
        match self.options.kind {
            Kind::Postgres => format!("postgres://{USER}:{PASSWORD}@{address}/{database}"),
            Kind::MariaDb => format!("mysql://{USER}:{PASSWORD}@{address}/{database}"),
            Kind::Redis | Kind::Valkey => {
                let scheme = if self.options.tls { "rediss" } else { "redis" };
                let user = self.options.password.as_ref().map(|p| format!(":{p}@")).unwrap_or_default();
                format!("{scheme}://{user}{address}/{database}")
            }
            Kind::Memcached => self.url(),
        }
    }

    /// The URL of a new, empty database. On Redis and Valkey it is one by number, of 1,000. Memcached has none: it is
    /// [`url`](Self::url), and tests need key prefixes of their own.
    ///
    /// # Panics
    /// If the server refuses, since it is down for example.
    pub fn database(&self) -> String {
        let number = self.next_database();
        let name = match self.options.kind {
            Kind::Redis | Kind::Valkey => number.to_string(),
            _ => format!("test_{number}"),
        };
        if let Some(mut command) = kinds::create_database(self.options.kind, &self.directory, self.port, &name) {
            process::run(&mut command);
        }
        self.url_of(&name)
    }

    /// A number that no other program has drawn: who makes the file, has the number.
    fn next_database(&self) -> u32 {
        let drawn = |number: &u32| {
            let made = std::fs::File::create_new(self.directory.join(format!("database-{number}")));
            made.map_err(|problem| assert_eq!(problem.kind(), std::io::ErrorKind::AlreadyExists, "{problem}")).is_ok()
        };
        (1..).find(drawn).expect("numbers without an end")
    }

    /// Runs SQL in a database through the server's own client, and returns what that prints: rows by lines, columns
    /// by tabs. For PostgreSQL and MariaDB.
    ///
    /// # Panics
    /// If it fails.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        let database = database.rsplit('/').next().unwrap_or(database);
        process::run(&mut kinds::client(self.options.kind, &self.directory, self.port, database, sql))
    }

    /// The certificate of the authority that signed the server's, in PEM, with [`Options::tls`].
    pub fn ca_certificate(&self) -> PathBuf {
        certificates::ca(&self.directory)
    }

    /// What the server wrote to its log so far.
    pub fn log(&self) -> String {
        process::log(&self.directory)
    }

    /// Whether the process is there, frozen or not.
    pub fn is_running(&self) -> bool {
        self.own().process().is_running()
    }

    /// The number of the server's process, if it runs. PostgreSQL has a child of it for each connection.
    pub fn pid(&self) -> Option<u32> {
        self.own().process().pid().map(|pid| pid.as_raw_nonzero().get().cast_unsigned())
    }

    /// Stops the server in order. No effect on one that does not run.
    pub fn stop(&self) {
        self.own().process().stop();
    }

    /// Kills the server (SIGKILL): connections break, nothing is cleaned up.
    pub fn kill(&self) {
        self.own().process().kill();
    }

    /// Freezes the server (SIGSTOP): connections stay, and are accepted by the kernel, but nobody answers.
    pub fn freeze(&self) {
        self.own().process().freeze();
    }

    /// Lets a frozen server go on (SIGCONT).
    pub fn thaw(&self) {
        self.own().process().thaw();
    }

    /// Stops the server if it runs, and starts it again with the same data on the same port.
    ///
    /// # Panics
    /// If it does not start.
    pub fn restart(&self) {
        self.own().restart(self.options.kind.name());
    }
}

/// A port that nobody listens on, from below the range that kernels give to outgoing connections: so it stays free
/// while a server is down.
fn free_port() -> u16 {
    static NEXT: OnceLock<AtomicU32> = OnceLock::new();
    let next = NEXT.get_or_init(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        AtomicU32::new(now.subsec_micros() ^ std::process::id().wrapping_mul(2_654_435_761))
    });
    loop {
        let port = 12_000 + (next.fetch_add(1, Ordering::Relaxed) % 20_000) as u16;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// A command that speaks English, whatever the machine does.
fn english(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env("LC_ALL", "C").env("TZ", "UTC");
    command
}
