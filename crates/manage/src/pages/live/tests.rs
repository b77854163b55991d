//! The live trace over HTTP, without a network.

use std::net::SocketAddr;
use std::pin::pin;

use axum::body::{Body, HttpBody, to_bytes};
use axum::extract::ConnectInfo;
use axum::http::Request;
use cloakroom::{Sessions, Settings};
use tower::ServiceExt;
use tracing::Level;

use super::*;
use crate::pages::tests::start_trace;

const SECRET: &str = "open%3Csesame";

struct Site {
    live: Live,
    router: Router,
}

/// A browser of the site, or another client.
#[derive(Default)]
struct Client(Vec<(String, String)>);

impl Site {
    async fn new(moment: Duration) -> Self {
        start_trace();
        let settings = Settings::builder().secret_key("of a test").set("SESSION_ENGINE", "cache").build().unwrap();
        let sessions = Sessions::from_settings(settings).await.unwrap();
        let live = Live::lasting(moment);
        let router = around(crate::site::router(&sessions), Some(live.clone()), Access::loopback());
        Self { live, router }
    }

    async fn watched() -> Self {
        Self::new(Duration::from_secs(3600)).await
    }

    async fn send(&self, client: &mut Client, path: &str) -> Response {
        let cookies: Vec<_> = client.0.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let request = Request::get(path)
            .header(header::HOST, "localhost:8000")
            .header(header::COOKIE, cookies.join("; "))
            .extension(ConnectInfo(SocketAddr::from(([127, 0, 0, 1], 4711))));
        let response = self.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        for cookie in response.headers().get_all(header::SET_COOKIE) {
            let (name, value) = cookie.to_str().unwrap().split(';').next().unwrap().split_once('=').unwrap();
            client.0.retain(|(known, _)| known != name);
            client.0.push((name.to_owned(), value.to_owned()));
        }
        response
    }

    async fn get(&self, client: &mut Client, path: &str) -> String {
        let response = self.send(client, path).await;
        assert!(response.status().is_success(), "{path}: {}", response.status());
        String::from_utf8(to_bytes(response.into_body(), 10 << 20).await.unwrap().to_vec()).unwrap()
    }

    /// Opens a stream.
    async fn watch(&self, client: &mut Client, query: &str) -> Stream {
        let response = self.send(client, &format!("/trace/events{query}")).await;
        assert_eq!(response.status(), StatusCode::OK);
        Stream { body: response.into_body(), read: String::new() }
    }
}

struct Stream {
    body: Body,
    read: String,
}

impl Stream {
    /// Reads until a text has come, and gives all until then.
    async fn until(&mut self, text: &str) -> String {
        while !self.read.contains(text) {
            assert!(self.more().await, "the stream ended without {text}: {}", self.read);
        }
        std::mem::take(&mut self.read)
    }

    /// Reads what comes next; `false` at the end.
    async fn more(&mut self) -> bool {
        let body = &mut self.body;
        let frame = std::future::poll_fn(|cx| pin!(&mut *body).poll_frame(cx)).await;
        let Some(frame) = frame else { return false };
        self.read.push_str(std::str::from_utf8(&frame.unwrap().into_data().unwrap()).unwrap());
        true
    }
}

impl Client {
    fn session(&self) -> &str {
        self.0.iter().find_map(|(name, value)| (name == "sessionid").then_some(value)).unwrap()
    }
}

#[tokio::test]
async fn what_nobody_looks_at_is_not_kept_and_costs_nothing() {
    let site = Site::new(Duration::ZERO).await;
    let mut client = Client::default();
    let wanted = async || tracing::event_enabled!(Level::DEBUG);
    site.get(&mut client, "/incr?k=n").await;
    assert!(!wanted().await && site.live.kept().last_change() == 0, "nobody has looked on yet");
    let stream = site.watch(&mut client, "").await;
    site.get(&mut client, "/incr?k=n").await;
    assert!(site.live.kept().last_change() > 0);
    drop(stream);
    // A page that was asked for counts for a moment, which is no time at all here.
    site.get(&mut client, "/trace").await;
    while site.live.is_looked_at() {
        tokio::task::yield_now().await;
    }
    let before = site.live.kept().last_change();
    site.get(&mut client, "/incr?k=n").await;
    let kept = site.live.kept();
    assert_eq!((kept.last_change(), kept.latest(&Filter::All).count()), (before, 0), "it is forgotten");
}

