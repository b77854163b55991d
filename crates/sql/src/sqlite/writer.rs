//! The one who writes to a database file: a thread that makes all changes which wait in one transaction.
//!
//! A change that comes alone is made at once, as one statement. Those that come while the thread is at work wait for it
//! and then go together, so that one wait for the disk does for all of them; each keeps an outcome of its own.
//!
//! In a [crowd](Crowd) the thread waits a moment for those whose change it has just made.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, params_from_iter};
use tokio::sync::oneshot;

use super::crowd::Crowd;

/// How many changes one transaction makes at most.
const MOST: usize = 256;

/// For the number of rows that a change matched, none if it would have given a row a key that is taken.
type Outcome = Result<u64, Arc<rusqlite::Error>>;

/// A parameter of a statement.
pub(super) enum Value {
    Text(Box<str>),
    /// Text if it is UTF-8, as all that Django and we write is.
    Payload(Bytes),
    Count(i64),
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Payload(bytes) if std::str::from_utf8(bytes).is_ok() => ValueRef::Text(bytes),
            Self::Payload(bytes) => ValueRef::Blob(bytes),
            Self::Count(count) => ValueRef::Integer(*count),
        }))
    }
}

struct Job {
    sql: &'static str,
    values: Vec<Value>,
    answer: oneshot::Sender<Outcome>,
}

/// The thread, which ends with this.
#[derive(Debug)]
pub(super) struct Writer(Arc<Queue>);

impl Writer {
    /// Starts the thread. It opens its connection when it first needs one, and again after that failed.
    pub(super) fn start(open: impl Fn() -> rusqlite::Result<Connection> + Send + 'static) -> std::io::Result<Self> {
        let waiting = Waiting { jobs: Vec::new(), wanted: 1, closed: false, ended: false };
        let queue = Arc::new(Queue { waiting: Mutex::new(waiting), more: Condvar::new() });
        let end = End(queue.clone());
        std::thread::Builder::new().name("cloakroom-sqlite".to_owned()).spawn(move || end.0.serve(open))?;
        Ok(Self(queue))
    }

    /// Makes a change, for the number of rows that it matches. Given up, it may be made or not.
    pub(super) async fn change(&self, sql: &'static str, values: Vec<Value>) -> Outcome {
        let (answer, outcome) = oneshot::channel();
        self.0.push(Job { sql, values, answer });
        outcome.await.unwrap_or_else(|_| Err(Arc::new(ended())))
    }
}

/// The thread answers all that it takes up, unless something panicked in it: whoever hears its events, for one.
fn ended() -> rusqlite::Error {
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_INTERRUPT);
    rusqlite::Error::SqliteFailure(code, Some("the thread that writes has ended".to_owned()))
}

/// At the end of the thread, nobody waits for it any more.
struct End(Arc<Queue>);

impl Drop for End {
    fn drop(&mut self) {
        let mut waiting = self.0.waiting();
        waiting.ended = true;
        waiting.jobs.clear();
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.waiting().closed = true;
        self.0.more.notify_one();
    }
}

#[derive(Debug)]
struct Queue {
    waiting: Mutex<Waiting>,
    /// That there are as many as the thread waits for, or that no more will come.
    more: Condvar,
}

struct Waiting {
    jobs: Vec<Job>,
    /// How many the thread waits for.
    wanted: usize,
    /// No more will come.
    closed: bool,
    /// The thread is no more.
    ended: bool,
}

