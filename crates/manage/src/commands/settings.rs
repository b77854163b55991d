//! `cloakroom settings`.

use std::path::Path;
use std::process::ExitCode;

use cloakroom::Settings;
use comfy_table::{Table, presets};
use serde_json::{Map, json};

/// How to show the settings.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Print them as one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(path: Option<&Path>, args: &Args) -> anyhow::Result<ExitCode> {
    let settings = Settings::load(path)?;
    if args.json {
        let all: Map<_, _> = settings
            .effective()
            .map(|setting| {
                (setting.name.to_owned(), json!({ "value": setting.value, "source": setting.source.to_string() }))
            })
            .collect();
        println!("{}", serde_json::to_string_pretty(&all)?);
    } else {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(["Setting", "Value", "Came from"]);
        for setting in settings.effective() {
            table.add_row([setting.name.to_owned(), setting.value, setting.source.to_string()]);
        }
        println!("{table}");
    }
    Ok(ExitCode::SUCCESS)
}
