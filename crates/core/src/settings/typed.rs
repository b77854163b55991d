//! Gives every setting its type, and notes all that is wrong.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::caches::{self, CacheBackend, CacheConfig};
use super::names::{DatabaseUrl, EngineName, OnUnavailable};
use super::problems::{Problem, nearest};
use super::sources::{Layer, Source};
use super::value::SettingValue;
use super::{Flag, Settings};
use crate::wire::cookie::{self, CookieAttributes};
use crate::wire::expiry::{ExpiryRules, TimeZone};
use crate::wire::session_data::{JsonSerializer, Serializer};
use crate::wire::signing::Secrets;

/// The serializer's name under which Django knows JSON.
pub(super) const JSON_SERIALIZER: &str = "django.contrib.sessions.serializers.JSONSerializer";

/// Takes values out of what was given, and notes what is wrong with them.
pub(super) struct Reader {
    pub(super) given: Layer,
    pub(super) problems: Vec<Problem>,
}

impl Reader {
    fn value(&self, name: &str) -> Option<&SettingValue> {
        self.given.get(name).map(|given| &given.value)
    }

    fn problem(&mut self, name: &str, message: impl Into<String>, hint: impl Into<String>) {
        let given = self.given.get(name);
        self.problems.push(Problem {
            setting: name.to_owned(),
            value: given.map(|given| display(name, &given.value)),
            source: given.map_or(Source::Default, |given| given.source.clone()),
            message: message.into(),
            hint: hint.into(),
        });
    }

    fn wrong_kind(&mut self, name: &str, wanted: &str, hint: &str) {
        let kind = self.value(name).map_or("missing", SettingValue::kind);
        self.problem(name, format!("{wanted} is needed, and this is {kind}"), hint);
    }

    fn text(&mut self, name: &str, default: &str) -> String {
        match self.value(name) {
            None => default.to_owned(),
            Some(SettingValue::Text(text)) => text.clone(),
            Some(_) => {
                self.wrong_kind(name, "text", &format!("Write text in quotes, such as {default:?}"));
                default.to_owned()
            }
        }
    }

    /// Text, or nothing: `None`, false and the empty text.
    fn optional_text(&mut self, name: &str, hint: &str) -> Option<String> {
        match self.value(name) {
            None | Some(SettingValue::None | SettingValue::Bool(false)) => None,
            Some(SettingValue::Text(text)) => Some(text.clone()).filter(|text| !text.is_empty()),
            Some(_) => {
                self.wrong_kind(name, "text", hint);
                None
            }
        }
    }

    /// A truth value. As in Python, other values count as true or false, but text only where it says which.
    fn flag(&mut self, name: &str, default: bool) -> Flag {
        let value = match self.value(name) {
            None => return Flag { on: default, exact: default },
            Some(SettingValue::Bool(value)) => return Flag { on: *value, exact: *value },
            Some(SettingValue::None) => Some(false),
            Some(SettingValue::Int(number)) => Some(*number != 0),
            Some(SettingValue::Text(text)) => match text.trim().to_ascii_lowercase().as_str() {
                "yes" | "on" | "y" | "true" | "1" => Some(true),
                "no" | "off" | "n" | "false" | "0" | "" => Some(false),
                _ => None,
            },
            Some(_) => None,
        };
        match value {
            Some(on) => Flag { on, exact: false },
            None => {
                self.wrong_kind(name, "a truth value", "Write true or false (in the environment: True or False)");
                Flag { on: default, exact: default }
            }
        }
    }

    fn int(&mut self, name: &str, default: i64, hint: &str) -> i64 {
        match self.value(name) {
            None => default,
            Some(SettingValue::Int(number)) => *number,
            Some(_) => {
                self.wrong_kind(name, "a whole number of seconds", hint);
                default
            }
        }
    }

    fn list(&mut self, name: &str) -> Option<Vec<String>> {
        let items = match self.value(name)? {
            SettingValue::None => return None,
            SettingValue::List(items) => items,
            _ => {
                self.wrong_kind(name, "a list of texts", "Write [\"first\", \"second\"]");
                return None;
            }
        };
        let texts: Option<Vec<String>> = items.iter().map(|item| item.as_text().map(str::to_owned)).collect();
        if texts.is_none() {
            self.problem(name, "not every item of the list is text", "Write [\"first\", \"second\"]");
        }
        texts
    }

