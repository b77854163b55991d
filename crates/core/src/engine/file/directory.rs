//! The directory of a file store: names, locks, times, and files that appear as a whole.

use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, ErrorKind as Io, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;

use super::Dating;
use super::glance::{Glance, LONGEST};
use super::sweep::Walk;
use super::workers::Workers;
use crate::clock::{Clock, Timestamp};
use crate::error::{Error, ErrorKind, Result};
use crate::key::{KeySource, SessionKey};
use crate::store::{Stored, Version};
use crate::wire::expiry::Lifetime;

/// Between a file's name and eight random characters, in the name of a temporary file: Django's own pattern.
const TEMPORARY: &str = "_out_";
const RANDOM_LENGTH: usize = 8;

#[derive(Clone)]
pub(super) struct Directory {
    pub(super) path: PathBuf,
    prefix: String,
    pub(super) clock: Clock,
    dating: Dating,
    /// Whether the file system has hard links.
    pub(super) has_links: bool,
    pub(super) sync: bool,
    /// Where a sweep that works in batches goes on.
    pub(super) walk: Arc<Mutex<Option<Walk>>>,
    pub(super) workers: Workers,
    pub(super) glance: Arc<Glance>,
}

impl Directory {
    pub(super) fn open(path: PathBuf, prefix: &str, clock: Clock, dating: Dating) -> Result<Self> {
        if prefix.contains(['/', '\\', '\0']) {
            return Err(Error::new(
                ErrorKind::Configuration,
                format!("SESSION_COOKIE_NAME: {prefix:?} cannot begin a file's name, as the file engine needs it to"),
            ));
        }
        let wrong = |what: &str, todo: &str| {
            let path = path.display();
            Error::new(ErrorKind::Configuration, format!("SESSION_FILE_PATH: the directory {path} {what}; {todo}"))
        };
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => return Err(wrong("is not a directory", "name a directory")),
            Err(error) if error.kind() == Io::NotFound => {
                return Err(wrong("does not exist", "create it, or name another").with_source(error));
            }
            Err(error) => {
                return Err(wrong("cannot be reached", "let the site's user read and write there").with_source(error));
            }
        }
        // The name of a temporary file, so that a sweep removes what a crash at this moment leaves.
        let name = format!("{prefix}{}{TEMPORARY}{}", KeySource::system().draw()?.as_str(), random_name()?);
        let (probe, link) = (path.join(&name), path.join(format!("{}{}", &name[..name.len() - 8], random_name()?)));
        let locked = new_file(&probe).map(|file| file.try_lock());
        let has_links = fs::hard_link(&probe, &link).is_ok();
        let _ = fs::remove_file(&link);
        let _ = fs::remove_file(&probe);
        match locked {
            Err(error) => {
                let todo = format!("let the site's user write there ({error})");
                return Err(wrong("is not writable", &todo).with_source(error));
            }
            Ok(Err(TryLockError::Error(error))) => {
                let todo =
                    format!("two requests could overwrite each other, so name one on another file system ({error})");
                return Err(wrong("is on a file system without locks", &todo).with_source(error));
            }
            Ok(_) => {}
        }
        let glance = Glance::at(&path);
        Ok(Self {
            path,
            prefix: prefix.to_owned(),
            clock,
            dating,
            has_links,
            sync: false,
            walk: Arc::default(),
            workers: Workers::default(),
            glance: Arc::new(glance),
        })
    }

    /// Where the file of a key is; `None` for a key that can be none.
    pub(super) fn path_of(&self, key: &SessionKey) -> Option<PathBuf> {
        key.is_storable().then(|| self.path.join(format!("{}{}", self.prefix, key.as_str())))
    }

    /// The key of a session's file by its name.
    pub(super) fn key_of(&self, name: &str) -> Option<SessionKey> {
        SessionKey::presented(name.strip_prefix(&self.prefix)?).filter(SessionKey::is_storable)
    }

    /// Whether a file's name is that of a temporary one, of ours or Django's.
    pub(super) fn is_temporary(&self, name: &str) -> bool {
        // Python draws from the underscore too.
        let is_random = |text: &str| {
            text.len() == RANDOM_LENGTH
                && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        };
        let parts = name.split_once(TEMPORARY);
        parts.is_some_and(|(session, random)| self.key_of(session).is_some() && is_random(random))
    }

    /// Opens a session's file; `None` if there is none. A directory that is gone is a failure, not an absence of
    /// sessions.
    fn open_file(&self, path: &Path, options: &OpenOptions) -> io::Result<Option<File>> {
        match options.open(path) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == Io::NotFound => fs::metadata(&self.path).map(|_| None),
            Err(error) => Err(error),
        }
    }

    /// What stands in a session's file, without a lock: it is replaced as a whole.
    pub(super) fn read(&self, path: &Path) -> io::Result<Option<Content>> {
        let file = self.open_file(path, OpenOptions::new().read(true))?;
        file.map(|mut file| Content::of(&mut file)).transpose()
    }

    pub(super) fn expiry_of(&self, content: &Content) -> Timestamp {
        match content.payload.is_empty() {
            true => Timestamp::MAX,
            false => (self.dating)(&content.payload).end(content.modified),
        }
    }

    pub(super) fn stored(&self, content: Content) -> Stored {
        let expiry = self.expiry_of(&content);
        Stored { version: Version::payload(content.payload.clone()), payload: content.payload, expiry }
    }

    /// Django counts in whole seconds, rounded down.
    pub(super) fn has_expired(&self, expiry: Timestamp) -> bool {
        expiry.micros_since(self.clock.now()) < 1_000_000
    }

    /// Asks for the file that stands at `path`, with its lock, until who has it is likely to be done.
    pub(super) fn lock(&self, path: &Path) -> io::Result<Attempt> {
        for pause in [0, 50, 100, 200, 400] {
            std::thread::sleep(Duration::from_micros(pause));
            match self.try_lock(path)? {
                Attempt::Busy => {}
                attempt => return Ok(attempt),
            }
        }
        Ok(Attempt::Busy)
    }

    /// Asks once for the file that stands at `path`, with its lock; one that is large counts as busy.
    pub(super) fn try_lock_small(&self, path: &Path) -> io::Result<Attempt> {
        match self.try_lock(path)? {
            Attempt::Locked(file) if file.metadata()?.len() > LONGEST as u64 => Ok(Attempt::Busy),
            attempt => Ok(attempt),
        }
    }

    /// Asks once for the file that stands at `path`, with its lock.
    pub(super) fn try_lock(&self, path: &Path) -> io::Result<Attempt> {
        // For writing too: network file systems lock exclusively only what may be written.
        let Some(file) = self.open_file(path, OpenOptions::new().read(true).write(true))? else {
            return Ok(Attempt::NoFile);
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(Attempt::Busy),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // A replacement puts another file here, and the lock of the one we opened protects nothing any more.
        match fs::symlink_metadata(path) {
            Ok(standing) if identity(&standing) == identity(&file.metadata()?) => Ok(Attempt::Locked(file)),
            Err(error) if error.kind() != Io::NotFound => Err(error),
            _ => Ok(Attempt::Busy),
        }
    }

    /// The time of modification with which a file of this content expires when it should.
    pub(super) fn modified_for(&self, payload: &Bytes, expiry: Timestamp) -> Timestamp {
        let now = self.clock.now();
        match (self.dating)(payload) {
            lifetime if lifetime.end(now) == expiry => now,
            Lifetime::Sliding(secs) => {
                let micros = expiry.as_micros().saturating_sub(secs.saturating_mul(1_000_000));
                Timestamp::from_micros(micros).clamp(Timestamp::MIN, Timestamp::MAX)
            }
            Lifetime::Fixed(_) => now,
        }
    }

    /// Waits until what was made, renamed or removed here is on the disk, if that is wanted.
    pub(super) fn sync(&self) -> io::Result<()> {
        if self.sync { File::open(&self.path)?.sync_all() } else { Ok(()) }
    }

    /// The message names the directory alone: the file's name has the session's key in it.
    pub(super) fn unavailable(&self, error: io::Error) -> Error {
        let path = self.path.display();
        let message = format!("the session files in {path} (SESSION_FILE_PATH) are not available: {error}");
        Error::new(ErrorKind::Unavailable, message).with_source(error)
    }
}

