//! How a sweep of a large table and a site that goes on writing bear each other.
//!
//! ```sh
//! cargo run --release -p cloakroom-sql --all-features --example bench-sweep -- [sqlite] [postgres] [mariadb]
//! ```
//!
//! For each database: a table with a million expired sessions and 100,000 live ones of about 500 bytes, mixed; a sweep
//! by a process of its own, as `cloakroom clearsessions` is one; and meanwhile a writer that saves a session every 5 ms.
//! Prints how long the sweep took, its rate and its peak memory, and how long the writer had to wait. `--expired N`,
//! `--live N` and `--batch N` change the numbers. Servers are started for the purpose, and write to the disk as in
//! production; the SQLite database lies in the system's directory for temporary files.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cloakroom_core::store::{Created, Replaced, Store, Version};
use cloakroom_core::sweep::Sweep;
use cloakroom_core::{Clock, KeySource, SessionKey};
use cloakroom_sql::AnySqlStore;
use cloakroom_test_servers::{Kind, Options, Server};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};

type Anything = Box<dyn std::error::Error + Send + Sync>;

/// How often the writer saves.
const EVERY: Duration = Duration::from_millis(5);
/// How many sessions the writer has.
const SESSIONS: usize = 100;
/// What a session holds: as long as a login with a cart.
const PAYLOAD: usize = 491;

struct Plan {
    databases: Vec<String>,
    expired: u64,
    live: u64,
    batch: usize,
}

fn main() -> Result<(), Anything> {
    let mut plan = Plan { databases: Vec::new(), expired: 1_000_000, live: 100_000, batch: 1_000 };
    let mut sweep = None;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--expired" => plan.expired = value()?.parse()?,
            "--live" => plan.live = value()?.parse()?,
            "--batch" => plan.batch = value()?.parse()?,
            // What the program starts itself for.
            "--sweep" => sweep = Some(value()?),
            "sqlite" | "postgres" | "mariadb" => plan.databases.push(argument),
            other => return Err(format!("what is {other:?}? Give sqlite, postgres, mariadb, --expired, --live").into()),
        }
    }
    if plan.databases.is_empty() {
        plan.databases = ["sqlite", "postgres", "mariadb"].map(str::to_owned).to_vec();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    match sweep {
        Some(url) => runtime.block_on(sweep_through(&url, plan.batch)),
        None => runtime.block_on(measure(&plan)),
    }
}

/// The sweep, in a process of its own: prints how many rows it removed, how long it took and how much memory it had.
async fn sweep_through(url: &str, batch: usize) -> Result<(), Anything> {
    let store = AnySqlStore::open(url, false, None, Clock::system()).await?.into_store();
    let (begin, mut removed) = (Instant::now(), 0);
    let mut sweep = Sweep::in_batches(batch);
    while let Some(batch) = sweep.next(&*store).await? {
        removed += batch;
    }
    println!("{removed} {} {}", begin.elapsed().as_secs_f64(), peak_memory().unwrap_or_default());
    Ok(())
}

/// The most memory that this process ever had, in KiB; Linux tells it.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}

async fn measure(plan: &Plan) -> Result<(), Anything> {
    println!(
        "{} expired and {} live sessions, batches of {}, a save every {EVERY:?}\n\n\
         | database | sweep | rows/s | peak memory | writer: longest wait | p99 | saves | errors |\n\
         |---|---|---|---|---|---|---|---|",
        plan.expired, plan.live, plan.batch
    );
    for database in &plan.databases {
        let place = Place::make(database)?;
        let row = bench(&place, plan).await?;
        println!("| {database} {row} |");
    }
    Ok(())
}

/// Where a database is, for as long as this lives.
struct Place {
    url: String,
    server: Option<Server>,
    _directory: Option<tempfile::TempDir>,
}

impl Place {
    fn make(database: &str) -> Result<Self, Anything> {
        let (kind, arguments) = match database {
            "sqlite" => {
                let directory = tempfile::tempdir()?;
                let url = format!("sqlite://{}", directory.path().join("sessions.sqlite3").display());
                return Ok(Self { url, server: None, _directory: Some(directory) });
            }
            "postgres" => (Kind::Postgres, ["-c", "shared_buffers=128MB"]),
            _ => (Kind::MariaDb, ["--innodb-buffer-pool-size=128M", "--innodb-log-file-size=96M"]),
        };
        let server = Options::new(kind).durable().args(arguments).start()?;
        Ok(Self { url: server.database(), server: Some(server), _directory: None })
    }

