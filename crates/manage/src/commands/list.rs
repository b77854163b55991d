//! `cloakroom list`.

use std::path::Path;
use std::process::ExitCode;

use anyhow::anyhow;
use cloakroom::inspector::{Filter, Handle, Show, Step};
use comfy_table::{Table, presets};
use serde_json::json;

use super::look::{Look, as_json, moment, plain};

/// Which sessions to list.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only those of this user
    #[arg(long, value_name = "ID")]
    user: Option<String>,
    /// Only those that are found when presented
    #[arg(long, group = "state")]
    live: bool,
    /// Only those that have ended and wait for a sweep
    #[arg(long, group = "state")]
    expired: bool,
    /// Only those whose data cannot be read
    #[arg(long, group = "state")]
    corrupted: bool,
    /// How many at most
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Go on after this session
    #[arg(long, value_name = "HANDLE")]
    after: Option<Handle>,
    #[command(flatten)]
    look: Look,
}

pub(crate) async fn run(path: Option<&Path>, args: Args) -> anyhow::Result<ExitCode> {
    let inspector = args.look.inspector(path).await?;
    let show = match (args.live, args.expired, args.corrupted) {
        (true, ..) => Show::Live,
        (_, true, _) => Show::Expired,
        (.., true) => Show::Corrupted,
        _ => Show::All,
    };
    let filter = Filter { user: args.user, show };
    let listing = inspector.list(&filter, args.after.as_ref(), args.limit as usize, Step::ALL).await?;
    let next = listing.next.as_ref().map(Handle::as_str);
    if args.look.json {
        let sessions: Vec<_> = listing.records.iter().map(as_json).collect();
        let listing = json!({ "sessions": sessions, "looked_at": listing.scanned, "next": next });
        println!("{}", serde_json::to_string_pretty(&listing)?);
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["Handle", "State", "User", "Bytes", "Last save", "Expiry"]);
    for record in &listing.records {
        let told = |time: Option<_>| time.map_or_else(|| "not told".to_owned(), moment);
        table.add_row([
            record.handle.to_string(),
            record.state().name().to_owned(),
            record.user.as_deref().map(plain).unwrap_or_default(),
            record.size.map(|size| size.to_string()).unwrap_or_default(),
            told(record.saved),
            told(record.expiry),
        ]);
    }
    if listing.records.is_empty() {
        println!("There is no such session.");
    } else {
        println!("{table}");
    }
    if let Some(next) = next {
        println!("There are more: --after {next}");
    }
    Ok(ExitCode::SUCCESS)
}

/// What is said where there is no such session.
pub(crate) fn no_session() -> anyhow::Error {
    anyhow!("there is no such session: it was revoked, it was removed after it had expired, or it got another key")
}
