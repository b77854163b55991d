//! `cloakroom serve`, on a free port, with a directory of its own.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::process::Process;

pub(crate) struct Site {
    address: String,
    // Dropped in this order: the process, then its directory.
    process: Option<Process>,
    directory: TempDir,
}

impl Site {
    /// A site with these settings, in the environment, and no others.
    pub(crate) fn start(settings: &[(&str, &str)]) -> Self {
        let directory = TempDir::with_prefix("cloakroom-site-").expect("a temporary directory");
        std::fs::create_dir(directory.path().join("tmp")).expect("a directory");
        let mut command = Command::new(env!("CARGO_BIN_EXE_cloakroom"));
        command.args(["serve", "--addr", "127.0.0.1:0", "--data"]).arg(directory.path().join("data"));
        // Nothing of the caller's environment may decide how a site under test behaves.
        for (name, _) in std::env::vars_os() {
            const OURS: &[&str] = &["SESSION_", "SECRET_KEY", "DATABASE", "CACHE", "CLOAKROOM_", "INSTALLED_APPS"];
            if name.to_str().is_some_and(|name| OURS.iter().any(|prefix| name.starts_with(prefix))) {
                command.env_remove(name);
            }
        }
        command.env("TMPDIR", directory.path().join("tmp")).envs(settings.iter().copied());
        let (process, address) = Process::start(&command, |line| {
            let (_, rest) = line.split_once("Listening on ")?;
            rest.split_whitespace().next().map(str::to_owned)
        });
        Self { address, process: Some(process), directory }
    }

    /// The address of a page.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.address)
    }

    /// Its directory for temporary files, where the sandboxes are.
    pub(crate) fn temporary(&self) -> std::path::PathBuf {
        self.directory.path().join("tmp")
    }

    /// How many sandboxes there are.
    pub(crate) fn sandboxes(&self) -> usize {
        let entries = std::fs::read_dir(self.temporary()).expect("a directory").map(|entry| entry.expect("an entry"));
        entries.filter(|entry| is_sandbox(&entry.path())).count()
    }

    /// Asks it to end, and waits.
    pub(crate) fn stop(&mut self) {
        self.process = None;
    }
}

fn is_sandbox(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("cloakroom-sandbox-"))
}
