//! One server process: started, stopped, killed, frozen, and gone when we are.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// The longest that a server may take to start or stop, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
const STEP: Duration = Duration::from_millis(10);

/// How a server says that it is ready.
#[derive(Debug)]
pub(crate) enum Ready {
    /// By these words in its log.
    Log(&'static str),
    /// By making this file.
    File(PathBuf),
}

fn log_path(directory: &Path) -> PathBuf {
    directory.join("log")
}

pub(crate) fn log(directory: &Path) -> String {
    log_from(&log_path(directory), 0)
}

fn log_from(path: &Path, position: u64) -> String {
    let mut bytes = Vec::new();
    if let Ok(mut file) = File::open(path) {
        let _ = file.seek(SeekFrom::Start(position)).and_then(|_| file.read_to_end(&mut bytes));
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Runs a command to its end, for what it prints.
///
/// # Panics
/// If it fails.
pub(crate) fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}{err}", output.status);
    out.into_owned()
}

/// A shell that outlives us, however we end, to kill the server and to remove its directory.
///
/// Destructors are not enough: a static is never dropped, and a killed test program drops nothing. The kernel's own
/// means, a signal at the parent's death, watches the thread that started the server, and test threads are short-lived.
#[derive(Clone, Debug)]
pub(crate) struct Watcher(Arc<Mutex<Shell>>);

#[derive(Debug)]
struct Shell {
    child: Child,
    input: ChildStdin,
}

/// Reads process ids until we are gone, then ends the last one with its children. "done" if there is nothing to do.
const WATCH: &str = r#"
trap '' HUP INT TERM
last=0
while read -r pid; do
    if [ "$pid" = done ]; then exit; fi
    last=$pid
done
if [ "$last" -gt 1 ]; then
    kill -STOP "$last"
    for stat in /proc/[0-9]*/stat; do
        read -r line 2>/dev/null < "$stat" || continue
        child=${line%% *}
        set -- ${line##*) }
        if [ "$2" = "$last" ]; then kill -KILL "$child"; fi
    done
    kill -KILL "$last"
fi
case $0 in */cloakroom-*) rm -rf "$0"; sleep 0.1; rm -rf "$0" ;; esac
"#;

impl Watcher {
    pub(crate) fn new(directory: &Path) -> Self {
        let mut command = Command::new("/bin/sh");
        // A group of its own: the terminal's Ctrl-C is for us.
        command.arg("-c").arg(WATCH).arg(directory).process_group(0).current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().expect("a shell");
        let input = child.stdin.take().expect("a pipe");
        Self(Arc::new(Mutex::new(Shell { child, input })))
    }

    /// Names the process to end, 0 for none.
    fn watch(&self, pid: u32) {
        let mut shell = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(shell.input, "{pid}").expect("the watching shell is there");
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // The server has ended, and its directory is removed with the `Server`.
        let _ = self.input.write_all(b"done\n");
        let _ = self.child.wait();
    }
}

/// A server's process, or the means to start one.
#[derive(Debug)]
pub(crate) struct Process {
    watcher: Watcher,
    command: Command,
    ready: Ready,
    stop: Signal,
    log: PathBuf,
    child: Option<Child>,
}

impl Process {
    pub(crate) fn new(watcher: Watcher, mut command: Command, ready: Ready, stop: Signal) -> Self {
        let directory = command.get_current_dir().expect("servers run in their directory");
        let log = log_path(directory);
        command.stdin(Stdio::null()).process_group(0);
        Self { watcher, command, ready, stop, log, child: None }
    }

