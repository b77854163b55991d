//! Pages for those who may look into the site.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use cloakroom::inspector::{Access, Refusal};
use maud::html;

use super::layout;

/// Lets a request through that a browser made for a page of this site, for somebody who may see the inspector too.
pub(crate) async fn guard(State(access): State<Access>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let refusal = access.refusal(&parts).or_else(|| refusal(&parts.headers));
    match refusal {
        None => next.run(Request::from_parts(parts, body)).await,
        Some(refusal) => refusal.answer(|status: StatusCode, why| layout::failure(status, html! { p { (why) } })),
    }
}

/// A page of another site could not read the answer, but could have it made.
fn refusal(headers: &HeaderMap) -> Option<Refusal> {
    let elsewhere = match headers.get("sec-fetch-site").map(|site| site.as_bytes()) {
        Some(b"cross-site" | b"same-site") => headers.get("sec-fetch-mode").is_none_or(|mode| mode != "navigate"),
        _ => false,
    };
    elsewhere.then_some(Refusal::Forbidden("Your request comes from a page of another site."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::{HeaderName, HeaderValue};

    #[test]
    fn pages_of_other_sites_are_not_let_through() {
        for (given, through) in [
            (&[][..], true),
            (&[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "cors")], false),
            (&[("sec-fetch-site", "same-site"), ("sec-fetch-mode", "no-cors")], false),
            (&[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")], true),
            (&[("sec-fetch-site", "same-origin"), ("sec-fetch-mode", "cors")], true),
            (&[("sec-fetch-site", "none"), ("sec-fetch-mode", "navigate")], true),
        ] {
            let headers = given
                .iter()
                .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
                .collect();
            assert_eq!(refusal(&headers).is_none(), through, "{given:?}");
        }
    }
}