#[tokio::test]
async fn the_stream_tells_each_step_as_it_happens() {
    let site = Site::watched().await;
    let (mut watcher, mut other) = (Client::default(), Client::default());
    let mut stream = site.watch(&mut watcher, "").await;
    let slow = {
        let (router, mut client) = (site.router.clone(), Client::default());
        let slow = Site { live: site.live.clone(), router };
        tokio::spawn(async move { slow.get(&mut client, "/incr?k=n&sleep=3600").await })
    };
    let told = stream.until("change: updated").await;
    assert!(told.contains("GET /incr") && told.contains("under way"), "{told}");
    slow.abort();
    let told = stream.until("given up").await;
    assert!(!told.contains("save:"), "{told}");

    for (path, steps) in [
        (
            "/incr?k=visits",
            &["load: no key", "item=<b>visits", "it was changed", "save: create", "the cookie is set"][..],
        ),
        ("/incr?k=visits", &["presented=<b>true", "load: hit", "change: updated", "save: replace", "attempt=<b>0"]),
        ("/get?k=visits", &["load: hit", "nothing was changed, nothing is saved"]),
        ("/noop", &["commit: untouched"]),
        ("/cycle", &["change: a new key", "save: create", "the old record is deleted", "the cookie is set"]),
        ("/flush", &["the session is ended", "outcome=<b>Deleted", "cookie_removed=<b>true"]),
    ] {
        site.get(&mut other, path).await;
        let told = stream.until("<span class=\"\">200</span>").await;
        let told = told.rsplit("event: request").next().unwrap();
        for step in steps {
            assert!(told.contains(step), "{path}: {step}: {told}");
        }
    }
    // The end of the site is the end of the stream, or the site would wait for it.
    site.live.end();
    while stream.more().await {}
    assert!(!site.live.is_looked_at());
}

#[tokio::test]
async fn a_conflict_is_told() {
    let site = Site::watched().await;
    let (mut watcher, mut client) = (Client::default(), Client::default());
    site.get(&mut client, "/incr?k=n").await;
    let mut stream = site.watch(&mut watcher, "").await;
    let mut again = Client(client.0.clone());
    tokio::join!(site.get(&mut client, "/incr?k=n&sleep=0.05"), site.get(&mut again, "/incr?k=n&sleep=0.05"));
    let told = stream.until("attempt=<b>1").await;
    assert!(told.contains("save: conflict, the changes are replayed on what stands now"), "{told}");
}

#[tokio::test]
async fn one_session_can_be_watched_alone() {
    let site = Site::watched().await;
    let (mut mine, mut other) = (Client::default(), Client::default());
    site.get(&mut mine, "/trace").await;
    site.get(&mut mine, "/incr?k=mine").await;
    site.get(&mut other, "/incr?k=other").await;
    let key = other.session().to_owned();
    let masked: String = key.chars().take(4).collect();

    let own = site.get(&mut mine, "/trace?of=browser").await;
    assert!(own.contains("<b>mine") && !own.contains("<b>other"), "{own}");
    // Whoever gives the whole key does not see it again.
    for given in [&masked, &format!("{masked}%E2%80%A6"), &key] {
        let page = site.get(&mut mine, &format!("/trace?session={given}")).await;
        assert!(page.contains("<b>other") && !page.contains("<b>mine"), "{page}");
        assert!(page.contains(&format!("data-events=\"/trace/events?session={masked}&amp;after=\"")), "{page}");
        assert!(!page.contains(&key) && !page.contains(mine.session()), "{page}");
    }

    let mut stream = site.watch(&mut mine, "?of=browser").await;
    let mut by_key = site.watch(&mut mine, &format!("?session={masked}")).await;
    let (told, told_by_key) = (stream.until("<b>mine").await, by_key.until("<b>other").await);
    assert!(!told.contains("<b>other") && !told_by_key.contains("<b>mine"), "{told} {told_by_key}");
    site.get(&mut other, "/set?k=next_of_other&v=1").await;
    // A new session of the same browser is its own, too.
    site.get(&mut mine, "/flush").await;
    site.get(&mut mine, "/set?k=next_of_mine&v=1").await;
    let (told, told_by_key) = (stream.until("next_of_mine").await, by_key.until("next_of_other").await);
    assert!(!told.contains("next_of_other") && !told_by_key.contains("next_of_mine"), "{told} {told_by_key}");
}

