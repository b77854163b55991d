//! `cloakroom serve`, on a free port, with a directory of its own.

use std::io::{Read, Write};
use std::net::TcpStream;
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
        Self::start_with(&[], settings)
    }

    /// The same with more arguments.
    pub(crate) fn start_with(arguments: &[&str], settings: &[(&str, &str)]) -> Self {
        let directory = TempDir::with_prefix("cloakroom-site-").expect("a temporary directory");
        std::fs::create_dir(directory.path().join("tmp")).expect("a directory");
        let mut command = Command::new(env!("CARGO_BIN_EXE_cloakroom"));
        command.args(["serve", "--addr", "127.0.0.1:0", "--data"]).arg(directory.path().join("data"));
        command.args(arguments);
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

    /// Makes a request as a client of its own does, and gives the cookies that it has then.
    pub(crate) fn visit(&self, path: &str, cookies: &str) -> String {
        let host = self.address.strip_prefix("http://").expect("an address");
        let mut stream = TcpStream::connect(host).expect("a site");
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nCookie: {cookies}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("a request");
        let mut response = String::new();
        stream.read_to_string(&mut response).expect("a response");
        assert!(response.starts_with("HTTP/1.1 200 "), "{path}: {response}");
        let set = response.lines().find_map(|line| line.strip_prefix("set-cookie: "));
        set.map_or(cookies, |set| set.split(';').next().expect("a cookie")).to_owned()
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
