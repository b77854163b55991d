//! The page of the live trace.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use cloakroom::core::KeySource;
use maud::{Markup, html};

use super::kept::{Filter, Request, Step, is_key};
use super::{Live, MARK, PATH, Wanted, mark};
use crate::pages::course::escaped;
use crate::pages::layout;

pub(super) const SCRIPT_PATH: &str = "/trace/live.js";
pub(super) const SCRIPT: &str = include_str!("live.js");
/// The page ends with the request that makes the list longer than so many bytes. The script goes on from there.
const LONG: usize = 40_000;
/// The script keeps as many.
const AT_MOST: usize = 100;

pub(super) async fn script() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/javascript; charset=utf-8")], SCRIPT)
}

/// Where it is not switched on.
pub(super) async fn off() -> Response {
    layout::failure(
        StatusCode::NOT_FOUND,
        html! {
            p { "The live trace is switched off. " code { "cloakroom serve --trace" }
                " shows the steps of each request here, as they happen: to this machine only." }
            p { "In the terminal, " code { "RUST_LOG=cloakroom=debug" } " shows the same." }
        },
    )
}

pub(super) async fn page(State(live): State<Live>, Query(wanted): Query<Wanted>, headers: HeaderMap) -> Response {
    let known = mark(&headers);
    let filter = wanted.filter(known.clone());
    live.look_for_a_moment();
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let (requests, last) = {
        let kept = live.kept();
        (kept.latest(&filter).take(AT_MOST).cloned().collect::<Vec<_>>(), kept.last_change())
    };
    let mut length = 0;
    let mut blocks = Vec::new();
    for request in &requests {
        let block = block(request);
        length += block.0.len();
        blocks.push(block);
        if length > LONG {
            break;
        }
    }
    let content = html! {
        h1 { "Live trace" }
        p.lead { "The steps of each request to this site, as they happen, the latest request first. It shows the names "
            "and sizes of what is in a session, never a value, and of each key the first four characters." }
        (choice(&wanted, &filter))
        p.live {
            span #state role="status" { "Not live: shown is what there was when the page was loaded." }
            span #missed {}
        }
        p.buttons {
            a.button href=(address(&filter, PATH)) { "Reload" }
            button #pause type="button" aria-pressed="false" hidden { "Pause" }
        }
        p #none.quiet hidden[!blocks.is_empty()] {
            "No request yet, since somebody looks on. Make one, as with "
            code { "curl 'http://" (host) "/incr?k=visits'" } ", and it stands here; without a script, after a reload."
        }
        ol #requests.requests reversed data-events=(events(&filter)) data-after=(last) {
            @for block in &blocks { (block) }
        }
        script src=(SCRIPT_PATH) defer {}
    };
    let mut response = layout::page(PATH, "Live trace", content);
    response.headers_mut().insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'self'; img-src 'self' data:; \
             form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
        ),
    );
    if known.is_none()
        && let Ok(key) = KeySource::system().draw()
        && let Ok(cookie) = HeaderValue::try_from(format!("{MARK}={}; HttpOnly; Path=/; SameSite=Strict", key.as_str()))
    {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}

/// The form by which one chooses whose requests to see.
fn choice(wanted: &Wanted, filter: &Filter) -> Markup {
    let browser = matches!(filter, Filter::Browser(_));
    html! {
        form.choice-of action=(PATH) method="get" {
            label { "Session"
                select name="of" {
                    option value="" selected[!browser] { "any session, or that of the key" }
                    option value="browser" selected[browser] { "my own: this browser's" }
                }
            }
            label { "Key, as masked"
                input name="session" value=(wanted.key().unwrap_or_default()) placeholder="abcd…" autocomplete="off"
                    spellcheck="false";
            }
            button.primary { "Show" }
        }
    }
}

/// An address with what it is to show.
fn address(filter: &Filter, path: &str) -> String {
    match filter {
        Filter::All => path.to_owned(),
        Filter::Browser(_) => format!("{path}?of=browser"),
        Filter::Key(key) => format!("{path}?session={}", escaped(key)),
    }
}

/// Where the stream is, but for the number after which it is to begin.
fn events(filter: &Filter) -> String {
    let address = address(filter, "/trace/events");
    let and = if address.contains('?') { '&' } else { '?' };
    format!("{address}{and}after=")
}

/// One request with its steps.
pub(super) fn block(request: &Request) -> Markup {
    html! {
        li id={ "request-" (request.number) } value=(request.number) {
            h2 {
                (request.method) " " (request.path) " "
                @match &request.end {
                    None => span.quiet { "under way" },
                    Some((Some(status), _)) => span.bad[*status >= 400] { (status) },
                    Some((None, _)) => span.bad { "given up" },
                }
                small { " " (time_of_day(request.began)) @if let Some((_, took)) = &request.end { ", " (millis(*took)) } }
            }
            ol.trace {
                @for one in &request.steps { (step(one)) }
                @if request.more > 0 { li { span.said { "… and " (request.more) " steps more" } } }
            }
        }
    }
}

fn step(step: &Step) -> Markup {
    html! {
        li.bad[step.event.is_failure()] {
            span.field { (millis(step.after)) } " " span.said { (step.event.message) }
            @for (name, value) in &step.event.fields {
                " " span.field {
                    (name) "="
                    @if value.is_empty() { b { "–" } }
                    @else if is_key(name) {
                        a href=(address(&Filter::Key(value.trim_end_matches('…').to_owned()), PATH)) { (value) }
                    } @else { b { (value) } }
                }
            }
        }
    }
}

fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

fn time_of_day(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()) % 86_400;
    format!("{:02}:{:02}:{:02} UTC", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}
