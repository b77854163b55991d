//! `cloakroom clearsessions`.

use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::bail;
use cloakroom::{Sessions, Settings};
use indicatif::{ProgressBar, ProgressStyle};

/// How to sweep.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many sessions one batch removes at most; between batches the site's own writers get their turn
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    batch: u32,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(path: Option<&Path>, args: Args) -> anyhow::Result<ExitCode> {
    let sessions = Sessions::from_settings(Settings::load(path)?).await?;
    let engine = sessions.settings().engine();
    let Some(store) = sessions.store() else {
        // As in Django: the engine keeps nothing, so there is nothing to clear.
        return Ok(report(&args, engine.short(), 0, 0.0));
    };
    let progress = if std::io::stderr().is_terminal() && !args.json {
        ProgressBar::new_spinner()
            .with_style(ProgressStyle::with_template("{spinner} {pos} expired sessions removed, {per_sec}, {elapsed}")?)
    } else {
        ProgressBar::hidden()
    };
    let (begin, mut removed) = (Instant::now(), 0);
    loop {
        let cleared = match store.clear_expired(args.batch as usize).await {
            Ok(cleared) => cleared,
            Err(error) if error.kind() == cloakroom::ErrorKind::Unsupported => {
                bail!("Session engine '{}' doesn't support clearing expired sessions.", engine.dotted())
            }
            Err(error) => return Err(error.into()),
        };
        removed += cleared.removed;
        progress.set_position(removed);
        if !cleared.more {
            break;
        }
    }
    progress.finish_and_clear();
    Ok(report(&args, engine.short(), removed, begin.elapsed().as_secs_f64()))
}

fn report(args: &Args, engine: &str, removed: u64, seconds: f64) -> ExitCode {
    if args.json {
        println!("{}", serde_json::json!({ "engine": engine, "removed": removed, "seconds": seconds }));
    } else {
        println!("{removed} expired sessions removed from the {engine} engine in {seconds:.1} s");
    }
    ExitCode::SUCCESS
}
