//! Counts, sizes, and when sessions end.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use maud::html;

use super::{Here, Site, bytes, count, picture, tabs};

pub(super) async fn page(State(site): State<Arc<Site>>, here: Here) -> Response {
    let stats = match site.inspector.stats(site.step, |_| {}).await {
        Ok(stats) => stats,
        Err(error) => return site.trouble(&here, &error),
    };
    let about = if stats.complete { "" } else { "about " };
    let number = |of: u64| format!("{about}{}", count(stats.in_all(of)));
    let content = html! {
        h1 { "Statistics" }
        p.lead { "Kept by the " (site.inspector.place()) "." }
        (tabs(&here, "Statistics"))
        @if !stats.complete {
            div.notice { p { "Looking at all takes too long for a page. Of about " (count(stats.total)) " sessions, the first "
                (count(stats.scanned)) " in the order of their keys were looked at, which are random: the numbers are \
                estimates from these. " code { "cloakroom stats" } " looks at all." } }
        }
        dl.facts {
            dt { "Sessions" } dd { (about) (count(stats.total)) }
            dt { "Live" } dd { (number(stats.live)) ", " (number(stats.with_user)) " of them with a user" }
            dt { "Expired, waiting for a sweep" } dd { (number(stats.expired)) }
            dt { "Corrupted" } dd { (number(stats.corrupted)) }
            dt { "Size of all" } dd { (about) (bytes(stats.in_all(stats.bytes))) }
            dt { "Average, largest" }
            dd { (bytes(stats.bytes / stats.scanned.max(1))) ", " (bytes(stats.largest)) }
        }
        h2 id="ends" { "When they end" }
        (picture::bars("When sessions end", &stats.ends(), |of| stats.in_all(of)))
        h2 id="sizes" { "How large they are" }
        (picture::bars("How large sessions are", &stats.sizes(), |of| stats.in_all(of)))
    };
    site.page(&here, "Statistics", content)
}
