//! `compare`: bare axum, Cloakroom and other session libraries, side by side over HTTP, in one interleaved run.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Parser;
use cloakroom_bench::client::raise_connection_limit;
use cloakroom_bench::comparison::{Cell, Comparison, Memory, Route, Row, Sample};
use cloakroom_bench::contest::{self, Contestant, Programs, Running, Servers};
use cloakroom_bench::load::{Ask, Expected, Limit, Measured, Visitors};
use cloakroom_bench::results::{self, Circumstances};
use cloakroom_bench::routes::{DATA, NAME};
use cloakroom_bench::{build, cpu};

/// Measures session libraries side by side.
///
/// Starts private servers and a site for each library and store over them, and asks all of them for the same pages, in
/// rounds in which they take turns. Ends with an error if any answer was not what it had to be.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// A short run: one round of a quarter of a second each, memory with 50,000 sessions
    #[arg(long, conflicts_with_all = ["rounds", "seconds", "memory"])]
    quick: bool,
    /// How often all take their turn
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long each turn is measured
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Only the rows with this in their names
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    only: Vec<String>,
    /// Only these routes
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["none", "read", "write", "login"])]
    routes: Vec<Route>,
    /// One more row: an engine of Cloakroom, and options for the URL of its database or cache
    #[arg(long, value_name = "ENGINE?OPTIONS")]
    extra: Vec<String>,
    /// How many visitors ask at the same time
    #[arg(long, default_value_t = 32)]
    visitors: usize,
    /// How many sessions are made to see how much memory they take; 0 leaves it out
    #[arg(long, default_value_t = 1_000_000)]
    memory: usize,
    /// Write the results and the pictures into the documentation
    #[arg(long)]
    write: bool,
    /// Print the results as JSON
    #[arg(long)]
    json: bool,
    /// Tell the names of the rows, and end
    #[arg(long)]
    list: bool,
}

/// After so many sites, bare axum has its turn again.
const EVERY: usize = 6;

/// What the versions are told of.
const PACKAGES: [&str; 12] = [
    "axum",
    "tokio",
    "sqlx",
    "redis",
    "libsqlite3-sys",
    "tower-sessions",
    "tower-sessions-sqlx-store",
    "tower-sessions-redis-store",
    "tower-sessions-moka-store",
    "actix-session",
    "actix-web",
    "axum_session",
];

fn main() -> ExitCode {
    run(Args::parse()).unwrap_or_else(|error| {
        eprintln!("compare: {error:#}");
        ExitCode::FAILURE
    })
}

