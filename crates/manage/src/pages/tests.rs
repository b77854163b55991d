//! The pages, without a browser and without a network.

use std::sync::Once;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Method, Request, StatusCode, header};
use cloakroom::{Sessions, Settings};
use tower::ServiceExt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::course::{Course, STEPS, Step};
use super::sandbox::Happening;
use super::wishes::Wishes;

const ENGINES: [&str; 5] = ["db", "cached_db", "cache", "file", "signed_cookies"];
const STORED: &str = r#"{"key":"value"}"#;

/// The log as the command sets it up, as far as the pages read it.
pub(crate) fn start_trace() {
    static TRACE: Once = Once::new();
    TRACE.call_once(|| tracing_subscriber::registry().with(crate::trace::layer()).init());
}

fn on(engine: &str) -> Wishes {
    Wishes { engine: engine.into(), ..Wishes::default() }
}

async fn begin(wishes: Wishes) -> Course {
    start_trace();
    Course::begin(wishes).await.unwrap()
}

/// The messages of everything that was traced in a row.
fn messages(course: &Course, number: usize) -> Vec<String> {
    let happenings = &course.row(number).unwrap().happenings;
    happenings.iter().flat_map(|happening| &happening.events).map(|event| event.message.clone()).collect()
}

fn failure(course: &Course, number: usize) -> String {
    let failed = course.row(number).unwrap().happenings.iter().find_map(|happening| happening.failure.clone());
    failed.expect("a step that failed")
}

fn response(happening: &Happening) -> (&str, &str) {
    let exchange = happening.exchange.as_ref().expect("a request");
    (exchange.response.as_str(), exchange.body.as_str())
}

#[tokio::test]
async fn all_steps_succeed_on_every_engine() {
    for engine in ENGINES {
        let mut course = begin(on(engine)).await;
        course.take_all().await;
        for number in 1..=STEPS {
            let row = course.row(number).unwrap();
            assert!(row.succeeded(), "{engine}, step {number}: {:?}", row.happenings);
            let wanted = if (4..=6).contains(&number) { STORED } else { "{}" };
            assert_eq!(row.data, wanted, "{engine}, step {number}");
        }
        assert_eq!((course.next(), course.variables.len()), (None, STEPS + 1));
        // The record is what the data came from, in whatever form it is kept.
        let decoded: Vec<_> = course.row(4).unwrap().shelves.iter().flat_map(|shelf| &shelf.records).collect();
        assert_eq!(decoded.len(), if engine == "cached_db" { 2 } else { 1 }, "{engine}");
        assert!(decoded.iter().all(|record| record.decoded.as_deref() == Ok(STORED)), "{engine}: {decoded:?}");
        let traced = messages(&course, 4);
        assert!(traced.iter().any(|message| message == "change: set"), "{engine}: {traced:?}");
        assert!(traced.iter().any(|message| message.starts_with("save: ")), "{engine}: {traced:?}");
        assert!(traced.iter().any(|message| message == "commit: the cookie is set"), "{engine}: {traced:?}");
        assert!(messages(&course, 5).iter().any(|message| message == "load: hit"), "{engine}");
        // Somebody else finds nothing, and neither does an old cookie.
        for (number, place) in [(6, 2), (7, 2)] {
            let (_, body) = response(&course.row(number).unwrap().happenings[place]);
            assert_eq!(body, "There is no key in your session.\n", "{engine}, step {number}");
        }
    }
}

#[tokio::test]
async fn a_cleared_session_is_gone_unless_the_cookie_is_all_there_is() {
    for engine in ENGINES {
        let mut course = begin(on(engine)).await;
        course.take_all().await;
        course.take(Step::Assign).await;
        course.take(Step::Clear).await;
        let row = course.row(7).unwrap();
        assert_eq!((row.data.as_str(), row.jar.len()), ("{}", 0), "{engine}");
        let (_, body) = response(&row.happenings[1]);
        let copied_cookie_still_works = body == "key is value\n";
        assert_eq!(copied_cookie_still_works, engine == "signed_cookies", "{engine}: {body}");
    }
}

#[tokio::test]
async fn steps_out_of_order_meet_the_real_errors() {
    let mut course = begin(on("db")).await;
    course.take(Step::Assign).await;
    assert!(failure(&course, 4).starts_with("sessions are switched off: INSTALLED_APPS names neither"));
    course.take(Step::SwitchOn).await;
    course.take(Step::Assign).await;
    let said = failure(&course, 4);
    assert!(said.contains("no such table: django_session") && said.contains("run `cloakroom migrate`"), "{said}");
    assert!(response(&course.row(4).unwrap().happenings[0]).0.starts_with("HTTP/1.1 500 "));
    assert_eq!(course.next(), Some(Step::Choose));
    // Without an engine, Django's default is the database.
    course.take(Step::Migrate).await;
    course.take(Step::Assign).await;
    assert_eq!(course.row(4).unwrap().data, STORED);
    assert_eq!(course.next(), Some(Step::Choose));
}

