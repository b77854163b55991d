//! The form that changes a sandbox's settings, and the settings file it makes.

use std::path::Path;

use serde::Deserialize;

/// What the form says, as it was typed. A checkbox that is not ticked is not sent.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub(crate) struct Wishes {
    /// Empty to leave `SESSION_ENGINE` out.
    pub(crate) engine: String,
    /// Whether the file engine's directory is one that nobody has made.
    #[serde(default)]
    pub(crate) missing: Option<String>,
    pub(crate) age: String,
    #[serde(default)]
    pub(crate) at_close: Option<String>,
    #[serde(default)]
    pub(crate) every_request: Option<String>,
    pub(crate) name: String,
    pub(crate) path: String,
    pub(crate) domain: String,
    #[serde(default)]
    pub(crate) secure: Option<String>,
    #[serde(default)]
    pub(crate) http_only: Option<String>,
    pub(crate) same_site: String,
    /// The item that the steps assign and retrieve.
    pub(crate) key: String,
    pub(crate) value: String,
}

/// The choices of `SESSION_COOKIE_SAMESITE`: the value, and what the form calls it.
pub(crate) const SAME_SITE: &[(&str, &str)] =
    &[("Lax", "Lax"), ("Strict", "Strict"), ("None", "None"), ("False", "left out")];

/// The longest that each is taken, in characters: the pages show it all.
const MAX_SETTING: usize = 120;
const MAX_VALUE: usize = 5_000;

impl Default for Wishes {
    /// Django's defaults.
    fn default() -> Self {
        Self {
            engine: "db".into(),
            missing: None,
            age: "1209600".into(),
            at_close: None,
            every_request: None,
            name: "sessionid".into(),
            path: "/".into(),
            domain: String::new(),
            secure: None,
            http_only: Some("on".into()),
            same_site: "Lax".into(),
            key: "key".into(),
            value: "value".into(),
        }
    }
}

impl Wishes {
    /// The same with everything as short as it may be.
    pub(crate) fn cut(mut self) -> Self {
        for text in
            [&mut self.engine, &mut self.age, &mut self.name, &mut self.path, &mut self.domain, &mut self.same_site]
        {
            cut(text, MAX_SETTING);
        }
        cut(&mut self.key, MAX_SETTING);
        cut(&mut self.value, MAX_VALUE);
        self
    }

    /// The settings file: with sessions switched on or not yet, with the engine chosen or not yet. What is as by
    /// default is left out.
    pub(crate) fn toml(&self, switched_on: bool, chosen: bool, missing: &Path) -> String {
        let usual = Self::default();
        let mut lines = vec![match switched_on {
            true => "INSTALLED_APPS = [\"django.contrib.sessions\"]".to_owned(),
            false => "INSTALLED_APPS = []".to_owned(),
        }];
        let mut line = |name: &str, value: String| lines.push(format!("{name} = {value}"));
        if chosen && !self.engine.is_empty() {
            line("SESSION_ENGINE", quoted(&self.engine));
            if self.missing.is_some() && self.engine == "file" {
                line("SESSION_FILE_PATH", quoted(&missing.display().to_string()));
            }
        }
        if self.age != usual.age {
            let age = self.age.trim();
            line("SESSION_COOKIE_AGE", age.parse::<i64>().map_or_else(|_| quoted(age), |age| age.to_string()));
        }
        if self.at_close.is_some() {
            line("SESSION_EXPIRE_AT_BROWSER_CLOSE", "true".into());
        }
        if self.every_request.is_some() {
            line("SESSION_SAVE_EVERY_REQUEST", "true".into());
        }
        if self.name != usual.name {
            line("SESSION_COOKIE_NAME", quoted(&self.name));
        }
        if self.path != usual.path {
            line("SESSION_COOKIE_PATH", quoted(&self.path));
        }
        if self.domain != usual.domain {
            line("SESSION_COOKIE_DOMAIN", quoted(&self.domain));
        }
        if self.secure.is_some() {
            line("SESSION_COOKIE_SECURE", "true".into());
        }
        if self.http_only.is_none() {
            line("SESSION_COOKIE_HTTPONLY", "false".into());
        }
        match self.same_site.as_str() {
            "Lax" => {}
            "False" => line("SESSION_COOKIE_SAMESITE", "false".into()),
            other => line("SESSION_COOKIE_SAMESITE", quoted(other)),
        }
        lines.join("\n") + "\n"
    }
}

fn cut(text: &mut String, length: usize) {
    if let Some((end, _)) = text.char_indices().nth(length) {
        text.truncate(end);
    }
}

/// A text as TOML writes it, so that what is typed into a field cannot become another setting.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_left_out() {
        let missing = Path::new("/nowhere");
        assert_eq!(Wishes::default().toml(false, false, missing), "INSTALLED_APPS = []\n");
        let file = Wishes { engine: "file".into(), missing: Some("on".into()), ..Wishes::default() };
        assert_eq!(
            file.toml(true, true, missing),
            "INSTALLED_APPS = [\"django.contrib.sessions\"]\nSESSION_ENGINE = \"file\"\nSESSION_FILE_PATH = \"/nowhere\"\n"
        );
        let unset = Wishes { engine: String::new(), ..Wishes::default() };
        assert!(!unset.toml(true, true, missing).contains("SESSION_ENGINE"));
    }

    #[test]
    fn a_field_stays_one_setting() {
        for text in ["a\"\nDATABASE_URL = \"sqlite:///etc/x", "'''\nSECRET_KEY = ''", "\\", "\u{7f}\u{0}"] {
            let wishes = Wishes { name: text.into(), path: text.into(), age: text.into(), ..Wishes::default() };
            let table: toml::Table = wishes.toml(true, true, Path::new("/")).parse().unwrap();
            let names: Vec<&str> = table.keys().map(String::as_str).collect();
            let wanted = [
                "INSTALLED_APPS",
                "SESSION_COOKIE_AGE",
                "SESSION_COOKIE_NAME",
                "SESSION_COOKIE_PATH",
                "SESSION_ENGINE",
            ];
            assert_eq!(names, wanted);
            assert_eq!(table["SESSION_COOKIE_NAME"].as_str(), Some(text));
        }
    }
}
