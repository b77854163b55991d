//! Where the Python with Django is. `./test` makes it; a plain `cargo test` does without if it is missing.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The root of the workspace.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("compat lies in the workspace")
}

/// The interpreter, or why there is none. Looked for once.
fn interpreter() -> &'static Result<PathBuf, String> {
    static FOUND: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    FOUND.get_or_init(|| {
        let python = match std::env::var_os("CLOAKROOM_PYTHON") {
            Some(given) => PathBuf::from(given),
            None => root().join("target/venv/bin/python"),
        };
        let probe = Command::new(&python).args(["-c", "import django, gunicorn"]).output();
        match probe {
            Ok(output) if output.status.success() => Ok(python),
            Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(problem) => Err(format!("{}: {problem}", python.display())),
        }
    })
}

/// The interpreter; or nothing, after saying which test is left out and why. With `CLOAKROOM_REQUIRE=all` a missing
/// interpreter fails the test instead.
pub fn python() -> Option<&'static Path> {
    match interpreter() {
        Ok(python) => Some(python),
        Err(why) => left_out("Django and gunicorn", why),
    }
}

/// The same for an interpreter that has one more module.
pub fn python_with(module: &str) -> Option<&'static Path> {
    let python = python()?;
    let probe = Command::new(python).args(["-c", &format!("import {module}")]).output().expect("Python runs");
    match probe.status.success() {
        true => Some(python),
        false => left_out(module, String::from_utf8_lossy(&probe.stderr).trim()),
    }
}

fn left_out<T>(what: &str, why: &str) -> Option<T> {
    if std::env::var("CLOAKROOM_REQUIRE").is_ok_and(|required| required == "all") {
        panic!("no Python with {what}: {why}");
    }
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    super::tell(&format!("left out: {test}: no Python with {what} ({why}); ./test makes one"));
    None
}
