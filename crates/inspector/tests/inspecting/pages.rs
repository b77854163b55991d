//! The pages, as an application mounts them.

use std::net::SocketAddr;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use bytes::Bytes;
use cloakroom_core::Timestamp;
use cloakroom_inspector::{Access, Pages, Step};
use tower::ServiceExt;

use crate::support::{NOW, Place, step};

/// A browser that looks at the inspector.
struct Visitor {
    router: Router,
    cookie: Option<String>,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

impl Visitor {
    fn of(place: &Place) -> Self {
        Self::with(place, Access::behind_own_check(), Step::PAGE)
    }

    fn with(place: &Place, access: Access, step: Step) -> Self {
        let pages = Pages::new(place.inspector(), access).with_step(step);
        Self { router: Router::new().nest("/staff/sessions", pages.into_router()), cookie: None }
    }

    async fn send(&mut self, mut request: Request<Body>) -> Answer {
        if let Some(cookie) = &self.cookie {
            request.headers_mut().insert(header::COOKIE, cookie.parse().unwrap());
        }
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        for cookie in parts.headers.get_all(header::SET_COOKIE) {
            let cookie = cookie.to_str().unwrap();
            assert!(cookie.starts_with("cloakroom_inspector="), "{cookie}");
            assert!(cookie.ends_with("; HttpOnly; Path=/staff/sessions; SameSite=Strict"), "{cookie}");
            self.cookie = cookie.split(';').next().map(str::to_owned);
        }
        let body = to_bytes(body, 10 << 20).await.unwrap();
        Answer { status: parts.status, headers: parts.headers, body: String::from_utf8(body.to_vec()).unwrap() }
    }

    async fn answer(&mut self, path: &str) -> Answer {
        self.send(Request::get(path).body(Body::empty()).unwrap()).await
    }

    async fn get(&mut self, path: &str) -> String {
        let answer = self.answer(path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        answer.body
    }

    async fn post(&mut self, path: &str, form: String) -> Answer {
        let request = Request::post(path).header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        self.send(request.body(Body::from(form)).unwrap()).await
    }
}

/// What stands between two texts, each time.
fn between<'a>(page: &'a str, before: &str, after: &str) -> Vec<&'a str> {
    page.split(before).skip(1).map(|rest| rest.split(after).next().unwrap()).collect()
}

fn hidden<'a>(page: &'a str, name: &str) -> &'a str {
    between(page, &format!("name=\"{name}\" value=\""), "\"")
        .first()
        .copied()
        .unwrap_or_else(|| panic!("{name}: {page}"))
}

const BASE: &str = "/staff/sessions";

#[tokio::test]
async fn no_page_shows_a_key_or_lets_markup_through() {
    let place = Place::new();
    let markup = "<script>alert(1)</script>\"'><img src=x>";
    let json = format!("{{\"_auth_user_id\":{markup:?},{markup:?}:{markup:?}}}");
    let key = place.add(&json, 60).await;
    let broken = place.add_raw(Bytes::from_static(b"<script>alert(1)</script>"), 60).await;
    let mut visitor = Visitor::of(&place);
    let list = visitor.get(BASE).await;
    let handles = between(&list, "/staff/sessions/session/", "\"");
    assert_eq!(handles.len(), 2);
    let mut pages = vec![list.clone(), visitor.get(&format!("{BASE}/stats")).await];
    for handle in handles {
        pages.push(visitor.get(&format!("{BASE}/session/{handle}")).await);
        pages.push(visitor.get(&format!("{BASE}/session/{handle}/revoke")).await);
    }
    let typed = "%3Cscript%3Ealert(1)%3C/script%3E%22%27%3E%3Cimg%20src=x%3E";
    pages.push(visitor.get(&format!("{BASE}?user={typed}&show={typed}&after={typed}")).await);
    pages.push(visitor.get(&format!("{BASE}/user/revoke?user={typed}")).await);
    pages.push(visitor.answer(&format!("{BASE}/session/{typed}")).await.body);
    for page in &pages {
        assert!(!page.contains("<script") && !page.contains("<img"), "{page}");
        assert!(!page.contains(&key.as_str()[..5]) && !page.contains(&broken.as_str()[..5]), "{page}");
    }
    assert_eq!(pages.iter().filter(|page| page.contains("&lt;script&gt;")).count(), 6);
    assert!(pages.iter().any(|page| page.contains("Its data cannot be read.")));
}

