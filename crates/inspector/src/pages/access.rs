//! Who may look.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{ConnectInfo, FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cloakroom_core::wire::signing::{Secrets, Signer};
use cloakroom_core::{Error, ErrorKind, Result};
use maud::html;

use super::{Here, Site};

/// Who may see the pages.
#[derive(Clone)]
pub struct Access(Rule);

#[derive(Clone)]
enum Rule {
    Loopback,
    /// Text that was signed with the password: who has the password, can verify it.
    Password(String),
    OwnCheck,
}

const SALT: &str = "cloakroom.inspector.password";
const SIGNED: &str = "password";

impl Access {
    /// A shorter password is refused.
    pub const SHORTEST_PASSWORD: usize = 8;

    /// Those on this machine, who ask for it by a name of this machine: another name may be one that a stranger's site
    /// took to reach it from a browser here (DNS rebinding). What a proxy says it forwards is refused too; a proxy on
    /// this machine that says nothing must not lead here.
    pub fn loopback() -> Self {
        Self(Rule::Loopback)
    }

    /// Whoever knows the password, by HTTP Basic with any name of a user. It travels as the site does, so the site should
    /// be reached by HTTPS.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] if it has fewer than [eight](Self::SHORTEST_PASSWORD) characters.
    pub fn password(password: &str) -> Result<Self> {
        if password.chars().count() < Self::SHORTEST_PASSWORD {
            let message = format!(
                "the inspector's password has to have {} characters at least, since it opens every session",
                Self::SHORTEST_PASSWORD
            );
            return Err(Error::new(ErrorKind::Configuration, message));
        }
        Ok(Self(Rule::Password(signer(password).sign(SIGNED))))
    }

    /// Whoever gets here: the application has checked who it is, in a layer around the router.
    pub fn behind_own_check() -> Self {
        Self(Rule::OwnCheck)
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Rule::Loopback => "Access::loopback",
            Rule::Password(_) => "Access::password",
            Rule::OwnCheck => "Access::behind_own_check",
        })
    }
}

fn signer(password: &str) -> Signer {
    Signer::new(&Secrets::new(password), SALT)
}

