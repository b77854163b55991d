//! What the commands that look into sessions have in common.

use std::io::Read;
use std::path::Path;

use anyhow::{Context, bail};
use cloakroom::core::settings::EngineName;
use cloakroom::inspector::{Inspector, Named, Record};
use cloakroom::{DateTime, Sessions, Settings, Timestamp};
use serde_json::{Value, json};

/// Which sessions, and how they are told.
#[derive(clap::Args)]
pub(crate) struct Look {
    /// The item that says who is logged in
    #[arg(long, value_name = "NAME", default_value = cloakroom::django::USER_ID_KEY)]
    user_item: String,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

impl Look {
    /// Opens the sessions that the settings name.
    pub(crate) async fn inspector(&self, path: Option<&Path>) -> anyhow::Result<Inspector> {
        // What is wrong with any setting is told, though how often the site sweeps by itself is none of our business.
        Settings::load(path)?;
        let settings = Settings::loader(path).sweep_interval(0).build()?;
        let sessions = Sessions::from_settings(settings).await?;
        let inspector = sessions.inspector().with_user_item(&self.user_item);
        if inspector.is_private() && sessions.settings().engine() == EngineName::Cache {
            bail!(
                "the cache that keeps the sessions is in the memory of the site's process, into which this command cannot \
                 look: use the inspector's page on the site, or keep sessions elsewhere"
            );
        }
        Ok(inspector)
    }
}

/// A key or a handle; `-` reads one from standard input, where no list of processes and no history of a shell shows it.
pub(crate) fn named(text: &str) -> anyhow::Result<Named> {
    let mut given = text.to_owned();
    if text == "-" {
        given.clear();
        std::io::stdin().read_to_string(&mut given).context("cannot read the key from standard input")?;
    }
    Named::parse(given.trim()).context("this is neither a session's key nor a handle as `cloakroom list` shows it")
}

/// A moment in UTC.
pub(crate) fn moment(time: Timestamp) -> String {
    DateTime::from(Timestamp::from_secs(time.as_secs())).to_string()
}

/// What scripts are told of a session.
pub(crate) fn as_json(record: &Record) -> Value {
    json!({
        "key": record.masked(),
        "handle": record.handle.as_str(),
        "state": record.state().name(),
        "expired": record.expired,
        "user": record.user,
        "size": record.size,
        "last_save": record.saved.map(moment),
        "expiry": record.expiry.map(moment),
        "problem": record.problem,
    })
}

/// Text of a stranger for a terminal: what would steer it is shown instead of done.
pub(crate) fn plain(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_stored_steers_the_terminal() {
        assert_eq!(plain("é\u{1b}[2J\n\u{9b}x"), "é\\u{1b}[2J\\n\\u{9b}x");
    }
}
