//! A site whose clock is set forth and back by an hour, on every engine: what counts is where it stands.

use std::time::SystemTime;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, header};
use axum::routing::get;
use cloakroom::{Clock, Error, Session, Sessions, Settings, Timestamp};
use cloakroom_test_servers::{Kind, shared};
use http_body_util::BodyExt;
use tower::ServiceExt;

/// Who tells whether a session's time is over.
#[derive(Clone, Copy, PartialEq)]
enum Time {
    /// The site's clock.
    Site,
    /// The cache's server, which was told how long when the session was saved.
    Server,
}

struct Site {
    router: Router,
    clock: Clock,
    begin: Timestamp,
    _directory: tempfile::TempDir,
}

/// A visitor's cookie.
#[derive(Clone, Default)]
struct Visitor(String);

impl Site {
    async fn new(settings: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let toml = format!("SECRET_KEY = 'of clocks'\n{settings}").replace("DIR", directory.path().to_str().unwrap());
        let settings = Settings::builder().toml(&toml).build().unwrap();
        if settings.engine().uses_database() {
            cloakroom::open_database(&settings, true, Clock::system()).await.unwrap().migrate().await.unwrap();
        }
        // The servers' clocks are not ours to set, so this one begins with them.
        let begin = Timestamp::from(SystemTime::now());
        let clock = Clock::manual(begin);
        let sessions = Sessions::with_clock(settings, clock.clone()).await.unwrap();
        let count = async |session: Session| {
            let n: u32 = session.update("n", |n: Option<u32>| n.unwrap_or(0) + 1)?;
            Ok::<_, Error>(n.to_string())
        };
        let short = async |session: Session| {
            session.set_expiry(1800)?;
            session.insert("n", &1)?;
            Ok::<_, Error>("1")
        };
        let n = async |session: Session| Ok::<_, Error>(session.get::<u32>("n")?.unwrap_or(0).to_string());
        let router = Router::new()
            .route("/count", get(count))
            .route("/short", get(short))
            .route("/n", get(n))
            .route("/end", get(async |session: Session| session.flush()))
            .layer(sessions.layer());
        Self { router, clock, begin, _directory: directory }
    }

    /// Sets the clock to so many minutes after the beginning.
    fn set_clock(&self, minutes: i64) {
        self.clock.set(self.begin.checked_add_micros(minutes * 60_000_000).unwrap());
    }

    async fn get(&self, visitor: &mut Visitor, path: &str) -> String {
        let request = Request::get(path).header(header::COOKIE, &visitor.0).body(Body::empty()).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        if let Some(cookie) = response.headers().get(header::SET_COOKIE) {
            visitor.0 = cookie.to_str().unwrap().split(';').next().unwrap().to_owned();
        }
        String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    /// What a session's counter says to a request that changes nothing.
    async fn n(&self, visitor: &Visitor) -> String {
        self.get(&mut visitor.clone(), "/n").await
    }
}

async fn jump(settings: &str, time: Time, revocable: bool) {
    let site = Site::new(settings).await;
    let [mut long, mut short, mut ended, mut late, mut early] = [const { Visitor(String::new()) }; 5];
    site.get(&mut long, "/count").await;
    site.get(&mut short, "/short").await;
    site.get(&mut ended, "/count").await;
    let copy = ended.clone();
    site.get(&mut ended, "/end").await;
    let stays_ended = async |minutes: i64| {
        if revocable {
            assert_eq!(site.n(&copy).await, "0", "{settings}: minute {minutes}: a session that was ended");
        }
    };

    site.set_clock(60);
    assert_eq!(site.get(&mut long, "/count").await, "2", "{settings}: an hour forth");
    let over = if time == Time::Site { "0" } else { "1" };
    assert_eq!(site.n(&short).await, over, "{settings}: half an hour after its end by the site's clock");
    site.get(&mut late, "/count").await;
    stays_ended(60).await;

    site.set_clock(-60);
    assert_eq!(site.get(&mut long, "/count").await, "3", "{settings}: an hour back");
    assert_eq!(site.n(&late).await, "1", "{settings}: saved two hours from now");
    site.get(&mut early, "/count").await;
    stays_ended(-60).await;

    site.set_clock(0);
    for visitor in [&mut long, &mut late, &mut early] {
        let before: u32 = site.n(visitor).await.parse().unwrap();
        assert_eq!(site.get(visitor, "/count").await, (before + 1).to_string(), "{settings}: where it was");
    }
    stays_ended(0).await;

    // All were saved at minute 0, and end two weeks after it.
    let weeks = 1_209_600 / 60;
    // What the cache in the process is asked for after its end, it removes; elsewhere it is there again with its time.
    let there_again = !settings.contains("locmem");
    for (minutes, there) in [(weeks - 1, true), (weeks + 1, time == Time::Server), (weeks - 1, there_again)] {
        site.set_clock(minutes);
        for visitor in [&long, &late, &early] {
            assert_eq!(site.n(visitor).await != "0", there, "{settings}: minute {minutes}");
        }
        stays_ended(minutes).await;
    }
}

#[tokio::test]
async fn sqlite() {
    jump("SESSION_ENGINE = 'db'\nDATABASE_URL = 'sqlite://DIR/s.sqlite3?mode=rwc'", Time::Site, true).await;
}

#[tokio::test]
async fn postgres_and_mariadb() {
    for kind in [Kind::Postgres, Kind::MariaDb] {
        let Some(server) = shared(kind) else { continue };
        let settings = format!("SESSION_ENGINE = 'db'\nDATABASE_URL = '{}'", server.database());
        jump(&settings, Time::Site, true).await;
    }
}

#[tokio::test]
async fn file() {
    jump("SESSION_ENGINE = 'file'\nSESSION_FILE_PATH = 'DIR'", Time::Site, true).await;
}

#[tokio::test]
async fn signed_cookies() {
    jump("SESSION_ENGINE = 'signed_cookies'", Time::Site, false).await;
}

#[tokio::test]
async fn in_process() {
    jump("SESSION_ENGINE = 'cache'\n[CACHES.default]\nBACKEND = 'locmem'", Time::Site, true).await;
}

#[tokio::test]
async fn cached_db() {
    let settings = "SESSION_ENGINE = 'cached_db'\nDATABASE_URL = 'sqlite://DIR/s.sqlite3?mode=rwc'";
    jump(settings, Time::Site, true).await;
}

#[tokio::test]
async fn redis_and_memcached_count_by_themselves() {
    if let Some(server) = shared(Kind::Redis) {
        let settings = format!(
            "SESSION_ENGINE = 'cache'\n[CACHES.default]\nBACKEND = 'redis'\nLOCATION = '{}'",
            server.database()
        );
        jump(&settings, Time::Server, true).await;
    }
    if let Some(server) = shared(Kind::Memcached) {
        let settings = format!(
            "SESSION_ENGINE = 'cache'\n[CACHES.default]\nBACKEND = 'pymemcache'\nLOCATION = '{}'\nKEY_PREFIX = 'clocks'",
            server.address()
        );
        jump(&settings, Time::Server, true).await;
    }
}
