//! `sweep`: how a sweep of a large table and a site that goes on writing bear each other, in Cloakroom and in
//! tower-sessions.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use clap::Parser;
use cloakroom_bench::results::{self, Circumstances, thousands};
use cloakroom_bench::stats::percentile;
use cloakroom_bench::table::{Database, Fill, Library, Place};
use cloakroom_bench::{build, cpu};
use cloakroom_core::store::{Created, Replaced};
use cloakroom_core::sweep::Sweep;
use cloakroom_core::{Clock, KeySource, Timestamp};
use cloakroom_sql::AnySqlStore;
use serde::Serialize;

/// How often the writer saves.
const EVERY: Duration = Duration::from_millis(5);
/// How many sessions the writer has.
const SESSIONS: u64 = 100;

/// Sweeps a table of many expired sessions, beside a writer that saves a session every 5 ms.
///
/// The sweep is a process of its own, as `cloakroom clearsessions` is one, and so is the writer. Servers are started for
/// the purpose, and write to the disk as in production; the SQLite database lies in the directory for temporary files.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// The databases; tower-sessions sweeps SQLite and PostgreSQL
    #[arg(value_enum, default_values = ["sqlite", "postgres", "mariadb"])]
    databases: Vec<Database>,
    /// How many sessions have expired
    #[arg(long, default_value_t = 1_000_000)]
    expired: u64,
    /// How many have not
    #[arg(long, default_value_t = 100_000)]
    live: u64,
    /// The length of what a session holds
    #[arg(long, default_value_t = 491)]
    payload: usize,
    /// How many sessions a batch removes at most
    #[arg(long, default_value_t = 1_000)]
    batch: usize,
    /// Without tower-sessions
    #[arg(long)]
    no_peer: bool,
    /// A short run: 20,000 expired and 2,000 live sessions
    #[arg(long, conflicts_with_all = ["expired", "live"])]
    quick: bool,
    /// The name of the section that is written into the results
    #[arg(long, default_value = "sweep")]
    section: String,
    /// Write the results into the documentation
    #[arg(long)]
    write: bool,
    /// Print the results as JSON
    #[arg(long)]
    json: bool,
    /// What the program starts itself for
    #[arg(long, hide = true, value_names = ["JOB", "URL"], num_args = 2)]
    job: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Outcome {
    library: &'static str,
    database: Database,
    /// Seconds.
    sweep: f64,
    /// Bytes.
    peak_memory: f64,
    /// Milliseconds.
    longest_wait: f64,
    p99: f64,
    saves: usize,
    errors: usize,
}

#[derive(Debug, Serialize)]
struct Report {
    circumstances: Circumstances,
    expired: u64,
    live: u64,
    payload: usize,
    batch: usize,
    outcomes: Vec<Outcome>,
}

fn main() -> anyhow::Result<()> {
    let mut args = Args::parse();
    if args.quick {
        (args.expired, args.live) = (20_000, 2_000);
    }
    ensure!(args.expired > 0, "--expired: at least one");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        match &args.job[..] {
            [job, url] if job == "sweep" => sweep(url, args.batch).await,
            [job, url] if job == "write" => write(url, args.payload).await,
            _ => measure(&args).await,
        }
    })
}

async fn measure(args: &Args) -> anyhow::Result<()> {
    let load_before = results::load();
    let ours = std::env::current_exe()?;
    let bench = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let peers = match args.no_peer {
        true => None,
        false => Some(build::program(&bench, "cloakroom-bench-peers", "peer-site")?),
    };
    let (mut outcomes, mut versions) = (Vec::new(), Vec::new());
    for database in &args.databases {
        outcomes.push(run(&ours, *database, Library::Cloakroom, args, &mut versions).await?);
        if let Some(peers) = peers.as_ref().filter(|_| *database != Database::Mariadb) {
            outcomes.push(run(peers, *database, Library::TowerSessions, args, &mut versions).await?);
        }
    }
    let packages = ["sqlx", "libsqlite3-sys", "tower-sessions-sqlx-store"];
    let mut circumstances = Circumstances::now("sweep", &packages, versions);
    circumstances.load_before = load_before;
    let Args { expired, live, payload, batch, .. } = *args;
    let report = Report { circumstances, expired, live, payload, batch, outcomes };
    let text = if args.json { serde_json::to_string_pretty(&report)? } else { report.markdown() };
    writeln!(std::io::stdout(), "{}", text.trim_end())?;
    if args.write {
        results::write(&args.section, &report.markdown())?;
    }
    Ok(())
}

