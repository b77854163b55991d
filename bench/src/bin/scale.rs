//! `scale`: what an operation costs with ten thousand, a million and ten million sessions in a database, and what a million
//! requests without a session leave there.

use std::fmt::Write as _;
use std::io::Write;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use bytes::Bytes;
use clap::Parser;
use cloakroom::{Sessions, Settings};
use cloakroom_bench::picture::Curves;
use cloakroom_bench::results::{self, Circumstances, thousands};
use cloakroom_bench::routes;
use cloakroom_bench::stats::percentile;
use cloakroom_bench::table::{Database, Fill, Library, Place};
use cloakroom_core::store::{Created, Deleted, Replaced, Store};
use cloakroom_core::{Clock, KeySource, SessionKey, Timestamp};
use cloakroom_sql::AnySqlStore;
use serde::Serialize;
use tower::ServiceExt;

/// Measures operations on tables of many sessions.
///
/// Servers are started for the purpose and write to the disk as in production; the SQLite database lies in the directory
/// for temporary files. Ten million sessions take about 5 GB of disk for a while.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// The databases
    #[arg(value_enum, default_values = ["sqlite", "postgres"])]
    databases: Vec<Database>,
    /// How many sessions there are
    #[arg(long, value_delimiter = ',', default_values_t = [10_000, 1_000_000, 10_000_000])]
    rows: Vec<u64>,
    /// The length of what a session holds
    #[arg(long, default_value_t = 120)]
    payload: usize,
    /// How often each operation is done
    #[arg(long, default_value_t = 2_000)]
    operations: usize,
    /// How many requests come without a session; 0 leaves it out
    #[arg(long, default_value_t = 1_000_000)]
    anonymous: u64,
    /// A short run: 1,000 and 20,000 sessions, 10,000 requests
    #[arg(long, conflicts_with_all = ["rows", "operations", "anonymous"])]
    quick: bool,
    /// Write the results and the picture into the documentation
    #[arg(long)]
    write: bool,
    /// Print the results as JSON
    #[arg(long)]
    json: bool,
}

/// The median and the 99th percentile, in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
struct Cost {
    median: f64,
    p99: f64,
}

#[derive(Debug, Serialize)]
struct Level {
    database: Database,
    rows: u64,
    size: u64,
    load: Cost,
    replace: Cost,
    create: Cost,
    delete: Cost,
}

#[derive(Debug, Serialize)]
struct Anonymous {
    database: Database,
    requests: u64,
    rows: u64,
    seconds: f64,
}

#[derive(Debug, Serialize)]
struct Report {
    circumstances: Circumstances,
    payload: usize,
    operations: usize,
    levels: Vec<Level>,
    anonymous: Vec<Anonymous>,
}

fn main() -> anyhow::Result<()> {
    let mut args = Args::parse();
    if args.quick {
        (args.rows, args.operations, args.anonymous) = (vec![1_000, 20_000], 200, 10_000);
    }
    ensure!(!args.databases.contains(&Database::Mariadb), "only SQLite and PostgreSQL");
    ensure!(args.operations > 0, "--operations: at least one");
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(run(args))
}

async fn run(args: Args) -> anyhow::Result<()> {
    let load_before = results::load();
    let (mut levels, mut anonymous, mut versions) = (Vec::new(), Vec::new(), Vec::new());
    for database in &args.databases {
        if args.anonymous > 0 {
            let _ = writeln!(std::io::stderr(), "{}: {} requests without a session", database.name(), args.anonymous);
            anonymous.push(strangers(*database, args.anonymous).await?);
        }
        for rows in &args.rows {
            let _ = writeln!(std::io::stderr(), "{}: {rows} sessions", database.name());
            let place = Place::make(*database, Library::Cloakroom)?;
            versions.extend(place.version().filter(|version| !versions.contains(version)));
            levels.push(level(*database, &place, *rows, &args).await?);
        }
    }
    let mut circumstances = Circumstances::now("scale", &["sqlx", "libsqlite3-sys", "tokio"], versions);
    circumstances.load_before = load_before;
    let report = Report { circumstances, payload: args.payload, operations: args.operations, levels, anonymous };
    let text = if args.json { serde_json::to_string_pretty(&report)? } else { report.markdown() };
    writeln!(std::io::stdout(), "{}", text.trim_end())?;
    if args.write {
        results::write("scale", &report.markdown())?;
        results::write_picture("scale.svg", &report.picture().svg())?;
    }
    Ok(())
}

/// Works on a table with so many sessions, one operation after the other.
async fn level(database: Database, place: &Place, rows: u64, args: &Args) -> anyhow::Result<Level> {
    place.migrate().await?;
    place.fill(Fill { expired: 0, live: rows, payload: args.payload }).await?;
    let size = place.size()?;
    let store = AnySqlStore::open(&place.url, false, None, Clock::system()).await?.into_store();
    let mut bench = Bench { store, number: 0, payload: args.payload };
    let mut times = [const { Vec::new() }; 4];
    // The first tenth only opens connections, prepares statements and warms what is always warm.
    let warming = args.operations / 10;
    for operation in 0..args.operations + warming {
        let told = bench.each().await?;
        if operation >= warming {
            times.iter_mut().zip(told).for_each(|(times, told)| times.push(told));
        }
    }
    let [load, replace, create, delete] = times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        Cost { median: percentile(&times, 0.5), p99: percentile(&times, 0.99) }
    });
    ensure!(place.rows().await? == rows, "what was created was deleted, and nothing else");
    Ok(Level { database, rows, size, load, replace, create, delete })
}

struct Bench {
    store: Arc<dyn Store>,
    number: usize,
    payload: usize,
}

