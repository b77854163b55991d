//! Revoking, which is asked for twice.

use std::sync::Arc;

use axum::Form;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use maud::html;
use serde::Deserialize;

use super::list::user as user_of;
use super::session::{Sought, foreign};
use super::{Here, Site, count, tabs};
use crate::{Named, Revocation};

pub(super) async fn ask(State(site): State<Arc<Site>>, mut here: Here, Path(handle): Path<String>) -> Response {
    let Ok(handle) = handle.parse() else { return site.no_session(&here) };
    let record = match site.inspector.find(&Named::Handle(handle)).await {
        Ok(Some(details)) => details.record,
        Ok(None) => return site.no_session(&here),
        Err(error) => return site.trouble(&here, &error),
    };
    site.forms.mark(&mut here);
    let address = format!("{}/session/{}", here.base, record.handle);
    let content = html! {
        h1 { "Revoke session " (record.masked()) "?" }
        (tabs(&here, ""))
        p.lead { @if record.user.is_some() { "User " (user_of(&record)) " is signed out in that browser, at once. " }
            "The session's data is deleted, and does not come back." }
        form method="post" action={ (address) "/revoke" } {
            (site.forms.field(&here))
            div.buttons { button.primary { "Revoke" } a.button href=(address) { "Leave it" } }
        }
    };
    let response = site.page(&here, "Revoke", content);
    site.forms.remember(&here, response)
}

#[derive(Deserialize)]
pub(super) struct Confirmed {
    #[serde(default)]
    token: String,
}

pub(super) async fn one(
    State(site): State<Arc<Site>>,
    here: Here,
    Path(handle): Path<String>,
    Form(confirmed): Form<Confirmed>,
) -> Response {
    if !site.forms.is_shown(&here, &confirmed.token) {
        return foreign(&site, &here);
    }
    let Ok(handle) = handle.parse() else { return site.no_session(&here) };
    revoke(&site, &here, &Named::Handle(handle)).await
}

pub(super) async fn by_key(State(site): State<Arc<Site>>, here: Here, Form(sought): Form<Sought>) -> Response {
    if !site.forms.is_shown(&here, &sought.token) {
        return foreign(&site, &here);
    }
    match Named::parse(sought.key.trim()) {
        Some(named) => revoke(&site, &here, &named).await,
        None => site.no_session(&here),
    }
}

async fn revoke(site: &Site, here: &Here, named: &Named) -> Response {
    let revoked = match site.inspector.find(named).await {
        Ok(Some(details)) => site.inspector.revoke(&details.record).await,
        Ok(None) => Ok(false),
        Err(error) => Err(error),
    };
    match revoked {
        Ok(revoked) if site.inspector.can_list().await => done(here, u64::from(revoked)),
        Ok(true) => {
            let message = html! { h1 { "Revoked" } p.lead { "The session is over, and its visitor is signed out." } };
            site.page(here, "Revoked", message)
        }
        Ok(false) => site.no_session(here),
        Err(error) => site.trouble(here, &error),
    }
}

fn done(here: &Here, revoked: u64) -> Response {
    Redirect::to(&format!("{}?revoked={revoked}", here.root())).into_response()
}

#[derive(Deserialize)]
pub(super) struct Asked {
    user: String,
}

pub(super) async fn ask_user(State(site): State<Arc<Site>>, mut here: Here, Query(asked): Query<Asked>) -> Response {
    if let Err(error) = site.inspector.store() {
        return site.trouble(&here, &error);
    }
    site.forms.mark(&mut here);
    let content = html! {
        h1 { "Revoke all sessions of user " (super::short(&asked.user, 60)) "?" }
        (tabs(&here, ""))
        p.lead { "The user is signed out in every browser, at once. The data of these sessions is deleted, and does not \
            come back." }
        form method="post" action={ (here.base) "/user/revoke" } {
            (site.forms.field(&here))
            input type="hidden" name="user" value=(asked.user);
            div.buttons { button.primary { "Revoke all" } a.button href=(here.root()) { "Leave them" } }
        }
    };
    let response = site.page(&here, "Revoke", content);
    site.forms.remember(&here, response)
}

/// How far it has come, which the form carries from one step to the next.
#[derive(Deserialize)]
pub(super) struct Going {
    user: String,
    #[serde(default)]
    token: String,
    #[serde(default)]
    after: String,
    #[serde(default)]
    revoked: u64,
    #[serde(default)]
    scanned: u64,
    #[serde(default)]
    in_this_pass: u64,
    #[serde(default)]
    passes: u32,
}

pub(super) async fn user(State(site): State<Arc<Site>>, here: Here, Form(going): Form<Going>) -> Response {
    if !site.forms.is_shown(&here, &going.token) {
        return foreign(&site, &here);
    }
    if going.user.is_empty() {
        return site.failure(&here, StatusCode::BAD_REQUEST, html! { p { "Name a user." } });
    }
    let mut revocation = Revocation {
        user: going.user,
        revoked: going.revoked,
        scanned: going.scanned,
        done: false,
        after: going.after.parse().ok(),
        in_this_pass: going.in_this_pass,
        passes: going.passes,
    };
    if let Err(error) = revocation.go_on(&site.inspector, site.step).await {
        return site.trouble(&here, &error);
    }
    if revocation.done {
        return done(&here, revocation.revoked);
    }
    let Revocation { user, revoked, scanned, after, in_this_pass, passes, .. } = &revocation;
    let content = html! {
        h1 { "Not done yet" }
        (tabs(&here, ""))
        p.lead { (count(*revoked)) " sessions were revoked, and " (count(*scanned)) " looked at. There are more to look at." }
        form method="post" action={ (here.base) "/user/revoke" } {
            (site.forms.field(&here))
            input type="hidden" name="user" value=(user);
            input type="hidden" name="after" value=(after.as_ref().map(ToString::to_string).unwrap_or_default());
            @for (name, value) in [("revoked", *revoked), ("scanned", *scanned), ("in_this_pass", *in_this_pass), ("passes", u64::from(*passes))] {
                input type="hidden" name=(name) value=(value);
            }
            div.buttons { button.primary { "Go on" } }
        }
    };
    site.page(&here, "Revoke", content)
}
