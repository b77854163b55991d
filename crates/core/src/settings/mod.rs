//! Django's session settings: their names, where they come from, and what is wrong with them.
//!
//! ```
//! use cloakroom_core::settings::{EngineName, Settings};
//!
//! let settings = Settings::from_toml_str(r#"
//!     SECRET_KEY = "an example of fifty random characters, never use it"
//!     SESSION_ENGINE = "file"
//!     SESSION_COOKIE_AGE = 3600
//! "#)?;
//! assert_eq!(settings.engine(), EngineName::File);
//! assert_eq!(settings.cookie_age(), 3600);
//!
//! let error = Settings::from_toml_str("SESSION_COOKIE_AEG = 3600").unwrap_err();
//! assert!(error.to_string().contains("Did you mean SESSION_COOKIE_AGE"));
//! # Ok::<(), cloakroom_core::settings::SettingsError>(())
//! ```

mod builder;
mod caches;
mod check;
mod names;
mod problems;
mod sources;
#[cfg(test)]
mod tests;
mod typed;
mod value;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::wire::cookie::CookieAttributes;
use crate::wire::expiry::ExpiryRules;
use crate::wire::session_data::{Codec, Serializer};
use crate::wire::signing::Secrets;

pub use builder::SettingsBuilder;
pub use caches::{CacheBackend, CacheConfig, DEFAULT_MAX_ENTRIES};
pub use check::{Finding, Level, check};
pub use names::{DatabaseKind, DatabaseUrl, EngineName, OnUnavailable};
pub use problems::{Problem, SettingsError, nearest};
pub use sources::Source;
pub use value::SettingValue;

use sources::Given;

/// The environment variable that names the settings file.
pub const SETTINGS_FILE_VARIABLE: &str = "CLOAKROOM_SETTINGS";

/// A truth value, and whether it was given as exactly `True`, which Django's checks insist on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Flag {
    on: bool,
    exact: bool,
}

/// All settings, checked.
///
/// `Debug` shows them as [`effective`](Self::effective) does, with secrets masked.
#[derive(Clone)]
pub struct Settings {
    engine: EngineName,
    secrets: Secrets,
    cookie: CookieAttributes,
    cookie_secure: Flag,
    cookie_http_only: Flag,
    expiry: ExpiryRules,
    save_every_request: bool,
    on_unavailable: OnUnavailable,
    sweep_interval: Option<Duration>,
    cache_alias: String,
    caches: BTreeMap<String, CacheConfig>,
    file_path: Option<PathBuf>,
    file_sync: bool,
    serializer: Arc<dyn Serializer>,
    database_url: Option<DatabaseUrl>,
    installed_apps: Option<Vec<String>>,
    middleware: Option<Vec<String>>,
    csrf_use_sessions: bool,
    given: BTreeMap<String, Given>,
}

/// One setting as it is in effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EffectiveSetting {
    /// Its name.
    pub name: &'static str,
    /// Its value as Python would write it, secrets masked.
    pub value: String,
    /// Where it came from.
    pub source: Source,
}

impl Settings {
    /// Settings from code, or from several sources.
    pub fn builder() -> SettingsBuilder {
        SettingsBuilder::default()
    }

    /// Settings from a TOML file alone.
    ///
    /// # Errors
    /// All problems of the file and of what stands in it.
    pub fn from_toml(path: impl AsRef<Path>) -> Result<Self, SettingsError> {
        Self::builder().file(path).build()
    }

    /// Settings from TOML text alone.
    ///
    /// # Errors
    /// All problems of the text.
    pub fn from_toml_str(text: &str) -> Result<Self, SettingsError> {
        Self::builder().toml(text).build()
    }

    /// Settings from environment variables of their names, alone. See [`SettingsBuilder::environment`] for how values
    /// are written there.
    ///
    /// # Errors
    /// All problems of the variables.
    pub fn from_env() -> Result<Self, SettingsError> {
        Self::builder().environment().build()
    }

