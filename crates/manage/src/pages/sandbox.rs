//! A site of a visitor's own, with a browser to visit it: everything that the pages show happens in here, for real.
//!
//! A sandbox has a temporary directory for its database and its files, a cache in its own memory, a clock that can be
//! moved, and the session layer around a small site, which is called without a network.

use std::path::PathBuf;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Method, Request, header};
use cloakroom::core::KeySource;
use cloakroom::{Clock, Sessions, Settings, Timestamp};
use tempfile::TempDir;
use tower::ServiceExt;
use tracing::{Instrument, info_span};

use super::browser::{Browser, HOST};
use super::records::{Shelf, shelves};
use crate::commands::migrate::{describe, nothing_to_migrate};
use crate::lesson;
use crate::trace::{self, Event};

/// Something that was done to a sandbox, and all that came of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Happening {
    /// Who did what.
    pub(crate) what: String,
    /// The settings file that it was done with, where that is shown.
    pub(crate) file: Option<String>,
    pub(crate) exchange: Option<Exchange>,
    /// The library's trace of it.
    pub(crate) events: Vec<Event>,
    /// What else there is to tell, above all of the browser.
    pub(crate) notes: Vec<String>,
    /// Why it failed, if it did.
    pub(crate) failure: Option<String>,
}

/// A request and its response.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    /// The request's line and headers.
    pub(crate) request: String,
    /// The response's status and headers.
    pub(crate) response: String,
    pub(crate) body: String,
}

/// Who makes a request.
#[derive(Clone, Debug)]
pub(crate) enum Who {
    /// The visitor's browser.
    Visitor,
    /// The browser of somebody else.
    Somebody,
    /// Whoever has a copy of the visitor's `Cookie` header.
    Copy(Option<String>),
}

pub(crate) struct Sandbox {
    directory: TempDir,
    secret: String,
    clock: Clock,
    /// How far the sandbox's clock is ahead of ours.
    ahead: Duration,
    toml: String,
    /// The site as it runs, or why it does not.
    site: Result<Site, String>,
    visitor: Browser,
    somebody: Browser,
}

struct Site {
    sessions: Sessions,
    router: Router,
}

/// The longest body that is read: what the sandbox's own site answers is short.
const MAX_BODY: usize = 64 * 1024;

