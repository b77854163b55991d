//! Pages for this machine only.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, Request};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use maud::html;

use super::layout;

/// Lets a request through that a browser on this machine made for a page of this site.
pub(crate) async fn guard(request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(address)| address.ip());
    match refusal(peer, request.headers()) {
        None => next.run(request).await,
        Some(why) => layout::failure(
            StatusCode::FORBIDDEN,
            html! { p { "This page is for the machine that the site runs on. " (why) } },
        ),
    }
}

/// Why a request is refused, if it is.
fn refusal(peer: Option<IpAddr>, headers: &HeaderMap) -> Option<&'static str> {
    if !peer.is_some_and(|peer| peer.to_canonical().is_loopback()) {
        return Some("Your request comes from another one.");
    }
    if ["forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip"]
        .iter()
        .any(|name| headers.contains_key(*name))
    {
        return Some("Your request comes through a proxy, which may stand for any other.");
    }
    // Any site can give its own name this machine's address, and would then be of the same origin as the page.
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if !is_local_name(host) {
        return Some("Call it by its local name, as in http://127.0.0.1:8000 or http://localhost:8000.");
    }
    // A page of another site could not read the answer, but could have it made.
    match headers.get("sec-fetch-site").map(|site| site.as_bytes()) {
        Some(b"cross-site" | b"same-site") if headers.get("sec-fetch-mode").is_none_or(|mode| mode != "navigate") => {
            Some("Your request comes from a page of another site.")
        }
        _ => None,
    }
}

/// Whether a `Host` header is a name that means this machine to every browser.
fn is_local_name(host: &str) -> bool {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::{HeaderName, HeaderValue};

    fn refused(peer: &str, host: &str, more: &[(&'static str, &'static str)]) -> Option<&'static str> {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_str(host).unwrap());
        for (name, value) in more {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        refusal(peer.parse().ok(), &headers)
    }

    #[test]
    fn only_this_machine_by_its_own_name_is_let_through() {
        for (peer, host) in [
            ("127.0.0.1", "127.0.0.1:8000"),
            ("127.0.0.9", "localhost"),
            ("::1", "[::1]:8000"),
            ("::ffff:127.0.0.1", "LOCALHOST:8000"),
        ] {
            assert_eq!(refused(peer, host, &[]), None, "{peer} {host}");
        }
        for (peer, host) in [
            ("192.0.2.7", "127.0.0.1:8000"),
            ("::ffff:192.0.2.7", "localhost"),
            ("no address", "localhost"),
            ("127.0.0.1", "evil.example:8000"),
            ("127.0.0.1", "localhost.evil.example"),
            ("127.0.0.1", "127.0.0.1.evil.example"),
            ("127.0.0.1", "192.0.2.7:8000"),
            ("127.0.0.1", "0.0.0.0:8000"),
            ("127.0.0.1", ""),
        ] {
            assert!(refused(peer, host, &[]).is_some(), "{peer} {host}");
        }
    }

    #[test]
    fn neither_proxies_nor_pages_of_other_sites_are_let_through() {
        for (more, through) in [
            (&[("x-forwarded-for", "192.0.2.7")][..], false),
            (&[("forwarded", "for=192.0.2.7")], false),
            (&[("via", "1.1 proxy")], false),
            (&[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "cors")], false),
            (&[("sec-fetch-site", "same-site"), ("sec-fetch-mode", "no-cors")], false),
            (&[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")], true),
            (&[("sec-fetch-site", "same-origin"), ("sec-fetch-mode", "cors")], true),
            (&[("sec-fetch-site", "none"), ("sec-fetch-mode", "navigate")], true),
        ] {
            assert_eq!(refused("127.0.0.1", "localhost", more).is_none(), through, "{more:?}");
        }
    }
}
