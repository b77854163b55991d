//! `cloakroom show`.

use std::path::Path;
use std::process::ExitCode;

use super::list::no_session;
use super::look::{Look, as_json, moment, named, plain};

/// Which session to show.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The session's handle, as `cloakroom list` shows it, or its key; - reads it from standard input
    #[arg(value_name = "HANDLE|KEY")]
    session: String,
    #[command(flatten)]
    look: Look,
}

pub(crate) async fn run(path: Option<&Path>, args: Args) -> anyhow::Result<ExitCode> {
    let named = named(&args.session)?;
    let inspector = args.look.inspector(path).await?;
    let details = inspector.find(&named).await?.ok_or_else(no_session)?;
    let record = &details.record;
    if args.look.json {
        // The data as it is stored: numbers that another writer of JSON would round stay as they are.
        let data = details.values.as_ref().map_or_else(|| "null".to_owned(), |values| values.to_json());
        let about = as_json(record).to_string();
        println!("{},\"data\":{data}}}", about.trim_end_matches('}'));
        return Ok(ExitCode::SUCCESS);
    }
    println!("Session:   {}, {}", record.handle, record.state().name());
    println!("User:      {}", record.user.as_deref().map_or_else(|| "nobody".to_owned(), plain));
    println!("Size:      {}", record.size.map_or_else(|| "not told".to_owned(), |size| format!("{size} bytes")));
    println!("Last save: {}", record.saved.map_or_else(|| "what is stored does not say".to_owned(), moment));
    println!("Expiry:    {}", record.expiry.map_or_else(|| "only the store knows".to_owned(), moment));
    if let Some(problem) = &record.problem {
        println!("Problem:   {}", plain(problem));
    }
    for (key, value) in details.values.iter().flat_map(|values| values.iter()) {
        let opaque = details.values.as_ref().and_then(|values| values.opaque_type(&key));
        match opaque {
            Some(kind) => println!("  {}: a Python {}, which cannot be shown", plain(&key), plain(kind)),
            None => println!("  {}: {value}", plain(&key)),
        }
    }
    Ok(ExitCode::SUCCESS)
}