/// Lets in who may come in, refuses forms of other sites, and sees to it that a page loads nothing from elsewhere, runs no
/// script, stands in no frame and is kept by nobody.
pub(super) async fn guard(State(site): State<Arc<Site>>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let Ok(here) = Here::from_request_parts(&mut parts, &()).await;
    let refused = site.access.refusal(&parts).or_else(|| {
        (!is_own_request(&parts.method, &parts.headers))
            .then_some(Refusal::Forbidden("This form came from another site, so nothing was done."))
    });
    let mut response = match refused {
        None => next.run(Request::from_parts(parts, body)).await,
        Some(refusal) => refusal.answer(|status, why| site.failure(&here, status, html! { p { (why) } })),
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; base-uri 'none'; \
             frame-ancestors 'none'",
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "same-origin"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Why somebody is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// For this reason.
    Forbidden(&'static str),
    /// Whoever gives the password is.
    Password,
}

impl Refusal {
    /// The answer, of which `page` makes what is shown: status and reason are its arguments.
    pub fn answer(self, page: impl FnOnce(StatusCode, &'static str) -> Response) -> Response {
        match self {
            Self::Forbidden(why) => page(StatusCode::FORBIDDEN, why),
            Self::Password => {
                let response = page(StatusCode::UNAUTHORIZED, "The password is asked for, with any name of a user.");
                let scheme = "Basic realm=\"Cloakroom inspector\", charset=\"UTF-8\"";
                ([(header::WWW_AUTHENTICATE, scheme)], response).into_response()
            }
        }
    }
}

/// What proxies add to what they forward.
const FORWARDED: [HeaderName; 5] = [
    header::FORWARDED,
    header::VIA,
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-real-ip"),
];

impl Access {
    /// Why a request is not let in, if it is not: for other pages of a site that are for the same people.
    pub fn refusal(&self, request: &Parts) -> Option<Refusal> {
        self.refuse(&request.headers, &request.uri, request.extensions.get())
    }

    fn refuse(&self, headers: &HeaderMap, uri: &Uri, peer: Option<&ConnectInfo<SocketAddr>>) -> Option<Refusal> {
        const ELSEWHERE: Refusal = Refusal::Forbidden(
            "This page is for those on the machine of this site, at localhost. With a password it is for others, too.",
        );
        match &self.0 {
            Rule::OwnCheck => None,
            Rule::Password(signed) => {
                let given = headers.get(header::AUTHORIZATION).and_then(|value| password(value.as_bytes()));
                // Signatures are compared in constant time, and say nothing of how much of a password is right.
                let right = given.is_some_and(|given| signer(&given).unsign(signed).is_ok());
                (!right).then_some(Refusal::Password)
            }
            Rule::Loopback => {
                let Some(ConnectInfo(peer)) = peer else {
                    tracing::error!(
                        "nobody is let in, since the server does not say who connects: serve the router by \
                         into_make_service_with_connect_info::<SocketAddr>(), or set a password"
                    );
                    return Some(ELSEWHERE);
                };
                let asked = headers.get(header::HOST).and_then(|host| host.to_str().ok());
                let asked = asked.or_else(|| uri.authority().map(|authority| authority.as_str()));
                let here = is_here(peer.ip())
                    && asked.is_some_and(names_this_machine)
                    && !FORWARDED.iter().any(|name| headers.contains_key(name));
                (!here).then_some(ELSEWHERE)
            }
        }
    }
}

fn is_here(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

/// Whether a `Host` is this machine, whatever the port.
fn names_this_machine(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or(rest, |(name, _)| name),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse().is_ok_and(is_here)
}

/// The password in `Authorization: Basic`.
fn password(authorization: &[u8]) -> Option<String> {
    let (scheme, rest) = authorization.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"Basic ") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(rest.trim_ascii()).ok()?).ok()?;
    decoded.split_once(':').map(|(_, password)| password.to_owned())
}

/// Whether a request may change something: browsers say of each request where it comes from, and what is not from here
/// is to be refused. What says nothing is no browser, and has no cookie to abuse.
pub fn is_own_request(method: &Method, headers: &HeaderMap) -> bool {
    if method.is_safe() {
        return true;
    }
    let text = |name| headers.get(name).map(HeaderValue::as_bytes);
    if let Some(site) = text(HeaderName::from_static("sec-fetch-site")) {
        return matches!(site, b"same-origin" | b"none");
    }
    let Some(origin) = text(header::ORIGIN) else { return true };
    let host = [&b"http://"[..], b"https://"].into_iter().find_map(|scheme| origin.strip_prefix(scheme));
    host.is_some() && host == text(header::HOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(given: &[(&'static str, &str)]) -> HeaderMap {
        given.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    fn refusal(access: &Access, peer: Option<&str>, given: &[(&'static str, &str)]) -> Option<Refusal> {
        let peer = peer.map(|peer| ConnectInfo(SocketAddr::new(peer.parse().unwrap(), 9)));
        access.refuse(&headers(given), &Uri::from_static("/"), peer.as_ref())
    }

    #[test]
    fn loopback_is_this_machine_by_a_name_of_its_own() {
        let access = Access::loopback();
        for (peer, host) in [
            ("127.0.0.1", "localhost:8000"),
            ("127.0.0.1", "LOCALHOST"),
            ("127.8.9.1", "127.0.0.1:8000"),
            ("::1", "[::1]:8000"),
            ("::ffff:127.0.0.1", "[::1]"),
        ] {
            assert_eq!(refusal(&access, Some(peer), &[("host", host)]), None, "{peer} {host}");
        }
        for (peer, host) in [
            (Some("192.0.2.1"), "localhost"),
            (Some("::ffff:192.0.2.1"), "localhost"),
            (Some("2001:db8::1"), "[::1]"),
            (Some("127.0.0.1"), "evil.example:8000"),
            (Some("127.0.0.1"), "localhost.evil.example"),
            (Some("127.0.0.1"), "127.0.0.1.evil.example"),
            (Some("127.0.0.1"), "0.0.0.0:8000"),
            (Some("127.0.0.1"), ""),
            (None, "localhost"),
        ] {
            assert!(refusal(&access, peer, &[("host", host)]).is_some(), "{peer:?} {host}");
        }
        assert!(refusal(&access, Some("127.0.0.1"), &[]).is_some());
        for name in ["forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip"] {
            assert!(refusal(&access, Some("127.0.0.1"), &[("host", "localhost"), (name, "x")]).is_some(), "{name}");
        }
    }

    #[test]
    fn a_password_opens_from_anywhere() {
        let access = Access::password("correct: horse é").unwrap();
        let with = |user_and_password: &str| {
            let given = format!("Basic {}", STANDARD.encode(user_and_password));
            refusal(&access, Some("192.0.2.1"), &[("authorization", &given)])
        };
        assert_eq!((with("ada:correct: horse é"), with(":correct: horse é")), (None, None));
        for wrong in ["ada:", "ada:correct", "ada:correct: horse ", "ada", "correct: horse é", "ada:Correct: horse é"]
        {
            assert_eq!(with(wrong), Some(Refusal::Password), "{wrong}");
        }
        for wrong in ["", "Basic", "Basic !!", "Bearer Y29ycmVjdA==", "Basic /w=="] {
            assert_eq!(refusal(&access, Some("127.0.0.1"), &[("authorization", wrong)]), Some(Refusal::Password));
        }
        assert_eq!(Access::password("short").unwrap_err().kind(), ErrorKind::Configuration);
        assert!(!format!("{access:?}").contains("horse"));
    }

    #[test]
    fn forms_of_other_sites_do_not_count() {
        for (given, own) in [
            (&[("sec-fetch-site", "same-origin")][..], true),
            (&[("sec-fetch-site", "none")], true),
            (&[("sec-fetch-site", "same-site"), ("origin", "http://site:8000")], false),
            (&[("sec-fetch-site", "cross-site")], false),
            (&[("origin", "http://site:8000")], true),
            (&[("origin", "http://site:8001")], false),
            (&[("origin", "http://site")], false),
            (&[("origin", "null")], false),
            (&[], true),
        ] {
            let mut headers = headers(given);
            headers.insert(header::HOST, HeaderValue::from_static("site:8000"));
            assert_eq!(is_own_request(&Method::POST, &headers), own, "{given:?}");
            assert!(is_own_request(&Method::GET, &headers));
        }
    }
}