    /// All settings, each with its default where it is missing or wrong.
    pub(super) fn settings(&mut self, serializers: BTreeMap<String, Arc<dyn Serializer>>) -> Settings {
        let engine = self.engine();
        let secrets = self.secrets();
        let cookie_secure = self.flag("SESSION_COOKIE_SECURE", false);
        let cookie_http_only = self.flag("SESSION_COOKIE_HTTPONLY", true);
        let cookie = self.cookie(cookie_secure.on, cookie_http_only.on);
        let use_tz = self.flag("USE_TZ", true).on;
        let expiry = ExpiryRules {
            cookie_age: self.int(
                "SESSION_COOKIE_AGE",
                1_209_600,
                "Write a number without quotes: 3600 for an hour, 86400 for a day, 1209600 for two weeks",
            ),
            expire_at_browser_close: self.flag("SESSION_EXPIRE_AT_BROWSER_CLOSE", false).on,
            use_tz,
            time_zone: self.time_zone(use_tz),
        };
        let caches = self.caches();
        let cache_alias = self.cache_alias(engine, &caches);
        let serializer = self.serializer(serializers);
        Settings {
            engine,
            secrets,
            cookie,
            cookie_secure,
            cookie_http_only,
            expiry,
            save_every_request: self.flag("SESSION_SAVE_EVERY_REQUEST", false).on,
            on_unavailable: self.on_unavailable(),
            sweep_interval: self.sweep_interval(),
            cache_alias,
            caches,
            file_path: self
                .optional_text("SESSION_FILE_PATH", "Write the path of a directory, such as \"/var/lib/site/sessions\"")
                .map(PathBuf::from),
            file_sync: self.flag("SESSION_FILE_SYNC", false).on,
            serializer,
            database_url: self.database_url(),
            installed_apps: self.list("INSTALLED_APPS"),
            middleware: self.list("MIDDLEWARE"),
            csrf_use_sessions: self.flag("CSRF_USE_SESSIONS", false).on,
            given: std::mem::take(&mut self.given),
        }
    }

    fn engine(&mut self) -> EngineName {
        let name = self.text("SESSION_ENGINE", "db");
        EngineName::parse(&name).unwrap_or_else(|| {
            let short = name.rsplit('.').next().unwrap_or(&name);
            let known = EngineName::ALL.map(EngineName::short);
            let hint = match nearest(short, known) {
                Some(engine) => format!("Did you mean {engine:?}; there are {}", known.join(", ")),
                None => format!("Write one of {}", known.join(", ")),
            };
            self.problem("SESSION_ENGINE", "there is no such session engine", hint);
            EngineName::default()
        })
    }

    fn on_unavailable(&mut self) -> OnUnavailable {
        let name = self.text("SESSION_ON_UNAVAILABLE", OnUnavailable::default().name());
        OnUnavailable::parse(&name).unwrap_or_else(|| {
            self.problem(
                "SESSION_ON_UNAVAILABLE",
                "there is no such choice",
                "Write \"error\" to answer 503 while the store is down, or \"anonymous\" to serve visitors without a \
                 session then",
            );
            OnUnavailable::default()
        })
    }

    fn sweep_interval(&mut self) -> Option<Duration> {
        let hint =
            "Write a number without quotes: 3600 for every hour; 0, or nothing, for no sweeping in the site itself";
        if matches!(self.value("SESSION_SWEEP_INTERVAL"), Some(SettingValue::None)) {
            return None;
        }
        let seconds = self.int("SESSION_SWEEP_INTERVAL", 0, hint);
        // A century is as good as never, and more than clocks can count.
        match u64::try_from(seconds) {
            Ok(0) => None,
            Ok(seconds) if seconds <= 100 * 366 * 86_400 => Some(Duration::from_secs(seconds)),
            _ => {
                self.problem("SESSION_SWEEP_INTERVAL", "there is no such time from one sweep to the next", hint);
                None
            }
        }
    }

