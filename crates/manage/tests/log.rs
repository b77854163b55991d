//! The trace in a terminal: `RUST_LOG=cloakroom=debug cloakroom serve`, with real requests.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

struct Site {
    process: Child,
    address: String,
}

impl Site {
    /// A site whose log goes to a file.
    fn start(directory: &Path, filter: &str, engine: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cloakroom"));
        command.args(["serve", "--addr", "127.0.0.1:0", "--engine", engine, "--data"]).arg(directory.join("data"));
        for (name, _) in std::env::vars_os() {
            const OURS: &[&str] = &["SESSION_", "SECRET_KEY", "DATABASE", "CACHE", "CLOAKROOM_", "INSTALLED_APPS"];
            if name.to_str().is_some_and(|name| OURS.iter().any(|prefix| name.starts_with(prefix))) {
                command.env_remove(name);
            }
        }
        let log = File::create(directory.join("log")).expect("a file");
        command.env("RUST_LOG", filter).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let mut process = command.spawn().expect("the command");
        let mut lines = BufReader::new(process.stdout.take().expect("a pipe")).lines().map_while(Result::ok);
        let found = lines.find_map(|line| Some(line.split_once("Listening on http://")?.1.to_owned()));
        let address = found.expect("a site that starts").split_whitespace().next().expect("an address").to_owned();
        Self { process, address }
    }

    /// Makes a request, and gives the session cookie that the browser has then.
    fn get(&self, path: &str, cookie: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).expect("a site");
        let request = format!("GET {path} HTTP/1.1\r\nHost: site\r\nCookie: {cookie}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("a request");
        let mut response = String::new();
        stream.read_to_string(&mut response).expect("a response");
        let set = response.lines().find_map(|line| line.strip_prefix("set-cookie: "));
        set.map_or(cookie, |set| set.split(';').next().expect("a cookie")).to_owned()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What the log says of one request, without times: its steps.
fn steps<'a>(log: &'a str, request: &str) -> Vec<&'a str> {
    log.lines().filter_map(|line| Some(line.split_once(&format!("{request}: "))?.1)).collect()
}

#[test]
fn debug_shows_each_step_of_each_request_with_masked_keys_and_no_values() {
    for engine in ["db", "cached_db", "cache", "file", "signed_cookies"] {
        let directory = tempfile::tempdir().expect("a directory");
        let site = Site::start(directory.path(), "cloakroom=debug", engine);
        let mut cookies = vec![site.get("/set?k=color&v=%22hidden%20value%22", "unrelated=1")];
        for path in ["/incr?k=color", "/cycle?secret=hidden", "/noop", "/flush", "/all"] {
            cookies.push(site.get(path, cookies.last().expect("a cookie")));
        }
        drop(site);
        let log = std::fs::read_to_string(directory.path().join("log")).expect("a log");
        assert!(!log.contains("hidden") && !log.contains('\x1b'), "{engine}: {log}");
        for cookie in cookies.iter().filter_map(|cookie| cookie.strip_prefix("sessionid=")) {
            let key = cookie.trim_matches('"');
            assert!(key.len() < 5 || !log.contains(&key[..5]), "{engine}: {key} is in the log: {log}");
        }
        let key = cookies[0].strip_prefix("sessionid=").expect("a session");
        let masked: String = key.chars().take(4).chain(['…']).collect();
        let first = steps(&log, "#1 GET /set");
        assert_eq!(first[0], "open: cookie read presented=false", "{engine}: {log}");
        assert_eq!(first[1], "load: no key, the store is not asked", "{engine}: {log}");
        assert_eq!(first[2], "change: set item=\"color\" bytes=14", "{engine}: {log}");
        assert_eq!(first[3], "commit: the session is to be saved why=\"it was changed\"", "{engine}: {log}");
        assert_eq!(first.last(), Some(&format!("commit: the cookie is set key={masked}").as_str()), "{engine}: {log}");
        let failed = steps(&log, "#2 GET /incr");
        assert_eq!(failed[0], format!("open: cookie read presented=true key={masked}"), "{engine}: {log}");
        let error = "session error=the session's item \"color\" is text, which cannot be read as i64";
        assert!(failed.iter().any(|step| step.starts_with(error)), "{engine}: {log}");
        assert_eq!(failed.last(), Some(&"commit: nothing was changed, nothing is saved status=500"), "{engine}: {log}");
        let rotated = steps(&log, "#3 GET /cycle").iter().any(|step| step.starts_with("change: a new key"));
        // Where the cookie is the session, there is no key to change.
        assert_eq!(rotated, engine != "signed_cookies", "{engine}: {log}");
        assert_eq!(steps(&log, "#4 GET /noop").last(), Some(&"commit: untouched status=200"), "{engine}: {log}");
        assert!(
            steps(&log, "#5 GET /flush").iter().any(|step| step.contains("the session is ended")),
            "{engine}: {log}"
        );
        // A line is a time, a level and a request, or it tells of something else.
        let line = log.lines().find(|line| line.contains("#1 GET /set: ")).expect("a line");
        let (time, rest) = line.split_once(' ').expect("a time");
        assert!(time.len() == 27 && time.ends_with('Z') && rest.starts_with("DEBUG #1 GET /set: open: "), "{line}");
    }
}

#[test]
fn without_it_only_what_needs_attention_is_told() {
    let directory = tempfile::tempdir().expect("a directory");
    let site = Site::start(directory.path(), "warn,cloakroom=info", "cache");
    site.get("/incr?k=n", "");
    drop(site);
    assert_eq!(std::fs::read_to_string(directory.path().join("log")).expect("a log"), "");
}