impl Sandbox {
    /// An empty sandbox, whose site is yet to be started.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("cloakroom-sandbox-").tempdir()?;
        std::fs::create_dir(directory.path().join("sessions"))?;
        let keys = KeySource::system();
        let secret = format!("{}{}", keys.draw()?.as_str(), keys.draw()?.as_str());
        Ok(Self {
            directory,
            secret,
            clock: Clock::manual(Clock::system().now()),
            ahead: Duration::ZERO,
            toml: String::new(),
            site: Err("it was not started".to_owned()),
            visitor: Browser::default(),
            somebody: Browser::default(),
        })
    }

    /// The settings that this text and the sandbox give; the sandbox says where files and the database are.
    pub(crate) fn settings_of(&self, toml: &str) -> Result<Settings, cloakroom::core::SettingsError> {
        const HOW: &str = "the sandbox";
        let escaped = self.database().display().to_string().replace('%', "%25").replace('?', "%3F").replace('&', "%26");
        let database = format!("sqlite://{escaped}?mode=rwc&synchronous=off&pool=1");
        let files = self.directory.path().join("sessions").display().to_string();
        let provided = [("SECRET_KEY", self.secret.clone()), ("DATABASE_URL", database), ("SESSION_FILE_PATH", files)];
        let builder = Settings::builder().toml(toml);
        provided.into_iter().fold(builder, |builder, (name, value)| builder.provide(name, value, HOW)).build()
    }

    /// The settings in effect.
    pub(crate) fn settings(&self) -> Result<Settings, cloakroom::core::SettingsError> {
        self.settings_of(&self.toml)
    }

    fn database(&self) -> PathBuf {
        self.directory.path().join("db.sqlite3")
    }

    /// A directory in the sandbox that nobody has made.
    pub(crate) fn missing_directory(&self) -> PathBuf {
        self.directory.path().join("nowhere")
    }

    #[cfg(test)]
    pub(crate) fn directory(&self) -> &std::path::Path {
        self.directory.path()
    }

    /// The settings file as it stands.
    pub(crate) fn toml(&self) -> &str {
        &self.toml
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Lets the sandbox's time catch up with ours.
    fn tick(&self) {
        let ahead = i64::try_from(self.ahead.as_micros()).unwrap_or(i64::MAX);
        let now = Clock::system().now().checked_add_micros(ahead).unwrap_or(Timestamp::MAX);
        self.clock.set(now.max(self.clock.now()));
    }

    /// Moves the sandbox's clock.
    pub(crate) fn advance(&mut self, by: Duration) -> Happening {
        self.ahead = self.ahead.saturating_add(by);
        self.tick();
        let now = cloakroom::core::wire::cookie::http_date(self.now());
        Happening { what: format!("{} go by: it is {now} in the sandbox", duration(by)), ..Happening::default() }
    }

    /// Stops the site, writes its settings file, and starts it again. The cache in its process ends with it.
    pub(crate) async fn restart(&mut self, toml: String) -> Happening {
        self.tick();
        self.site = Err("it is being started".to_owned());
        self.toml = toml;
        let start = async {
            let settings = self.settings()?;
            let notes = vec![match lesson::are_on(&settings) {
                true => "Settings::sessions_enabled() is true.".to_owned(),
                false => "Settings::sessions_enabled() is false.".to_owned(),
            }];
            let sessions = lesson::start(settings, self.clock.clone()).await?;
            anyhow::Ok((Site { router: lesson::site(&sessions), sessions }, notes))
        };
        let (started, events) = self.record(start).await;
        let mut happening =
            Happening { what: "The site starts with settings.toml".into(), events, ..Default::default() };
        match started {
            Ok((site, notes)) => {
                happening.notes = notes;
                self.site = Ok(site);
            }
            Err(why) => {
                happening.failure = Some(why.to_string());
                self.site = Err(why.to_string());
            }
        }
        happening
    }

    /// Runs `cloakroom migrate`.
    pub(crate) async fn migrate(&mut self) -> Happening {
        self.tick();
        let work = async {
            let settings = self.settings()?;
            match settings.engine() {
                engine if !engine.uses_database() => Ok(nothing_to_migrate(engine)),
                _ => anyhow::Ok(describe(lesson::migrate(&settings, self.clock.clone()).await?).1.to_owned()),
            }
        };
        let (outcome, events) = self.record(work).await;
        let mut happening = Happening { what: "cloakroom migrate".into(), events, ..Default::default() };
        match outcome {
            Ok(said) => happening.notes.push(said),
            Err(why) => happening.failure = Some(why.to_string()),
        }
        happening
    }

    /// Makes a request, through the real session layer.
    pub(crate) async fn visit(&mut self, who: Who, method: Method, path: &str) -> Happening {
        self.tick();
        let now = self.now();
        let (name, (cookies, mut notes)) = match &who {
            Who::Visitor => ("The visitor's browser", self.visitor.cookies_for(path, now)),
            Who::Somebody => ("Somebody else's browser", self.somebody.cookies_for(path, now)),
            Who::Copy(header) => ("A copy of the visitor's old cookie", (header.clone(), Vec::new())),
        };
        let what = format!("{name}: {method} {path}");
        let site = match &self.site {
            Ok(site) => site,
            Err(why) => {
                let failure = Some(format!("The site does not run: {why}"));
                return Happening { what, failure, ..Happening::default() };
            }
        };
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, HOST);
        if let Some(cookies) = &cookies {
            request = request.header(header::COOKIE, cookies);
        }
        let request = match request.body(Body::empty()) {
            Ok(request) => request,
            Err(error) => return Happening { what, failure: Some(error.to_string()), ..Happening::default() },
        };
        let line = format!("{} {path} HTTP/1.1", request.method());
        let asked = head(line, request.headers());
        let answer = site.router.clone().oneshot(request);
        let (response, events) = self.record(answer).await;
        let (parts, body) = response.unwrap_or_else(|never| match never {}).into_parts();
        let body = to_bytes(body, MAX_BODY).await.unwrap_or_default();
        for cookie in parts.headers.get_all(header::SET_COOKIE) {
            let cookie = String::from_utf8_lossy(cookie.as_bytes());
            match &who {
                Who::Visitor => notes.push(self.visitor.receive(&cookie, path, now)),
                Who::Somebody => notes.push(self.somebody.receive(&cookie, path, now)),
                Who::Copy(_) => {}
            }
        }
        let failure =
            (parts.status.as_u16() >= 400).then(|| cause(&events).unwrap_or_else(|| parts.status.to_string()));
        let exchange = Exchange {
            request: asked,
            response: head(format!("HTTP/1.1 {}", parts.status), &parts.headers),
            body: String::from_utf8_lossy(&body).into_owned(),
        };
        Happening { what, file: None, exchange: Some(exchange), events, notes, failure }
    }

    /// Closes the visitor's browser and opens it again.
    pub(crate) fn reopen_browser(&mut self) -> Happening {
        let notes = self.visitor.reopen();
        Happening { what: "The visitor closes the browser and opens it again".into(), notes, ..Happening::default() }
    }

    /// The visitor's cookies, as the browser holds them.
    pub(crate) fn jar(&self) -> Vec<String> {
        self.visitor.held().collect()
    }

    /// The visitor's session cookie, as a `Cookie` header: what a thief would copy.
    pub(crate) fn copied_cookie(&self) -> Option<String> {
        let name = self.settings().ok()?.cookie_name().to_owned();
        self.visitor.cookie(&name).map(|value| format!("{name}={value}"))
    }

    /// The session's data as the visitor's next request would find it.
    pub(crate) async fn data(&self) -> String {
        self.tick();
        let cookie = self.copied_cookie();
        let Some(site) = self.site.as_ref().ok().filter(|_| cookie.is_some()) else { return "{}".to_owned() };
        let slot = site.sessions.exchange().open(cookie.iter().map(|cookie| cookie.as_bytes()));
        let loaded = slot.load().instrument(info_span!("sandbox")).await;
        loaded.map_or_else(|error| error.to_string(), |session| session.to_json())
    }

    /// What is stored, read past the engine.
    pub(crate) async fn shelves(&self) -> Vec<Shelf> {
        let Ok(settings) = self.settings() else { return Vec::new() };
        if !settings.sessions_enabled() {
            return Vec::new();
        }
        let cookie = self.visitor.cookie(settings.cookie_name());
        let sessions = self.site.as_ref().ok().map(|site| &site.sessions);
        shelves(&settings, sessions, &self.database(), cookie).await
    }

    /// Does something in the name of this sandbox, so that the log tells it from the site around it.
    async fn record<T>(&self, work: impl Future<Output = T>) -> (T, Vec<Event>) {
        trace::record(work.instrument(info_span!("sandbox"))).await
    }
}

/// What the log says of the cause of a failure.
fn cause(events: &[Event]) -> Option<String> {
    let failure = events.iter().rfind(|event| event.is_failure())?;
    let named = |wanted: &str| failure.fields.iter().find(|(name, _)| *name == wanted);
    Some(named("error").map_or_else(|| failure.message.clone(), |(_, error)| error.clone()))
}

/// The first line and the headers of a message, as they would go over the wire.
fn head(line: String, headers: &HeaderMap) -> String {
    let headers =
        headers.iter().map(|(name, value)| format!("\n{name}: {}", String::from_utf8_lossy(value.as_bytes())));
    std::iter::once(line).chain(headers).collect()
}

/// A duration in the largest unit that fits it.
fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    let (count, unit) = match seconds {
        0..120 => (seconds, "second"),
        120..7_200 => (seconds / 60, "minute"),
        7_200..172_800 => (seconds / 3_600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}
