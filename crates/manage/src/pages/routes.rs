//! The routes of the site that do one thing each, to be tried.

use axum::response::Response;
use maud::html;

use super::layout;

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

pub(crate) async fn page() -> Response {
    let content = html! {
        h1 { "Routes" }
        p.lead { "One for each thing that a session can do, answered in JSON from your own session on this site. On "
            "each, " code { "sleep=" } " pauses that many seconds, and " code { "status=" } " answers with that status." }
        pre.panel { "curl -b jar -c jar 'http://127.0.0.1:8000/incr?k=visits'" }
        table.plain {
            thead { tr { th scope="col" { "Route" } th scope="col" { "What it does" } } }
            tbody {
                @for (route, meaning) in ROUTES {
                    tr { td { a href=(route) { code { (route) } } } td { (meaning) } }
                }
            }
        }
    };
    layout::page("/routes", "Routes", content)
}
