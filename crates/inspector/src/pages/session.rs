//! One session with its data.

use std::sync::Arc;

use axum::Form;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use cloakroom_core::Values;
use maud::{Markup, html};
use serde::Deserialize;

use super::list::{standing, user};
use super::{Here, Site, bytes, moment, short, tabs};
use crate::{Details, Named};

/// So much of an item's name and of its value is shown, in characters.
const NAME: usize = 100;
const VALUE: usize = 2_000;
/// No further item is shown when all come to so many bytes of HTML: a page stays light.
const ITEMS: usize = 40_000;
/// So much of what is stored, in bytes.
const RAW: usize = 2_000;

pub(super) async fn page(State(site): State<Arc<Site>>, here: Here, Path(handle): Path<String>) -> Response {
    let Ok(handle) = handle.parse() else { return site.no_session(&here) };
    match site.inspector.find(&Named::Handle(handle)).await {
        Ok(Some(details)) => {
            let revoke = html! {
                div.buttons { a.button href={ (here.base) "/session/" (details.record.handle) "/revoke" } { "Revoke…" } }
            };
            site.page(&here, "Session", shown(&site, &here, &details, revoke))
        }
        Ok(None) => site.no_session(&here),
        Err(error) => site.trouble(&here, &error),
    }
}

#[derive(Deserialize)]
pub(super) struct Sought {
    pub(super) key: String,
    #[serde(default)]
    pub(super) token: String,
}

/// Finds a session by its whole key, which so stands in no address.
pub(super) async fn find(State(site): State<Arc<Site>>, here: Here, Form(sought): Form<Sought>) -> Response {
    if !site.forms.is_shown(&here, &sought.token) {
        return foreign(&site, &here);
    }
    let Some(named) = Named::parse(sought.key.trim()) else { return site.no_session(&here) };
    let details = match site.inspector.find(&named).await {
        Ok(Some(details)) => details,
        Ok(None) => return site.no_session(&here),
        Err(error) => return site.trouble(&here, &error),
    };
    if site.inspector.can_list().await {
        return Redirect::to(&format!("{}/session/{}", here.base, details.record.handle)).into_response();
    }
    // There is no way back to it by a handle.
    let revoke = html! {
        @if site.inspector.store().is_ok() {
            form.finder method="post" action={ (here.base) "/find/revoke" } {
                (site.forms.field(&here))
                label { "The key once more, to revoke the session" input type="password" name="key" autocomplete="off" required; }
                button { "Revoke" }
            }
        }
    };
    let response = site.page(&here, "Session", shown(&site, &here, &details, revoke));
    site.forms.remember(&here, response)
}

/// The answer to a form that was not shown to its sender.
pub(super) fn foreign(site: &Site, here: &Here) -> Response {
    let message = html! {
        p { "This form was not made for this browser, so nothing was done. Cookies have to be on." }
        p { a href=(here.root()) { "Begin again" } }
    };
    site.failure(here, StatusCode::FORBIDDEN, message)
}

/// The form that finds a session by its key.
pub(super) fn finder(site: &Site, here: &Here) -> Markup {
    html! {
        form.finder method="post" action={ (here.base) "/find" } {
            (site.forms.field(here))
            label { "Find a session by its key, the value of the cookie "
                input type="password" name="key" autocomplete="off" required; }
            button { "Find" }
        }
    }
}

fn shown(site: &Site, here: &Here, details: &Details, revoke: Markup) -> Markup {
    let (record, now) = (&details.record, site.inspector.now());
    html! {
        h1 { "Session " (record.masked()) }
        (tabs(here, ""))
        @if let Some(problem) = &record.problem {
            div.notice.bad role="alert" { p { strong { "Its data cannot be read. " } (problem) "." }
                p { "A request with this session finds it empty, and leaves it as it stands." } }
        }
        dl.facts {
            dt { "State" } dd { (standing(record)) }
            dt { "User" } dd { (user(record)) }
            dt { "Handle" } dd { code { (record.handle) } }
            dt { "Size" } dd { @match record.size { Some(size) => (bytes(size as u64)), None => "not told" } }
            dt { "Last save" }
            dd { @match record.saved { Some(time) => (moment(time, now)), None => "what is stored does not say" } }
            dt { "Expiry" }
            dd { @match record.expiry { Some(time) => (moment(time, now)), None => "only the store knows" } }
        }
        (revoke)
        @if let Some(values) = &details.values { h2 { "Data" } (data(values)) }
        @if !details.payload.is_empty() {
            h2 { "As it is stored" }
            pre.panel { (short(&visible(&details.payload), RAW)) }
        }
    }
}

fn data(values: &Values) -> Markup {
    let (mut rows, mut size, mut shown) = (Vec::new(), 0, 0);
    for (key, value) in values.iter() {
        if size > ITEMS {
            break;
        }
        let row = html! {
            tr {
                th scope="row" { (short(&key, NAME)) }
                td {
                    @match values.opaque_type(&key) {
                        Some(kind) => span.quiet { "a Python " (short(kind, NAME)) ", which cannot be shown" },
                        None => code { (short(value, VALUE)) },
                    }
                }
            }
        };
        size += row.0.len();
        shown += 1;
        rows.push(row);
    }
    html! {
        @if rows.is_empty() { p.quiet { "Nothing." } } @else {
            table.data-items {
                thead { tr { th scope="col" { "Item" } th scope="col" { "Value" } } }
                tbody { @for row in &rows { (row) } }
            }
            @if values.len() > shown { p.quiet { "And " (values.len() - shown) " more: " code { "cloakroom show" } " shows all." } }
        }
    }
}

/// Bytes as they are where they are text, and by their numbers where not.
fn visible(bytes: &[u8]) -> String {
    // One more than is shown, so that it shows that there is more.
    let shown = &bytes[..bytes.len().min(RAW + 1)];
    shown
        .iter()
        .map(|byte| match byte {
            b' '..=b'~' => char::from(*byte).to_string(),
            other => format!("\\x{other:02x}"),
        })
        .collect()
}
