//! The first page.

use axum::response::Html;
use cloakroom::{Error, Session};
use maud::{DOCTYPE, html};

/// Each route with a query to try and what it does.
const ROUTES: &[(&str, &str)] = &[
    ("/set?k=color&v=%22blue%22", "store a value; v is JSON"),
    ("/get?k=color", "read it back"),
    ("/all", "everything in this session, in order"),
    ("/incr?k=visits", "add one, atomically"),
    ("/del?k=color", "remove a key"),
    ("/login?u=1&p=field", "sign in as Django would; p is the user's password field"),
    ("/whoami?p=field", "who is signed in, and does that still hold after p has changed?"),
    ("/logout", "sign out: data, key and cookie are gone"),
    ("/cycle", "change the key"),
    ("/expiry?s=3600", "end an hour after the last change; also 0, none, td:60, dt:2030-01-01T00:00:00Z"),
    ("/info", "when this session ends, and its flags"),
    ("/clear", "drop the data, keep the key"),
    ("/flush", "end the session"),
    ("/save", "save now"),
    ("/noop", "does not touch the session: nothing is read, nothing is stored"),
    ("/bulk?n=10&size=100", "many values at once"),
    ("/testcookie?op=set", "does this browser accept cookies? op=check, op=delete"),
];

pub(crate) async fn first(session: Session) -> Result<Html<String>, Error> {
    let visits: u64 = session.update("visits", |n: Option<u64>| n.unwrap_or(0) + 1)?;
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "Cloakroom" }
                style { (maud::PreEscaped(STYLE)) }
            }
            body {
                h1 { "Cloakroom" }
                p { "Django's session framework for Rust. You leave your data, you get a cookie, and you get back "
                    "exactly what you left." }
                p { "This is your visit number " strong { (visits) } "; the number is kept in your session." }
                table {
                    caption { "Try a route. On each, " code { "sleep=" } " pauses, and " code { "status=" }
                        " answers with that status." }
                    @for (route, meaning) in ROUTES {
                        tr { td { a href=(route) { code { (route) } } } td { (meaning) } }
                    }
                }
            }
        }
    };
    Ok(Html(page.into_string()))
}

const STYLE: &str = ":root{color-scheme:light dark}body{font:1rem/1.5 system-ui,sans-serif;max-width:48rem;\
margin:2rem auto;padding:0 1rem}table{border-collapse:collapse;width:100%}caption{text-align:left;padding:.5rem 0}\
td{border-top:1px solid #8886;padding:.3rem .6rem .3rem 0;vertical-align:top}code{font-size:.9rem}";
