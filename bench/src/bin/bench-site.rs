//! The routes of the comparison on bare axum, or with Cloakroom as the settings in the environment say.

use std::net::SocketAddr;

use clap::Parser;
use cloakroom::{Clock, Sessions, Settings, open_database};
use cloakroom_bench::routes;
use tokio::net::TcpListener;

/// The routes of the comparison, with Cloakroom as the environment says.
#[derive(Parser)]
struct Args {
    /// The address to listen on
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8000")]
    addr: SocketAddr,
    /// Threads that serve
    #[arg(long, default_value_t = 2)]
    workers: usize,
    /// No sessions at all
    #[arg(long)]
    bare: bool,
    /// Make the session table, with what the URL's near cache needs, and end
    #[arg(long)]
    migrate: bool,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(args.workers).enable_all().build()?;
    runtime.block_on(serve(args))
}

async fn serve(args: Args) -> anyhow::Result<()> {
    let router = if args.bare {
        routes::bare()
    } else {
        let settings = Settings::load(None)?;
        if args.migrate {
            let database = open_database(&settings, true, Clock::system()).await?;
            database.migrate().await?;
            if database.has_near_cache() {
                database.near_cache_trigger()?.install().await?;
            }
            return Ok(());
        }
        routes::cloakroom(&Sessions::from_settings(settings).await?)
    };
    axum::serve(TcpListener::bind(args.addr).await?, router).await?;
    Ok(())
}