/// The command of a job of a library, on a database.
fn job(program: &PathBuf, library: Library, name: &str, database: Database, url: &str, args: &Args) -> Command {
    let mut command = Command::new(program);
    match library {
        Library::Cloakroom => {
            command.args(["--batch", &args.batch.to_string(), "--payload", &args.payload.to_string()]);
            command.args(["--job", name, url]);
        }
        Library::TowerSessions => {
            command.args(["tower-sessions", &database.id(), "--url", url, "--job", name]);
        }
    }
    command.stdout(Stdio::piped());
    command
}

async fn run(
    program: &PathBuf,
    database: Database,
    library: Library,
    args: &Args,
    versions: &mut Vec<String>,
) -> anyhow::Result<Outcome> {
    let name = if library == Library::Cloakroom { "Cloakroom" } else { "tower-sessions" };
    let _ = writeln!(std::io::stderr(), "{name} on {}: {} expired sessions", database.name(), args.expired);
    let place = Place::make(database, library)?;
    versions.extend(place.version().filter(|version| !versions.contains(version)));
    match library {
        Library::Cloakroom => place.migrate().await?,
        // It makes its table before it finds nothing to sweep.
        Library::TowerSessions => drop(finish(job(program, library, "sweep", database, &place.url, args).spawn()?)?),
    }
    place.fill(Fill { expired: args.expired, live: args.live, payload: args.payload }).await?;

    let mut writer = Writer::start(job(program, library, "write", database, &place.url, args))?;
    let told = finish(job(program, library, "sweep", database, &place.url, args).spawn()?)?;
    let waits = writer.finish()?;
    let [sweep, memory] = told.split_whitespace().map(str::parse).collect::<Result<Vec<f64>, _>>()?[..] else {
        bail!("the sweep tells {told:?}")
    };
    let rows = place.rows().await?;
    ensure!(rows == args.live + SESSIONS, "{name} was to leave {} rows, and left {rows}", args.live + SESSIONS);
    let mut millis: Vec<f64> = waits.iter().map(|wait| wait.unsigned_abs() as f64 / 1e3).collect();
    millis.sort_by(f64::total_cmp);
    Ok(Outcome {
        library: name,
        database,
        sweep,
        peak_memory: memory * 1024.0,
        longest_wait: percentile(&millis, 1.0),
        p99: percentile(&millis, 0.99),
        saves: waits.len(),
        errors: waits.iter().filter(|wait| **wait < 0).count(),
    })
}

/// What a process prints until it ends.
fn finish(mut child: Child) -> anyhow::Result<String> {
    let mut told = String::new();
    child.stdout.take().context("its output is ours")?.read_to_string(&mut told)?;
    ensure!(child.wait()?.success(), "a process has failed");
    Ok(told)
}

/// The process that writes.
struct Writer {
    child: Child,
    told: BufReader<ChildStdout>,
}

impl Writer {
    /// Starts it, and waits until it writes.
    fn start(mut command: Command) -> anyhow::Result<Self> {
        let mut child = command.stdin(Stdio::piped()).spawn()?;
        let mut told = BufReader::new(child.stdout.take().context("its output is ours")?);
        let mut line = String::new();
        told.read_line(&mut line)?;
        ensure!(line.trim() == "ready", "the writer does not write");
        Ok(Self { child, told })
    }

