//! The inspector within an application, behind a check of its own: those of the staff may look into the sessions.
//!
//! ```sh
//! SECRET_KEY=change-me SESSION_ENGINE=cache cargo run -p cloakroom --example inspector --features inspector
//! ```
//!
//! Then visit <http://localhost:8000/login/ada>, who is of the staff, and <http://localhost:8000/staff/sessions>.

use std::error::Error;

use axum::Router;
use axum::extract::{Path, Request};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use cloakroom::inspector::{Access, Pages};
use cloakroom::{Session, Sessions};

/// A real site checks a password here, and takes a form by POST.
async fn login(session: Session, Path(user): Path<String>) -> cloakroom::Result<String> {
    session.cycle_key()?;
    session.insert("user", &user)?;
    session.insert("staff", &(user == "ada"))?;
    Ok(format!("Hello, {user}.\n"))
}

async fn hello(session: Session) -> cloakroom::Result<String> {
    let user: Option<String> = session.get("user")?;
    Ok(format!("You are {}.\n", user.as_deref().unwrap_or("nobody we know")))
}

/// The check: whatever the application knows its staff by.
async fn staff_only(session: Session, request: Request, next: Next) -> Response {
    match session.get::<bool>("staff") {
        Ok(Some(true)) => next.run(request).await,
        _ => (StatusCode::FORBIDDEN, "This is for the staff.\n").into_response(),
    }
}

/// The site. What is around the inspector decides who sees it, so the inspector itself asks for nothing.
pub fn site(sessions: &Sessions) -> Router {
    let inspector = Pages::new(sessions.inspector().with_user_item("user"), Access::behind_own_check());
    Router::new()
        .route("/", get(hello))
        .route("/login/{user}", get(login))
        .nest("/staff/sessions", inspector.into_router().layer(middleware::from_fn(staff_only)))
        .layer(sessions.layer())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let sessions = Sessions::from_env().await?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:8000").await?;
    println!("Listening on http://{}", listener.local_addr()?);
    axum::serve(listener, site(&sessions)).await?;
    Ok(())
}
