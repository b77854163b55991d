//! "Show me": the configuration of a question, run in a sandbox that is made for it.

use std::time::Duration;

use axum::http::Method;

use crate::pages::records::Shelf;
use crate::pages::sandbox::{Happening, Sandbox, Who};

/// Something to do in a sandbox.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Act {
    /// The site is started with these settings; sessions are switched on unless they say otherwise. `MISSING` stands
    /// for a directory that nobody has made.
    Start(&'static str),
    Migrate,
    Assign,
    Retrieve,
    SomebodyRetrieves,
    Reopen,
    /// So many seconds go by.
    Wait(u64),
}

/// What came of it.
#[derive(Clone, Debug)]
pub(crate) struct Proof {
    pub(crate) happenings: Vec<Happening>,
    /// The session's data at the end, and what is stored then.
    pub(crate) data: String,
    pub(crate) shelves: Vec<Shelf>,
}

impl Proof {
    /// Does all of it, in order; a failure is part of the proof.
    pub(crate) async fn run(acts: &[Act]) -> anyhow::Result<Self> {
        const ASSIGN: &str = "/assign?key=key&value=value";
        const RETRIEVE: &str = "/retrieve?key=key";
        let mut sandbox = Sandbox::new()?;
        let mut happenings = Vec::new();
        for act in acts {
            happenings.push(match act {
                Act::Start(settings) => start(&mut sandbox, settings).await,
                Act::Migrate => sandbox.migrate().await,
                Act::Assign => sandbox.visit(Who::Visitor, Method::POST, ASSIGN).await,
                Act::Retrieve => sandbox.visit(Who::Visitor, Method::GET, RETRIEVE).await,
                Act::SomebodyRetrieves => sandbox.visit(Who::Somebody, Method::GET, RETRIEVE).await,
                Act::Reopen => sandbox.reopen_browser(),
                Act::Wait(seconds) => sandbox.advance(Duration::from_secs(*seconds)),
            });
        }
        Ok(Self { happenings, data: sandbox.data().await, shelves: sandbox.shelves().await })
    }
}

async fn start(sandbox: &mut Sandbox, settings: &str) -> Happening {
    let mut toml = settings.replace("MISSING", &sandbox.missing_directory().display().to_string());
    if !toml.contains("INSTALLED_APPS") {
        toml.insert_str(0, "INSTALLED_APPS = [\"django.contrib.sessions\"]\n");
    }
    let mut happening = sandbox.restart(toml).await;
    happening.file = Some(sandbox.toml().to_owned());
    happening
}
