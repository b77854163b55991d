//! Reading on the thread that asks, if that need not wait.
//!
//! SQLite finds a row whose pages are in the system's memory in a few microseconds, much less than it takes to hand the
//! question to another thread and the answer back. What may take long is not done so: there is no waiting for locks, and
//! after a read that had to wait for the disk, others go by the usual way for a while.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use rusqlite::types::ValueRef;

use super::file::connection;

/// A read that takes longer may have waited for the disk.
const SLOW: Duration = Duration::from_millis(1);
/// After a read that waited for the disk, for how many times as long none is done here: a disk that is slow then holds up
/// the threads of a site for one part in so many of their time.
const REST: u32 = 100;
/// No read makes for a longer rest than one of this length: what is still longer was not the disk.
const LONGEST: Duration = Duration::from_millis(100);

/// Connections to read with.
#[derive(Debug)]
pub(super) struct Glances {
    path: PathBuf,
    read_only: bool,
    connections: Mutex<Connections>,
    start: Instant,
    /// Microseconds since the start, before which nothing is read here.
    rests_until: AtomicU64,
}

#[derive(Debug)]
struct Connections {
    idle: Vec<Connection>,
    /// How many may still be opened.
    left: u32,
}

impl Glances {
    /// Up to so many connections to a file, each opened when it is needed.
    pub(super) fn new(path: &Path, read_only: bool, most: u32) -> Self {
        Self {
            path: path.to_owned(),
            read_only,
            connections: Mutex::new(Connections { idle: Vec::new(), left: most }),
            start: Instant::now(),
            rests_until: AtomicU64::new(0),
        }
    }

    /// What is made of the two columns of the row that a statement finds, if it finds one; `None` if it would have to wait,
    /// or fails.
    pub(super) fn read<T>(
        &self,
        sql: &'static str,
        key: &str,
        now: &str,
        make: impl FnOnce(&[u8], &[u8]) -> T,
    ) -> Option<Option<T>> {
        let begin = Instant::now();
        if micros(begin - self.start) < self.rests_until.load(Ordering::Relaxed) {
            return None;
        }
        let connection = self.take()?;
        let found = look(&connection, sql, [key, now], make);
        self.lock().idle.push(connection);
        let took = begin.elapsed();
        if took > SLOW && disk::was_read() {
            self.rest_after(took);
        }
        let found = found.ok()?;
        tracing::debug!(summary = sql, found = found.is_some(), "read on the thread that asks");
        Some(found)
    }

    fn rest_after(&self, took: Duration) {
        let end = self.start.elapsed() + took.min(LONGEST) * REST;
        self.rests_until.fetch_max(micros(end), Ordering::Relaxed);
    }

    fn take(&self) -> Option<Connection> {
        {
            let mut connections = self.lock();
            if let Some(connection) = connections.idle.pop() {
                return Some(connection);
            }
            connections.left = connections.left.checked_sub(1)?;
        }
        // One that cannot be opened now is not tried again: everything works without it.
        connection(&self.path, self.read_only, Duration::ZERO).ok()
    }

    fn lock(&self) -> MutexGuard<'_, Connections> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn look<T>(
    connection: &Connection,
    sql: &str,
    params: [&str; 2],
    make: impl FnOnce(&[u8], &[u8]) -> T,
) -> rusqlite::Result<Option<T>> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    let Some(row) = rows.next()? else { return Ok(None) };
    Ok(Some(make(bytes(row.get_ref(0)?)?, bytes(row.get_ref(1)?)?)))
}

/// A column of SQLite holds what was put there, whatever its declared type.
fn bytes(value: ValueRef<'_>) -> rusqlite::Result<&[u8]> {
    match value {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Ok(bytes),
        _ => Err(rusqlite::Error::InvalidQuery),
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

mod disk {
    use std::cell::Cell;

    thread_local! {
        /// How many bytes this thread had read from disks when that was last asked.
        static READ: Cell<u64> = const { Cell::new(0) };
    }

    /// Whether this thread has read from a disk since that was last asked. It takes a few microseconds to find out. Where the
    /// system does not tell, it may have.
    pub(super) fn was_read() -> bool {
        let Ok(counts) = std::fs::read_to_string("/proc/thread-self/io") else { return true };
        let count = counts.lines().find_map(|line| line.strip_prefix("read_bytes: ")?.parse().ok());
        count.is_none_or(|count| READ.replace(count) != count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SQL: &str = "SELECT b, c FROM t WHERE a = ? AND c > ?";

    fn file(directory: &tempfile::TempDir) -> PathBuf {
        let path = directory.path().join("file");
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch("CREATE TABLE t (a, b, c); INSERT INTO t VALUES ('a', X'6201', 'c')").unwrap();
        path
    }

    fn read(glances: &Glances, key: &str) -> Option<Option<(Vec<u8>, Vec<u8>)>> {
        glances.read(SQL, key, "b", |b, c| (b.to_vec(), c.to_vec()))
    }

    #[test]
    fn a_row_is_found_or_not() {
        let directory = tempfile::tempdir().unwrap();
        let glances = Glances::new(&file(&directory), false, 1);
        for _ in 0..3 {
            assert_eq!(read(&glances, "a"), Some(Some((b"b\x01".to_vec(), b"c".to_vec()))));
            assert_eq!(read(&glances, "b"), Some(None));
        }
        assert_eq!(read(&Glances::new(&file(&tempfile::tempdir().unwrap()), false, 0), "a"), None, "no connection");
    }

    #[test]
    fn what_fails_or_would_wait_is_not_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = file(&directory);
        let glances = Glances::new(&path, false, 1);
        assert_eq!(glances.read("SELECT b, d FROM t", "a", "b", |_, _| ()), None);
        let writer = Connection::open(&path).unwrap();
        writer.execute_batch("BEGIN EXCLUSIVE; INSERT INTO t VALUES ('b', 1, 'c')").unwrap();
        assert_eq!(read(&glances, "a"), None, "the file is locked");
        writer.execute_batch("COMMIT").unwrap();
        assert!(read(&glances, "a").is_some_and(|found| found.is_some()));
        assert_eq!(read(&glances, "b"), None, "neither text nor bytes");
        assert_eq!(read(&Glances::new(&directory.path().join("none"), false, 1), "a"), None);
        assert!(!directory.path().join("none").exists());
    }

    #[test]
    fn after_a_slow_read_there_is_a_rest() {
        let directory = tempfile::tempdir().unwrap();
        let glances = Glances::new(&file(&directory), false, 1);
        assert!(read(&glances, "a").is_some());
        glances.rest_after(Duration::MAX);
        assert_eq!(read(&glances, "a"), None);
        let rest = glances.rests_until.load(Ordering::Relaxed) - micros(glances.start.elapsed());
        assert!(rest <= micros(LONGEST * REST), "{rest}");
        glances.rests_until.store(0, Ordering::Relaxed);
        assert!(read(&glances, "a").is_some());
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_thread_that_reads_nothing_from_disks_is_told_so() {
        disk::was_read();
        assert!(!disk::was_read());
    }
}
