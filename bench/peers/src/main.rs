//! `peer-site LIBRARY STORE`: the routes of Cloakroom's sites that the torture and the comparison ask for, on other
//! session libraries, each used as its documentation says; and those of the comparison on actix-web.

mod actix_session;
mod actix_web_sites;
mod axum_session;
mod sweep;
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
    /// What keeps the sessions, where no settings say so
    #[arg(value_enum, default_value = "memory")]
    store: Store,
    /// Where that is
    #[arg(long, default_value = "")]
    url: String,
    /// The address to listen on
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8000")]
    addr: SocketAddr,
    /// Threads that serve
    #[arg(long, default_value_t = 2)]
    workers: usize,
    /// SQLite does not wait for the disk at each write
    #[arg(long)]
    synchronous_normal: bool,
    /// Instead of serving: what a sweep's measuring needs
    #[arg(long, value_enum)]
    job: Option<sweep::Job>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Library {
    TowerSessions,
    ActixSession,
    AxumSession,
    /// None, on actix-web
    BareActix,
    /// Cloakroom on actix-web, with the settings in the environment
    CloakroomActix,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Store {
    Memory,
    /// tower-sessions
    Moka,
    Sqlite,
    Postgres,
    Redis,
    SignedCookies,
    /// actix-session: encrypted, which is its default
    PrivateCookies,
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
        Library::ActixSession => return actix_session::serve(args),
        Library::BareActix => return actix_web_sites::serve_bare(args),
        Library::CloakroomActix => return actix_web_sites::serve_cloakroom(args),
        Library::TowerSessions | Library::AxumSession => {}
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(args.workers).enable_all().build()?;
    runtime.block_on(async {
        let router = match (args.library, args.job) {
            (Library::TowerSessions, Some(job)) => return sweep::run(job, &args).await,
            (Library::TowerSessions, None) => tower_sessions::router(&args).await?,
            _ => axum_session::router(&args).await?,
        };
        let listener = tokio::net::TcpListener::bind(args.addr).await?;
        // axum_session looks at the visitor's address.
        axum::serve(listener, router.into_make_service_with_connect_info::<SocketAddr>()).await?;
        Ok(())
    })
}