#[tokio::test]
async fn pages_are_strict_and_kept_by_nobody() {
    let place = Place::new();
    place.add("{}", 60).await;
    let mut visitor = Visitor::of(&place);
    visitor.cookie = Some("sessionid=abcdefgh12345678".to_owned());
    for path in ["", "/stats", "/nowhere", "/session/none"] {
        let answer = visitor.answer(&format!("{BASE}{path}")).await;
        let text = |name: header::HeaderName| answer.headers[name].to_str().unwrap().to_owned();
        assert!(text(header::CONTENT_SECURITY_POLICY).starts_with("default-src 'none'; style-src 'self';"), "{path}");
        assert_eq!(text(header::CACHE_CONTROL), "no-store");
        assert_eq!(text(header::X_CONTENT_TYPE_OPTIONS), "nosniff");
        let sheet = between(&answer.body, "rel=\"stylesheet\" href=\"", "\"")[0].to_owned();
        let sheet = visitor.answer(&sheet).await;
        assert_eq!(
            (sheet.status, sheet.headers[header::CONTENT_TYPE].to_str().unwrap()),
            (StatusCode::OK, "text/css; charset=utf-8")
        );
        assert!(answer.body.len() + sheet.body.len() < 100_000);
    }
}

#[tokio::test]
async fn pages_stay_light() {
    let place = Place::new();
    let items: Vec<String> =
        (0..500).map(|n| format!("\"{}{n}\":\"{}\"", "<".repeat(300), "&".repeat(9_000))).collect();
    for _ in 0..30 {
        let user = "&".repeat(9_000);
        place.add(&format!("{{\"_auth_user_id\":\"{user}\",{}}}", items[..3].join(",")), 60).await;
    }
    let mut visitor = Visitor::of(&place);
    let list = visitor.get(BASE).await;
    assert!(list.len() < 90_000, "{}", list.len());
    let large = place.add(&format!("{{{}}}", items.join(",")), 60).await;
    let token = hidden(&list, "token").to_owned();
    let found = visitor.post(&format!("{BASE}/find"), format!("key={}&token={token}", large.as_str())).await;
    let page = visitor.get(found.headers[header::LOCATION].to_str().unwrap()).await;
    assert!(page.contains("And ") && page.len() < 90_000, "{}", page.len());
}

