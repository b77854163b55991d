//! The life of a session in seven steps: what the first page of `cloakroom serve` shows and carries out, as a program.
//!
//! ```sh
//! export SECRET_KEY=change-me INSTALLED_APPS=django.contrib.sessions SESSION_ENGINE=db
//! DATABASE_URL=sqlite:steps.sqlite3 cargo run -p cloakroom-manage --example steps
//! curl -b jar -c jar -X POST 'localhost:8000/assign?key=color&value=blue'
//! curl -b jar -c jar 'localhost:8000/retrieve?key=color'
//! ```

use axum::Router;
use axum::extract::Query;
use axum::routing::{get, post};
use cloakroom::{Clock, Result, Session, Sessions, Settings};
use cloakroom_sql::Outcome;
use serde::Deserialize;

// --- step 1 ---
/// Sessions are switched on by a name in `INSTALLED_APPS`: `django.contrib.sessions`, or `cloakroom`.
pub fn are_on(settings: &Settings) -> bool {
    settings.sessions_enabled()
}

// --- step 2 ---
/// `SESSION_ENGINE` says where sessions live. That place is opened once, when the site starts.
pub async fn start(settings: Settings, clock: Clock) -> Result<Sessions> {
    Sessions::with_clock(settings, clock).await
}

// --- step 3 ---
/// The table is made once, before the first visitor: as `cloakroom migrate` does.
pub async fn migrate(settings: &Settings, clock: Clock) -> Result<Outcome> {
    let database = cloakroom::open_database(settings, true, clock).await?;
    Ok(database.migrate().await?)
}

// --- step 4 ---
/// Python: `request.session['key'] = 'value'`
async fn assign(session: Session, Query(item): Query<Item>) -> Result<String> {
    session.insert(&item.key, &item.value)?;
    Ok(format!("{} is in your session.\n", item.key))
}

#[derive(Deserialize)]
struct Item {
    key: String,
    #[serde(default)]
    value: String,
}

// --- step 5 ---
/// Python: `request.session.get('key')`
async fn retrieve(session: Session, Query(item): Query<Item>) -> Result<String> {
    Ok(match session.get::<String>(&item.key)? {
        Some(value) => format!("{} is {value}\n", item.key),
        None => format!("There is no {} in your session.\n", item.key),
    })
}

// --- step 6 ---
/// The layer finds the session of each request by the cookie it carries, and saves it before the response begins.
pub fn site(sessions: &Sessions) -> Router {
    Router::new()
        .route("/assign", post(assign))
        .route("/retrieve", get(retrieve))
        .route("/sign-out", post(sign_out))
        .layer(sessions.layer())
}

// --- step 7 ---
/// Cleared: data, record and cookie are gone. If nobody does that, the session expires by itself,
/// `SESSION_COOKIE_AGE` seconds after it was last saved.
async fn sign_out(session: Session) -> &'static str {
    session.flush();
    "Goodbye.\n"
}
// --- end ---

#[tokio::main]
async fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let settings = Settings::load(None)?;
    if !are_on(&settings) {
        return Err("INSTALLED_APPS does not switch sessions on".into());
    }
    if settings.engine().uses_database() {
        println!("migrate: {:?}", migrate(&settings, Clock::system()).await?);
    }
    let sessions = start(settings, Clock::system()).await?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:8000").await?;
    println!("Listening on http://{}", listener.local_addr()?);
    axum::serve(listener, site(&sessions)).await?;
    Ok(())
}
