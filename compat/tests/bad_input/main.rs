//! What strangers send and what accidents leave behind, on the running site: each has a clear outcome, and nothing that
//! was stored is harmed.

mod cookies;
mod crash;
mod records;
mod storage;

use cloakroom_compat::live::http::{Reply, Visitor};
use cloakroom_compat::live::json::Json;
use cloakroom_compat::live::site::{Running, Site};

/// A new visitor whose session holds `{"coat": "red"}`.
fn visitor_with_a_coat(site: &Site) -> Visitor {
    let mut visitor = Visitor::new();
    visitor.get(site, "set", &[("k", "coat"), ("v", "\"red\"")]).ok();
    visitor
}

/// That session is as it was left.
#[track_caller]
fn still_has_the_coat(visitor: &mut Visitor, site: &Site) {
    assert_eq!(visitor.get(site, "all", &[]).ok().member("data").to_string(), r#"{"coat":"red"}"#, "{}", site.log());
}

/// The answer of a site whose store is down: no blank session, no lost cookie, nothing about the inside.
#[track_caller]
fn says_unavailable(reply: &Reply, running: &Running) {
    assert_eq!(reply.status, 503, "{reply:#?}\n{}", running.log());
    assert!(reply.cookies().is_empty(), "{reply:#?}");
    let inside = running.deployment.directory().to_str().expect("a path in UTF-8");
    assert!(!reply.body.contains(inside), "{reply:#?}");
}

fn nothing() -> Json {
    Json::Map(Vec::new())
}