    /// Ends it: how long it waited for each save, in microseconds, negative where that failed.
    fn finish(&mut self) -> anyhow::Result<Vec<i64>> {
        drop(self.child.stdin.take());
        let mut told = String::new();
        self.told.read_to_string(&mut told)?;
        ensure!(self.child.wait()?.success(), "the writer has failed");
        Ok(told.split_whitespace().map(str::parse).collect::<Result<_, _>>()?)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let (_, _) = (self.child.kill(), self.child.wait());
    }
}

/// The sweep, in a process of its own: tells how long it took, in seconds, and its peak memory, in KiB.
async fn sweep(url: &str, batch: usize) -> anyhow::Result<()> {
    let store = AnySqlStore::open(url, false, None, Clock::system()).await?.into_store();
    let (begin, mut sweep) = (Instant::now(), Sweep::in_batches(batch));
    while sweep.next(&*store).await?.is_some() {}
    println!("{} {}", begin.elapsed().as_secs_f64(), cpu::peak_memory().unwrap_or_default() / 1024);
    Ok(())
}

/// The writer, in a process of its own: saves sessions of its own, one after another, until its input ends.
async fn write(url: &str, length: usize) -> anyhow::Result<()> {
    let payload = |number: usize| Bytes::from(format!("{number:0>length$}"));
    let store = AnySqlStore::open(url, false, None, Clock::system()).await?.into_store();
    let mut sessions = Vec::new();
    while (sessions.len() as u64) < SESSIONS {
        let key = KeySource::system().draw()?;
        if let Created::Created(version) = store.create(&key, payload(0), later()).await? {
            sessions.push((key, version));
        }
    }
    let end = std::thread::spawn(|| std::io::stdin().read_to_end(&mut Vec::new()));
    let mut next = tokio::time::interval(EVERY);
    next.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    println!("ready");
    let mut waits: Vec<String> = Vec::new();
    while !end.is_finished() {
        next.tick().await;
        let place = waits.len() % sessions.len();
        let (key, version) = &mut sessions[place];
        let begin = Instant::now();
        let saved = store.replace(key, version, payload(waits.len()), later()).await;
        let wait = i64::try_from(begin.elapsed().as_micros())?.max(1);
        match saved {
            Ok(Replaced::Replaced(new)) => {
                *version = new;
                waits.push(wait.to_string());
            }
            other => {
                eprintln!("the writer: {other:?}");
                waits.push((-wait).to_string());
            }
        }
    }
    println!("{}", waits.join(" "));
    Ok(())
}

fn later() -> Timestamp {
    let now = Clock::system().now();
    now.checked_add_micros(14 * 86_400 * 1_000_000).unwrap_or(now)
}

impl Report {
    fn markdown(&self) -> String {
        let mut text = format!(
            "## Sweeping {} expired sessions beside {} live ones\n\n{}",
            thousands(self.expired as f64),
            thousands(self.live as f64),
            self.circumstances.markdown()
        );
        let _ = write!(
            text,
            "Sessions of {} bytes, expired and live ones mixed. The sweep is a process of its own, Cloakroom's in batches of \
             {} at most; another process saves a session every {EVERY:?}. Databases wait for the disk at each write.\n\n\
             | database | library | sweep | rows/s | peak memory | writer: longest wait | p99 | saves | errors |\n\
             |---|---|---|---|---|---|---|---|---|\n",
            self.payload, self.batch
        );
        for outcome in &self.outcomes {
            let _ = writeln!(
                text,
                "| {} | {} | {:.1} s | {} | {:.1} MiB | {:.0} ms | {:.1} ms | {} | {} |",
                outcome.database.name(),
                outcome.library,
                outcome.sweep,
                thousands(self.expired as f64 / outcome.sweep),
                outcome.peak_memory / 1_048_576.0,
                outcome.longest_wait,
                outcome.p99,
                thousands(outcome.saves as f64),
                outcome.errors
            );
        }
        text
    }
}
