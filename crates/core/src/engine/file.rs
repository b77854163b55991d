//! Sessions in files, laid out as by Django's `file` engine: one file a session, named by cookie and key.

mod directory;
mod glance;
mod sweep;
mod workers;

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;

use crate::clock::{Clock, Timestamp};
use crate::error::{Error, ErrorKind, Result};
use crate::key::SessionKey;
use crate::peek::Peek;
use crate::store::{Cleared, Created, Deleted, Replaced, Store, Stored, Touched, Version};
use crate::sweep::{Turn, Turns, turn_in};
use crate::wire::expiry::{EXPIRY_KEY, ExpiryRules, Lifetime};
use crate::wire::session_data::Codec;
use directory::{Attempt, Content, Directory, Temporary, new_file};
use glance::LONGEST;

/// A lock is held for microseconds; who holds one for longer than this was stopped, or is no session server.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two looks at a lock that is held for longer than that.
const LOCK_PAUSE: Duration = Duration::from_millis(2);

/// How long a file with this content lives. Django keeps no expiry beside a file: it follows from the data in it and
/// from when it was modified.
///
/// It is asked for every file that is read or written, and must have an answer for any bytes: [`dating`] makes one. For an
/// empty file it is not asked: Django leaves one behind if it dies while it makes a session, and never counts it as
/// expired.
pub type Dating = Arc<dyn Fn(&Bytes) -> Lifetime + Send + Sync>;

/// A lifetime by what a codec reads and these rules say. Signed text that is read here is not read again by who asks for
/// the data in it: see [`SignedText`](crate::wire::session_data::SignedText).
pub fn dating(codec: Codec, rules: ExpiryRules) -> Dating {
    Arc::new(move |payload| {
        // What cannot be read has no expiry of its own: it goes when a session without one would.
        let values = codec.read(payload).map(|(values, _)| values).unwrap_or_default();
        rules.lifetime(values.get_raw(EXPIRY_KEY)).unwrap_or(Lifetime::Sliding(rules.cookie_age))
    })
}

/// A store in a directory, which Django's `file` engine can share.
///
/// - **Whole or not at all.** A file is replaced by a rename: a reader, and a crash of the process at any moment,
///   meets either the former content or the new one. With [`with_sync`](Self::with_sync) that holds for a loss of
///   power too.
/// - **Compare-and-swap** holds between threads and between processes: who replaces, touches or deletes a file has an
///   exclusive lock on it. Django takes no lock: a save or a deletion of its own that falls between our last look at a
///   file and our rename, some microseconds later, is overwritten.
/// - **Private.** Files are for their owner alone, mode 0600.
/// - **No thread is held up.** What may wait for a disk is done by a few other threads. On Linux, a file that is in the
///   system's memory is read at once, and in a tmpfs, where there is no disk, all is done at once that is not large.
/// - **A failure is an error.** A full disk, an unreadable file or a directory that was removed is
///   [`ErrorKind::Unavailable`], never a missing session; the former content stays.
///
/// Expiry is Django's: from the data, or from the file's time of modification and `SESSION_COOKIE_AGE`, in whole
/// seconds rounded down, so that a session with less than one second left has expired. `replace` renews a file that
/// has expired and still stands, as Django's save does.
///
/// ```
/// # use std::sync::Arc;
/// # use cloakroom_core::Clock;
/// # use cloakroom_core::engine::{Engine, file::{FileStore, dating}};
/// # use cloakroom_core::wire::{expiry::ExpiryRules, session_data::Codec, signing::Secrets};
/// # let (directory, secrets) = (std::env::temp_dir(), Secrets::new("of an example"));
/// let codec = Codec::signed_json(&secrets);
/// let dating = dating(codec.clone(), ExpiryRules::default());
/// let store = FileStore::new(directory, "sessionid", Clock::system(), dating)?;
/// let engine = Engine::Store { store: Arc::new(store), codec };
/// # Ok::<(), cloakroom_core::Error>(())
/// ```
#[derive(Clone)]
pub struct FileStore(Arc<Directory>);

