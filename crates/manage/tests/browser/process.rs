//! Processes that end with us, with all that they started, however we end.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

/// The longest that a process may take to start, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs a command in a process group of its own until the standard input ends, which it does with us even if we are
/// killed. The command is asked to end, and after a while the whole group is killed: a browser outlives its driver.
const GUARD: &str = r#"
trap '' TERM INT HUP
(trap - TERM INT HUP; exec "$@") </dev/null &
command=$!
read -r _
kill -TERM $command 2>/dev/null
(sleep 20; kill -KILL 0) &
wait $command
kill -KILL 0
"#;

pub(crate) struct Process {
    guard: Child,
}

impl Process {
    /// Starts a command and waits until `find` finds something in a line that it prints.
    pub(crate) fn start<T: Send + 'static>(
        command: &Command,
        find: impl Fn(&str) -> Option<T> + Send + 'static,
    ) -> (Self, T) {
        let mut guarded = Command::new("/bin/sh");
        guarded.args(["-c", GUARD, "guard"]).arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => guarded.env(name, value),
                None => guarded.env_remove(name),
            };
        }
        guarded.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut guard = guarded.spawn().expect("a shell");
        let lines = BufReader::new(guard.stdout.take().expect("a pipe"));
        let process = Self { guard };
        let (found, wait) = channel();
        std::thread::spawn(move || {
            // To the end, so that the process can always write.
            for line in lines.lines().map_while(Result::ok) {
                if let Some(wanted) = find(&line) {
                    let _ = found.send(wanted);
                }
            }
        });
        match wait.recv_timeout(PATIENCE) {
            Ok(wanted) => (process, wanted),
            Err(RecvTimeoutError::Disconnected) => panic!("{command:?} ended too early"),
            Err(RecvTimeoutError::Timeout) => panic!("{command:?} does not start"),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}