/// What is in a session's file.
pub(super) struct Content {
    pub(super) payload: Bytes,
    /// When it was written, or what was set as that.
    pub(super) modified: Timestamp,
}

impl Content {
    pub(super) fn of(file: &mut File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        // Room for the whole, within reason: a length is only what the file system says.
        let mut payload = Vec::with_capacity(metadata.len().min(1 << 20) as usize + 1);
        // A file by itself would ask for its length once more.
        file.take(u64::MAX).read_to_end(&mut payload)?;
        Ok(Self { payload: payload.into(), modified: metadata.modified()?.into() })
    }

    /// Whether it is the state that a version stands for.
    pub(super) fn is(&self, version: &Version) -> bool {
        version.as_payload() == Some(&self.payload)
    }
}

/// What came of asking for a lock.
pub(super) enum Attempt {
    Locked(File),
    /// Another has the lock, or has just replaced the file.
    Busy,
    NoFile,
}

/// A finished file under a name of its own, which is removed again unless it gets the session's.
pub(super) struct Temporary {
    pub(super) path: PathBuf,
    /// Open for as long as the file is in use, with a lock that tells sweeps so: its age tells them nothing, since
    /// its time of modification is the session's.
    _file: File,
    is_renamed: bool,
}

impl Temporary {
    pub(super) fn write(directory: &Directory, target: &Path, payload: &[u8], modified: Timestamp) -> io::Result<Self> {
        let mut path = target.as_os_str().to_owned();
        path.push(TEMPORARY);
        path.push(random_name().map_err(io::Error::other)?);
        let path = PathBuf::from(path);
        let temporary = Self { _file: new_file(&path)?, path, is_renamed: false };
        let mut file = &temporary._file;
        file.lock()?;
        file.write_all(payload)?;
        file.set_modified(modified.into())?;
        if directory.sync {
            file.sync_all()?;
        }
        Ok(temporary)
    }

    /// Puts the file in the place of the session's.
    pub(super) fn rename(mut self, target: &Path) -> io::Result<()> {
        fs::rename(&self.path, target)?;
        self.is_renamed = true;
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.is_renamed {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Makes a file that was not there, for its owner alone.
pub(super) fn new_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

fn random_name() -> Result<String> {
    Ok(KeySource::system().draw()?.as_str()[..RANDOM_LENGTH].to_owned())
}

/// Which file it is, whatever its name.
#[cfg(unix)]
pub(super) fn identity(metadata: &Metadata) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    (metadata.dev(), metadata.ino())
}

/// Which file it is, as far as the system tells.
#[cfg(not(unix))]
pub(super) fn identity(metadata: &Metadata) -> (u64, Option<std::time::SystemTime>) {
    (metadata.len(), metadata.created().ok())
}
