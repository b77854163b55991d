//! `torture --engine ENGINE`: breaks a real site and counts what is lost.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::Parser;
use cloakroom_bench::breaker::{Breaker, Victim};
use cloakroom_bench::build;
use cloakroom_bench::client::raise_connection_limit;
use cloakroom_bench::course::Course;
use cloakroom_bench::engine::{Backing, Engine, Peer};
use cloakroom_bench::phases;
use cloakroom_bench::report::Report;
use cloakroom_bench::site::{Recipe, Site};
use tokio::signal::unix::{SignalKind, signal};

/// Breaks a real site and counts what is lost.
///
/// Starts private servers and a site over them, drives it over HTTP, kills, freezes and restarts what keeps the sessions,
/// and afterwards looks for everything that was acknowledged. Ends with an error if a target is missed.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Where sessions are kept
    #[arg(long, value_enum)]
    engine: Engine,
    /// Another library instead of Cloakroom
    #[arg(long, value_enum)]
    peer: Option<Peer>,
    /// What requests, pauses and faults are drawn from; a random one, which is printed, if it is not given
    #[arg(long)]
    seed: Option<u64>,
    /// How long there is mixed load under faults
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// How often each of the other parts is done
    #[arg(long, default_value_t = 5)]
    rounds: u64,
    /// A short run: one round each, 10 seconds of faults, freezes of one second
    #[arg(long, conflicts_with_all = ["seconds", "rounds"])]
    quick: bool,
    /// Only these parts
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// How many processes the site has, over one store
    #[arg(long, default_value_t = 1)]
    sites: usize,
    /// The site is killed, frozen and restarted too, where it is not the only thing that can be
    #[arg(long)]
    break_site: bool,
    /// Redis keeps nothing on its disk
    #[arg(long)]
    no_persistence: bool,
    /// The site's program: `cloakroom`, or `peer-site` with --peer. Without it, it is built.
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// A file for what the site writes to its log
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    DifferentKeys,
    OneKey,
    Increments,
    SignOut,
    Rotation,
    Faults,
}

#[tokio::main]
async fn main() -> ExitCode {
    // A signal ends us in order: what we started ends with us.
    let outcome = tokio::select! {
        outcome = run(Args::parse()) => outcome,
        () = stopped() => Err(anyhow::anyhow!("stopped by a signal")),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("torture: {error:#}");
        ExitCode::FAILURE
    })
}

async fn stopped() {
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

async fn run(args: Args) -> anyhow::Result<ExitCode> {
    ensure!(args.sites > 0, "--sites: a site has at least one process");
    ensure!(args.sites == 1 || args.engine.is_shared(), "--sites: the memory of one process is not another's");
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(0..1_000_000_000));
    let (rounds, length, freeze) = match args.quick {
        true => (1, Duration::from_secs(10), Duration::from_secs(1)),
        false => (args.rounds, Duration::from_secs(args.seconds), Duration::from_secs(5)),
    };
    let load_before = std::fs::read_to_string("/proc/loadavg").ok();
    let load_before = load_before.and_then(|load| load.split(' ').next()?.parse().ok());

    raise_connection_limit();
    let temporary = tempfile::tempdir().context("no temporary directory")?;
    let (backing, program) = (Backing::start(args.engine, !args.no_persistence)?, program(&args)?);
    let recipe = recipe(&args, program, &backing, temporary.path())?;
    let log = args.log.clone().unwrap_or_else(|| temporary.path().join("log"));
    let sites = (0..args.sites).map(|_| Site::start(recipe.clone(), &log).map(Arc::new));
    let sites: Vec<Arc<Site>> = sites.collect::<anyhow::Result<_>>()?;
    let addresses = sites.iter().map(|site| site.address()).collect();
    let course = Arc::new(Course::new(addresses, args.engine.cookie(), seed));

    let tell = |what: String| {
        // Standard output is the report's. Who looks at neither does not stop us.
        let _ = writeln!(std::io::stderr(), "{what}");
    };
    let wants = |part| args.only.is_empty() || args.only.contains(&part);
    let mut report = Report {
        engine: args.engine.name(),
        peer: args.peer.map(Peer::name),
        seed,
        sites: args.sites,
        processors: std::thread::available_parallelism().map_or(0, usize::from),
        load_before,
        ..Report::default()
    };
    tell(format!("seed {seed}"));
    if wants(Part::DifferentKeys) {
        tell("200 requests set 200 different keys of one session".to_owned());
        report.different_keys = Some(phases::different_keys(&course, rounds).await?);
    }
    if wants(Part::OneKey) {
        tell("200 requests set one key of one session".to_owned());
        report.one_key = Some(phases::one_key(&course, rounds).await?);
    }
    if wants(Part::Increments) {
        tell("1,000 requests add one to one counter".to_owned());
        report.increments = Some(phases::increments(&course, rounds).await?);
    }
    if wants(Part::SignOut) {
        tell("a sign-out during 100 requests".to_owned());
        report.sign_outs = Some(phases::sign_outs(&course, rounds).await?);
    }
    if wants(Part::Rotation) {
        tell("a rotation during 100 requests".to_owned());
        report.rotations = Some(phases::rotations(&course, rounds).await?);
    }
    if wants(Part::Faults) {
        tell(format!("mixed load under faults for {} seconds", length.as_secs()));
        let mut victims: Vec<Victim> = backing.servers.iter().cloned().map(Victim::Server).collect();
        if victims.is_empty() || args.break_site {
            victims.extend(sites.iter().cloned().map(Victim::Site));
        }
        // Only engines that have one place for their sessions are forgetful, and that is the first victim.
        let breaker = Breaker::new(victims, backing.is_forgetful().then_some(0), freeze);
        report.storm = Some(phases::storm(&course, breaker, length, tell).await?);
    }
    report.judge();
    let text = if args.json { serde_json::to_string_pretty(&report)? } else { report.text() };
    writeln!(std::io::stdout(), "{}", text.trim_end())?;
    Ok(if report.missed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The site's program.
fn program(args: &Args) -> anyhow::Result<PathBuf> {
    if let Some(program) = &args.program {
        // The site runs in a directory of its own.
        return program.canonicalize().with_context(|| format!("--program: {}", program.display()));
    }
    let bench = Path::new(env!("CARGO_MANIFEST_DIR"));
    match args.peer {
        None => build::program(&bench.join("../Cargo.toml"), "cloakroom-manage", "cloakroom"),
        Some(_) => build::program(&bench.join("Cargo.toml"), "cloakroom-bench-peers", "peer-site"),
    }
}

/// How to start the site.
fn recipe(args: &Args, program: PathBuf, backing: &Backing, directory: &Path) -> anyhow::Result<Recipe> {
    let directory = directory.to_owned();
    let (arguments, environment) = match args.peer {
        None => (vec!["serve".to_owned()], backing.settings(&directory)),
        Some(peer) => (backing.peer_arguments(peer, &directory)?, Vec::new()),
    };
    let recipe = Recipe { program, arguments, environment, directory };
    if args.peer.is_none() && backing.has_database() {
        let output = recipe.command().arg("migrate").output().context("the site's program cannot be started")?;
        if !output.status.success() {
            bail!("the session table was not made:\n{}", String::from_utf8_lossy(&output.stderr));
        }
    }
    Ok(recipe)
}
