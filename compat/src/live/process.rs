//! Processes that end with the test that started them.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long to wait for what should take a moment. Only a hang gets this far, so it is generous: machines are shared.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running process and what it printed so far.
pub struct Process {
    name: String,
    child: Child,
    log: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
}

impl Process {
    /// Starts it, with standard output and error gathered in one log.
    pub fn start(name: &str, mut command: Command) -> Process {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child =
            command.spawn().unwrap_or_else(|problem| panic!("cannot start {name} ({command:?}): {problem}"));
        let log = Arc::default();
        let readers = vec![
            gather(child.stdout.take().expect("piped"), Arc::clone(&log)),
            gather(child.stderr.take().expect("piped"), Arc::clone(&log)),
        ];
        Process { name: name.to_owned(), child, log, readers }
    }

    /// What it printed so far.
    pub fn log(&self) -> String {
        self.log.lock().expect("no writer panics").clone()
    }

    /// Waits until `find` finds something in the log; a process that ends before that is a failure.
    pub fn wait_for<T>(&mut self, what: &str, find: impl Fn(&str) -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            let ended = self.child.try_wait().expect("a child can be waited for");
            if ended.is_some() {
                // Its last words may still be on their way through the pipes.
                self.readers.drain(..).for_each(|reader| reader.join().expect("no reader panics"));
            }
            if let Some(found) = find(&self.log()) {
                return found;
            }
            if let Some(status) = ended {
                panic!("{} ended ({status}) before {what}:\n{}", self.name, self.log());
            }
            assert!(start.elapsed() < PATIENCE, "{} did not come to {what}:\n{}", self.name, self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child can be waited for").is_none()
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "{} does not end:\n{}", self.name, self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Asks it to end, as an operator would, and waits.
    pub fn stop(&mut self) -> ExitStatus {
        self.ask_to_end();
        self.wait()
    }

    /// Ends it at once, without a chance to tidy up.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn ask_to_end(&self) {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process has an id");
        // It may have ended meanwhile; then there is nothing to ask.
        let _ = kill_process(id, Signal::TERM);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // Politely first: gunicorn then takes its workers along.
            self.ask_to_end();
            let start = Instant::now();
            while matches!(self.child.try_wait(), Ok(None)) && start.elapsed() < Duration::from_secs(5) {
                std::thread::sleep(Duration::from_millis(5));
            }
            self.kill();
        }
    }
}

fn gather(pipe: impl Read + Send + 'static, log: Arc<Mutex<String>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut lines = BufReader::new(pipe);
        let mut line = Vec::new();
        while matches!(lines.read_until(b'\n', &mut line), Ok(count) if count > 0) {
            log.lock().expect("no writer panics").push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    })
}

/// A command that ran to its end.
#[derive(Debug)]
pub struct Finished {
    /// Its exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it said on the side.
    pub stderr: String,
}

impl Finished {
    /// Runs a command to its end.
    pub fn run(mut command: Command) -> Finished {
        let output = command.stdin(Stdio::null()).output();
        let output = output.unwrap_or_else(|problem| panic!("cannot run {command:?}: {problem}"));
        Finished {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The same, if it succeeded; a failure of the test with all it said if not.
    #[track_caller]
    pub fn ok(self) -> Finished {
        assert_eq!(self.code, Some(0), "{self:#?}");
        self
    }
}