impl Queue {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, job: Job) {
        let mut waiting = self.waiting();
        if waiting.ended {
            return;
        }
        waiting.jobs.push(job);
        if waiting.jobs.len() >= waiting.wanted {
            // The thread sees them all when it is next there; until then nobody has to call it.
            waiting.wanted = usize::MAX;
            drop(waiting);
            self.more.notify_one();
        }
    }

    /// The changes to make next; `None` if no more will come.
    fn next(&self, crowd: &mut Crowd) -> Option<Vec<Job>> {
        let mut waiting = self.waiting();
        let there = waiting.jobs.len();
        if let Some((size, patience)) = crowd.wait(there, MOST) {
            waiting.wanted = size;
            let few = |waiting: &mut Waiting| waiting.jobs.len() < size && !waiting.closed;
            waiting = self.more.wait_timeout_while(waiting, patience, few).unwrap_or_else(PoisonError::into_inner).0;
            crowd.came(size - there, waiting.jobs.len() - there);
        }
        while waiting.jobs.is_empty() {
            if waiting.closed {
                return None;
            }
            waiting.wanted = 1;
            waiting = self.more.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        waiting.wanted = usize::MAX;
        let most = waiting.jobs.len().min(MOST);
        Some(waiting.jobs.drain(..most).collect())
    }

    fn serve(&self, open: impl Fn() -> rusqlite::Result<Connection>) {
        let mut connection = None;
        let mut crowd = Crowd::default();
        while let Some(mut jobs) = self.next(&mut crowd) {
            // Those who gave up in the meantime have no effect.
            jobs.retain(|job| !job.answer.is_closed());
            let begin = Instant::now();
            let outcomes = match connected(&mut connection, &open) {
                Ok(connection) => make(connection, &jobs),
                Err(error) => all_fail(&jobs, error),
            };
            crowd.served(jobs.len(), self.waiting().jobs.len(), begin.elapsed());
            for (job, outcome) in jobs.into_iter().zip(outcomes) {
                drop(job.answer.send(outcome));
            }
        }
    }
}

impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waiting").field("jobs", &self.jobs.len()).finish_non_exhaustive()
    }
}

fn connected<'a>(
    connection: &'a mut Option<Connection>,
    open: &impl Fn() -> rusqlite::Result<Connection>,
) -> rusqlite::Result<&'a Connection> {
    match connection {
        Some(connection) => Ok(connection),
        None => Ok(connection.insert(open()?)),
    }
}

/// Makes changes, one by itself or many in a transaction.
fn make(connection: &Connection, jobs: &[Job]) -> Vec<Outcome> {
    match jobs {
        [] => Vec::new(),
        [job] => vec![run(connection, job).map_err(Arc::new)],
        _ => in_a_transaction(connection, jobs).unwrap_or_else(|error| {
            if !connection.is_autocommit() {
                drop(execute(connection, "ROLLBACK", &[]));
            }
            all_fail(jobs, error)
        }),
    }
}

fn in_a_transaction(connection: &Connection, jobs: &[Job]) -> rusqlite::Result<Vec<Outcome>> {
    execute(connection, "BEGIN IMMEDIATE", &[])?;
    let mut outcomes = Vec::with_capacity(jobs.len());
    for job in jobs {
        match run(connection, job) {
            // Some errors are such that SQLite takes back the whole transaction.
            Err(error) if connection.is_autocommit() => return Err(error),
            // Somebody's data may be the reason.
            outcome => outcomes.push(outcome.map_err(Arc::new)),
        }
    }
    execute(connection, "COMMIT", &[])?;
    Ok(outcomes)
}

fn run(connection: &Connection, job: &Job) -> rusqlite::Result<u64> {
    match execute(connection, job.sql, &job.values) {
        Err(rusqlite::Error::SqliteFailure(error, _)) if KEY_IS_TAKEN.contains(&error.extended_code) => Ok(0),
        result => result,
    }
}

/// SQLite's extended result codes for a primary key, and for another unique column.
const KEY_IS_TAKEN: [i32; 2] = [1555, 2067];

fn execute(connection: &Connection, sql: &'static str, values: &[Value]) -> rusqlite::Result<u64> {
    let matched = connection.prepare_cached(sql)?.execute(params_from_iter(values))?;
    tracing::debug!(summary = sql, matched, "written");
    Ok(matched as u64)
}