#[tokio::test]
async fn a_missing_directory_keeps_the_site_from_starting() {
    let mut course = begin(Wishes { missing: Some("on".into()), ..on("file") }).await;
    course.take_all().await;
    for number in [2, 4, 5] {
        let said = failure(&course, number);
        assert!(said.contains("SESSION_FILE_PATH") && said.contains("does not exist; create it"), "{said}");
    }
    assert!(course.row(1).unwrap().succeeded());
    assert_eq!(course.next(), Some(Step::Choose));
}

#[tokio::test]
async fn settings_show_in_the_headers() {
    let wishes = Wishes {
        age: "3600".into(),
        name: "ticket".into(),
        path: "/retrieve".into(),
        domain: "sandbox.example".into(),
        http_only: None,
        same_site: "Strict".into(),
        ..on("cache")
    };
    let mut course = begin(wishes).await;
    course.take_all().await;
    let (head, _) = response(&course.row(4).unwrap().happenings[0]);
    let cookie = head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
    assert!(cookie.starts_with("ticket="), "{cookie}");
    assert!(cookie.ends_with("; Max-Age=3600; Path=/retrieve; SameSite=Strict"), "{cookie}");
    assert!(cookie.contains("; Domain=sandbox.example; ") && !cookie.contains("HttpOnly"), "{cookie}");

    let mut course = begin(Wishes { at_close: Some("on".into()), every_request: Some("on".into()), ..on("db") }).await;
    course.take_all().await;
    let read = response(&course.row(5).unwrap().happenings[0]).0.to_owned();
    assert!(read.contains("set-cookie: sessionid=") && !read.contains("Max-Age"), "{read}");
    course.take(Step::Assign).await;
    course.take(Step::Reopen).await;
    let row = course.row(6).unwrap();
    assert_eq!(row.data, "{}", "the cookie outlived its browser");
    assert!(!row.shelves[0].records.is_empty(), "the record is still there: only the browser forgot it");

    let mut course = begin(Wishes { secure: Some("on".into()), ..on("db") }).await;
    course.take_all().await;
    assert!(course.row(4).unwrap().happenings[0].notes[0].contains("refuses sessionid: it is Secure"));
    assert_eq!(course.row(5).unwrap().data, "{}");
}

#[tokio::test]
async fn what_the_settings_refuse_changes_nothing() {
    let mut course = begin(on("cache")).await;
    course.take(Step::SwitchOn).await;
    for (wishes, said) in [
        (Wishes { age: "two weeks".into(), ..on("db") }, "SESSION_COOKIE_AGE = \"two weeks\""),
        (Wishes { name: "a b".into(), ..on("db") }, "SESSION_COOKIE_NAME"),
        (Wishes { path: "/;".into(), ..on("db") }, "SESSION_COOKIE_PATH"),
        (Wishes { same_site: "Loose".into(), ..on("db") }, "Write \"Lax\", \"Strict\" or \"None\""),
        (on("redis"), "there is no such session engine"),
    ] {
        course.begin_again(wishes.clone()).await.unwrap();
        let (typed, why) = course.refused.clone().unwrap();
        assert_eq!((typed, why.contains(said)), (wishes, true), "{why}");
        assert!(course.row(1).is_some(), "it began anew");
    }
    course.begin_again(on("file")).await.unwrap();
    assert!(course.refused.is_none() && course.row(1).is_none());
}

/// The whole site on sessions in memory, and one visitor of it.
struct Site {
    router: Router,
    cookie: Option<String>,
}

impl Site {
    async fn new() -> Self {
        start_trace();
        let settings = Settings::builder().secret_key("of a test").set("SESSION_ENGINE", "cache").build().unwrap();
        let sessions = Sessions::from_settings(settings).await.unwrap();
        Self { router: crate::site::router(&sessions), cookie: None }
    }