    /// Settings from a TOML file and the environment, which wins. Without a path, the file is the one that the
    /// variable `CLOAKROOM_SETTINGS` names, if it is set.
    ///
    /// # Errors
    /// All problems of both.
    pub fn load(path: Option<&Path>) -> Result<Self, SettingsError> {
        Self::loader(path).build()
    }

    /// As [`load`](Self::load), before the settings are checked: for a program that adds its own.
    pub fn loader(path: Option<&Path>) -> SettingsBuilder {
        let named = std::env::var_os(SETTINGS_FILE_VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from);
        match path.map(Path::to_owned).or(named) {
            Some(path) => Self::builder().file(path).environment(),
            None => Self::builder().environment(),
        }
    }

    /// `SESSION_ENGINE`.
    pub fn engine(&self) -> EngineName {
        self.engine
    }

    /// `SECRET_KEY` and `SECRET_KEY_FALLBACKS`.
    pub fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// `SESSION_COOKIE_NAME`.
    pub fn cookie_name(&self) -> &str {
        &self.cookie.name
    }

    /// `SESSION_COOKIE_AGE`, in seconds.
    pub fn cookie_age(&self) -> i64 {
        self.expiry.cookie_age
    }

    /// The `SESSION_COOKIE_*` settings that become attributes of the cookie.
    pub fn cookie_attributes(&self) -> CookieAttributes {
        self.cookie.clone()
    }

    /// The settings that decide when sessions end.
    pub fn expiry_rules(&self) -> ExpiryRules {
        self.expiry.clone()
    }

    /// `SESSION_EXPIRE_AT_BROWSER_CLOSE`.
    pub fn expire_at_browser_close(&self) -> bool {
        self.expiry.expire_at_browser_close
    }

    /// `SESSION_SAVE_EVERY_REQUEST`.
    pub fn save_every_request(&self) -> bool {
        self.save_every_request
    }

    /// `SESSION_ON_UNAVAILABLE`: what a visitor gets while the store does not answer.
    pub fn on_unavailable(&self) -> OnUnavailable {
        self.on_unavailable
    }

    /// `SESSION_SWEEP_INTERVAL`: how often a site removes expired sessions by itself; `None` for never.
    pub fn sweep_interval(&self) -> Option<Duration> {
        self.sweep_interval
    }

    /// `USE_TZ`.
    pub fn use_tz(&self) -> bool {
        self.expiry.use_tz
    }

    /// `CSRF_USE_SESSIONS`.
    pub fn csrf_use_sessions(&self) -> bool {
        self.csrf_use_sessions
    }

    /// `SESSION_CACHE_ALIAS`: which entry of [`caches`](Self::caches) keeps sessions.
    pub fn cache_alias(&self) -> &str {
        &self.cache_alias
    }

    /// `CACHES`, with `CACHE_URL` as its `default` if that is set. Without either, one cache in this process.
    pub fn caches(&self) -> &BTreeMap<String, CacheConfig> {
        &self.caches
    }

    /// The cache that keeps sessions; always there if the engine [uses one](EngineName::uses_cache).
    pub fn session_cache(&self) -> Option<&CacheConfig> {
        self.caches.get(&self.cache_alias)
    }

    /// `DATABASE_URL`, if it is set.
    pub fn database_url(&self) -> Option<&DatabaseUrl> {
        self.database_url.as_ref()
    }

    /// The directory of the file engine: `SESSION_FILE_PATH`, or the system's directory for temporary files, found as
    /// Python finds it: the first that exists of `TMPDIR`, `TEMP`, `TMP`, `/tmp`, `/var/tmp`, `/usr/tmp`, or else the
    /// working directory. Whether a configured directory exists is not looked at here.
    pub fn file_path(&self) -> PathBuf {
        if let Some(path) = &self.file_path {
            return path.clone();
        }
        let named = ["TMPDIR", "TEMP", "TMP"].into_iter().filter_map(std::env::var_os).map(PathBuf::from);
        let usual = ["/tmp", "/var/tmp", "/usr/tmp"].into_iter().map(PathBuf::from);
        named
            .chain(usual)
            .find(|path| !path.as_os_str().is_empty() && path.is_dir())
            .unwrap_or_else(|| std::env::current_dir().unwrap_or_else(|_| ".".into()))
    }

