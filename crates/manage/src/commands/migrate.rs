//! `cloakroom migrate`.

use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;
use cloakroom::core::settings::EngineName;
use cloakroom::{Clock, Settings};
use cloakroom_sql::{AnySqlStore, Outcome, State};
use serde_json::json;

/// What to do instead of migrating, or with it.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Show what would be done, and do nothing
    #[arg(long, conflicts_with = "sql")]
    plan: bool,
    /// Print the SQL, and do nothing
    #[arg(long)]
    sql: bool,
    /// Also install the trigger that PostgreSQL's near cache needs. With --sql: print its SQL alone, for the owner of
    /// the table
    #[arg(long)]
    near_cache: bool,
    /// Remove that trigger instead. With --sql: print how
    #[arg(long, conflicts_with = "near_cache")]
    remove_near_cache: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(path: Option<&Path>, args: Args) -> anyhow::Result<ExitCode> {
    // A migration neither reads nor writes sessions, so it does without their key.
    let unused = "not needed by `cloakroom migrate`";
    let settings = Settings::loader(path).provide("SECRET_KEY", unused, unused).build()?;
    if !settings.engine().uses_database() {
        bail!(nothing_to_migrate(settings.engine()));
    }
    // Only a migration makes a database that is not there; looking at the plan does not.
    let database = cloakroom::open_database(&settings, !(args.plan || args.sql), Clock::system()).await?;
    if args.remove_near_cache {
        return remove_near_cache(&database, &args).await;
    }
    if args.near_cache {
        // That there is none for this kind of database is told before anything is done.
        database.near_cache_trigger()?;
    }
    if args.sql {
        let sql = match args.near_cache {
            true => database.near_cache_trigger()?.sql(),
            false => database.migration_sql(),
        };
        println!("{}", if args.json { json!({ "sql": sql }).to_string() } else { sql.join("\n") });
        return Ok(ExitCode::SUCCESS);
    }
    if args.plan {
        let plan = database.migration_plan().await?;
        for step in &plan.steps {
            let (state, todo) = match step.state {
                State::Done => ("done", "nothing to do"),
                State::Pending => ("pending", "create the table django_session and its indexes, and record it"),
                State::Unrecorded => ("unrecorded", "the table is there: record it in django_migrations"),
            };
            if args.json {
                println!("{}", json!({ "app": step.app, "name": step.name, "state": state }));
            } else {
                println!("{}.{}: {todo}", step.app, step.name);
            }
        }
        if args.near_cache {
            let (state, todo) = match database.near_cache_trigger()?.is_installed().await? {
                true => ("done", "nothing to do"),
                false => ("pending", "install the trigger"),
            };
            tell_of_near_cache(&args, "state", state, todo);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let (outcome, text) = describe(database.migrate().await?);
    println!("{}", if args.json { json!({ "outcome": outcome }).to_string() } else { text.to_owned() });
    if args.near_cache {
        let (outcome, text) = match database.near_cache_trigger()?.install().await? {
            true => ("installed", "the trigger was installed"),
            false => ("up_to_date", "nothing to do"),
        };
        tell_of_near_cache(&args, "outcome", outcome, text);
    }
    Ok(ExitCode::SUCCESS)
}

async fn remove_near_cache(database: &AnySqlStore, args: &Args) -> anyhow::Result<ExitCode> {
    let trigger = database.near_cache_trigger()?;
    if args.sql {
        let sql = trigger.removal_sql();
        println!("{}", if args.json { json!({ "sql": sql }).to_string() } else { sql.join("\n") });
    } else if args.plan {
        let (state, todo) = match trigger.is_there().await? {
            true => ("pending", "remove the trigger"),
            false => ("done", "nothing to do"),
        };
        tell_of_near_cache(args, "state", state, todo);
    } else {
        let (outcome, text) = match trigger.remove().await? {
            true => ("removed", "the trigger was removed"),
            false => ("up_to_date", "nothing to do"),
        };
        tell_of_near_cache(args, "outcome", outcome, text);
    }
    Ok(ExitCode::SUCCESS)
}

/// How the near cache's trigger stands, or what was done to it, for scripts or for people.
fn tell_of_near_cache(args: &Args, field: &str, word: &str, text: &str) {
    match args.json {
        true => println!("{}", json!({ "near_cache": { field: word } })),
        false => println!("near cache: {text}"),
    }
}

/// What is said of an engine that has no table.
pub(crate) fn nothing_to_migrate(engine: EngineName) -> String {
    format!("SESSION_ENGINE `{engine}` keeps no sessions in a database, so there is nothing to migrate")
}

/// What a migration did, for scripts and for people.
pub(crate) fn describe(outcome: Outcome) -> (&'static str, &'static str) {
    match outcome {
        Outcome::Created => ("created", "sessions.0001_initial: the table django_session was created"),
        Outcome::Recorded => ("recorded", "sessions.0001_initial: the table was there already, and is recorded now"),
        Outcome::UpToDate => ("up_to_date", "sessions.0001_initial: nothing to do"),
    }
}
