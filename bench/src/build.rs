//! Building the program that serves the site.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use serde_json::Value;

/// Builds a program of a workspace, optimised, and tells where it is. Cargo says on standard error what it does.
pub fn program(manifest: &Path, package: &str, name: &str) -> anyhow::Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--release", "--message-format=json-render-diagnostics", "--manifest-path"]);
    command.arg(manifest).args(["--package", package, "--bin", name]);
    let output = command.stderr(Stdio::inherit()).output().context("cargo cannot be run: give the site's --program")?;
    if !output.status.success() {
        bail!("the site's program `{name}` was not built");
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    executable(&messages, name).with_context(|| format!("cargo did not say where it put `{name}`"))
}

/// The path of a program in the messages of Cargo.
fn executable(messages: &str, name: &str) -> Option<PathBuf> {
    messages.lines().rev().filter_map(|line| serde_json::from_str::<Value>(line).ok()).find_map(|message| {
        (message["target"]["name"] == name).then(|| message["executable"].as_str().map(PathBuf::from))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_a_program() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"other"},"executable":"/b/other"}
{"reason":"compiler-artifact","target":{"name":"site"},"executable":"/b/site"}
{"reason":"build-finished","success":true}"#;
        assert_eq!(executable(messages, "site"), Some(PathBuf::from("/b/site")));
        assert_eq!(executable(messages, "missing"), None);
    }
}
