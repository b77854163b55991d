//! `cloakroom serve`.

use std::fs;
use std::io::{ErrorKind, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use cloakroom::core::KeySource;
use cloakroom::core::settings::EngineName;
use cloakroom::inspector::Access;
use cloakroom::{Clock, Sessions, Settings};
use tokio::net::TcpListener;

use crate::pages::live::{self, Live};

/// Where and how to serve.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The address to listen on; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8000")]
    addr: SocketAddr,
    /// The session engine, whatever the settings say: db, cached_db, cache, file or signed_cookies
    #[arg(long, value_name = "NAME", value_parser = parse_engine)]
    engine: Option<EngineName>,
    /// The directory for what this command makes for itself: a secret key, and a database if none is configured
    #[arg(long, value_name = "DIR", default_value = "cloakroom-data")]
    data: PathBuf,
    /// Show the steps of each request at /trace, as they happen, to whoever may see the inspector
    #[arg(long)]
    trace: bool,
    /// The password of the inspector and the live trace, which then let in others than those on this machine
    #[arg(long, value_name = "PASSWORD", env = "CLOAKROOM_INSPECTOR_PASSWORD", hide_env_values = true)]
    inspector_password: Option<String>,
}

fn parse_engine(name: &str) -> Result<EngineName, String> {
    EngineName::parse(name).ok_or_else(|| {
        let known: Vec<_> = EngineName::ALL.iter().map(|engine| engine.short()).collect();
        format!("there is no such engine; give one of {}", known.join(", "))
    })
}

pub(crate) async fn run(path: Option<&Path>, args: Args) -> anyhow::Result<ExitCode> {
    let access = match &args.inspector_password {
        Some(password) => Access::password(password)?,
        None => Access::loopback(),
    };
    let mut settings = Settings::loader(path);
    if let Some(engine) = args.engine {
        settings = settings.engine(engine);
    }
    if !settings.gives("SECRET_KEY") {
        let (key, made) = development_key(&args.data)?;
        let file = args.data.join(KEY_FILE).display().to_string();
        let how = if made { "made for development, and kept in" } else { "made for development earlier, read from" };
        println!("SECRET_KEY is not set: one {how} {file}");
        settings = settings.provide("SECRET_KEY", key, &file);
    }
    let own_database = !settings.gives("DATABASE_URL");
    let database = args.data.join("sessions.sqlite3");
    if own_database {
        let url = format!("sqlite:{}", database.display());
        settings = settings.provide("DATABASE_URL", url, "the data directory of `cloakroom serve`");
    }
    let settings = settings.build()?;
    if own_database && settings.sessions_enabled() && settings.engine().uses_database() {
        prepare(&settings, &args.data, &database).await?;
    }

    let sessions = Sessions::from_settings(settings).await?;
    let inspector = sessions.inspector();
    let listener = TcpListener::bind(args.addr)
        .await
        .with_context(|| format!("cannot listen on {}: choose another address with --addr HOST:PORT", args.addr))?;
    let address = listener.local_addr()?;
    println!("Sessions: {}", inspector.place());
    println!(
        "Inspector: /inspector, {}",
        match args.inspector_password {
            Some(_) => "for whoever knows its password",
            None => "from this machine only; --inspector-password opens it to others",
        }
    );
    let live = args.trace.then(Live::new);
    if live.is_some() {
        println!("Live trace: http://{address}/trace");
    }
    println!("Listening on http://{address} - stop with Ctrl-C");
    let site = live::around(crate::site::router(&sessions), live.clone(), access.clone());
    // The inspector looks at sessions and has none: its own requests are no part of the trace.
    let site = crate::log::around(site.nest("/inspector", crate::pages::inspector::router(inspector, access)));
    let stop = async move {
        stopped().await;
        if let Some(live) = live {
            live.end();
        }
    };
    axum::serve(listener, site.into_make_service_with_connect_info::<SocketAddr>())
        .with_graceful_shutdown(stop)
        .await?;
    println!("Stopped.");
    Ok(ExitCode::SUCCESS)
}

/// Makes and migrates this command's own database on the first start.
async fn prepare(settings: &Settings, data: &Path, database: &Path) -> anyhow::Result<()> {
    make_directory(data)?;
    let database_file = cloakroom::open_database(settings, true, Clock::system()).await?;
    if database_file.migrate().await? != cloakroom_sql::Outcome::UpToDate {
        println!("DATABASE_URL is not set: {} was created and migrated", database.display());
    }
    Ok(())
}

const KEY_FILE: &str = "secret_key";

/// The key that this command made for itself, and whether it did so just now.
fn development_key(data: &Path) -> anyhow::Result<(String, bool)> {
    let file = data.join(KEY_FILE);
    match fs::read_to_string(&file) {
        Ok(key) if !key.trim().is_empty() => return Ok((key.trim().to_owned(), false)),
        Ok(_) => anyhow::bail!("{} is empty: remove it, or set SECRET_KEY", file.display()),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("cannot read the secret key in {}", file.display())),
    }
    make_directory(data)?;
    let source = KeySource::system();
    let key = format!("{}{}", source.draw()?.as_str(), source.draw()?.as_str());
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options.open(&file).and_then(|mut file| writeln!(file, "{key}"));
    written.with_context(|| format!("cannot keep a secret key in {}: set SECRET_KEY", file.display()))?;
    Ok((key, true))
}

fn make_directory(data: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(data)
        .with_context(|| format!("cannot make the data directory {}: name another one with --data", data.display()))
}

/// Ends when the process is asked to stop: requests under way are finished, and their sessions saved.
pub(crate) async fn stopped() {
    let interrupted = async {
        let _ = tokio::signal::ctrl_c().await;
    };
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let Ok(mut terminated) = signal(SignalKind::terminate()) else { return interrupted.await };
        tokio::select! {
            () = interrupted => {}
            _ = terminated.recv() => {}
        }
    }
    #[cfg(not(unix))]
    interrupted.await;
}
