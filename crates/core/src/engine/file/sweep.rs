//! Walks through the directory: what has expired, and what there is.

use std::fs::{self, DirEntry, ReadDir};
use std::io;
use std::path::Path;

use tracing::{debug, warn};

use super::super::page::Page;
use super::directory::{Attempt, Content, Directory};
use crate::clock::Timestamp;
use crate::key::SessionKey;
use crate::store::Cleared;

/// A temporary file that was not changed for so long is nobody's any more. Microseconds.
const ABANDONED: i64 = 3_600 * 1_000_000;
/// A sweep that nobody went on with for so long is begun anew. Microseconds.
const FORGOTTEN: i64 = 60 * 1_000_000;
/// One call looks at so many files for each that it may remove, and at no fewer than [`LOOKED_AT_LEAST`].
const LOOKED_AT: usize = 20;
const LOOKED_AT_LEAST: usize = 500;

/// A sweep that goes on where the last batch ended, so that many batches read the directory once and not each.
pub(super) struct Walk {
    entries: ReadDir,
    left: Timestamp,
}

impl Directory {
    pub(super) fn clear_expired(&self, batch: usize) -> io::Result<Cleared> {
        // Taken out while we work: a second sweep at the same time begins its own.
        let walk = self.lock_walk().take();
        let fresh = |walk: &Walk| self.clock.now().micros_since(walk.left) < FORGOTTEN;
        let mut entries = match walk.filter(fresh) {
            Some(walk) => walk.entries,
            None => fs::read_dir(&self.path)?,
        };
        let mut removed = 0;
        for _ in 0..batch.saturating_mul(LOOKED_AT).max(LOOKED_AT_LEAST) {
            if removed == batch {
                break;
            }
            let Some(entry) = entries.next() else {
                return Ok(Cleared { removed: removed as u64, more: false });
            };
            // One file that cannot be looked at must not keep all others on the disk.
            match self.remove_if_over(&entry?) {
                Ok(expired) => removed += usize::from(expired),
                Err(error) => warn!(%error, "clear_expired: a file is left as it is"),
            }
        }
        *self.lock_walk() = Some(Walk { entries, left: self.clock.now() });
        Ok(Cleared { removed: removed as u64, more: true })
    }

    pub(super) fn list(&self, after: Option<&SessionKey>, limit: usize) -> io::Result<Vec<SessionKey>> {
        let mut page = Page::new(after, limit);
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if let Some(key) = entry.file_name().to_str().and_then(|name| self.key_of(name))
                && entry.file_type()?.is_file()
            {
                page.offer(&key);
            }
        }
        Ok(page.finish())
    }

    fn lock_walk(&self) -> std::sync::MutexGuard<'_, Option<Walk>> {
        self.walk.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Removes a session that has expired, and says so; removes also what a process that died left of a save.
    fn remove_if_over(&self, entry: &DirEntry) -> io::Result<bool> {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { return Ok(false) };
        let (path, is_session) = (entry.path(), self.key_of(name).is_some());
        if !(is_session || self.is_temporary(name)) || !entry.file_type()?.is_file() {
            return Ok(false);
        }
        if is_session {
            // The first look takes no lock, so that live sessions are not disturbed.
            let has_expired = self.read(&path)?.is_some_and(|content| self.has_expired(self.expiry_of(&content)));
            return Ok(has_expired && self.remove_if(&path, |expiry| self.has_expired(expiry))?);
        }
        // Not counted: it never was a session.
        let modified: Timestamp = match fs::symlink_metadata(&path).and_then(|metadata| metadata.modified()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            modified => modified?.into(),
        };
        if self.clock.now().micros_since(modified) > ABANDONED && self.remove_if(&path, |_| true)? {
            debug!("clear_expired: a temporary file that was left behind is removed");
        }
        Ok(false)
    }

    /// Removes a file that nobody is busy with, if its expiry under the lock still says so.
    fn remove_if(&self, path: &Path, over: impl Fn(Timestamp) -> bool) -> io::Result<bool> {
        // Busy means that it is being saved, so it is not over.
        let Attempt::Locked(mut file) = self.try_lock(path)? else { return Ok(false) };
        if !over(self.expiry_of(&Content::of(&mut file)?)) {
            return Ok(false);
        }
        match fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            removed => removed.map(|()| true),
        }
    }
}
