//! `cloakroom list`, `show`, `revoke` and `stats`, as an operator runs them, on what sites have stored: in SQLite, in
//! files, and on real servers.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::Request;
use cloakroom::core::settings::SettingsBuilder;
use cloakroom::core::store::{Replaced, Version};
use cloakroom::django::{Auth, User};
use cloakroom::inspector::{Access, Pages};
use cloakroom::{Clock, Session, SessionKey, Sessions, Settings, Timestamp};
use cloakroom_test_servers::{Kind, shared};
use serde_json::Value;
use tempfile::TempDir;
use tower::ServiceExt;

/// A site's settings, for the site and for the command.
struct Site {
    settings: Vec<(&'static str, String)>,
    sessions: Sessions,
    clock: Clock,
    _directory: TempDir,
}

impl Site {
    async fn new(engine: &'static str, place: impl Fn(&TempDir) -> Vec<(&'static str, String)>) -> Self {
        let directory = TempDir::with_prefix("cloakroom-commands-").unwrap();
        let mut settings = place(&directory);
        settings.push(("SESSION_ENGINE", engine.to_owned()));
        settings.push(("SECRET_KEY", "of a test".to_owned()));
        let clock = Clock::manual(Timestamp::from(std::time::SystemTime::now()));
        let build = || {
            let builder = Settings::builder().toml(&settings.iter().map(line).collect::<String>());
            SettingsBuilder::build(builder).unwrap()
        };
        if build().engine().uses_database() {
            cloakroom::open_database(&build(), true, Clock::system()).await.unwrap().migrate().await.unwrap();
        }
        let sessions = Sessions::with_clock(build(), clock.clone()).await.unwrap();
        Self { settings, sessions, clock, _directory: directory }
    }

    async fn sqlite() -> Self {
        Self::new("db", |directory| {
            vec![("DATABASE_URL", format!("sqlite:{}", directory.path().join("db.sqlite3").display()))]
        })
        .await
    }

    /// A session of a user, with an item beside the login.
    async fn log_in(&self, user: u32, item: &str) -> SessionKey {
        let slot = self.sessions.exchange().open(std::iter::empty());
        let session = Session::from(slot.load().await.unwrap());
        Auth::new(self.sessions.settings()).log_in(&session, &User::new(user, "field")).unwrap();
        session.insert("item", item).unwrap();
        self.sessions.exchange().commit(&slot, 200).await.unwrap();
        slot.key().unwrap()
    }

    async fn is_live(&self, key: &SessionKey) -> bool {
        let cookie = format!("sessionid={}", key.as_str());
        let slot = self.sessions.exchange().open(std::iter::once(cookie.as_bytes()));
        !slot.load().await.unwrap().is_empty()
    }

    /// Puts something into the place of a session that is none.
    async fn corrupt(&self, key: &SessionKey, payload: &'static [u8]) {
        let store = self.sessions.store().unwrap();
        let standing = store.load(key).await.unwrap().unwrap();
        let end = self.clock.now().checked_add_micros(3_600_000_000).unwrap();
        let version: &Version = &standing.version;
        let replaced = store.replace(key, version, payload.into(), end).await.unwrap();
        assert!(matches!(replaced, Replaced::Replaced(_)));
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.run_with(arguments, "")
    }

