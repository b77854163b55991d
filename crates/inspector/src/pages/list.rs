//! The sessions, page by page.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::response::Response;
use maud::{Markup, html};
use serde::Deserialize;

use super::{Here, Site, bytes, count, moment, session, short, tabs};
use crate::{Filter, Listing, Record, Show, State as Standing};

/// So many sessions stand on a page.
const ROWS: usize = 25;

/// What is asked for. Anything that is no filter is none.
#[derive(Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    user: String,
    #[serde(default)]
    show: String,
    #[serde(default)]
    after: String,
    revoked: Option<u64>,
}

impl Asked {
    fn filter(&self) -> Filter {
        let show = Show::EACH.into_iter().find(|show| show.name() == self.show).unwrap_or_default();
        Filter { user: Some(self.user.trim().to_owned()).filter(|user| !user.is_empty()), show }
    }
}

pub(super) async fn page(State(site): State<Arc<Site>>, mut here: Here, Query(asked): Query<Asked>) -> Response {
    let filter = asked.filter();
    site.forms.mark(&mut here);
    let listing = match site.inspector.list(&filter, asked.after.parse().ok().as_ref(), ROWS, site.step).await {
        Ok(listing) => listing,
        Err(error) => return site.trouble(&here, &error),
    };
    let content = html! {
        h1 { "Sessions" }
        p.lead { "Kept by the " (site.inspector.place()) "." }
        (tabs(&here, "Sessions"))
        @if let Some(revoked) = asked.revoked {
            div.notice.good role="status" {
                p { @match revoked {
                    0 => "There was no such session any more.",
                    1 => "The session was revoked: its visitor is signed out.",
                    more => { (count(more)) " sessions were revoked: their visitors are signed out." },
                } }
            }
        }
        (filters(&here, &filter))
        (rows(&site, &here, &listing))
        (onward(&here, &filter, &listing))
        @if let Some(user) = &filter.user {
            form action={ (here.base) "/user/revoke" } {
                input type="hidden" name="user" value=(user);
                div.buttons { button { "Revoke all sessions of this user…" } }
            }
        }
        (session::finder(&site, &here))
    };
    let response = site.page(&here, "Sessions", content);
    site.forms.remember(&here, response)
}

fn filters(here: &Here, filter: &Filter) -> Markup {
    html! {
        form.filters action=(here.root()) {
            label { "User" input name="user" value=(filter.user.as_deref().unwrap_or_default()) autocomplete="off"; }
            label { "State"
                select name="show" {
                    @for show in Show::EACH {
                        option value=(show.name()) selected[show == filter.show] { (show.name()) }
                    }
                }
            }
            button.primary { "Show" }
        }
    }
}

fn rows(site: &Site, here: &Here, listing: &Listing) -> Markup {
    let now = site.inspector.now();
    html! {
        @if listing.records.is_empty() {
            p.notice { @if listing.next.is_some() {
                "None of the " (count(listing.scanned)) " sessions that were looked at. There are more."
            } @else { "There is no such session." } }
        } @else {
            table.sessions {
                thead { tr {
                    @for name in ["Key", "State", "User", "Size", "Last save", "Expiry"] { th scope="col" { (name) } }
                } }
                tbody {
                    @for record in &listing.records {
                        tr {
                            th scope="row" { a href={ (here.base) "/session/" (record.handle) } { (record.masked()) } }
                            td data-label="State" { (standing(record)) }
                            td data-label="User" { (user(record)) }
                            td data-label="Size" { @match record.size { Some(size) => (bytes(size as u64)), None => "–" } }
                            td data-label="Last save" { @match record.saved { Some(time) => (moment(time, now)), None => "not told" } }
                            td data-label="Expiry" { @match record.expiry { Some(time) => (moment(time, now)), None => "not told" } }
                        }
                    }
                }
            }
        }
    }
}

pub(super) fn standing(record: &Record) -> Markup {
    let state = record.state();
    html! {
        span.state.good[state == Standing::Live].bad[state == Standing::Corrupted] { (state.name()) }
        @if state == Standing::Corrupted && record.expired { " and expired" }
    }
}

pub(super) fn user(record: &Record) -> Markup {
    html! { @match &record.user { Some(user) => (short(user, 60)), None => span.quiet { "–" } } }
}

/// The way to what comes next.
fn onward(here: &Here, filter: &Filter, listing: &Listing) -> Markup {
    let user = filter.user.as_deref().unwrap_or_default();
    html! {
        @if *filter != Filter::default() && !listing.records.is_empty() {
            p.quiet { (count(listing.scanned)) " sessions were looked at." }
        }
        @if let Some(next) = &listing.next {
            form action=(here.root()) {
                input type="hidden" name="user" value=(user);
                input type="hidden" name="show" value=(filter.show.name());
                input type="hidden" name="after" value=(next);
                div.buttons { button { @if listing.records.len() < ROWS { "Go on looking" } @else { "Next page" } } }
            }
        }
    }
}