    fn secrets(&mut self) -> Secrets {
        let hint = "Write 50 random characters or more; `openssl rand -base64 48` makes some, and a Django site that \
                    shares the sessions has to have the same";
        let key = self.text("SECRET_KEY", "");
        if key.is_empty() && matches!(self.value("SECRET_KEY"), None | Some(SettingValue::Text(_))) {
            let message = if self.value("SECRET_KEY").is_some() { "it is empty" } else { "it is not set" };
            self.problem("SECRET_KEY", message, hint);
        }
        let fallbacks = self.list("SECRET_KEY_FALLBACKS").unwrap_or_default();
        if fallbacks.iter().any(String::is_empty) {
            self.problem(
                "SECRET_KEY_FALLBACKS",
                "one of the keys is empty, and anybody could sign with it",
                "Remove it",
            );
        }
        Secrets::new(key).with_fallbacks(fallbacks)
    }

    fn cookie(&mut self, secure: bool, http_only: bool) -> CookieAttributes {
        let attributes = CookieAttributes {
            name: self.text("SESSION_COOKIE_NAME", "sessionid"),
            domain: self.optional_text("SESSION_COOKIE_DOMAIN", "Write a domain, such as \"example.org\""),
            path: self.optional_text("SESSION_COOKIE_PATH", "Write a path, such as \"/\"").unwrap_or_else(|| {
                // Not given is not the same as given empty, which leaves the attribute out.
                if self.value("SESSION_COOKIE_PATH").is_some() { String::new() } else { "/".into() }
            }),
            secure,
            http_only,
            same_site: match self.value("SESSION_COOKIE_SAMESITE") {
                None => Some("Lax".into()),
                Some(_) => self.optional_text("SESSION_COOKIE_SAMESITE", "Write \"Lax\", \"Strict\" or \"None\""),
            },
        };
        if let Err(error) = cookie::check_name(&attributes.name) {
            self.cookie_problem("SESSION_COOKIE_NAME", &error);
        }
        for (name, text) in [
            ("SESSION_COOKIE_DOMAIN", attributes.domain.as_deref().unwrap_or_default()),
            ("SESSION_COOKIE_PATH", &attributes.path),
        ] {
            if let Err(error) = cookie::check_attribute(name, text) {
                self.cookie_problem(name, &error);
            }
        }
        if attributes.same_site.as_deref().is_some_and(|same_site| !cookie::is_same_site(same_site)) {
            self.problem(
                "SESSION_COOKIE_SAMESITE",
                "there is no such value",
                "Write \"Lax\", \"Strict\" or \"None\", or false to leave the attribute out",
            );
        }
        attributes
    }

    fn cookie_problem(&mut self, name: &str, error: &crate::Error) {
        let text = error.to_string();
        let message = text.strip_prefix(&format!("{name} is ")).unwrap_or(&text).to_owned();
        self.problem(name, message, "Use letters, digits, '-', '_' and '.'; a path also has '/'");
    }

    fn time_zone(&mut self, use_tz: bool) -> TimeZone {
        if self.value("TIME_ZONE") == Some(&SettingValue::None) {
            return TimeZone::system();
        }
        // Django's default, from the newspaper where it was written.
        let name = self
            .optional_text("TIME_ZONE", "Write a name such as \"UTC\" or \"Europe/Berlin\"")
            .unwrap_or_else(|| "America/Chicago".into());
        TimeZone::named(&name).unwrap_or_else(|_| {
            if !use_tz || self.value("TIME_ZONE").is_some() {
                self.problem("TIME_ZONE", "there is no such zone", "Write a name such as \"UTC\" or \"Europe/Berlin\"");
            }
            TimeZone::UTC
        })
    }

    fn caches(&mut self) -> BTreeMap<String, CacheConfig> {
        let mut caches = BTreeMap::new();
        match self.value("CACHES").cloned() {
            None | Some(SettingValue::None) => {
                caches.insert("default".to_owned(), CacheConfig::new(CacheBackend::LocMem));
            }
            Some(SettingValue::Table(entries)) => {
                for (alias, entry) in entries {
                    match CacheConfig::from_value(&entry) {
                        Ok(cache) => {
                            caches.insert(alias, cache);
                        }
                        Err((message, hint)) => {
                            self.problem("CACHES", format!("the cache {alias:?}: {message}"), hint);
                            // It is there, if wrong: an alias for it is not wrong as well.
                            caches.insert(alias, CacheConfig::new(CacheBackend::LocMem));
                        }
                    }
                }
            }
            Some(_) => self.wrong_kind("CACHES", "a table", "Write [CACHES.default] and under it BACKEND = \"locmem\""),
        }
        if let Some(url) = self.optional_text("CACHE_URL", "Write a URL, such as \"redis://localhost:6379/0\"") {
            match CacheConfig::from_url(&url) {
                Ok(cache) => {
                    caches.insert("default".to_owned(), cache);
                }
                Err((message, hint)) => self.problem("CACHE_URL", message, hint),
            }
        }
        caches
    }