impl FileStore {
    /// A store of files in `directory` whose names begin with `prefix`, which is the cookie's name.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] if the directory does not exist, is no directory, is not writable, or is on a file
    /// system without locks. Each is tried and not guessed: root may write whatever a file's mode says, and nobody to
    /// what is mounted read-only.
    pub fn new(directory: impl Into<PathBuf>, prefix: &str, clock: Clock, dating: Dating) -> Result<Self> {
        Directory::open(directory.into(), prefix, clock, dating).map(|directory| Self(Arc::new(directory)))
    }

    /// Whether each save waits until it is on the disk (`fsync` of the file and the directory).
    ///
    /// Without it, which is the default and Django's way, a crash or `kill -9` of the process loses nothing that was
    /// acknowledged, but a loss of power can undo the last seconds.
    #[must_use]
    pub fn with_sync(mut self, sync: bool) -> Self {
        Arc::make_mut(&mut self.0).sync = sync;
        self
    }

    /// Has blocking work done on other threads, so that it holds up no other request.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Directory) -> io::Result<T> + Send + 'static,
    ) -> Result<T> {
        let directory = Arc::clone(&self.0);
        let done = self.0.workers.run(move || work(&directory)).await.flatten();
        done.map_err(|error| self.0.unavailable(error))
    }

    /// As [`blocking`](Self::blocking), for work with so many bytes that takes a few microseconds where it waits for no
    /// disk: then to hand it to another thread would take longer.
    async fn quick<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce(&Directory) -> io::Result<T> + Send + 'static,
    ) -> Result<T> {
        match self.is_quick(bytes) {
            true => work(&self.0).map_err(|error| self.0.unavailable(error)),
            false => self.blocking(work).await,
        }
    }

    fn is_quick(&self, bytes: usize) -> bool {
        bytes <= LONGEST && self.0.glance.is_in_memory()
    }

    /// What stands in a session's file, expired or not.
    async fn read(&self, path: PathBuf) -> Result<Option<Stored>> {
        let content = match self.0.glance.read(&path) {
            None => self.blocking(move |directory| directory.read(&path)).await?,
            content => content,
        };
        Ok(content.map(|content| self.0.stored(content)))
    }

    /// Has work with so many bytes done on the file that stands at `path`, with its lock; `None` if there is none.
    ///
    /// Who waits for a lock waits here, and holds up no thread: a process that was stopped would in time take them all.
    async fn locked<T: Send + 'static>(
        &self,
        path: PathBuf,
        bytes: usize,
        work: impl FnOnce(&Directory, &Path, File) -> io::Result<T> + Clone + Send + 'static,
    ) -> Result<Option<T>> {
        let with = |attempt: fn(&Directory, &Path) -> io::Result<Attempt>| {
            let (path, work) = (path.clone(), work.clone());
            move |directory: &Directory| {
                Ok(match attempt(directory, &path)? {
                    Attempt::Locked(file) => ControlFlow::Break(Some(work(directory, &path, file)?)),
                    Attempt::NoFile => ControlFlow::Break(None),
                    Attempt::Busy => ControlFlow::Continue(()),
                })
            }
        };
        if self.is_quick(bytes) {
            let tried = with(Directory::try_lock_small)(&self.0).map_err(|error| self.0.unavailable(error))?;
            if let ControlFlow::Break(done) = tried {
                return Ok(done);
            }
        }
        let deadline = Instant::now() + LOCK_TIMEOUT;
        loop {
            if let ControlFlow::Break(done) = self.blocking(with(Directory::lock)).await? {
                return Ok(done);
            }
            if Instant::now() > deadline {
                let message = format!("a session's file was locked by another process for {LOCK_TIMEOUT:?}");
                return Err(self.0.unavailable(io::Error::new(io::ErrorKind::TimedOut, message)));
            }
            tokio::time::sleep(LOCK_PAUSE).await;
        }
    }
}

impl fmt::Debug for FileStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileStore").field("path", &self.0.path).field("sync", &self.0.sync).finish_non_exhaustive()
    }
}

#[async_trait]
impl Turns for FileStore {
    async fn take(&self) -> Result<Option<Box<dyn Turn>>> {
        self.blocking(|directory| turn_in(&directory.path)).await
    }
}

// The framework asks for storable keys alone; that `path` gives none for others is the last door before the file system.
#[async_trait]
impl Store for FileStore {
    async fn load(&self, key: &SessionKey) -> Result<Option<Stored>> {
        let Some(path) = self.0.path_of(key) else { return Ok(None) };
        Ok(self.read(path).await?.filter(|stored| !self.0.has_expired(stored.expiry)))
    }

