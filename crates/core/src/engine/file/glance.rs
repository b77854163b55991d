//! Reading a file without waiting, if all of it is in the system's memory.

use std::path::Path;

use super::directory::Content;

/// What is larger is read and written elsewhere, where it holds nobody up.
pub(super) const LONGEST: usize = 64 << 10;

/// Whether and how files can be read so in a directory.
#[derive(Debug)]
pub(super) struct Glance {
    #[cfg(target_os = "linux")]
    is_possible: std::sync::atomic::AtomicBool,
    /// What keeps a read from waiting.
    #[cfg(target_os = "linux")]
    flags: rustix::io::ReadWriteFlags,
}

#[cfg(target_os = "linux")]
mod linux {
    use std::fs::File;
    use std::io::IoSliceMut;
    use std::sync::atomic::{AtomicBool, Ordering};

    use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2, statfs};
    use rustix::io::{Errno, ReadWriteFlags, preadv2};

    use super::{Content, Glance, LONGEST, Path};

    /// File systems on this machine's own disks, by the numbers in statfs(2): ext4, XFS, Btrfs. On others, a network's
    /// above all, to open a file may mean to ask somebody.
    const LOCAL: [u64; 3] = [0xEF53, 0x5846_5342, 0x9123_683E];
    /// The one in its memory, which knows no reads that do not wait, and has nothing to wait for: what is swapped out may
    /// be the process itself as well.
    const TMPFS: u64 = 0x0102_1994;

    impl Glance {
        pub(in super::super) fn at(directory: &Path) -> Self {
            let kind = statfs(directory).map_or(0, |system| system.f_type as u64);
            let flags = if kind == TMPFS { ReadWriteFlags::empty() } else { ReadWriteFlags::NOWAIT };
            Self { is_possible: AtomicBool::new(kind == TMPFS || LOCAL.contains(&kind)), flags }
        }

        /// Whether the files are in this machine's memory, so that nothing done with them waits for a disk.
        pub(in super::super) fn is_in_memory(&self) -> bool {
            self.flags.is_empty()
        }

        /// What stands in a file; `None` if that cannot be told without waiting, or if there is none.
        pub(in super::super) fn read(&self, path: &Path) -> Option<Content> {
            if !self.is_possible.load(Ordering::Relaxed) {
                return None;
            }
            let looked = look(path, self.flags);
            if let Err(Errno::NOSYS | Errno::INVAL | Errno::PERM | Errno::OPNOTSUPP) = looked {
                // The system knows no such thing, or does not let us.
                self.is_possible.store(false, Ordering::Relaxed);
            }
            looked.ok()
        }
    }

    fn look(path: &Path, how: ReadWriteFlags) -> Result<Content, Errno> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = File::from(openat2(CWD, path, flags, Mode::empty(), ResolveFlags::CACHED)?);
        let metadata = file.metadata().map_err(|_| Errno::AGAIN)?;
        if metadata.len() > LONGEST as u64 {
            return Err(Errno::AGAIN);
        }
        let mut payload = vec![0; metadata.len() as usize];
        let read = match payload.is_empty() {
            true => 0,
            false => preadv2(&file, &mut [IoSliceMut::new(&mut payload)], 0, how)?,
        };
        let modified = metadata.modified().map_err(|_| Errno::AGAIN)?;
        match read == payload.len() {
            true => Ok(Content { payload: payload.into(), modified: modified.into() }),
            // The rest is on the disk.
            false => Err(Errno::AGAIN),
        }
    }
}

#[cfg(not(target_os = "linux"))]
impl Glance {
    pub(super) fn at(_: &Path) -> Self {
        Self {}
    }

    /// No other system is asked.
    pub(super) fn is_in_memory(&self) -> bool {
        false
    }

    /// No other system has a way to read a file only if it need not wait.
    pub(super) fn read(&self, _: &Path) -> Option<Content> {
        None
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_is_in_memory_is_read() {
        is_read_in(&std::env::temp_dir());
        // A tmpfs on nearly every Linux.
        if Path::new("/dev/shm").is_dir() {
            is_read_in(Path::new("/dev/shm"));
        }
    }

    fn is_read_in(parent: &Path) {
        let directory = tempfile::tempdir_in(parent).expect("a directory");
        let glance = Glance::at(directory.path());
        let path = directory.path().join("file");
        assert!(glance.read(&path).is_none(), "there is none");
        for content in [Vec::new(), b"some bytes".to_vec(), vec![b'x'; 20_000]] {
            fs::write(&path, &content).expect("it is written");
            // Only a kernel before 5.12, or a test on another file system, has to wait for what was just written.
            if let Some(found) = glance.read(&path) {
                assert_eq!(found.payload, content);
            } else {
                println!("skipped: this system has no such reads");
            }
        }
        fs::write(&path, vec![b'x'; 70_000]).expect("it is written");
        assert!(glance.read(&path).is_none(), "too large");
    }

    #[test]
    fn elsewhere_nothing_is_looked_at() {
        assert!(Glance::at(Path::new("/proc")).read(Path::new("/proc/version")).is_none());
    }
}