    fn run_with(&self, arguments: &[&str], input: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cloakroom"));
        for (name, _) in std::env::vars_os() {
            const OURS: &[&str] = &["SESSION_", "SECRET_KEY", "DATABASE", "CACHE", "CLOAKROOM_", "INSTALLED_APPS"];
            if name.to_str().is_some_and(|name| OURS.iter().any(|prefix| name.starts_with(prefix))) {
                command.env_remove(name);
            }
        }
        command.args(arguments).envs(self.settings.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    /// What a command prints, which has to succeed.
    fn told(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let told = self.told(&[arguments, &["--json"]].concat());
        serde_json::from_str(&told).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {told}"))
    }

    /// Why a command fails.
    fn fails(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(!output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stdout));
        String::from_utf8(output.stderr).unwrap()
    }
}

fn line((name, value): &(&'static str, String)) -> String {
    format!("{name} = {value:?}\n")
}

fn field(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_else(|| panic!("{name}: {value}")).to_owned()
}

/// What holds on every engine that can list.
async fn sessions_are_looked_into(site: Site, engine: &str, corrupt: &'static [u8]) {
    let mut keys = Vec::new();
    for user in [7, 7, 8] {
        keys.push(site.log_in(user, "\u{1b}[31m").await);
    }
    let broken = site.log_in(9, "x").await;
    site.corrupt(&broken, corrupt).await;

    let listing = site.json(&["list"]);
    let sessions = listing["sessions"].as_array().unwrap();
    assert_eq!((sessions.len(), listing["next"].is_null()), (4, true), "{engine}: {listing}");
    for session in sessions {
        let known = keys.iter().chain([&broken]).find(|key| key.masked() == field(session, "key")).unwrap();
        assert!(!listing.to_string().contains(&known.as_str()[..5]), "{engine}: {listing}");
        let expiry = field(session, "expiry");
        assert!(expiry.starts_with("20") && expiry.ends_with("+00:00"), "{engine}: {expiry}");
    }
    let of_user = |user: &str| site.json(&["list", "--user", user])["sessions"].as_array().unwrap().clone();
    assert_eq!((of_user("7").len(), of_user("8").len(), of_user("99").len()), (2, 1, 0), "{engine}");
    let corrupted = site.json(&["list", "--corrupted"]);
    assert_eq!(corrupted["sessions"].as_array().unwrap().len(), 1, "{engine}");
    assert!(!field(&corrupted["sessions"][0], "problem").is_empty());
    assert_eq!(site.json(&["list", "--live"])["sessions"].as_array().unwrap().len(), 3, "{engine}");
    let page = site.json(&["list", "--limit", "3"]);
    let rest = site.json(&["list", "--after", &field(&page, "next")]);
    assert_eq!((page["sessions"].as_array().unwrap().len(), rest["sessions"].as_array().unwrap().len()), (3, 1));
    let table = site.told(&["list"]);
    assert!(table.contains(&field(&sessions[0], "handle")) && table.contains("corrupted"), "{table}");

    let handle = field(&of_user("8")[0], "handle");
    for name in [handle.as_str(), keys[2].as_str()] {
        let shown = site.json(&["show", name]);
        assert_eq!(
            (field(&shown, "user"), field(&shown["data"], "item")),
            ("8".into(), "\u{1b}[31m".into()),
            "{engine}"
        );
    }
    let shown = String::from_utf8(site.run_with(&["show", "-"], keys[2].as_str()).stdout).unwrap();
    assert!(shown.contains(r#"item: "\u001b[31m""#) && shown.contains("User:      8"), "{engine}: {shown}");
    assert!(!shown.contains(&keys[2].as_str()[..5]) && !shown.contains('\u{1b}'), "{engine}: {shown}");
    assert!(site.told(&["show", broken.as_str()]).contains("Problem: "), "{engine}");

    let stats = site.json(&["stats"]);
    for (name, count) in [("sessions", 4), ("live", 3), ("with_user", 3), ("corrupted", 1), ("expired", 0)] {
        assert_eq!(stats[name], count, "{engine}: {name} in {stats}");
    }
    assert_eq!(
        (&stats["complete"], &stats["ends"]["within 2 weeks"]),
        (&Value::Bool(true), &Value::from(3)),
        "{stats}"
    );
    assert!(site.told(&["stats"]).contains("end within 2 weeks"), "{engine}");
    assert_eq!(site.json(&["stats", "--limit", "2"])["complete"], false);

    // Nobody can be asked here.
    assert!(site.fails(&["revoke", &handle]).contains("--yes"), "{engine}");
    assert!(site.is_live(&keys[2]).await);
    assert_eq!(site.json(&["revoke", &handle, "--yes"])["revoked"], 1, "{engine}");
    assert!(!site.is_live(&keys[2]).await, "{engine}: a revoked session came back");
    assert!(site.fails(&["revoke", &handle, "--yes"]).contains("there is no such session"), "{engine}");
    assert!(site.fails(&["show", keys[2].as_str()]).contains("there is no such session"), "{engine}");
    assert!(site.told(&["revoke", "--user", "7", "--yes"]).contains("2 sessions revoked"), "{engine}");
    assert!(!site.is_live(&keys[0]).await && !site.is_live(&keys[1]).await, "{engine}");
    assert_eq!(site.json(&["revoke", "--user", "7", "--yes"])["revoked"], 0, "{engine}");
    assert_eq!(site.json(&["revoke", broken.as_str(), "--yes"])["revoked"], 1, "{engine}");
    assert_eq!(site.told(&["list"]), "There is no such session.\n", "{engine}");
}

const UNSIGNED: &[u8] = b"{\"_auth_user_id\":\"7\"}";

#[tokio::test]
async fn in_sqlite() {
    sessions_are_looked_into(Site::sqlite().await, "SQLite", UNSIGNED).await;
}

#[tokio::test]
async fn in_files() {
    let files = |directory: &TempDir| vec![("SESSION_FILE_PATH", directory.path().display().to_string())];
    sessions_are_looked_into(Site::new("file", files).await, "file", UNSIGNED).await;
}

#[tokio::test]
async fn in_postgres() {
    let Some(server) = shared(Kind::Postgres) else { return };
    let url = server.database();
    sessions_are_looked_into(Site::new("db", |_| vec![("DATABASE_URL", url.clone())]).await, "PostgreSQL", UNSIGNED)
        .await;
}

#[tokio::test]
async fn in_mariadb() {
    let Some(server) = shared(Kind::MariaDb) else { return };
    let url = server.database();
    sessions_are_looked_into(Site::new("db", |_| vec![("DATABASE_URL", url.clone())]).await, "MariaDB", UNSIGNED).await;
}

#[tokio::test]
async fn in_redis() {
    let Some(server) = shared(Kind::Redis) else { return };
    let url = server.database();
    sessions_are_looked_into(Site::new("cache", |_| vec![("CACHE_URL", url.clone())]).await, "Redis", b"no pickle")
        .await;
}

#[tokio::test]
async fn behind_a_cache_both_are_rid_of_a_session() {
    let Some(server) = shared(Kind::Redis) else { return };
    let url = server.database();
    let site = Site::new("cached_db", |directory| {
        let database = format!("sqlite:{}", directory.path().join("db.sqlite3").display());
        vec![("DATABASE_URL", database), ("CACHE_URL", url.clone())]
    });
    let site = site.await;
    let key = site.log_in(7, "x").await;
    // It is read, so the cache has it too.
    assert!(site.is_live(&key).await);
    assert_eq!(site.json(&["list", "--user", "7"])["sessions"].as_array().unwrap().len(), 1);
    assert_eq!(site.json(&["revoke", "--user", "7", "--yes"])["revoked"], 1);
    assert!(!site.is_live(&key).await, "the cache still has it");
}

#[tokio::test]
async fn memcached_cannot_list_but_a_key_is_enough() {
    let Some(server) = shared(Kind::Memcached) else { return };
    let prefix = cloakroom::core::KeySource::system().draw().unwrap();
    let site = Site::new("cache", |_| vec![("CACHE_URL", format!("{}?key_prefix={}", server.url(), prefix.as_str()))]);
    let site = site.await;
    let key = site.log_in(7, "x").await;
    for command in [&["list"][..], &["stats"], &["revoke", "--user", "7", "--yes"], &["show", "abcd-0123456789abcdef"]]
    {
        assert!(site.fails(command).contains("Memcached cannot list what it keeps"), "{command:?}");
    }
    let shown = site.json(&["show", key.as_str()]);
    assert_eq!((field(&shown, "user"), field(&shown, "state")), ("7".into(), "live".into()), "{shown}");
    assert_eq!(site.json(&["revoke", key.as_str(), "--yes"])["revoked"], 1);
    assert!(!site.is_live(&key).await);
}

#[tokio::test]
async fn the_pages_find_by_its_key_what_memcached_cannot_list() {
    let Some(server) = shared(Kind::Memcached) else { return };
    let prefix = cloakroom::core::KeySource::system().draw().unwrap();
    let site = Site::new("cache", |_| vec![("CACHE_URL", format!("{}?key_prefix={}", server.url(), prefix.as_str()))]);
    let site = site.await;
    let key = site.log_in(7, "x").await;
    let pages: Router = Pages::new(site.sessions.inspector(), Access::behind_own_check()).into_router();
    let mut cookie = String::new();
    let mut send = async |method: &str, path: &str, form: String| {
        let request = Request::builder().method(method).uri(path).header("cookie", &cookie);
        let request =
            request.header("content-type", "application/x-www-form-urlencoded").body(Body::from(form)).unwrap();
        let response = pages.clone().oneshot(request).await.unwrap();
        if let Some(set) = response.headers().get("set-cookie") {
            cookie = set.to_str().unwrap().split(';').next().unwrap().to_owned();
        }
        assert_eq!(response.status(), 200);
        String::from_utf8(to_bytes(response.into_body(), 1 << 20).await.unwrap().to_vec()).unwrap()
    };
    for path in ["/stats", "/"] {
        assert!(send("GET", path, String::new()).await.contains("Memcached cannot list what it keeps"), "{path}");
    }
    let page = send("GET", "/", String::new()).await;
    let token = page.split("name=\"token\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let form = || format!("key={}&token={token}", key.as_str());
    let page = send("POST", "/find", form()).await;
    assert!(page.contains("_auth_user_id") && !page.contains(&key.as_str()[..5]), "{page}");
    assert!(site.is_live(&key).await);
    assert!(send("POST", "/find/revoke", form()).await.contains("The session is over"));
    assert!(!site.is_live(&key).await);
}

#[tokio::test]
async fn cookies_are_not_on_the_server_but_one_can_be_read() {
    let site = Site::new("signed_cookies", |_| Vec::new()).await;
    let cookie = site.log_in(7, "x").await;
    for command in
        [&["list"][..], &["stats"], &["revoke", "--user", "7", "--yes"], &["revoke", cookie.as_str(), "--yes"]]
    {
        assert!(site.fails(command).contains("signed_cookies keeps nothing on the server"), "{command:?}");
    }
    let shown = site.json(&["show", cookie.as_str()]);
    assert_eq!((field(&shown, "user"), field(&shown, "state")), ("7".into(), "live".into()), "{shown}");
}

#[tokio::test]
async fn what_lives_in_the_sites_memory_is_not_looked_for_elsewhere() {
    let site = Site::new("cache", |_| Vec::new()).await;
    assert!(site.fails(&["list"]).contains("in the memory of the site's process"));
}

#[tokio::test]
async fn what_has_expired_waits_and_is_told() {
    let site = Site::sqlite().await;
    site.clock.set(Timestamp::from_secs(1_600_000_000));
    site.log_in(7, "x").await;
    let expired = site.json(&["list", "--expired"]);
    let session = &expired["sessions"][0];
    assert_eq!((field(session, "user"), field(session, "state")), ("7".into(), "expired".into()), "{expired}");
    assert_eq!(field(session, "last_save"), "2020-09-13T12:26:40+00:00");
    assert_eq!(site.json(&["stats"])["expired"], 1);
    assert_eq!(site.json(&["show", &field(session, "handle")])["data"]["item"], "x");
    assert_eq!(site.json(&["list", "--live"])["sessions"].as_array().unwrap().len(), 0);
}

#[tokio::test]
async fn nonsense_is_refused() {
    let site = Site::sqlite().await;
    assert!(site.fails(&["show", "short"]).contains("neither a session's key nor a handle"));
    assert!(site.fails(&["list", "--after", "nonsense"]).contains("this is no handle"));
    assert!(site.fails(&["list", "--live", "--expired"]).contains("cannot be used with"));
    assert!(site.fails(&["revoke"]).contains("required"));
    assert!(site.fails(&["revoke", "abcdefgh", "--user", "7"]).contains("cannot be used with"));
}

/// `cloakroom migrate` with what PostgreSQL's near cache needs.
#[tokio::test]
async fn the_near_caches_trigger() {
    let Some(server) = shared(Kind::Postgres) else { return };
    let url = server.database();
    let site = Site::new("db", |_| vec![("DATABASE_URL", format!("{url}?near_cache_megabytes=1"))]).await;
    let plan = || site.told(&["migrate", "--near-cache", "--plan"]);
    assert_eq!(plan(), "sessions.0001_initial: nothing to do\nnear cache: install the trigger\n");
    let sql = site.told(&["migrate", "--near-cache", "--sql"]);
    assert!(sql.starts_with("BEGIN;\nCREATE OR REPLACE FUNCTION") && sql.ends_with(";\nCOMMIT;\n"), "{sql}");
    assert!(!sql.contains("CREATE TABLE"), "{sql}");
    assert_eq!(
        site.told(&["migrate", "--near-cache"]),
        "sessions.0001_initial: nothing to do\nnear cache: the trigger was installed\n"
    );
    assert!(plan().ends_with("near cache: nothing to do\n"), "{}", plan());
    assert_eq!(
        site.told(&["migrate", "--near-cache", "--json"]),
        "{\"outcome\":\"up_to_date\"}\n{\"near_cache\":{\"outcome\":\"up_to_date\"}}\n"
    );
    // What others print and do has nothing to do with it.
    assert!(!site.told(&["migrate", "--sql"]).contains("TRIGGER"));
    site.log_in(7, "x").await;
    assert_eq!(site.json(&["list"])["sessions"].as_array().unwrap().len(), 1);

    assert!(site.told(&["migrate", "--remove-near-cache", "--sql"]).contains("DROP FUNCTION"));
    assert_eq!(site.told(&["migrate", "--remove-near-cache", "--plan"]), "near cache: remove the trigger\n");
    assert_eq!(site.told(&["migrate", "--remove-near-cache"]), "near cache: the trigger was removed\n");
    assert_eq!(site.told(&["migrate", "--remove-near-cache"]), "near cache: nothing to do\n");

    let site = Site::sqlite().await;
    for option in ["--near-cache", "--remove-near-cache"] {
        let told = site.fails(&["migrate", option]);
        assert!(told.contains("near cache for PostgreSQL only"), "{told}");
    }
}

/// What cached_db reads from its database is believed by all who share its cache.
#[tokio::test]
async fn a_near_cache_behind_a_cache() {
    let Some(server) = shared(Kind::Postgres) else { return };
    let toml = format!(
        "SECRET_KEY = 'of a test'\nSESSION_ENGINE = 'cached_db'\nDATABASE_URL = '{}?near_cache_megabytes=1'\n",
        server.database()
    );
    let settings = SettingsBuilder::build(Settings::builder().toml(&toml)).unwrap();
    let error = Sessions::from_settings(settings).await.err().unwrap().to_string();
    assert!(error.contains("near_cache_megabytes, and SESSION_ENGINE is `cached_db`"), "{error}");
}
