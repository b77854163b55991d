//! The one who writes to a database file: a thread that makes all changes which wait in one transaction.
//!
//! A change that comes alone is made at once, as one statement. Those that come while the thread is at work wait for it
//! and then go together, so that one wait for the disk does for all of them; each keeps an outcome of its own. In such a
//! crowd, those whose change was just acknowledged tend to be back soon with the next one: the thread waits for them a
//! little, at most for half as long as the last transaction took.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, params_from_iter};
use tokio::sync::oneshot;

/// How many changes one transaction makes at most.
const MOST: usize = 256;
/// How long the thread waits at most for the others of a crowd.
const LINGER: Duration = Duration::from_millis(5);

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
        let queue = Arc::new(Queue {
            waiting: Mutex::new(Waiting { jobs: Vec::new(), wanted: 1, closed: false }),
            more: Condvar::new(),
        });
        let work = queue.clone();
        std::thread::Builder::new().name("cloakroom-sqlite".to_owned()).spawn(move || work.serve(open))?;
        Ok(Self(queue))
    }

    /// Makes a change, for the number of rows that it matches. Given up, it may be made or not.
    pub(super) async fn change(&self, sql: &'static str, values: Vec<Value>) -> Outcome {
        let (answer, outcome) = oneshot::channel();
        self.0.push(Job { sql, values, answer });
        // The thread answers all that it took up, unless it panicked.
        outcome.await.unwrap_or_else(|_| Err(Arc::new(rusqlite::Error::InvalidQuery)))
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
    closed: bool,
}

impl Queue {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, job: Job) {
        let mut waiting = self.waiting();
        waiting.jobs.push(job);
        if waiting.jobs.len() >= waiting.wanted {
            // The thread sees them all when it is next there; until then nobody has to call it.
            waiting.wanted = usize::MAX;
            drop(waiting);
            self.more.notify_one();
        }
    }

    /// The changes to make next; `None` if no more will come. It waits for so many of them, but not longer than that, and
    /// then for one.
    fn next(&self, crowd: usize, linger: Duration) -> Option<Vec<Job>> {
        let mut waiting = self.waiting();
        if crowd > 1 {
            waiting.wanted = crowd;
            let few = |waiting: &mut Waiting| waiting.jobs.len() < crowd && !waiting.closed;
            waiting = self.more.wait_timeout_while(waiting, linger, few).unwrap_or_else(PoisonError::into_inner).0;
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
        let (mut crowd, mut linger) = (0, Duration::ZERO);
        while let Some(mut jobs) = self.next(crowd, linger) {
            // Those who gave up in the meantime have no effect.
            jobs.retain(|job| !job.answer.is_closed());
            let begin = Instant::now();
            let outcomes = match connected(&mut connection, &open) {
                Ok(connection) => make(connection, &jobs),
                Err(error) => all_fail(&jobs, error),
            };
            linger = (begin.elapsed() / 2).min(LINGER);
            crowd = (jobs.len() + self.waiting().jobs.len()).min(MOST);
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
    if let [job] = jobs {
        return vec![run(connection, job).map_err(Arc::new)];
    }
    in_a_transaction(connection, jobs).unwrap_or_else(|error| {
        if !connection.is_autocommit() {
            drop(execute(connection, "ROLLBACK", &[]));
        }
        all_fail(jobs, error)
    })
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
