//! The `cloakroom` command: what `manage.py` is for Django's sessions, and a site to try them on.

mod commands;
#[allow(dead_code, unreachable_pub, reason = "an example, whose `main` is not ours")]
#[path = "../examples/steps.rs"]
mod lesson;
mod log;
mod pages;
mod site;
mod trace;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Django's session framework for Rust web services.
///
/// Settings have Django's names. They are read from a TOML file and from the environment, and the environment wins:
/// SECRET_KEY, SESSION_ENGINE, DATABASE_URL, SESSION_COOKIE_AGE and so on; `cloakroom settings` lists them all.
#[derive(Parser)]
#[command(name = "cloakroom", version, arg_required_else_help = true)]
struct Cli {
    /// The settings file, in TOML. Without it, CLOAKROOM_SETTINGS names one, or there is none.
    #[arg(long, global = true, value_name = "FILE", env = "CLOAKROOM_SETTINGS")]
    settings: Option<PathBuf>,

    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the demonstration site, with sessions in an embedded database or wherever the settings say
    Serve(commands::serve::Args),
    /// Create the session table, or bring it up to date, as Django's `migrate` would
    Migrate(commands::migrate::Args),
    /// Remove expired sessions, in batches, while the site runs on
    Clearsessions(commands::clearsessions::Args),
    /// List sessions, or those of a user, the expired, the corrupted
    List(commands::list::Args),
    /// Show a session with its data
    Show(commands::show::Args),
    /// End a session, or all of a user
    Revoke(commands::revoke::Args),
    /// Count sessions: by state, by size, by when they end
    Stats(commands::stats::Args),
    /// Look for problems in the settings
    Check(commands::check::Args),
    /// Show each setting's value, and where it came from
    Settings(commands::settings::Args),
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    log::start();
    let settings = cli.settings.as_deref();
    let outcome = match cli.command {
        Command::Serve(args) => commands::serve::run(settings, args).await,
        Command::Migrate(args) => commands::migrate::run(settings, args).await,
        Command::Clearsessions(args) => commands::clearsessions::run(settings, args).await,
        Command::List(args) => commands::list::run(settings, args).await,
        Command::Show(args) => commands::show::run(settings, args).await,
        Command::Revoke(args) => commands::revoke::run(settings, args).await,
        Command::Stats(args) => commands::stats::run(settings, args).await,
        Command::Check(args) => commands::check::run(settings, &args),
        Command::Settings(args) => commands::settings::run(settings, &args),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("cloakroom: {}", told(&error));
        ExitCode::FAILURE
    })
}

/// An error with its causes. Many messages already say what their causes do, and nobody wants to read that twice.
fn told(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::told;

    #[test]
    fn a_cause_is_told_once() {
        let error = anyhow::anyhow!("the disk is full").context("cannot write: the disk is full").context("no session");
        assert_eq!(told(&error), "no session: cannot write: the disk is full");
    }
}