#[tokio::test]
async fn a_session_is_revoked_by_whom_the_form_was_shown() {
    let place = Place::new();
    let key = place.add(r#"{"_auth_user_id":"7"}"#, 60).await;
    let other = place.add("{}", 60).await;
    let (mut visitor, mut stranger) = (Visitor::of(&place), Visitor::of(&place));
    let page = visitor.get(&format!("{BASE}?user=7")).await;
    let address = format!("{BASE}/session/{}/revoke", between(&page, "/staff/sessions/session/", "\"")[0]);
    let form = visitor.get(&address).await;
    let token = hidden(&form, "token").to_owned();
    let foreign = hidden(&stranger.get(&address).await, "token").to_owned();
    assert_ne!(token, foreign);
    for wrong in [String::new(), "token=".to_owned(), format!("token={foreign}"), format!("token={}", &token[1..])] {
        assert_eq!(visitor.post(&address, wrong).await.status, StatusCode::FORBIDDEN);
    }
    assert_eq!(stranger.post(&address, format!("token={token}")).await.status, StatusCode::FORBIDDEN);
    stranger.cookie = None;
    assert_eq!(stranger.post(&address, format!("token={token}")).await.status, StatusCode::FORBIDDEN);
    for (name, value) in [("sec-fetch-site", "cross-site"), ("origin", "https://evil.example")] {
        let request = Request::post(&address).header(name, value).header(header::HOST, "site");
        let request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        let answer = visitor.send(request.body(Body::from(format!("token={token}"))).unwrap()).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN);
    }
    assert!(place.has(&key).await, "a forged form counted");
    let done = visitor.post(&address, format!("token={token}")).await;
    assert_eq!(done.status, StatusCode::SEE_OTHER);
    let page = visitor.get(done.headers[header::LOCATION].to_str().unwrap()).await;
    assert!(page.contains("The session was revoked"), "{page}");
    assert!(!place.has(&key).await && place.has(&other).await);
    let again = visitor.post(&address, format!("token={token}")).await;
    assert!(visitor.get(again.headers[header::LOCATION].to_str().unwrap()).await.contains("no such session any more"));
    assert_eq!(visitor.answer(&address).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn all_of_a_user_are_revoked_step_by_step() {
    let place = Place::new();
    let mut theirs = Vec::new();
    for n in 0..30 {
        let key = place.add(&format!("{{\"_auth_user_id\":{}}}", n % 2), 60).await;
        if n % 2 == 1 {
            theirs.push(key);
        }
    }
    let mut visitor = Visitor::with(&place, Access::behind_own_check(), step(8));
    let mut page = visitor.get(&format!("{BASE}/user/revoke?user=1")).await;
    let address = format!("{BASE}/user/revoke");
    assert_eq!(visitor.post(&address, "user=1".to_owned()).await.status, StatusCode::FORBIDDEN);
    let mut steps = 0;
    let last = loop {
        let mut form = format!("user=1&token={}", hidden(&page, "token"));
        for name in ["after", "revoked", "scanned", "in_this_pass", "passes"].iter().filter(|_| steps > 0) {
            form += &format!("&{name}={}", hidden(&page, name));
        }
        steps += 1;
        let answer = visitor.post(&address, form).await;
        if answer.status == StatusCode::SEE_OTHER {
            break answer;
        }
        assert!(answer.body.contains("Not done yet"), "{}", answer.body);
        page = answer.body;
    };
    assert!(steps > 3, "{steps}");
    assert!(visitor.get(last.headers[header::LOCATION].to_str().unwrap()).await.contains("15 sessions were revoked"));
    for key in &theirs {
        assert!(!place.has(key).await);
    }
    assert_eq!(place.store.len(), 15);
}

#[tokio::test]
async fn a_list_has_pages_and_a_filter_goes_on() {
    let place = Place::new();
    for _ in 0..60 {
        place.add("{}", 10).await;
    }
    place.clock.set(Timestamp::from_secs(NOW.as_secs() + 5));
    for _ in 0..3 {
        place.add_raw(Bytes::from_static(b"?"), 60).await;
    }
    let mut visitor = Visitor::with(&place, Access::behind_own_check(), step(40));
    for (query, wanted) in [("", 63), ("show=corrupted", 3), ("show=live", 60), ("show=expired", 0)] {
        let (mut address, mut found, mut pages) = (format!("{BASE}?{query}"), Vec::new(), 0);
        loop {
            let page = visitor.get(&address).await;
            found.extend(between(&page, "/staff/sessions/session/", "\"").iter().map(ToString::to_string));
            pages += 1;
            let Some(after) = between(&page, "name=\"after\" value=\"", "\"").first().copied() else { break };
            address = format!("{BASE}?{query}&after={after}");
        }
        found.sort();
        found.dedup();
        assert_eq!(found.len(), wanted, "{query}");
        assert!(pages > 1, "{query}");
    }
}

#[tokio::test]
async fn statistics_say_when_they_are_estimates() {
    let place = Place::new();
    for _ in 0..100 {
        place.add("{}", 3_000).await;
    }
    let all = Visitor::of(&place).get(&format!("{BASE}/stats")).await;
    assert!(all.contains("<dd>100</dd>") && all.contains("within an hour") && !all.contains("estimates"), "{all}");
    assert!(all.contains("<svg class=\"bars\" role=\"img\""));
    let some = Visitor::with(&place, Access::behind_own_check(), step(20)).get(&format!("{BASE}/stats")).await;
    assert!(some.contains("estimates from these") && some.contains("<dd>about "), "{some}");
}

#[tokio::test]
async fn who_may_not_look_sees_nothing() {
    let place = Place::new();
    place.add(r#"{"_auth_user_id":"7"}"#, 60).await;
    let request = |method: Method, peer: Option<&str>, headers: &[(&str, &str)]| {
        let mut request = Request::builder().method(method).uri(BASE);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(Body::empty()).unwrap();
        if let Some(peer) = peer {
            request.extensions_mut().insert(ConnectInfo(peer.parse::<SocketAddr>().unwrap()));
        }
        request
    };
    let mut visitor = Visitor::with(&place, Access::loopback(), Step::PAGE);
    let here = Some("127.0.0.1:9");
    for (peer, host, status) in [
        (here, "localhost", 200),
        (here, "rebound.example", 403),
        (Some("192.0.2.7:9"), "localhost", 403),
        (None, "localhost", 403),
    ] {
        let answer = visitor.send(request(Method::GET, peer, &[("host", host)])).await;
        assert_eq!(answer.status, status, "{peer:?} {host}");
        assert_eq!(answer.body.contains("/session/"), status == 200);
        assert_eq!(answer.headers[header::CACHE_CONTROL], "no-store");
    }
    let mut visitor = Visitor::with(&place, Access::password("open sesame").unwrap(), Step::PAGE);
    // `:open sesame`, and one letter less.
    for (given, status) in [("Basic Om9wZW4gc2VzYW1l", 200), ("Basic Om9wZW4gc2VzYW0=", 401), ("", 401)] {
        let answer = visitor.send(request(Method::GET, Some("192.0.2.7:9"), &[("authorization", given)])).await;
        assert_eq!(answer.status, status, "{given}");
        assert_eq!(answer.body.contains("/session/"), status == 200);
        assert_eq!(answer.headers.contains_key(header::WWW_AUTHENTICATE), status == 401);
    }
}

#[tokio::test]
async fn a_frame_makes_the_document() {
    let place = Place::new();
    let pages = Pages::new(place.inspector(), Access::behind_own_check());
    let pages = pages.in_frame(|page| format!("[{}|{}|{}]", page.title, page.stylesheet, page.content));
    let mut visitor = Visitor { router: pages.into_router(), cookie: None };
    let request = Request::get("/stats").body(Body::empty()).unwrap();
    let page = visitor.send(request).await.body;
    assert!(page.starts_with("[Statistics|/style.css?") && page.ends_with(']'), "{page}");
    assert!(page.contains("href=\"/\"") && page.contains("href=\"/stats\""));
}
