//! actix-session under actix-web.

use actix_session::config::CookieContentSecurity;
use actix_session::storage::{CookieSessionStore, RedisSessionStore, SessionStore};
use actix_session::{Session, SessionMiddleware};
use actix_web::cookie::Key;
use actix_web::http::KeepAlive;
use actix_web::web::{self, Json};
use actix_web::{App, HttpServer};
use anyhow::bail;
use serde_json::{Map, Value, json};

use crate::{Args, COOKIE, Store};

type Params = web::Query<crate::Query>;
type Answer = actix_web::Result<Json<Value>>;

#[actix_web::main]
pub(crate) async fn serve(args: Args) -> anyhow::Result<()> {
    match args.store {
        Store::Redis => {
            let store = RedisSessionStore::new(&args.url).await?;
            listen(&args, CookieContentSecurity::Signed, move || store.clone()).await
        }
        // Signed, and not encrypted with a nonce: a session's cookie is then the same each time that it is set.
        Store::SignedCookies => listen(&args, CookieContentSecurity::Signed, CookieSessionStore::default).await,
        Store::PrivateCookies => listen(&args, CookieContentSecurity::Private, CookieSessionStore::default).await,
        other => bail!("actix-session has no store like {other:?}"),
    }
}

async fn listen<S: SessionStore + 'static>(
    args: &Args,
    security: CookieContentSecurity,
    store: impl Fn() -> S + Clone + Send + 'static,
) -> anyhow::Result<()> {
    let app = move || {
        let sessions = SessionMiddleware::builder(store(), Key::from(&[7; 64]))
            .cookie_name(COOKIE.to_owned())
            .cookie_secure(false)
            .cookie_content_security(security)
            .build();
        App::new()
            .route("/set", web::get().to(set))
            .route("/get", web::get().to(read))
            .route("/incr", web::get().to(incr))
            .route("/all", web::get().to(all))
            .route("/cycle", web::get().to(cycle))
            .route("/logout", web::get().to(logout))
            .route("/none", web::get().to(none))
            .route("/read", web::get().to(name))
            .route("/write", web::get().to(write))
            .route("/login", web::get().to(login))
            .route("/fill", web::post().to(fill))
            .wrap(sessions)
    };
    // Idle visitors keep their connections, as under axum.
    HttpServer::new(app).keep_alive(KeepAlive::Os).workers(args.workers).bind(args.addr)?.run().await?;
    Ok(())
}

async fn set(session: Session, query: Params) -> Answer {
    session.insert(query.k.as_str(), query.v)?;
    query.hold().await;
    Ok(Json(json!({"ok": true})))
}

async fn read(session: Session, query: Params) -> Answer {
    let value: Option<u64> = session.get(&query.k)?;
    query.hold().await;
    Ok(Json(json!({"found": value.is_some(), "value": value})))
}

async fn incr(session: Session, query: Params) -> Answer {
    session.update_or(query.k.as_str(), 1, |value: u64| value + 1)?;
    query.hold().await;
    Ok(Json(json!({"value": session.get::<u64>(&query.k)?})))
}

async fn all(session: Session) -> Answer {
    let entries = session.entries();
    let data: Map<String, Value> = entries
        .iter()
        .map(|(key, text)| Ok((key.clone(), serde_json::from_str(text)?)))
        .collect::<serde_json::Result<_>>()?;
    Ok(Json(json!({"data": data})))
}

async fn cycle(session: Session) -> Answer {
    // The library does not tell a session's key, only whether there is something in it.
    let before = (!session.entries().is_empty()).then_some("a session");
    session.renew();
    Ok(Json(json!({"before": before})))
}

async fn logout(session: Session) -> Answer {
    session.purge();
    Ok(Json(json!({"ok": true})))
}

async fn none() -> &'static str {
    "nothing"
}

async fn name(session: Session) -> actix_web::Result<String> {
    Ok(session.get("name")?.unwrap_or_default())
}

async fn write(session: Session) -> actix_web::Result<String> {
    let count = session.get::<u64>("count")?.unwrap_or(0) + 1;
    session.insert("count", count)?;
    Ok(count.to_string())
}

async fn login(session: Session) -> actix_web::Result<&'static str> {
    session.renew();
    session.insert("_auth_user_id", "1815")?;
    Ok("welcome")
}

async fn fill(session: Session, Json(items): Json<Map<String, Value>>) -> actix_web::Result<&'static str> {
    for (key, value) in items {
        session.insert(key, value)?;
    }
    Ok("filled")
}
