//! The routes of the comparison on actix-web: without sessions, and with Cloakroom as the settings in the environment
//! say. actix-session runs on nothing else.

use std::sync::atomic::{AtomicU64, Ordering};

use actix_web::http::KeepAlive;
use actix_web::web::{Data, Json, ServiceConfig, get, post};
use actix_web::{App, HttpServer};
use cloakroom::{Session, Sessions, Settings};
use cloakroom_bench::routes::{Answer, NAME, login, none, read, write};
use serde_json::{Map, Value};

use crate::Args;

#[actix_web::main]
pub(crate) async fn serve_bare(args: Args) -> anyhow::Result<()> {
    let count = Data::new(AtomicU64::new(1_000_000));
    let app = move || App::new().app_data(count.clone()).configure(bare);
    HttpServer::new(app).keep_alive(KeepAlive::Os).workers(args.workers).bind(args.addr)?.run().await?;
    Ok(())
}

#[actix_web::main]
pub(crate) async fn serve_cloakroom(args: Args) -> anyhow::Result<()> {
    let sessions = Sessions::from_settings(Settings::load(None)?).await?;
    let app = move || App::new().wrap(sessions.actix_middleware()).configure(cloakroom);
    HttpServer::new(app).keep_alive(KeepAlive::Os).workers(args.workers).bind(args.addr)?.run().await?;
    Ok(())
}

fn bare(routes: &mut ServiceConfig) {
    let count = async |count: Data<AtomicU64>| (count.fetch_add(1, Ordering::Relaxed) + 1).to_string();
    routes
        .route("/none", get().to(none))
        .route("/read", get().to(async || NAME))
        .route("/write", get().to(count))
        .route("/login", get().to(async || "welcome"))
        .route("/fill", post().to(async |_: Json<Value>| "filled"));
}

fn cloakroom(routes: &mut ServiceConfig) {
    routes
        .route("/none", get().to(none))
        .route("/read", get().to(read))
        .route("/write", get().to(write))
        .route("/login", get().to(login))
        .route("/fill", post().to(fill));
}

async fn fill(session: Session, Json(items): Json<Map<String, Value>>) -> Answer<&'static str> {
    session.extend(items)?;
    Ok("filled")
}
