//! `cloakroom stats`.

use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;

use cloakroom::inspector::{Bar, Step};
use comfy_table::{CellAlignment, Table, presets};
use indicatif::ProgressBar;
use serde_json::{Map, json};

use super::look::Look;

/// What to count.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Look at so many sessions at most, and estimate the rest from them; all without it
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    #[command(flatten)]
    look: Look,
}

pub(crate) async fn run(path: Option<&Path>, args: Args) -> anyhow::Result<ExitCode> {
    let inspector = args.look.inspector(path).await?;
    let step = args.limit.map_or(Step::ALL, |records| Step { records, ..Step::ALL });
    let shown = std::io::stderr().is_terminal() && !args.look.json;
    let progress = if shown { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
    let stats = inspector.stats(step, |looked_at| progress.set_message(format!("{looked_at} sessions"))).await?;
    progress.finish_and_clear();
    if args.look.json {
        let bars = |bars: Vec<Bar>| -> Map<_, _> {
            bars.into_iter().map(|bar| (bar.name.to_owned(), stats.in_all(bar.count).into())).collect()
        };
        let report = json!({
            "engine": inspector.place(),
            "looked_at": stats.scanned,
            "complete": stats.complete,
            "sessions": stats.total,
            "live": stats.in_all(stats.live),
            "with_user": stats.in_all(stats.with_user),
            "expired": stats.in_all(stats.expired),
            "corrupted": stats.in_all(stats.corrupted),
            "bytes": stats.in_all(stats.bytes),
            "largest": stats.largest,
            "ends": bars(stats.ends()),
            "sizes": bars(stats.sizes()),
        });
        println!("{}", serde_json::to_string_pretty(&report)?);
        return Ok(ExitCode::SUCCESS);
    }
    println!("Sessions: {}", inspector.place());
    if !stats.complete {
        println!(
            "The first {} in the order of their keys, which are random, were looked at: the numbers are estimates from them",
            stats.scanned
        );
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let mut rows = vec![
        ("sessions".to_owned(), stats.total),
        ("live".to_owned(), stats.in_all(stats.live)),
        ("with a user".to_owned(), stats.in_all(stats.with_user)),
        ("expired, waiting for a sweep".to_owned(), stats.in_all(stats.expired)),
        ("corrupted".to_owned(), stats.in_all(stats.corrupted)),
        ("bytes".to_owned(), stats.in_all(stats.bytes)),
        ("bytes of the largest".to_owned(), stats.largest),
    ];
    let ends = stats.ends().into_iter().skip(1).map(|bar| (format!("end {}", bar.name), stats.in_all(bar.count)));
    rows.extend(
        ends.chain(stats.sizes().into_iter().map(|bar| (format!("are {}", bar.name), stats.in_all(bar.count)))),
    );
    for (name, number) in rows {
        table.add_row([name, number.to_string()]);
    }
    if let Some(numbers) = table.column_mut(1) {
        numbers.set_cell_alignment(CellAlignment::Right);
    }
    println!("{table}");
    Ok(ExitCode::SUCCESS)
}