    fn cache_alias(&mut self, engine: EngineName, caches: &BTreeMap<String, CacheConfig>) -> String {
        let alias = self.text("SESSION_CACHE_ALIAS", "default");
        // A site that keeps no sessions in a cache may have caches which only its Django half understands.
        if !engine.uses_cache() && self.value("SESSION_CACHE_ALIAS").is_none() {
            return alias;
        }
        match caches.get(&alias) {
            None => {
                let known: Vec<&str> = caches.keys().map(String::as_str).collect();
                let hint = match nearest(&alias, known.iter().copied()) {
                    Some(known) => format!("Did you mean {known:?}"),
                    None => format!("Write one of {known:?}, or add [CACHES.{alias}]"),
                };
                self.problem("SESSION_CACHE_ALIAS", format!("CACHES has no cache {alias:?}"), hint);
            }
            Some(cache) if engine.uses_cache() => {
                if let CacheBackend::Other(name) = &cache.backend {
                    self.problem(
                        "CACHES",
                        format!("the cache {alias:?} is to keep sessions, and its BACKEND {name:?} cannot"),
                        "Write BACKEND = \"locmem\", \"redis\", \"django_redis\", \"pymemcache\" or \"pylibmc\"",
                    );
                }
                if cache.has_key_function {
                    self.problem(
                        "CACHES",
                        format!("the cache {alias:?} has a KEY_FUNCTION, which is Python code and cannot be run here"),
                        "Remove it, or keep sessions in a cache without one, chosen by SESSION_CACHE_ALIAS",
                    );
                }
            }
            Some(_) => {}
        }
        alias
    }

    fn serializer(&mut self, mut registered: BTreeMap<String, Arc<dyn Serializer>>) -> Arc<dyn Serializer> {
        let name = self.text("SESSION_SERIALIZER", JSON_SERIALIZER);
        if let Some(serializer) = registered.remove(&name) {
            return serializer;
        }
        if name != JSON_SERIALIZER && name != "json" {
            let (message, hint) = if name.to_ascii_lowercase().contains("pickle") {
                (
                    "pickled sessions are not read: whoever can write one can run code, which is why Django 5 dropped them",
                    "Write \"json\"; visitors with pickled sessions sign in once more",
                )
            } else {
                (
                    "there is no such serializer here",
                    "Write \"json\", or register your own under this name with SettingsBuilder::serializer",
                )
            };
            self.problem("SESSION_SERIALIZER", message, hint);
        }
        Arc::new(JsonSerializer)
    }

    fn database_url(&mut self) -> Option<DatabaseUrl> {
        let hint = "Write sqlite:///absolute/path.db, postgres://user:password@host/database or \
                    mysql://user:password@host/database";
        let url = self.optional_text("DATABASE_URL", hint)?;
        let parsed = DatabaseUrl::parse(&url);
        if parsed.is_none() {
            self.problem("DATABASE_URL", "no database has such a URL", hint);
        }
        parsed
    }
}

/// A setting's value as people may see it: secrets masked.
pub(super) fn display(name: &str, value: &SettingValue) -> String {
    let mask = |text: &str| format!("*** ({} characters)", text.chars().count());
    match (name, value) {
        ("SECRET_KEY", SettingValue::Text(text)) if !text.is_empty() => mask(text),
        ("SECRET_KEY_FALLBACKS", SettingValue::List(items)) => {
            let items = items.iter().map(|item| item.as_text().map_or_else(|| "***".to_owned(), mask));
            format!("[{}]", items.collect::<Vec<_>>().join(", "))
        }
        ("SECRET_KEY", SettingValue::Text(text)) => format!("{text:?}"),
        ("SECRET_KEY" | "SECRET_KEY_FALLBACKS", SettingValue::None) => "None".into(),
        ("SECRET_KEY" | "SECRET_KEY_FALLBACKS", _) => format!("*** ({})", value.kind()),
        ("DATABASE_URL" | "CACHE_URL" | "CACHES", _) => caches::masked(value).to_string(),
        _ => value.to_string(),
    }
}
