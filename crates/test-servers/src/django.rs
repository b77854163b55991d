//! A Django site, served by gunicorn.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

use crate::process::{self, Process, Ready, Watcher};
use crate::{Own, free_port};

/// A Django site behind gunicorn, on a free port of 127.0.0.1. It is gone with this, or with the test program.
#[derive(Debug)]
pub struct Django {
    port: u16,
    directory: PathBuf,
    own: Own,
}

impl Django {
    /// Serves a project's WSGI application, such as `counterpart.wsgi`, and waits until it listens. `command` is a
    /// Python that has Django and gunicorn, with the environment that the site is to have; `options` are gunicorn's.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start<I: IntoIterator<Item: AsRef<OsStr>>>(
        mut command: Command,
        project: &Path,
        application: &str,
        options: I,
    ) -> Self {
        let directory = tempfile::Builder::new().prefix("cloakroom-").tempdir().expect("a temporary directory");
        let port = free_port();
        command.args(["-m", "gunicorn", application, "--bind", &format!("127.0.0.1:{port}"), "--chdir"]).arg(project);
        command.args(options).current_dir(directory.path());
        let watcher = Watcher::new(directory.path());
        let mut process = Process::new(watcher, command, Ready::Log("Listening at"), Signal::TERM);
        if let Err(log) = process.start() {
            panic!("Django does not start:\n{log}");
        }
        Self { port, directory: directory.path().to_owned(), own: Own::new(process, directory) }
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What it wrote to its log so far.
    pub fn log(&self) -> String {
        process::log(&self.directory)
    }

    /// Stops it in order.
    pub fn stop(&self) {
        self.own.process().stop();
    }

    /// Kills it (SIGKILL), its workers too.
    pub fn kill(&self) {
        self.own.process().kill();
    }

    /// Freezes it (SIGSTOP): connections are accepted by the kernel, but nobody answers.
    pub fn freeze(&self) {
        self.own.process().freeze();
    }

    /// Lets it go on (SIGCONT).
    pub fn thaw(&self) {
        self.own.process().thaw();
    }

    /// Stops it if it runs, and starts it again on the same port.
    ///
    /// # Panics
    /// If it does not start.
    pub fn restart(&self) {
        self.own.restart("Django");
    }
}
