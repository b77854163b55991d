//! Finding programs, and the user to run them as.

use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Kind, Missing};

/// The first of these programs that is installed, in `PATH` or where Debian keeps servers.
pub(crate) fn find(kind: Kind, names: &[&'static str]) -> Result<PathBuf, Missing> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut directories: Vec<PathBuf> = std::env::split_paths(&path).collect();
    // Debian keeps each version of PostgreSQL to itself; the newest first.
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<(u32, PathBuf)> = versions
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    versions.sort_by(|a, b| b.cmp(a));
    directories.extend(versions.into_iter().map(|(_, directory)| directory));
    directories.extend(["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/libexec"].map(PathBuf::from));
    let mut paths = names.iter().flat_map(|name| directories.iter().map(move |directory| directory.join(name)));
    paths.find(|path| path.is_file()).ok_or(Missing { kind, program: names[0] })
}

/// The user and group that servers run as, if we are root.
fn unprivileged() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let nobody = users.lines().find_map(|line| {
        let mut fields = line.split(':').skip_while(|name| *name != "nobody").skip(2);
        line.starts_with("nobody:").then(|| Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?)))?
    });
    Some(nobody.unwrap_or((65_534, 65_534)))
}

/// Makes a file or directory belong to the user that servers run as.
pub(crate) fn give_away(path: &Path) {
    if let Some((user, group)) = unprivileged() {
        chown(path, Some(user), Some(group)).unwrap_or_else(|e| panic!("chown {}: {e}", path.display()));
    }
}

/// Makes a command run as that user, in a directory of theirs.
pub(crate) fn demote(command: &mut Command, directory: &Path) {
    command.current_dir(directory).env("HOME", directory);
    if let Some((user, group)) = unprivileged() {
        debug_assert_eq!(std::fs::metadata(directory).map(|m| m.uid()).ok(), Some(user));
        command.uid(user).gid(group);
    }
}
