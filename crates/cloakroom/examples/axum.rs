//! A small shop on axum: it counts visits, keeps a cart, and signs visitors in and out.
//!
//! ```sh
//! SECRET_KEY=change-me SESSION_ENGINE=cache cargo run -p cloakroom --example axum
//! curl -b jar -c jar localhost:8000/
//! curl -b jar -c jar -X POST localhost:8000/cart/tea
//! curl -b jar -c jar -X POST localhost:8000/login/ada
//! ```
//!
//! `SESSION_ENGINE=cache` keeps sessions in this process. With `DATABASE_URL=sqlite:///path/to/db.sqlite3` instead, they
//! stand in Django's table, which `cloakroom migrate` makes, and a Django site on the same database shares them.

use std::error::Error;

use axum::Router;
use axum::extract::Path;
use axum::routing::{get, post};
use cloakroom::{Session, Sessions};

async fn front(session: Session) -> cloakroom::Result<String> {
    // Two requests at the same time count twice: the closure is run again on what the other one saved.
    let visits: u64 = session.update("visits", |n: Option<u64>| n.unwrap_or(0) + 1)?;
    Ok(match session.get::<String>("user")? {
        Some(user) => format!("Welcome back, {user}. This is visit {visits}.\n"),
        None => format!("Welcome. This is visit {visits}.\n"),
    })
}

async fn cart(session: Session) -> cloakroom::Result<String> {
    let cart: Vec<String> = session.get("cart")?.unwrap_or_default();
    Ok(format!("In your cart: {}.\n", if cart.is_empty() { "nothing".into() } else { cart.join(", ") }))
}

async fn add(session: Session, Path(item): Path<String>) -> cloakroom::Result<String> {
    session.update("cart", move |cart: Option<Vec<String>>| {
        let mut cart = cart.unwrap_or_default();
        cart.push(item.clone());
        cart
    })?;
    cart(session).await
}

/// A real site checks a password here.
async fn login(session: Session, Path(user): Path<String>) -> cloakroom::Result<String> {
    if session.get::<String>("user")?.is_some_and(|present| present != user) {
        // What another user left behind is not for this one.
        session.flush();
    } else {
        // A key that was known before the login is worth nothing after it. The cart stays.
        session.cycle_key()?;
    }
    session.insert("user", &user)?;
    Ok(format!("Hello, {user}.\n"))
}

async fn logout(session: Session) -> &'static str {
    session.flush();
    "Goodbye.\n"
}

/// The shop, with a session for each of its visitors.
pub fn shop(sessions: &Sessions) -> Router {
    Router::new()
        .route("/", get(front))
        .route("/cart", get(cart))
        .route("/cart/{item}", post(add))
        .route("/login/{user}", post(login))
        .route("/logout", post(logout))
        .layer(sessions.layer())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let sessions = Sessions::from_env().await?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:8000").await?;
    println!("The shop is open on http://{}", listener.local_addr()?);
    axum::serve(listener, shop(&sessions)).await?;
    Ok(())
}
