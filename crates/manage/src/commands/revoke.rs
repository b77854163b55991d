//! `cloakroom revoke`.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;
use cloakroom::inspector::{Inspector, Revocation, Step};
use serde_json::json;

use super::list::no_session;
use super::look::{Look, named, plain};

/// Which sessions to end.
#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("which").required(true).args(["session", "user"]))]
pub(crate) struct Args {
    /// The session's handle, as `cloakroom list` shows it, or its key; - reads it from standard input
    #[arg(value_name = "HANDLE|KEY")]
    session: Option<String>,
    /// All sessions of this user
    #[arg(long, value_name = "ID")]
    user: Option<String>,
    /// Do not ask first
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    look: Look,
}

pub(crate) async fn run(path: Option<&Path>, args: Args) -> anyhow::Result<ExitCode> {
    let inspector = args.look.inspector(path).await?;
    let revoked = match (&args.session, &args.user) {
        (Some(session), _) => {
            let details = inspector.find(&named(session)?).await?.ok_or_else(no_session)?;
            let record = &details.record;
            let whose = record.user.as_deref().map(|user| format!(" of user {}", plain(user))).unwrap_or_default();
            if !confirmed(&args, &format!("Revoke the session {}{whose}?", record.masked()))? {
                return Ok(ExitCode::FAILURE);
            }
            u64::from(inspector.revoke(record).await?)
        }
        (None, Some(user)) => {
            if !confirmed(&args, &format!("Revoke all sessions of user {}?", plain(user)))? {
                return Ok(ExitCode::FAILURE);
            }
            let mut revocation = Revocation::of(user);
            while !revocation.done {
                revocation.go_on(&inspector, Step::ALL).await?;
            }
            revocation.revoked
        }
        (None, None) => bail!("name a session, or a user with --user"),
    };
    if args.look.json {
        println!("{}", json!({ "revoked": revoked }));
    } else {
        println!("{revoked} session{} revoked", if revoked == 1 { "" } else { "s" });
        note(&inspector);
    }
    Ok(ExitCode::SUCCESS)
}

/// Asks on the terminal.
fn confirmed(args: &Args, question: &str) -> anyhow::Result<bool> {
    if args.yes {
        return Ok(true);
    }
    if !std::io::stdin().is_terminal() {
        bail!("nobody is there to be asked: say --yes to revoke without a question");
    }
    eprint!("{question} [y/N] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    let yes = matches!(answer.trim(), "y" | "Y" | "yes");
    if !yes {
        eprintln!("Nothing was revoked.");
    }
    Ok(yes)
}

fn note(inspector: &Inspector) {
    if inspector.is_private() {
        println!(
            "The cache in front of the database is in the memory of the site's process, and may serve what it has for up \
             to a minute more"
        );
    }
}
