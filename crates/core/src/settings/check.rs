//! What an operator should know about settings that are valid: Django's deployment checks, and ours.

use super::Settings;
use super::caches::CacheBackend;
use super::names::{DatabaseKind, EngineName};
use super::value::SettingValue;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Good to know.
    Info,
    /// Should be changed, or known and accepted.
    Warning,
}

/// Something that an operator should know about the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// A stable name: Django's own (`security.W012`) or ours (`cloakroom.W001`).
    pub id: &'static str,
    /// How much it matters.
    pub level: Level,
    /// What was found.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

/// Looks at the settings, and with `deploy` at what matters only on a site that strangers use.
///
/// With `deploy`, Django's `security.W010` to `security.W015` are reported under Django's conditions: the setting has to
/// be exactly `True`. Where `INSTALLED_APPS` or `MIDDLEWARE` is not given, this framework counts as installed.
pub fn check(settings: &Settings, deploy: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    if deploy {
        django_checks(settings, &mut findings);
    }
    cookie_checks(settings, &mut findings);
    engine_checks(settings, deploy, &mut findings);
    if deploy {
        secret_checks(settings, &mut findings);
    }
    findings
}

fn warn(findings: &mut Vec<Finding>, id: &'static str, message: impl Into<String>, hint: impl Into<String>) {
    findings.push(Finding { id, level: Level::Warning, message: message.into(), hint: hint.into() });
}

fn django_checks(settings: &Settings, findings: &mut Vec<Finding>) {
    let names = |list: Option<&[String]>, django: &str| {
        list.is_none_or(|items| items.iter().any(|item| item == django || item == "cloakroom"))
    };
    let app = names(settings.installed_apps(), "django.contrib.sessions");
    let middleware = names(settings.middleware(), "django.contrib.sessions.middleware.SessionMiddleware");
    let (place, secure, http_only) = match (app, middleware) {
        (true, false) => ("INSTALLED_APPS", "security.W010", "security.W013"),
        (false, true) => ("MIDDLEWARE", "security.W011", "security.W014"),
        (true, true) => ("the site", "security.W012", "security.W015"),
        (false, false) => return,
    };
    if !settings.cookie_secure.exact {
        warn(
            findings,
            secure,
            format!("{place} has sessions, and SESSION_COOKIE_SECURE is not true: the cookie also travels unencrypted"),
            "Serve the site over HTTPS only, and set SESSION_COOKIE_SECURE to true",
        );
    }
    if !settings.cookie_http_only.exact {
        warn(
            findings,
            http_only,
            format!(
                "{place} has sessions, and SESSION_COOKIE_HTTPONLY is not true: a script in a page can read the cookie"
            ),
            "Set SESSION_COOKIE_HTTPONLY to true",
        );
    }
}

fn cookie_checks(settings: &Settings, findings: &mut Vec<Finding>) {
    let cookie = &settings.cookie;
    let same_site_none = cookie.same_site.as_deref().is_some_and(|same_site| same_site.eq_ignore_ascii_case("none"));
    if same_site_none && !cookie.secure {
        warn(
            findings,
            "cloakroom.W001",
            "SESSION_COOKIE_SAMESITE is \"None\" and SESSION_COOKIE_SECURE is false: browsers drop such a cookie",
            "Set SESSION_COOKIE_SECURE to true, or SESSION_COOKIE_SAMESITE to \"Lax\"",
        );
    }
    let name = &cookie.name;
    if name.starts_with("__Host-") && (!cookie.secure || cookie.domain.is_some() || cookie.path != "/") {
        warn(
            findings,
            "cloakroom.W002",
            format!(
                "the name {name:?} promises a secure cookie with path \"/\" and without domain: browsers drop others"
            ),
            "Set SESSION_COOKIE_SECURE to true and SESSION_COOKIE_PATH to \"/\", and remove SESSION_COOKIE_DOMAIN",
        );
    } else if name.starts_with("__Secure-") && !cookie.secure {
        warn(
            findings,
            "cloakroom.W002",
            format!("the name {name:?} promises a secure cookie: browsers drop others"),
            "Set SESSION_COOKIE_SECURE to true",
        );
    }
    if !cookie.path.is_empty() && !cookie.path.starts_with('/') {
        warn(
            findings,
            "cloakroom.W003",
            format!("SESSION_COOKIE_PATH is {:?}: browsers ignore a path without \"/\" in front", cookie.path),
            "Write \"/\", or the part of the site that has sessions, such as \"/app/\"",
        );
    }
    let age = settings.cookie_age();
    if age <= 0 {
        warn(
            findings,
            "cloakroom.W004",
            format!("SESSION_COOKIE_AGE is {age}: every session ends as soon as it begins"),
            "Write a number of seconds above zero; for a cookie that ends with the browser, set \
             SESSION_EXPIRE_AT_BROWSER_CLOSE",
        );
    }
}