impl Bench {
    /// Loads and replaces a session at random, creates one and deletes it; returns how long each took, in microseconds.
    async fn each(&mut self) -> anyhow::Result<[f64; 4]> {
        let key = self.any().await?;
        let (loaded, load) = timed(self.store.load(&key)).await;
        let loaded = loaded?.context("a session that is listed can be loaded")?;
        let payload = self.payload();
        let (replaced, replace) = timed(self.store.replace(&key, &loaded.version, payload, later())).await;
        ensure!(matches!(replaced?, Replaced::Replaced(_)), "nobody else writes");
        let (key, payload) = (draw()?, self.payload());
        let (created, create) = timed(self.store.create(&key, payload, later())).await;
        ensure!(matches!(created?, Created::Created(_)), "a key at random is free");
        let (deleted, delete) = timed(self.store.delete(&key, None)).await;
        ensure!(matches!(deleted?, Deleted::Deleted), "what was created can be deleted");
        Ok([load, replace, create, delete])
    }

    /// A session at random.
    async fn any(&self) -> anyhow::Result<SessionKey> {
        for _ in 0..100 {
            if let Some(key) = self.store.list(Some(&draw()?), 1).await?.pop() {
                return Ok(key);
            }
        }
        bail!("the table is empty")
    }

    fn payload(&mut self) -> Bytes {
        self.number += 1;
        format!("{:0>width$}", self.number, width = self.payload).into()
    }
}

async fn timed<T>(work: impl Future<Output = T>) -> (T, f64) {
    let begin = Instant::now();
    let outcome = work.await;
    (outcome, begin.elapsed().as_secs_f64() * 1e6)
}

/// A key at random, of the digits that the table's keys are made of.
fn draw() -> anyhow::Result<SessionKey> {
    SessionKey::presented(&format!("{:032x}", fastrand::u128(..))).context("hexadecimal digits are a key")
}

fn later() -> Timestamp {
    let now = Clock::system().now();
    now.checked_add_micros(14 * 86_400 * 1_000_000).unwrap_or(now)
}

/// Requests of visitors who have no session, through a site within this process, without a network.
async fn strangers(database: Database, requests: u64) -> anyhow::Result<Anonymous> {
    let place = Place::make(database, Library::Cloakroom)?;
    place.migrate().await?;
    let settings = Settings::builder().secret_key("of a comparison").database_url(&place.url).build()?;
    let router = routes::cloakroom(&Sessions::from_settings(settings).await?);
    let begin = Instant::now();
    for number in 0..requests {
        // One does not look at the session, one reads it, one brings a cookie that nobody was given.
        let request = Request::get(if number % 3 == 0 { "/none" } else { "/read" });
        let request = match number % 3 {
            2 => request.header(header::COOKIE, format!("sessionid={}", KeySource::system().draw()?.as_str())),
            _ => request,
        };
        let response = router.clone().oneshot(request.body(Body::empty())?).await?;
        ensure!(response.status() == StatusCode::OK, "a stranger is answered {}", response.status());
    }
    let seconds = begin.elapsed().as_secs_f64();
    Ok(Anonymous { database, requests, rows: place.rows().await?, seconds })
}

impl Report {
    fn markdown(&self) -> String {
        let mut text = format!("## Many sessions\n\n{}", self.circumstances.markdown());
        let _ = write!(
            text,
            "Sessions of {} bytes under keys at random; {} operations of each kind, one after the other, on sessions at \
             random. Median (99th percentile) in microseconds. Both databases wait for the disk at each write, in \
             PostgreSQL with `shared_buffers=128MB`.\n\n\
             | database | sessions | on the disk | load | replace | create | delete |\n|---|---|---|---|---|---|---|\n",
            self.payload, self.operations
        );
        for level in &self.levels {
            let cost = |cost: Cost| format!("{:.0} ({:.0})", cost.median, cost.p99);
            let _ = writeln!(
                text,
                "| {} | {} | {:.0} MB | {} | {} | {} | {} |",
                level.database.name(),
                thousands(level.rows as f64),
                level.size as f64 / 1e6,
                cost(level.load),
                cost(level.replace),
                cost(level.create),
                cost(level.delete)
            );
        }
        if !self.anonymous.is_empty() {
            text += "\nRequests without a session, a third of them with a cookie that nobody was given:\n\n\
                     | database | requests | rows afterwards | µs a request, in process |\n|---|---|---|---|\n";
        }
        for anonymous in &self.anonymous {
            let _ = writeln!(
                text,
                "| {} | {} | {} | {:.1} |",
                anonymous.database.name(),
                thousands(anonymous.requests as f64),
                anonymous.rows,
                anonymous.seconds * 1e6 / anonymous.requests as f64
            );
        }
        text
    }

    fn picture(&self) -> Curves {
        let mut curves: Vec<(String, Vec<(f64, f64)>)> = Vec::new();
        type Value = fn(&Level) -> f64;
        let kinds: [(&str, Value); 4] = [
            ("load", |level| level.load.median),
            ("replace", |level| level.replace.median),
            ("create", |level| level.create.median),
            ("delete", |level| level.delete.median),
        ];
        for (kind, value) in kinds {
            for database in [Database::Sqlite, Database::Postgres] {
                let levels = self.levels.iter().filter(|level| level.database == database);
                let points: Vec<(f64, f64)> = levels.map(|level| (level.rows as f64, value(level))).collect();
                curves.push((format!("{kind}, {}", database.name()), points));
            }
        }
        curves.retain(|(_, points)| !points.is_empty());
        let title = "What an operation costs, with so many sessions in the table".to_owned();
        Curves { title, unit: "µs, median".to_owned(), curves }
    }
}