#[tokio::test]
async fn a_slow_watcher_holds_up_nobody_and_is_told_what_it_missed() {
    let site = Site::watched().await;
    let (mut watcher, mut client) = (Client::default(), Client::default());
    let mut stream = site.watch(&mut watcher, "").await;
    // What is made ready ahead of the reader is bounded, and so is what is kept.
    for _ in 0..3 * kept::MAX_REQUESTS {
        site.get(&mut client, "/noop").await;
    }
    site.get(&mut client, "/incr?k=last").await;
    let told = stream.until("<b>last").await;
    let missed: u64 = told.lines().skip_while(|line| *line != "event: missed").nth(1).unwrap()[6..].parse().unwrap();
    let shown: u64 = told.matches("event: request").count() as u64;
    assert!(shown <= kept::MAX_REQUESTS as u64 && missed >= 2 * kept::MAX_REQUESTS as u64, "{shown} {missed}");
    site.get(&mut client, "/incr?k=quick").await;
    assert!(!stream.until("<b>quick").await.contains("event: missed"), "it is told once");
}

#[tokio::test]
async fn a_lost_connection_goes_on_where_it_was() {
    let site = Site::watched().await;
    let mut client = Client::default();
    site.get(&mut client, "/trace").await;
    site.get(&mut client, "/set?k=one&v=1").await;
    let last = site.live.kept().last_change();
    site.get(&mut client, "/set?k=two&v=1").await;
    let told = site.watch(&mut client, &format!("?after={last}")).await.until("<b>two").await;
    assert!(!told.contains("<b>one"), "{told}");
    let told = site.watch(&mut client, "?after=999999").await.until("<b>two").await;
    assert!(told.starts_with("event: fresh") && told.contains("<b>one"), "{told}");
}

#[tokio::test]
async fn values_never_appear_and_names_are_text() {
    let site = Site::watched().await;
    let mut client = Client::default();
    site.get(&mut client, "/trace").await;
    let mut stream = site.watch(&mut client, "").await;
    let markup = "%3Cscript%3Ealert(1)%3C/script%3E";
    site.get(&mut client, &format!("/set?k={markup}&v=%22{SECRET}%22")).await;
    let key = client.session().to_owned();
    // An error tells of the item, not of what it holds.
    assert_eq!(site.send(&mut client, &format!("/incr?k={markup}")).await.status(), 500);
    let page = site.get(&mut client, "/trace").await;
    let told = stream.until("kind=<b>Type").await;
    for shown in [page, told] {
        assert!(shown.contains("&lt;script&gt;alert(1)") && shown.contains("load: hit"), "{shown}");
        assert!(!shown.contains("<script>alert") && !shown.contains("sesame"), "{shown}");
        assert!(shown.contains(&key[..4]) && !shown.contains(&key[..5]), "{shown}");
    }
}

#[tokio::test]
async fn the_page_stays_light() {
    let site = Site::watched().await;
    let mut client = Client::default();
    site.get(&mut client, "/trace").await;
    let quotes = "%22".repeat(300);
    for n in 0..20 {
        site.get(&mut client, &format!("/set?k={quotes}{n}&v=1")).await;
        site.get(&mut client, &format!("/bulk?n={}&size=1", kept::MAX_STEPS)).await;
    }
    let page = site.get(&mut client, "/trace").await;
    let size = page.len() + layout::STYLE.len() + page::SCRIPT.len();
    assert!(page.matches("<li id=").count() > 1 && size < 100_000, "{size} bytes");
}

#[tokio::test]
async fn only_this_machine_sees_it_and_only_if_it_is_switched_on() {
    let site = Site::watched().await;
    for path in ["/trace", "/trace/events"] {
        for (host, peer) in
            [("localhost", None), ("localhost", Some([192, 0, 2, 7])), ("evil.example", Some([127, 0, 0, 1]))]
        {
            let mut request = Request::get(path).header(header::HOST, host);
            if let Some(peer) = peer {
                request = request.extension(ConnectInfo(SocketAddr::from((peer, 4711))));
            }
            let response = site.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
            assert_eq!(response.status(), StatusCode::FORBIDDEN, "{path} {host} {peer:?}");
        }
    }
    assert!(!site.live.is_looked_at(), "who is refused does not look on");
    let off = Site { router: around(Router::new(), None, Access::loopback()), live: site.live };
    let response = off.send(&mut Client::default(), "/trace").await;
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
    let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    assert!(std::str::from_utf8(&body).unwrap().contains("cloakroom serve --trace"));
}