fn engine_checks(settings: &Settings, deploy: bool, findings: &mut Vec<Finding>) {
    let engine = settings.engine();
    if !settings.sessions_enabled() {
        findings.push(Finding {
            id: "cloakroom.W005",
            level: Level::Info,
            message: "sessions are off: INSTALLED_APPS names neither \"django.contrib.sessions\" nor \"cloakroom\""
                .into(),
            hint: "Add \"cloakroom\" to INSTALLED_APPS, or leave INSTALLED_APPS out".into(),
        });
    }
    if engine.uses_database() && settings.database_url().is_none() {
        warn(
            findings,
            "cloakroom.W006",
            format!(
                "SESSION_ENGINE is {engine}, and DATABASE_URL is not set: there is no database to keep sessions in"
            ),
            "Set DATABASE_URL, for example to sqlite:///absolute/path.db",
        );
    }
    if !deploy {
        return;
    }
    if engine == EngineName::SignedCookies {
        warn(
            findings,
            "cloakroom.W007",
            "signed_cookies keeps nothing on the server: signing out does not end a cookie that was copied, and \
             visitors can read what is in it",
            "Use db or file where that matters, and keep SESSION_COOKIE_AGE short",
        );
    }
    let in_process = settings.session_cache().is_some_and(|cache| cache.backend == CacheBackend::LocMem);
    if engine.uses_cache() && in_process {
        warn(
            findings,
            "cloakroom.W008",
            "the cache that keeps sessions is in the process: other processes do not see them, and a restart ends them",
            "Use the engine db or file, or a cache on a server",
        );
    }
    if engine == EngineName::File && settings.file_path.is_none() {
        warn(
            findings,
            "cloakroom.W009",
            format!(
                "SESSION_FILE_PATH is not set: sessions are kept in {}, which systems clear and others can write to",
                settings.file_path().display()
            ),
            "Set SESSION_FILE_PATH to a directory that belongs to the site alone",
        );
    }
    let volatile = settings.database_url().is_some_and(|database| {
        database.kind() == DatabaseKind::Sqlite
            && (database.as_str().contains(":memory:") || database.as_str().contains("mode=memory"))
    });
    if engine.uses_database() && volatile {
        warn(
            findings,
            "cloakroom.W010",
            "DATABASE_URL names a database in memory: a restart ends all sessions",
            "Write the path of a file: sqlite:///absolute/path.db",
        );
    }
}

/// As Django's `security.W009` measures it.
fn secret_checks(settings: &Settings, findings: &mut Vec<Finding>) {
    let Some(key) = settings.given.get("SECRET_KEY").and_then(|given| given.value.as_text()) else { return };
    let fallbacks = match settings.given.get("SECRET_KEY_FALLBACKS").map(|given| &given.value) {
        Some(SettingValue::List(items)) => items.iter().filter_map(SettingValue::as_text).collect(),
        _ => Vec::new(),
    };
    for (name, key) in
        [("SECRET_KEY", key)].into_iter().chain(fallbacks.into_iter().map(|k| ("SECRET_KEY_FALLBACKS", k)))
    {
        let mut letters: Vec<char> = key.chars().collect();
        let length = letters.len();
        letters.sort_unstable();
        letters.dedup();
        let weakness = if key.starts_with("django-insecure-") {
            "a key that Django made for development, and that may have been published with the code"
        } else if length < 50 {
            "shorter than 50 characters"
        } else if letters.len() < 5 {
            "made of fewer than 5 different characters"
        } else {
            continue;
        };
        warn(
            findings,
            "cloakroom.W011",
            format!("{name} is weak ({weakness}): whoever guesses it can sign session data"),
            "Use 50 random characters or more; `openssl rand -base64 48` makes some. Keep the old key in \
             SECRET_KEY_FALLBACKS until the sessions signed with it have ended",
        );
    }
}
