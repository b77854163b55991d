//! Reading a file without waiting, if all of it is in the system's memory.

use std::path::Path;

use super::directory::Content;

/// Whether files can be read so in a directory.
#[derive(Debug)]
pub(super) struct Glance(#[cfg(target_os = "linux")] std::sync::atomic::AtomicBool);

#[cfg(target_os = "linux")]
mod linux {
    use std::fs::File;
    use std::io::IoSliceMut;
    use std::sync::atomic::{AtomicBool, Ordering};

    use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2, statfs};
    use rustix::io::{Errno, ReadWriteFlags, preadv2};

    use super::{Content, Glance, Path};

    /// File systems on this machine's own disks or in its memory, by the numbers in statfs(2): ext4, XFS, Btrfs, tmpfs.
    /// On others, a network's above all, to open a file may mean to ask somebody.
    const LOCAL: [u64; 4] = [0xEF53, 0x5846_5342, 0x9123_683E, 0x0102_1994];
    /// What is larger is read elsewhere, where it holds nobody up.
    const LONGEST: u64 = 64 << 10;

    impl Glance {
        pub(in super::super) fn at(directory: &Path) -> Self {
            let local = statfs(directory).is_ok_and(|system| LOCAL.contains(&(system.f_type as u64)));
            Self(AtomicBool::new(local))
        }

        /// What stands in a file; `None` if that cannot be told without waiting, or if there is none.
        pub(in super::super) fn read(&self, path: &Path) -> Option<Content> {
            if !self.0.load(Ordering::Relaxed) {
                return None;
            }
            let looked = look(path);
            if let Err(Errno::NOSYS | Errno::INVAL | Errno::PERM | Errno::OPNOTSUPP) = looked {
                // The system knows no such thing, or does not let us.
                self.0.store(false, Ordering::Relaxed);
            }
            looked.ok()
        }
    }

    fn look(path: &Path) -> Result<Content, Errno> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = File::from(openat2(CWD, path, flags, Mode::empty(), ResolveFlags::CACHED)?);
        let metadata = file.metadata().map_err(|_| Errno::AGAIN)?;
        if metadata.len() > LONGEST {
            return Err(Errno::AGAIN);
        }
        let mut payload = vec![0; metadata.len() as usize];
        let read = match payload.is_empty() {
            true => 0,
            false => preadv2(&file, &mut [IoSliceMut::new(&mut payload)], 0, ReadWriteFlags::NOWAIT)?,
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
        Self()
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
        let directory = tempfile::tempdir().expect("a directory");
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