    async fn send(&mut self, method: Method, path: &str, form: &str) -> (StatusCode, String, String) {
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, "site");
        request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        if let Some(cookie) = &self.cookie {
            request = request.header(header::COOKIE, cookie);
        }
        let request = request.body(Body::from(form.to_owned())).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        if let Some(cookie) = response.headers().get(header::SET_COOKIE) {
            self.cookie = cookie.to_str().unwrap().split(';').next().map(str::to_owned);
        }
        let (parts, body) = response.into_parts();
        let to = parts.headers.get(header::LOCATION).map_or("", |to| to.to_str().unwrap()).to_owned();
        let body = to_bytes(body, 10 << 20).await.unwrap();
        (parts.status, to, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn get(&mut self, path: &str) -> String {
        let (status, _, body) = self.send(Method::GET, path, "").await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    async fn post(&mut self, path: &str, form: &str) -> String {
        let (status, to, body) = self.send(Method::POST, path, form).await;
        assert_eq!(status, StatusCode::SEE_OTHER, "{path}: {body}");
        self.get(to.split('#').next().unwrap()).await
    }
}

const FORM: &str = "age=1209600&name=sessionid&path=/&domain=&http_only=on&same_site=Lax";

#[tokio::test]
async fn nothing_typed_becomes_markup() {
    let mut site = Site::new().await;
    let script = "%3Cscript%3Ealert(1)%3C/script%3E%22%27%3E%3Cimg%20src=x%3E";
    for engine in ENGINES {
        let form = format!("{FORM}&engine={engine}&key={script}&value={script}");
        let page = site.post("/steps/settings/run", &form).await;
        for number in 1..=STEPS {
            let page = site.get(&format!("/?step={number}")).await;
            assert!(!page.contains("<script") && !page.contains("<img"), "{engine}, step {number}");
        }
        assert!(page.contains("&lt;script&gt;"), "{engine}: {page}");
    }
    let page = site.post("/steps/settings", &format!("{FORM}&engine={script}&key={script}&value=")).await;
    assert!(page.contains("there is no such session engine") && !page.contains("<script"), "{page}");
}

#[tokio::test]
async fn pages_stay_light() {
    let mut site = Site::new().await;
    assert!(site.cookie.is_none() && site.get("/").await.len() < 100_000);
    assert!(site.cookie.is_none(), "who only looks is not remembered");
    let long = "x".repeat(3_000);
    for engine in ENGINES {
        let form = format!("{FORM}&every_request=on&engine={engine}&key={long}&value={long}{long}");
        for path in ["/steps/settings/run", "/steps/take/assign", "/steps/take/persist", "/steps/all"] {
            let size = site.post(path, &form).await.len() + super::layout::STYLE.len();
            assert!(size < 100_000, "{engine}, {path}: {size} bytes");
        }
    }
}

#[tokio::test]
async fn forms_of_other_sites_are_refused() {
    let mut site = Site::new().await;
    site.post("/steps/next", "").await;
    let request = |name, value| {
        let request = Request::post("/steps/next").header(header::HOST, "site").header(name, value);
        request.header(header::COOKIE, site.cookie.clone().unwrap()).body(Body::empty()).unwrap()
    };
    for request in [request("origin", "http://evil.example"), request("sec-fetch-site", "cross-site")] {
        let response = site.router.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
    }
    assert!(site.get("/").await.contains("Next step: 2"), "the forged forms counted");
}

/// Whatever is typed, the steps come to an end and show something.
#[tokio::test]
async fn nothing_typed_stops_the_steps() {
    let mut site = Site::new().await;
    let long = "v".repeat(5_000);
    for engine in ENGINES {
        for rest in [
            "age=0&key=key&value=value",
            "age=-1&key=key&value=value",
            "age=9223372036854775807&key=key&value=value",
            "age=60&key=_session_expiry&value=soon",
            "age=60&key=&value=",
            "age=60&key=%F0%9F%A7%A5%26%3D%23%2B%20%00&value=%0D%0A%5C%22",
            &format!("age=60&key=long&value={long}"),
        ] {
            let form = format!("name=sessionid&path=&domain=&same_site=False&engine={engine}&{rest}");
            site.post("/steps/settings/run", &form).await;
            for step in ["reopen", "clear"] {
                site.post(&format!("/steps/take/{step}"), "").await;
            }
            let page = site.get("/?step=7").await;
            assert!(page.contains("What happened in step 7") && !page.contains("Nothing yet."), "{form}");
        }
    }
}

#[tokio::test]
async fn visitors_have_sandboxes_of_their_own() {
    let mut site = Site::new().await;
    let mut other = Site { router: site.router.clone(), cookie: None };
    site.post("/steps/settings/run", &format!("{FORM}&engine=db&key=color&value=blue")).await;
    other.post("/steps/next", "").await;
    assert!(site.get("/?step=5").await.contains("color is blue"));
    let page = other.get("/?step=5").await;
    assert!(page.contains("Next step: 2") && !page.contains("color is blue"));
}