/// The database is in trouble, whoever asks.
fn all_fail(jobs: &[Job], error: rusqlite::Error) -> Vec<Outcome> {
    let error = Arc::new(error);
    jobs.iter().map(|_| Err(error.clone())).collect()
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};
    use std::task::Poll;

    use super::*;

    const ADD: &str = "INSERT INTO t VALUES (?, ?)";

    fn file(directory: &tempfile::TempDir) -> PathBuf {
        let path = directory.path().join("file");
        open(&path).unwrap().execute_batch("CREATE TABLE t (a PRIMARY KEY, b)").unwrap();
        path
    }

    fn open(path: &Path) -> rusqlite::Result<Connection> {
        Connection::open(path)
    }

    fn writer(path: &Path) -> Writer {
        let path = path.to_owned();
        Writer::start(move || open(&path)).unwrap()
    }

    fn row(n: i64) -> Vec<Value> {
        vec![Value::Text(format!("key {n}").into()), Value::Count(n)]
    }

    fn rows(path: &Path) -> i64 {
        open(path).unwrap().query_row("SELECT COUNT(*) FROM t", [], |row| row.get(0)).unwrap()
    }

    /// Begins changes that all wait until another program lets go of the file.
    async fn all_at_once(path: &Path, writer: &Writer, jobs: Vec<(&'static str, Vec<Value>)>) -> Vec<Outcome> {
        let other = open(path).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let mut working: Vec<_> = jobs.into_iter().map(|(sql, values)| Box::pin(writer.change(sql, values))).collect();
        for work in &mut working {
            let begun = std::future::poll_fn(|context| Poll::Ready(work.as_mut().poll(context).is_pending())).await;
            assert!(begun);
        }
        other.execute_batch("COMMIT").unwrap();
        let mut outcomes = Vec::new();
        for work in working {
            outcomes.push(work.await);
        }
        outcomes
    }

    #[tokio::test]
    async fn each_has_an_outcome_of_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let path = file(&directory);
        let mut jobs: Vec<_> = (0..50).map(|n| (ADD, row(n))).collect();
        jobs.push((ADD, row(7)));
        jobs.push(("UPDATE t SET b = b + 1 WHERE b >= ?", vec![Value::Count(40)]));
        jobs.push(("UPDATE t SET c = ?", vec![Value::Count(1)]));
        let outcomes = all_at_once(&path, &writer(&path), jobs).await;
        assert!(outcomes[..50].iter().all(|outcome| matches!(outcome, Ok(1))), "{outcomes:?}");
        assert!(matches!(outcomes[50], Ok(0)), "the key is taken: {outcomes:?}");
        assert!(matches!(outcomes[51], Ok(10)), "{outcomes:?}");
        assert!(outcomes[52].as_ref().is_err_and(|e| e.to_string().contains("no such column")), "{outcomes:?}");
        assert_eq!(rows(&path), 50);
    }

    /// The file may not grow: an error after which SQLite may take back the whole transaction.
    #[tokio::test]
    async fn what_fails_left_nothing_and_what_does_not_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let path = file(&directory);
        let small = path.clone();
        let open_small = move || {
            let connection = open(&small)?;
            connection.pragma_update(None, "max_page_count", 4)?;
            Ok(connection)
        };
        let writer = Writer::start(open_small).unwrap();
        let large = vec![Value::Text("large".into()), Value::Payload(vec![b'x'; 100_000].into())];
        let jobs = vec![(ADD, row(1)), (ADD, row(2)), (ADD, large), (ADD, row(4))];
        let outcomes = all_at_once(&path, &writer, jobs).await;
        assert!(outcomes[2].as_ref().is_err_and(|e| e.to_string().contains("full")), "{outcomes:?}");
        assert_eq!(rows(&path), outcomes.iter().filter(|outcome| outcome.is_ok()).count() as i64, "{outcomes:?}");
        assert!(matches!(writer.change(ADD, row(5)).await, Ok(1)), "and it goes on");
    }

    #[tokio::test]
    async fn a_thread_that_panicked_keeps_nobody_waiting() {
        let writer = Writer::start(|| panic!("of a test")).unwrap();
        for _ in 0..3 {
            let error = writer.change(ADD, row(1)).await.unwrap_err();
            assert!(error.to_string().contains("has ended"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_opened_is_tried_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let opened = path.clone();
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE;
        let writer = Writer::start(move || Connection::open_with_flags(&opened, flags)).unwrap();
        writer.change(ADD, row(1)).await.unwrap_err();
        file(&directory);
        assert!(matches!(writer.change(ADD, row(1)).await, Ok(1)));
        assert_eq!(rows(&path), 1);
    }
}