fn run(mut args: Args) -> anyhow::Result<ExitCode> {
    if args.quick {
        (args.rounds, args.seconds, args.memory) = (1, 0.25, 50_000);
    }
    ensure!(args.rounds > 0 && args.visitors > 0, "--rounds, --visitors: at least one");
    ensure!(args.seconds > 0.0 && args.seconds < 3600.0, "--seconds: more than none, and at most an hour");
    let mut rows = contest::all();
    rows.extend(args.extra.iter().map(|text| Contestant::extra(text)).collect::<anyhow::Result<Vec<_>>>()?);
    let rows = contest::choose(rows, &args.only)?;
    if args.list {
        rows.iter().for_each(|row| println!("{}", row.id()));
        return Ok(ExitCode::SUCCESS);
    }
    raise_connection_limit();
    let load_before = results::load();
    let bench = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let has_peers = rows.iter().any(Contestant::is_with_peers);
    let programs = Programs {
        ours: build::program(&bench, "cloakroom-bench", "bench-site")?,
        peers: has_peers.then(|| build::program(&bench, "cloakroom-bench-peers", "peer-site")).transpose()?,
    };
    let mut servers = Servers::default();
    let mut sites = Vec::new();
    for row in &rows {
        tell(format!("starting {}", row.id()));
        let running = Running::start(row, &programs, &mut servers)?;
        sites.push(Participant::admit(row, running, args.visitors)?);
    }
    let mut samples = vec![vec![Vec::new(); rows.len()]; args.routes.len()];
    for round in 0..args.rounds {
        for (place, route) in args.routes.iter().enumerate() {
            tell(format!("round {} of {}, {}", round + 1, args.rounds, route.path()));
            play(*route, round, &mut sites, &args, &mut samples[place])?;
        }
    }
    // At the end, so that a server that is not installed is found out at once.
    drop(sites);
    let memory = measure_memory(&args, &rows, &programs, &mut servers)?;

    let mut circumstances = Circumstances::now("compare", &PACKAGES, servers.versions());
    circumstances.load_before = load_before;
    let table = rows.iter().enumerate().map(|(who, row)| {
        let routes = args.routes.iter().zip(&samples).map(|(route, samples)| (*route, Cell::of(&samples[who])));
        Row { who: row.clone(), routes: routes.collect() }
    });
    let comparison = Comparison {
        circumstances,
        rounds: args.rounds,
        seconds: args.seconds,
        visitors: args.visitors,
        payload: DATA.len(),
        rows: table.collect(),
        memory,
    };
    let text = if args.json { serde_json::to_string_pretty(&comparison)? } else { comparison.markdown() };
    writeln!(std::io::stdout(), "{}", text.trim_end())?;
    if args.write {
        results::write("compare", &comparison.markdown())?;
        results::write_picture("speed.svg", &comparison.picture().svg())?;
        if !comparison.memory.is_empty() {
            results::write_picture("memory.svg", &comparison.memory_picture().svg())?;
        }
    }
    let complaints = comparison.complaints();
    complaints.iter().for_each(|complaint| tell(complaint.clone()));
    Ok(if complaints.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Standard output is the report's. Who looks at neither does not stop us.
fn tell(what: String) {
    let _ = writeln!(std::io::stderr(), "{what}");
}

/// A site, with its visitors.
struct Participant {
    running: Running,
    visitors: Visitors,
    has_sessions: bool,
}

impl Participant {
    /// Connects visitors to a site, and fills a session of each.
    fn admit(row: &Contestant, running: Running, visitors: usize) -> anyhow::Result<Self> {
        let connected = Visitors::connect(running.site.address(), visitors)?;
        let mut participant = Self { running, visitors: connected, has_sessions: row.has_sessions() };
        let measured = participant.visitors.ask(&fill(false), Limit::Requests(visitors), &[])?;
        ensure!(measured.failed + measured.wrong == 0, "{}: no sessions can be made", row.id());
        Ok(participant)
    }

    fn measure(&mut self, route: Route, seconds: f64) -> anyhow::Result<Measured> {
        let expected = match route {
            Route::None => Expected::Text("nothing"),
            Route::Read => Expected::Text(NAME),
            // Without sessions there is one counter for all.
            Route::Write if !self.has_sessions => Expected::Anything,
            Route::Write => Expected::Next,
            Route::Login => Expected::Text("welcome"),
        };
        let ask = Ask { method: "GET", path: route.path(), body: "", anonymous: false, expected };
        let measured = Duration::from_secs_f64(seconds);
        let limit = Limit::Time { before: (measured / 5).min(Duration::from_millis(200)), measured };
        let pids: Vec<u32> = self.running.site.pid().into_iter().chain(self.running.servers.iter().copied()).collect();
        self.visitors.ask(&ask, limit, &pids)
    }
}

fn fill(anonymous: bool) -> Ask<'static> {
    Ask { method: "POST", path: "/fill", body: DATA, anonymous, expected: Expected::Text("filled") }
}

/// A round on one route: all take their turn, bare axum (the first) every now and then.
fn play(
    route: Route,
    round: usize,
    sites: &mut [Participant],
    args: &Args,
    samples: &mut [Vec<Sample>],
) -> anyhow::Result<()> {
    let rate = |measured: &Measured| measured.requests as f64 / measured.seconds;
    let bare = |sites: &mut [Participant], samples: &mut [Vec<Sample>]| -> anyhow::Result<f64> {
        let measured = sites[0].measure(route, args.seconds)?;
        let bare = rate(&measured);
        samples[0].push(Sample { measured, bare });
        Ok(bare)
    };
    let mut before = bare(sites, samples)?;
    // Who follows whom changes from round to round.
    let mut order: Vec<usize> = (1..sites.len()).collect();
    let places = order.len().max(1);
    order.rotate_left(round * EVERY.div_ceil(2) % places);
    for few in order.chunks(EVERY) {
        let mut measured = Vec::new();
        for who in few {
            measured.push((*who, sites[*who].measure(route, args.seconds)?));
        }
        let after = bare(sites, samples)?;
        for (who, measured) in measured {
            samples[who].push(Sample { measured, bare: (before + after) / 2.0 });
        }
        before = after;
    }
    Ok(())
}

/// The memory that sessions take in sites which keep them there.
fn measure_memory(
    args: &Args,
    rows: &[Contestant],
    programs: &Programs,
    servers: &mut Servers,
) -> anyhow::Result<Vec<Memory>> {
    let mut found = Vec::new();
    let rows = rows.iter().filter(|row| args.memory > 0 && row.group == contest::IN_PROCESS);
    for row in rows {
        tell(format!("memory of {} with {} sessions", row.id(), args.memory));
        let running = Running::start(row, programs, servers)?;
        let mut visitors = Visitors::connect(running.site.address(), args.visitors)?;
        let memory = || running.site.pid().and_then(cpu::memory).context("the site's memory is not told");
        // Threads, buffers and the first tables are there.
        visitors.ask(&fill(true), Limit::Requests(args.memory.min(5_000)), &[])?;
        let before = memory()?;
        let measured = visitors.ask(&fill(true), Limit::Requests(args.memory), &[])?;
        ensure!(measured.failed + measured.wrong == 0, "{}: not all sessions could be made", row.id());
        let per_session = (memory()? as f64 - before as f64) / args.memory as f64;
        found.push(Memory { who: row.clone(), sessions: args.memory, per_session, payload: DATA.len() });
    }
    Ok(found)
}
