//! The example of the inspector behind an application's own check, and what the inspector sees of each engine.

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode, header};
use cloakroom::inspector::{Filter, Named, State, Step};
use cloakroom::{Clock, Sessions, Settings, Timestamp};
use tower::ServiceExt;

#[allow(dead_code, unreachable_pub)]
#[path = "../examples/inspector.rs"]
mod example;

/// A browser: it keeps cookies.
struct Browser {
    router: Router,
    jar: Vec<(String, String)>,
}

impl Browser {
    async fn send(&mut self, method: &str, path: &str, form: &str) -> (StatusCode, String) {
        let jar: Vec<String> = self.jar.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let request = Request::builder().method(method).uri(path).header(header::COOKIE, jar.join("; "));
        let request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        let response = self.router.clone().oneshot(request.body(Body::from(form.to_owned())).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        for cookie in parts.headers.get_all(header::SET_COOKIE) {
            let (name, rest) = cookie.to_str().unwrap().split_once('=').unwrap();
            self.jar.retain(|(known, _)| known != name);
            self.jar.push((name.to_owned(), rest.split(';').next().unwrap().to_owned()));
        }
        let body = to_bytes(body, 1 << 20).await.unwrap();
        (parts.status, String::from_utf8(body.to_vec()).unwrap())
    }
}

fn attribute<'a>(page: &'a str, before: &str) -> &'a str {
    page.split(before).nth(1).unwrap_or_else(|| panic!("{before}: {page}")).split('"').next().unwrap()
}

#[tokio::test]
async fn the_staff_signs_a_visitor_out() {
    let settings = Settings::builder().secret_key("of a test").set("SESSION_ENGINE", "cache").build().unwrap();
    let router = example::site(&Sessions::from_settings(settings).await.unwrap());
    let browser = || Browser { router: router.clone(), jar: Vec::new() };
    let (mut ada, mut bob, mut nobody) = (browser(), browser(), browser());
    ada.send("GET", "/login/ada", "").await;
    bob.send("GET", "/login/bob", "").await;
    for path in ["/staff/sessions", "/staff/sessions/stats", "/staff/sessions/user/revoke?user=ada"] {
        assert_eq!(nobody.send("GET", path, "").await.0, StatusCode::FORBIDDEN, "{path}");
        assert_eq!(bob.send("GET", path, "").await.0, StatusCode::FORBIDDEN, "{path}");
    }
    let (status, page) = ada.send("GET", "/staff/sessions?user=bob", "").await;
    assert_eq!((status, page.matches("/staff/sessions/session/").count()), (StatusCode::OK, 1), "{page}");
    let address = format!("/staff/sessions/session/{}/revoke", attribute(&page, "/staff/sessions/session/"));
    let (_, page) = ada.send("GET", &address, "").await;
    let form = format!("token={}", attribute(&page, "name=\"token\" value=\""));
    assert_eq!(bob.send("POST", &address, &form).await.0, StatusCode::FORBIDDEN);
    assert_eq!(bob.send("GET", "/", "").await.1, "You are bob.\n");
    assert_eq!(ada.send("POST", &address, &form).await.0, StatusCode::SEE_OTHER);
    assert_eq!(bob.send("GET", "/", "").await.1, "You are nobody we know.\n");
    assert_eq!(ada.send("GET", "/", "").await.1, "You are ada.\n");
}

/// On every engine of this process: what is stored is found, told as it is, and ended.
#[tokio::test]
async fn each_engine_is_looked_into() {
    const NOW: i64 = 1_900_000_000;
    for engine in ["db", "cached_db", "cache", "file", "signed_cookies"] {
        let directory = tempfile::tempdir().unwrap();
        let database = format!("sqlite:{}", directory.path().join("db.sqlite3").display());
        let settings = || {
            let settings = Settings::builder().secret_key("of a test").set("SESSION_ENGINE", engine);
            settings.set("DATABASE_URL", database.as_str()).file_path(directory.path()).build().unwrap()
        };
        let clock = Clock::manual(Timestamp::from_secs(NOW));
        if engine.contains("db") {
            cloakroom::open_database(&settings(), true, clock.clone()).await.unwrap().migrate().await.unwrap();
        }
        let sessions = Sessions::with_clock(settings(), clock.clone()).await.unwrap();
        let slot = sessions.exchange().open(std::iter::empty());
        slot.load().await.unwrap().extend([("_auth_user_id", "7")]).unwrap();
        slot.load().await.unwrap().set_expiry(100).unwrap();
        sessions.exchange().commit(&slot, 200).await.unwrap();
        let key = slot.key().unwrap();

        let inspector = sessions.inspector();
        let named = Named::parse(key.as_str()).unwrap();
        let found = inspector.find(&named).await.unwrap().unwrap();
        assert_eq!((found.record.state(), found.record.user.as_deref()), (State::Live, Some("7")), "{engine}");
        // A file's time is the file system's, and not the clock's.
        let end = found.record.expiry.unwrap().as_secs();
        assert!(engine == "file" || end == NOW + 100, "{engine}: {end}");
        let saved = found.record.saved.map(Timestamp::as_secs);
        assert_eq!(saved, (engine != "cache").then_some(NOW), "{engine}");
        assert_eq!(found.values.unwrap().get_raw("_session_expiry"), Some("100"));
        if engine == "signed_cookies" {
            assert!(found.payload.is_empty(), "the key would be shown as what is stored");
            assert!(inspector.list(&Filter::default(), None, 9, Step::PAGE).await.is_err());
            assert!(inspector.revoke(&found.record).await.is_err());
            continue;
        }
        let listed = inspector.list(&Filter::default(), None, 9, Step::PAGE).await.unwrap();
        assert_eq!(listed.records.len(), 1, "{engine}");
        assert_eq!(listed.records[0].handle, found.record.handle);

        clock.set(Timestamp::from_secs(NOW + 3_600));
        let stats = inspector.stats(Step::ALL, |_| {}).await.unwrap();
        assert_eq!((stats.total, stats.expired), (1, 1), "{engine}");
        let expired = inspector.find(&named).await.unwrap().unwrap();
        assert_eq!((expired.record.state(), expired.record.user.as_deref()), (State::Expired, Some("7")), "{engine}");
        clock.set(Timestamp::from_secs(NOW + 1));
        assert!(inspector.revoke(&found.record).await.unwrap(), "{engine}");
        let cookie = format!("sessionid={}", key.as_str());
        let slot = sessions.exchange().open(std::iter::once(cookie.as_bytes()));
        assert!(slot.load().await.unwrap().is_empty(), "{engine}: the session came back");
        assert!(inspector.find(&named).await.unwrap().is_none(), "{engine}");
    }
}
