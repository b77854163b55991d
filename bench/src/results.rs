//! The file of results: sections that programs write, each its own, with what they were measured on.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Serialize;

/// What everything was measured on and with.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Circumstances {
    /// The command line.
    pub command: String,
    /// The day.
    pub date: String,
    /// The processor's name, and how many there are.
    pub machine: String,
    /// The load of the machine over the minute before.
    pub load_before: Option<f64>,
    /// The versions of what took part.
    pub versions: Vec<String>,
}

impl Circumstances {
    /// As they are, for a program of this name, with the versions of these packages and these servers.
    pub fn now(program: &str, packages: &[&str], servers: Vec<String>) -> Self {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let lock = include_str!("../Cargo.lock");
        let mut versions: Vec<String> = packages.iter().flat_map(|name| versions_of(name, lock)).collect();
        versions.extend(rustc());
        versions.extend(servers);
        Self {
            command: command(program, &arguments),
            date: jiff::Timestamp::now().strftime("%-d %B %Y").to_string(),
            machine: machine(),
            load_before: load(),
            versions,
        }
    }

    /// The circumstances, as a paragraph.
    pub fn markdown(&self) -> String {
        let mut text = format!("```console\n$ {}\n```\n\n", self.command);
        let _ = write!(text, "{}, {}, release build.", self.date, self.machine);
        if let Some(load) = self.load_before {
            let _ = write!(text, " Load of the machine before: {load:.2}.");
        }
        let _ = write!(text, " {}.\n\n", self.versions.join(", "));
        text
    }
}

/// The load of the machine over the last minute.
pub fn load() -> Option<f64> {
    std::fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

fn command(program: &str, arguments: &[String]) -> String {
    let arguments = if arguments.is_empty() { String::new() } else { format!(" -- {}", arguments.join(" ")) };
    format!("cargo run --release --manifest-path bench/Cargo.toml --bin {program}{arguments}")
}

/// The versions of a package in a lock file, newest first.
fn versions_of(name: &str, lock: &str) -> Vec<String> {
    let mut lines = lock.lines();
    let mut found = Vec::new();
    while let Some(line) = lines.next() {
        if line.strip_prefix("name = \"").and_then(|rest| rest.strip_suffix('"')) == Some(name) {
            let version = lines.next().and_then(|line| line.strip_prefix("version = \"")?.strip_suffix('"'));
            found.extend(version.map(|version| format!("{name} {version}")));
        }
    }
    found.reverse();
    found
}

fn rustc() -> Option<String> {
    let output = std::process::Command::new("rustc").arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.split_whitespace().take(2).collect::<Vec<_>>().join(" "))
}

fn machine() -> String {
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let name = name.map_or("unknown processor", |(_, name)| name.trim());
    let count = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory =
        memory.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse().ok());
    let memory: f64 = memory.unwrap_or(0.0);
    format!("{count} cores of {name} ({}), {:.0} GiB of memory", std::env::consts::ARCH, memory / 1_048_576.0)
}

/// The file of results.
pub fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("RESULTS.md")
}

/// The directory of the pictures.
pub fn pictures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/images")
}

const HEAD: &str = "# Results\n\nWritten by the programs of `bench/` when they are run with `--write`; each section says by \
                    which, and on what machine. Times on one machine are not those of another: compare within a table.\n";

/// Writes a section of the file of results.
///
/// # Errors
/// If the file cannot be written.
pub fn write(name: &str, body: &str) -> anyhow::Result<()> {
    let file = file();
    let text = std::fs::read_to_string(&file).unwrap_or_else(|_| HEAD.to_owned());
    std::fs::write(&file, with_section(&text, name, body)).context("the results cannot be written")
}

/// Writes a picture for the documentation.
///
/// # Errors
/// If the file cannot be written.
pub fn write_picture(name: &str, svg: &str) -> anyhow::Result<()> {
    std::fs::write(pictures().join(name), svg).with_context(|| format!("{name} cannot be written"))
}

/// The text with this section instead of the former one of the same name, or at its end.
fn with_section(text: &str, name: &str, body: &str) -> String {
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- end of {name} -->\n"));
    let section = format!("{begin}{}\n{end}", body.trim());
    let place = text.find(&begin).zip(text.find(&end));
    match place.filter(|(begin, end)| begin < end) {
        Some((from, to)) => format!("{}{section}{}", &text[..from], &text[to + end.len()..]),
        None => format!("{}\n\n{section}", text.trim_end()),
    }
}

/// A number with its thousands apart.
pub fn thousands(number: f64) -> String {
    let digits = format!("{:.0}", number.abs());
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if number <= -0.5 { format!("-{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_replaced_and_others_stay() {
        let one = with_section(HEAD, "one", "## One\n\nfirst\n");
        let two = with_section(&one, "two", "## Two\n");
        assert!(two.starts_with(HEAD) && two.contains("first\n<!-- end of one -->\n\n<!-- two -->\n## Two\n"), "{two}");
        let again = with_section(&two, "one", "## One\n\nsecond");
        assert_eq!(again, two.replace("first", "second"));
        assert_eq!(with_section(&again, "one", "## One\n\nsecond"), again);
    }

    #[test]
    fn versions_are_those_of_the_lock_file() {
        let lock = "[[package]]\nname = \"a\"\nversion = \"1.0.0\"\n\n[[package]]\nname = \"a\"\nversion = \"2.1.0\"\n\n\
                    [[package]]\nname = \"ab\"\nversion = \"3.0.0\"\n";
        assert_eq!(versions_of("a", lock), ["a 2.1.0", "a 1.0.0"]);
        assert!(versions_of("b", lock).is_empty());
    }

    #[test]
    fn circumstances_are_told() {
        assert_eq!(
            command("compare", &["--rounds".to_owned(), "3".to_owned()]),
            "cargo run --release --manifest-path bench/Cargo.toml --bin compare -- --rounds 3"
        );
        let told = Circumstances::now("compare", &["axum"], vec!["Redis 7".to_owned()]).markdown();
        assert!(told.contains("--bin compare") && told.contains("axum 0.") && told.contains("Redis 7"), "{told}");
    }

    #[test]
    fn thousands_stand_apart() {
        for (number, text) in
            [(0.4, "0"), (999.0, "999"), (1_000.0, "1,000"), (1_234_567.8, "1,234,568"), (-1_234.0, "-1,234")]
        {
            assert_eq!(thousands(number), text);
        }
    }
}