    /// `SESSION_FILE_SYNC`: whether the file engine waits at each save until it is on the disk.
    pub fn file_sync(&self) -> bool {
        self.file_sync
    }

    /// `SESSION_SERIALIZER`.
    pub fn serializer(&self) -> Arc<dyn Serializer> {
        self.serializer.clone()
    }

    /// How the engines db, cached_db and file write a session: the serializer's text, signed with the secrets.
    pub fn signed_codec(&self) -> Codec {
        Codec::signed(&self.secrets, self.serializer.clone())
    }

    /// `INSTALLED_APPS`, if it was given.
    pub fn installed_apps(&self) -> Option<&[String]> {
        self.installed_apps.as_deref()
    }

    /// `MIDDLEWARE`, if it was given.
    pub fn middleware(&self) -> Option<&[String]> {
        self.middleware.as_deref()
    }

    /// Whether sessions are switched on: false only if `INSTALLED_APPS` is given, and names neither
    /// `django.contrib.sessions` (or its configuration class) nor `cloakroom`.
    pub fn sessions_enabled(&self) -> bool {
        let ours = |app: &String| {
            matches!(
                app.as_str(),
                "django.contrib.sessions" | "django.contrib.sessions.apps.SessionsConfig" | "cloakroom"
            )
        };
        self.installed_apps.as_ref().is_none_or(|apps| apps.iter().any(ours))
    }

    /// Where a setting's value came from.
    pub fn source(&self, name: &str) -> Source {
        self.given.get(name).map_or(Source::Default, |given| given.source.clone())
    }

    /// Every setting with its value and where it came from, secrets masked.
    pub fn effective(&self) -> impl Iterator<Item = EffectiveSetting> {
        names::all().map(|name| match self.given.get(name) {
            Some(given) => {
                EffectiveSetting { name, value: typed::display(name, &given.value), source: given.source.clone() }
            }
            None => EffectiveSetting { name, value: self.default_display(name), source: Source::Default },
        })
    }

    /// The value of a setting that nobody gave.
    fn default_display(&self, name: &str) -> String {
        match name {
            "SESSION_ENGINE" => format!("{:?}", EngineName::default().dotted()),
            "SESSION_COOKIE_NAME" => format!("{:?}", self.cookie.name),
            "SESSION_COOKIE_AGE" => self.expiry.cookie_age.to_string(),
            "SESSION_COOKIE_PATH" => "\"/\"".into(),
            "SESSION_COOKIE_SAMESITE" => "\"Lax\"".into(),
            "SESSION_COOKIE_HTTPONLY" | "USE_TZ" => "True".into(),
            "SESSION_COOKIE_SECURE"
            | "SESSION_EXPIRE_AT_BROWSER_CLOSE"
            | "SESSION_SAVE_EVERY_REQUEST"
            | "SESSION_FILE_SYNC"
            | "CSRF_USE_SESSIONS" => "False".into(),
            "SESSION_CACHE_ALIAS" => "\"default\"".into(),
            "SESSION_ON_UNAVAILABLE" => format!("{:?}", OnUnavailable::default().name()),
            "SESSION_SERIALIZER" => format!("{:?}", typed::JSON_SERIALIZER),
            "SECRET_KEY_FALLBACKS" => "[]".into(),
            "CACHES" => "{\"default\": {\"BACKEND\": \"django.core.cache.backends.locmem.LocMemCache\"}}".into(),
            "TIME_ZONE" => "\"America/Chicago\"".into(),
            _ => "None".into(),
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Settings");
        for setting in self.effective() {
            shown.field(setting.name, &format_args!("{} ({})", setting.value, setting.source));
        }
        shown.finish()
    }
}
