//! A site in a process of its own, to be killed, frozen and started again at the same address.

use std::fs::OpenOptions;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

/// How long a site may take to listen.
const PATIENCE: Duration = Duration::from_secs(30);

/// How to start a site: a program that takes `--addr HOST:PORT` behind these arguments.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Its environment, beside ours.
    pub environment: Vec<(String, String)>,
    /// Its working directory.
    pub directory: PathBuf,
}

impl Recipe {
    /// The program, ready to be given arguments. Settings of whoever runs us are not those under test.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        let is_setting = |name: &str| {
            let prefixes =
                ["SESSION_", "SECRET_KEY", "DATABASE_URL", "CACHE", "CLOAKROOM_", "CSRF_", "USE_TZ", "TIME_ZONE"];
            prefixes.iter().any(|prefix| name.starts_with(prefix))
        };
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(is_setting) {
                command.env_remove(name);
            }
        }
        command.current_dir(&self.directory).envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }
}

/// A site.
#[derive(Debug)]
pub struct Site {
    recipe: Recipe,
    address: SocketAddr,
    log: PathBuf,
    child: Mutex<Option<Child>>,
}

impl Site {
    /// Starts a site, whose standard error goes to this file, and waits until it listens.
    pub fn start(recipe: Recipe, log: &Path) -> anyhow::Result<Self> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let site = Self { recipe, address, log: log.to_owned(), child: Mutex::new(None) };
        site.launch()?;
        Ok(site)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The number of its process, if it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child().as_ref().map(Child::id)
    }

    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn launch(&self) -> anyhow::Result<()> {
        let log = OpenOptions::new().create(true).append(true).open(&self.log).context("no log for the site")?;
        let mut command = self.recipe.command();
        command.args(&self.recipe.arguments).args(["--addr", &self.address.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let mut child =
            command.spawn().with_context(|| format!("{} cannot be started", self.recipe.program.display()))?;
        let begin = Instant::now();
        while TcpStream::connect(self.address).is_err() {
            if child.try_wait()?.is_some() || begin.elapsed() > PATIENCE {
                let (_, _) = (child.kill(), child.wait());
                let said = std::fs::read_to_string(&self.log).unwrap_or_default();
                bail!("the site does not listen:\n{said}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        *self.child() = Some(child);
        Ok(())
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.child().as_ref().and_then(|child| Pid::from_raw(child.id().cast_signed())) {
            // It is our child and not waited for, so the number is still its own.
            let _ = kill_process(pid, signal);
        }
    }

    /// SIGKILL.
    pub fn kill(&self) {
        self.end(Signal::KILL);
    }

    /// SIGSTOP.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Stops it in order if it runs, and starts it again.
    pub fn restart(&self) -> anyhow::Result<()> {
        self.end(Signal::TERM);
        self.launch()
    }

    fn end(&self, signal: Signal) {
        self.signal(signal);
        let Some(mut child) = self.child().take() else { return };
        let begin = Instant::now();
        while !matches!(child.try_wait(), Ok(Some(_)) | Err(_)) {
            // Connections that are kept alive may keep it.
            if begin.elapsed() > Duration::from_secs(5) {
                let (_, _) = (child.kill(), child.wait());
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port that nobody listens on, from below the range that kernels give to outgoing connections: so it stays free
/// while the site is down.
fn free_port() -> u16 {
    loop {
        let port = fastrand::u16(12_000..32_000);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}
