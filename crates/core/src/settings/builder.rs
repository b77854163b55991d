//! Puts the sources together: code over environment over file.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::Settings;
use super::names::{self, EngineName, OnUnavailable};
use super::problems::{Problem, SettingsError};
use super::sources::{self, Given, Layer, Source};
use super::typed::Reader;
use super::value::SettingValue;
use crate::wire::session_data::Serializer;

/// Collects settings from a file, the environment and code; [`build`](Self::build) checks them all at once.
///
/// Code wins over the environment, the environment over the file, whatever the order of the calls.
#[derive(Clone, Default)]
pub struct SettingsBuilder {
    provided: Layer,
    file: Layer,
    environment: Layer,
    code: Layer,
    serializers: BTreeMap<String, Arc<dyn Serializer>>,
    problems: Vec<Problem>,
}

impl SettingsBuilder {
    /// Reads a TOML file. A file that cannot be read is a problem which [`build`](Self::build) reports.
    #[must_use]
    pub fn file(mut self, path: impl AsRef<Path>) -> Self {
        self.file.extend(sources::read_file(path.as_ref(), &mut self.problems));
        self
    }

    /// Reads TOML text.
    #[must_use]
    pub fn toml(mut self, text: &str) -> Self {
        self.file.extend(sources::read_toml(text, None, &mut self.problems));
        self
    }

    /// Reads the environment of this process.
    ///
    /// Text is taken as it is; truth values and numbers are written as in Python (`True`, `1209600`), `None` is
    /// nothing, lists are `["a", "b"]` or `a,b`, `CACHES` is a Python or JSON dictionary. For
    /// `SESSION_COOKIE_SAMESITE`, `None` is the attribute's value of that name, and `False` leaves the attribute out.
    #[must_use]
    pub fn environment(self) -> Self {
        self.variables(
            std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))),
        )
    }

    /// As [`environment`](Self::environment), with these variables.
    #[must_use]
    pub fn variables(mut self, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        self.environment.extend(sources::read_environment(variables, &mut self.problems));
        self
    }

    /// Sets any setting by its name; an unknown name is a problem which [`build`](Self::build) reports.
    #[must_use]
    pub fn set(mut self, name: &str, value: impl Into<SettingValue>) -> Self {
        let value = value.into();
        if names::kind_of(name).is_some() {
            self.code.insert(name.to_owned(), Given { value, source: Source::Code });
        } else {
            self.problems.push(sources::unknown(name, &value, Source::Code));
        }
        self
    }

    /// A value for a setting that neither file nor environment nor code gives. `how` says how the program came to it,
    /// for those who look at the settings: `cloakroom serve` brings its secret key so.
    #[must_use]
    pub fn provide(mut self, name: &str, value: impl Into<SettingValue>, how: &str) -> Self {
        let given = Given { value: value.into(), source: Source::Provided(how.to_owned()) };
        self.provided.insert(name.to_owned(), given);
        self
    }

    /// Whether file, environment or code give a setting.
    pub fn gives(&self, name: &str) -> bool {
        [&self.code, &self.environment, &self.file].iter().any(|layer| layer.contains_key(name))
    }

    /// `SECRET_KEY`.
    #[must_use]
    pub fn secret_key(self, key: impl Into<String>) -> Self {
        self.set("SECRET_KEY", key.into())
    }

    /// `SECRET_KEY_FALLBACKS`: former keys, which verify and never sign.
    #[must_use]
    pub fn secret_key_fallbacks(self, keys: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.set("SECRET_KEY_FALLBACKS", keys.into_iter().map(Into::into).collect::<Vec<String>>())
    }

    /// `SESSION_ENGINE`.
    #[must_use]
    pub fn engine(self, engine: EngineName) -> Self {
        self.set("SESSION_ENGINE", engine.short())
    }

    /// `DATABASE_URL`.
    #[must_use]
    pub fn database_url(self, url: impl Into<String>) -> Self {
        self.set("DATABASE_URL", url.into())
    }

    /// `SESSION_COOKIE_NAME`.
    #[must_use]
    pub fn cookie_name(self, name: impl Into<String>) -> Self {
        self.set("SESSION_COOKIE_NAME", name.into())
    }

    /// `SESSION_COOKIE_AGE`, in seconds.
    #[must_use]
    pub fn cookie_age(self, seconds: i64) -> Self {
        self.set("SESSION_COOKIE_AGE", seconds)
    }

    /// `SESSION_COOKIE_SECURE`.
    #[must_use]
    pub fn cookie_secure(self, secure: bool) -> Self {
        self.set("SESSION_COOKIE_SECURE", secure)
    }

    /// `SESSION_COOKIE_SAMESITE`; `None` leaves the attribute out, `Some("None")` is its value `None`.
    #[must_use]
    pub fn cookie_same_site(self, same_site: Option<&str>) -> Self {
        self.set("SESSION_COOKIE_SAMESITE", same_site)
    }

    /// `SESSION_EXPIRE_AT_BROWSER_CLOSE`.
    #[must_use]
    pub fn expire_at_browser_close(self, expire: bool) -> Self {
        self.set("SESSION_EXPIRE_AT_BROWSER_CLOSE", expire)
    }

    /// `SESSION_SAVE_EVERY_REQUEST`.
    #[must_use]
    pub fn save_every_request(self, save: bool) -> Self {
        self.set("SESSION_SAVE_EVERY_REQUEST", save)
    }

    /// `SESSION_ON_UNAVAILABLE`: what a visitor gets while the store does not answer.
    #[must_use]
    pub fn on_unavailable(self, choice: OnUnavailable) -> Self {
        self.set("SESSION_ON_UNAVAILABLE", choice.name())
    }

    /// `SESSION_SWEEP_INTERVAL`: how often a site removes expired sessions by itself, in seconds; 0 for never.
    #[must_use]
    pub fn sweep_interval(self, seconds: i64) -> Self {
        self.set("SESSION_SWEEP_INTERVAL", seconds)
    }

    /// `SESSION_FILE_PATH`, the directory of the file engine.
    #[must_use]
    pub fn file_path(self, path: impl AsRef<Path>) -> Self {
        self.set("SESSION_FILE_PATH", path.as_ref().to_string_lossy().into_owned())
    }

    /// `SESSION_FILE_SYNC`: whether the file engine waits at each save until it is on the disk.
    #[must_use]
    pub fn file_sync(self, sync: bool) -> Self {
        self.set("SESSION_FILE_SYNC", sync)
    }

    /// Registers a serializer under the name by which `SESSION_SERIALIZER` calls it, as a replacement for a Python
    /// class. Registering does not choose it.
    #[must_use]
    pub fn serializer(mut self, path: impl Into<String>, serializer: Arc<dyn Serializer>) -> Self {
        self.serializers.insert(path.into(), serializer);
        self
    }

    /// Gives every setting its type.
    ///
    /// # Errors
    /// Every problem there is: values of a wrong form, unknown names, unreadable files.
    pub fn build(self) -> Result<Settings, SettingsError> {
        let Self { provided, file, environment, code, serializers, problems } = self;
        let mut given = provided;
        for layer in [file, environment, code] {
            given.extend(layer);
        }
        let mut reader = Reader { given, problems };
        let settings = reader.settings(serializers);
        if reader.problems.is_empty() { Ok(settings) } else { Err(SettingsError::new(reader.problems)) }
    }
}