    async fn create(&self, key: &SessionKey, payload: Bytes, expiry: Timestamp) -> Result<Created> {
        let Some(path) = self.0.path_of(key) else {
            return Err(Error::new(ErrorKind::Unsupported, "a key of other characters than a-z and 0-9 names no file"));
        };
        let modified = self.0.modified_for(&payload, expiry);
        self.quick(payload.len(), move |directory| {
            let temporary = Temporary::write(directory, &path, &payload, modified)?;
            let made = if directory.has_links {
                // The finished file appears under its name at once, or not at all if another has the name.
                fs::hard_link(&temporary.path, &path)
            } else {
                // As Django does it: an empty file holds the name, and reads as an empty session for a moment.
                new_file(&path).and_then(|reserved| {
                    let renamed = reserved.lock().and_then(|()| temporary.rename(&path));
                    if renamed.is_err() {
                        let _ = fs::remove_file(&path);
                    }
                    renamed
                })
            };
            match made {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(Created::Taken),
                made => made?,
            }
            directory.sync()?;
            Ok(Created::Created(Version::payload(payload)))
        })
        .await
    }

    async fn replace(
        &self,
        key: &SessionKey,
        version: &Version,
        payload: Bytes,
        expiry: Timestamp,
    ) -> Result<Replaced> {
        let Some(path) = self.0.path_of(key) else { return Ok(Replaced::Gone) };
        let (version, modified) = (version.clone(), self.0.modified_for(&payload, expiry));
        let replaced = self.locked(path, payload.len(), move |directory, path, mut file| {
            let content = Content::of(&mut file)?;
            if !content.is(&version) {
                return Ok(Err(content));
            }
            let temporary = Temporary::write(directory, path, &payload, modified)?;
            temporary.rename(path)?;
            directory.sync()?;
            Ok(Ok(Version::payload(payload)))
        });
        Ok(match replaced.await? {
            Some(Ok(version)) => Replaced::Replaced(version),
            Some(Err(other)) => Replaced::Conflict(self.0.stored(other)),
            None => Replaced::Gone,
        })
    }

    async fn touch(&self, key: &SessionKey, expiry: Timestamp) -> Result<Touched> {
        let Some(path) = self.0.path_of(key) else { return Ok(Touched::Gone) };
        let touched = self.locked(path, 0, move |directory, _, mut file| {
            let content = Content::of(&mut file)?;
            if directory.has_expired(directory.expiry_of(&content)) {
                return Ok(Touched::Gone);
            }
            file.set_modified(directory.modified_for(&content.payload, expiry).into())?;
            if directory.sync {
                file.sync_all()?;
            }
            Ok(Touched::Touched)
        });
        Ok(touched.await?.unwrap_or(Touched::Gone))
    }

    async fn delete(&self, key: &SessionKey, version: Option<&Version>) -> Result<Deleted> {
        let Some(path) = self.0.path_of(key) else { return Ok(Deleted::Gone) };
        let version = version.cloned();
        // A sign-out takes the lock too: without it, the rename of a save under way would bring the file back.
        let deleted = self.locked(path, 0, move |directory, path, mut file| {
            if let Some(version) = version {
                let content = Content::of(&mut file)?;
                if !content.is(&version) {
                    return Ok(Deleted::Conflict(directory.stored(content)));
                }
            }
            match fs::remove_file(path) {
                // Django, which takes no lock, was faster.
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Deleted::Gone),
                removed => removed?,
            }
            directory.sync()?;
            Ok(Deleted::Deleted)
        });
        Ok(deleted.await?.unwrap_or(Deleted::Gone))
    }

    async fn clear_expired(&self, batch: usize) -> Result<Cleared> {
        self.blocking(move |directory| directory.clear_expired(batch)).await
    }

    async fn list(&self, after: Option<&SessionKey>, limit: usize) -> Result<Vec<SessionKey>> {
        let after = after.cloned();
        self.blocking(move |directory| directory.list(after.as_ref(), limit)).await
    }
}

#[async_trait]
impl Peek for FileStore {
    async fn peek(&self, key: &SessionKey) -> Result<Option<Stored>> {
        let Some(path) = self.0.path_of(key) else { return Ok(None) };
        self.read(path).await
    }
}
