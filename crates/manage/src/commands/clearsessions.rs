//! `cloakroom clearsessions`.

use std::fmt::Write;
use std::io::IsTerminal;
use std::path::Path;
use std::pin::pin;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::bail;
use cloakroom::core::sweep::{DEFAULT_BATCH, Sweep};
use cloakroom::{Clock, Sessions, Settings};
use indicatif::{ProgressBar, ProgressState, ProgressStyle};

use super::serve::stopped;

/// What the shell expects of a program that was interrupted.
const INTERRUPTED: u8 = 130;

/// How to sweep.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many sessions one batch removes at most; between batches the site's own writers get their turn
    #[arg(long, default_value_t = DEFAULT_BATCH as u32, value_parser = clap::value_parser!(u32).range(1..))]
    batch: u32,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(path: Option<&Path>, args: Args) -> anyhow::Result<ExitCode> {
    // What is wrong with any setting is told, though how often the site sweeps by itself is none of our business.
    Settings::load(path)?;
    let settings = Settings::loader(path).sweep_interval(0).build()?;
    let sessions = Sessions::from_settings(settings).await?;
    let engine = sessions.settings().engine();
    let begin = Instant::now();
    let Some(store) = sessions.store() else {
        // As in Django: the engine keeps nothing, so there is nothing to clear.
        return Ok(report(&args, engine.short(), 0, begin, false));
    };
    let mut stopped = pin!(stopped());
    let progress = if std::io::stderr().is_terminal() && !args.json {
        progress(count(sessions.settings()).await)?
    } else {
        ProgressBar::hidden()
    };
    let (mut sweep, mut removed, mut interrupted) = (Sweep::in_batches(args.batch as usize), 0, false);
    while !interrupted {
        let mut batch = pin!(sweep.next(&**store));
        let batch = tokio::select! {
            batch = &mut batch => batch,
            () = &mut stopped => {
                interrupted = true;
                // What is begun is counted.
                batch.await
            }
        };
        match batch {
            Ok(Some(batch)) => removed += batch,
            Ok(None) => break,
            Err(error) if error.kind() == cloakroom::ErrorKind::Unsupported => {
                bail!("Session engine '{}' doesn't support clearing expired sessions.", engine.dotted())
            }
            Err(error) => return Err(anyhow::Error::from(error).context(format!("after {removed} sessions"))),
        }
        progress.set_position(removed);
    }
    progress.finish_and_clear();
    Ok(report(&args, engine.short(), removed, begin, interrupted))
}

/// How many sessions have expired, where that can be asked for.
async fn count(settings: &Settings) -> Option<u64> {
    if !settings.engine().uses_database() {
        return None;
    }
    // A database that does not tell in time is swept all the same.
    let database = cloakroom::open_database(settings, false, Clock::system()).await.ok()?;
    database.count_expired().await.ok()
}

/// Rate and remaining time, if it is known how many there are.
fn progress(total: Option<u64>) -> anyhow::Result<ProgressBar> {
    let (progress, template) = match total {
        Some(total) => {
            let template = "{wide_bar} {pos} of {len} expired sessions removed, {rate}, {eta} left";
            (ProgressBar::new(total), template)
        }
        None => (ProgressBar::new_spinner(), "{spinner} {pos} expired sessions removed, {rate}, {elapsed}"),
    };
    let rate = |state: &ProgressState, out: &mut dyn Write| {
        let _ = write!(out, "{:.0}/s", state.per_sec());
    };
    Ok(progress.with_style(ProgressStyle::with_template(template)?.with_key("rate", rate)))
}

fn report(args: &Args, engine: &str, removed: u64, begin: Instant, interrupted: bool) -> ExitCode {
    let seconds = begin.elapsed().as_secs_f64();
    if args.json {
        let report = serde_json::json!({
            "engine": engine, "removed": removed, "seconds": seconds, "interrupted": interrupted
        });
        println!("{report}");
    } else {
        println!("{removed} expired sessions removed from the {engine} engine in {seconds:.1} s");
    }
    if interrupted {
        if !args.json {
            println!("Interrupted: run it again to go on");
        }
        return ExitCode::from(INTERRUPTED);
    }
    ExitCode::SUCCESS
}