    /// Fills the table, expired and live rows mixed, as time brings them.
    async fn fill(&self, expired: u64, live: u64) -> Result<(), Anything> {
        let all = expired + live;
        let payload = "x".repeat(PAYLOAD - 32);
        match &self.server {
            None => {
                let options: sqlx::sqlite::SqliteConnectOptions = self.url.parse()?;
                let mut conn = options.connect().await?;
                let sql = format!(
                    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {all})
                     INSERT INTO django_session SELECT lower(hex(randomblob(16))), lower(hex(randomblob(16))) || '{payload}',
                     datetime('now', CASE WHEN i * {live} / {all} > (i - 1) * {live} / {all}
                     THEN '+' || (86400 + i % 864000) ELSE '-' || (1 + abs(random()) % 2592000) END || ' seconds') FROM n"
                );
                sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut conn).await?;
                sqlx::raw_sql("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut conn).await?;
                conn.close().await?;
            }
            Some(server) if server.kind() == Kind::Postgres => {
                let sql = format!(
                    "INSERT INTO django_session SELECT md5(i::text), md5(random()::text) || '{payload}',
                     now() + CASE WHEN i * {live} / {all} > (i - 1) * {live} / {all}
                     THEN 86400 + i % 864000 ELSE -1 - random() * 2592000 END * interval '1 second'
                     FROM generate_series(1::bigint, {all}) AS i"
                );
                server.sql(&self.url, &sql);
                server.sql(&self.url, "VACUUM ANALYZE django_session");
                server.sql(&self.url, "CHECKPOINT");
            }
            Some(server) => {
                let sql = format!(
                    "INSERT INTO django_session SELECT md5(seq), CONCAT(md5(rand()), '{payload}'),
                     UTC_TIMESTAMP(6) + INTERVAL CASE WHEN seq * {live} DIV {all} > (seq - 1) * {live} DIV {all}
                     THEN 86400 + seq % 864000 ELSE -1 - rand() * 2592000 END SECOND FROM seq_1_to_{all}"
                );
                server.sql(&self.url, &sql);
                server.sql(&self.url, "ANALYZE TABLE django_session");
            }
        }
        Ok(())
    }
}

async fn bench(place: &Place, plan: &Plan) -> Result<String, Anything> {
    let store = AnySqlStore::open(&place.url, true, None, Clock::system()).await?;
    store.migrate().await?;
    let store = store.into_store();
    place.fill(plan.expired, plan.live).await?;

    let mut writer = Writer::of(&store).await?;
    let mut sweep = start_sweep(&place.url, plan.batch)?;
    let mut next = tokio::time::interval(EVERY);
    next.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while sweep.try_wait()?.is_none() {
        next.tick().await;
        writer.save(&*store).await;
    }
    let mut told = String::new();
    sweep.stdout.take().expect("piped").read_to_string(&mut told)?;
    let told: Vec<f64> = told.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    let [removed, seconds, memory] = told[..] else { return Err("the sweep failed".into()) };
    if removed != plan.expired as f64 {
        return Err(format!("{removed} rows were removed, and {} had expired", plan.expired).into());
    }
    let waits = &mut writer.waits;
    waits.sort();
    let millis = |wait: Duration| wait.as_secs_f64() * 1e3;
    let (longest, p99) = (waits[waits.len() - 1], waits[waits.len() * 99 / 100]);
    Ok(format!(
        "| {seconds:.1} s | {:.0} | {:.1} MiB | {:.0} ms | {:.1} ms | {} | {}",
        removed / seconds,
        memory / 1024.0,
        millis(longest),
        millis(p99),
        waits.len(),
        writer.errors
    ))
}

fn start_sweep(url: &str, batch: usize) -> std::io::Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--sweep", url, "--batch", &batch.to_string()]).stdout(Stdio::piped()).spawn()
}

/// Saves sessions of its own, one after another, and notes how long each save takes.
struct Writer {
    sessions: Vec<(SessionKey, Version)>,
    saves: usize,
    waits: Vec<Duration>,
    errors: usize,
}

impl Writer {
    async fn of(store: &Arc<dyn Store>) -> Result<Self, Anything> {
        let keys = KeySource::system();
        let mut sessions = Vec::new();
        while sessions.len() < SESSIONS {
            let key = keys.draw()?;
            if let Created::Created(version) = store.create(&key, payload(0), later()).await? {
                sessions.push((key, version));
            }
        }
        Ok(Self { sessions, saves: 0, waits: Vec::new(), errors: 0 })
    }

    async fn save(&mut self, store: &dyn Store) {
        self.saves += 1;
        let (key, version) = &mut self.sessions[self.saves % SESSIONS];
        let begin = Instant::now();
        let saved = store.replace(key, version, payload(self.saves), later()).await;
        self.waits.push(begin.elapsed());
        match saved {
            Ok(Replaced::Replaced(new)) => *version = new,
            other => {
                eprintln!("the writer: {other:?}");
                self.errors += 1;
            }
        }
    }
}

fn payload(number: usize) -> Bytes {
    format!("{number:0>width$}", width = PAYLOAD).into()
}

fn later() -> cloakroom_core::Timestamp {
    let now = Clock::system().now();
    now.checked_add_micros(14 * 86_400 * 1_000_000).unwrap_or(now)
}