    /// Starts the server and waits until it is ready; otherwise what it said.
    pub(crate) fn start(&mut self) -> Result<(), String> {
        if let Ready::File(file) = &self.ready {
            match std::fs::remove_file(file) {
                Err(e) if e.kind() != ErrorKind::NotFound => panic!("{}: {e}", file.display()),
                _ => {}
            }
        }
        let log = OpenOptions::new().create(true).append(true).open(&self.log).expect("a log file");
        let position = log.metadata().expect("a log file").len();
        self.command.stdout(log.try_clone().expect("a log file")).stderr(log);
        let child = self.command.spawn().unwrap_or_else(|e| panic!("{:?}: {e}", self.command));
        self.watcher.watch(child.id());
        self.child = Some(child);
        let begin = Instant::now();
        loop {
            let exited = !self.is_running();
            let said = || log_from(&self.log, position);
            let ready = match &self.ready {
                Ready::Log(words) => said().contains(words),
                Ready::File(file) => file.exists(),
            };
            if exited || begin.elapsed() > PATIENCE {
                let said = format!("{:?}\n{}", self.command, said());
                self.kill();
                return Err(said);
            }
            if ready {
                return Ok(());
            }
            std::thread::sleep(STEP);
        }
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().expect("our child").is_none())
    }

    pub(crate) fn pid(&self) -> Option<Pid> {
        Pid::from_raw(self.child.as_ref()?.id() as i32)
    }

    /// The server with its children (PostgreSQL has one for each connection), the server first.
    fn family(&self) -> Vec<Pid> {
        let Some(pid) = self.pid() else { return Vec::new() };
        let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let children = processes.filter_map(|entry| {
            let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
            // The name, in parentheses, may hold anything; the parent is the second field after it.
            let parent: i32 = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
            let child = Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)?;
            (Pid::from_raw(parent) == Some(pid)).then_some(child)
        });
        std::iter::once(pid).chain(children).collect()
    }

    /// One that has ended in the meantime is no error.
    fn signal(pid: Pid, signal: Signal) {
        let _ = kill_process(pid, signal);
    }

    pub(crate) fn freeze(&mut self) {
        // The server first, so that it has no more children than we see.
        if let Some(pid) = self.pid() {
            Self::signal(pid, Signal::STOP);
        }
        let family = self.family();
        family.iter().for_each(|pid| Self::signal(*pid, Signal::STOP));
        // A signal is under way for a moment, in which a thread may still answer.
        let begin = Instant::now();
        while !family.iter().all(|pid| is_still(*pid)) && begin.elapsed() < PATIENCE {
            std::thread::yield_now();
        }
    }

    pub(crate) fn thaw(&mut self) {
        self.family().into_iter().for_each(|pid| Self::signal(pid, Signal::CONT));
    }

    pub(crate) fn kill(&mut self) {
        self.freeze();
        let family = self.family();
        family.iter().for_each(|pid| Self::signal(*pid, Signal::KILL));
        self.ended();
        // Whoever reaps the children now; a restart fails while one of them holds the server's memory.
        let begin = Instant::now();
        while family.iter().any(|pid| is_alive(*pid)) && begin.elapsed() < PATIENCE {
            std::thread::sleep(STEP);
        }
    }

    pub(crate) fn stop(&mut self) {
        self.thaw();
        if let Some(pid) = self.pid().filter(|_| self.is_running()) {
            Self::signal(pid, self.stop);
            let begin = Instant::now();
            while self.is_running() {
                if begin.elapsed() > PATIENCE {
                    self.kill();
                    panic!("a server does not stop: {:?}", self.command);
                }
                std::thread::sleep(STEP);
            }
        }
        self.ended();
    }

    /// Reaps the child, which has ended or is about to.
    fn ended(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Its number may be another's from here on.
            self.watcher.watch(0);
            child.wait().expect("our child");
        }
    }
}

/// Whether a process is there and no zombie.
fn is_alive(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    stat.is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z')))
}

/// Whether no thread of a process runs.
fn is_still(pid: Pid) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero())).into_iter().flatten().flatten();
    threads.map(|thread| std::fs::read_to_string(thread.path().join("stat"))).all(|stat| {
        // Stopped, or at its end.
        stat.is_err()
            || stat.is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, s)| s.starts_with(['T', 'Z', 'X'])))
    })
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
