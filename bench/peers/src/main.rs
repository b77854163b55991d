//! `peer-site LIBRARY STORE`: the routes of Cloakroom's demonstration site that the torture asks for, on other session
//! libraries, each used as its documentation says.

mod actix_session;
mod tower_sessions;

use std::net::SocketAddr;
use std::time::Duration;

use clap::Parser;

/// A site on another session library.
#[derive(Parser)]
struct Args {
    /// The library
    #[arg(value_enum)]
    library: Library,
    /// What keeps the sessions
    #[arg(value_enum)]
    store: Store,
    /// Where that is
    #[arg(long, default_value = "")]
    url: String,
    /// The address to listen on
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8000")]
    addr: SocketAddr,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Library {
    TowerSessions,
    ActixSession,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Store {
    Memory,
    Sqlite,
    Postgres,
    Redis,
    SignedCookies,
}

/// The name of the cookie.
const COOKIE: &str = "sessionid";

/// The query of every route.
#[derive(Default, serde::Deserialize)]
struct Query {
    /// A key.
    #[serde(default)]
    k: String,
    /// A number to set it to.
    #[serde(default)]
    v: u64,
    /// How long the handler works between its work on the session and its end, in seconds.
    #[serde(default)]
    sleep: f64,
}

impl Query {
    async fn hold(&self) {
        tokio::time::sleep(Duration::from_secs_f64(self.sleep.clamp(0.0, 60.0))).await;
    }
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    match args.library {
        Library::TowerSessions => tower_sessions::serve(args),
        Library::ActixSession => actix_session::serve(args),
    }
}
