//! `cloakroom check`.

use std::path::Path;
use std::process::ExitCode;

use cloakroom::Settings;
use cloakroom::core::settings::{Level, check};
use serde_json::json;

/// What to check.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Also look for what is fine in development but not on a public site
    #[arg(long)]
    deploy: bool,
    /// Exit with 1 if there is a warning. Settings that are wrong are an error in any case
    #[arg(long)]
    strict: bool,
    /// Print the findings as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(path: Option<&Path>, args: &Args) -> anyhow::Result<ExitCode> {
    let settings = Settings::load(path)?;
    let findings = check(&settings, args.deploy);
    if args.json {
        let findings: Vec<_> = findings
            .iter()
            .map(|finding| {
                json!({
                    "id": finding.id,
                    "level": format!("{:?}", finding.level).to_lowercase(),
                    "message": finding.message,
                    "hint": finding.hint,
                })
            })
            .collect();
        println!("{}", serde_json::to_string_pretty(&findings)?);
    } else {
        for finding in &findings {
            println!("{:?}: ({}) {}\n    hint: {}", finding.level, finding.id, finding.message, finding.hint);
        }
        println!(
            "{} found{}",
            match findings.len() {
                0 => "no problem was".to_owned(),
                1 => "1 problem was".to_owned(),
                n => format!("{n} problems were"),
            },
            if args.deploy { "" } else { "; `cloakroom check --deploy` looks for more" }
        );
    }
    let fatal = args.strict && findings.iter().any(|finding| finding.level >= Level::Warning);
    Ok(if fatal { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
