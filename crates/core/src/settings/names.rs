//! The settings there are, and the names that they take as values.

use std::fmt;

/// What form a setting's value has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    OptionalText,
    SameSite,
    Flag,
    Int,
    List,
    Table,
}

/// Every setting, in the order in which they are listed to people.
const SETTINGS: [(&str, Kind); 26] = [
    ("SESSION_ENGINE", Kind::Text),
    ("SESSION_COOKIE_NAME", Kind::Text),
    ("SESSION_COOKIE_AGE", Kind::Int),
    ("SESSION_COOKIE_DOMAIN", Kind::OptionalText),
    ("SESSION_COOKIE_PATH", Kind::Text),
    ("SESSION_COOKIE_SECURE", Kind::Flag),
    ("SESSION_COOKIE_HTTPONLY", Kind::Flag),
    ("SESSION_COOKIE_SAMESITE", Kind::SameSite),
    ("SESSION_EXPIRE_AT_BROWSER_CLOSE", Kind::Flag),
    ("SESSION_SAVE_EVERY_REQUEST", Kind::Flag),
    ("SESSION_CACHE_ALIAS", Kind::Text),
    ("SESSION_FILE_PATH", Kind::OptionalText),
    ("SESSION_FILE_SYNC", Kind::Flag),
    ("SESSION_SERIALIZER", Kind::Text),
    ("SESSION_ON_UNAVAILABLE", Kind::Text),
    ("SESSION_SWEEP_INTERVAL", Kind::Int),
    ("SECRET_KEY", Kind::Text),
    ("SECRET_KEY_FALLBACKS", Kind::List),
    ("DATABASE_URL", Kind::OptionalText),
    ("CACHES", Kind::Table),
    ("CACHE_URL", Kind::OptionalText),
    ("INSTALLED_APPS", Kind::List),
    ("MIDDLEWARE", Kind::List),
    ("USE_TZ", Kind::Flag),
    ("TIME_ZONE", Kind::OptionalText),
    ("CSRF_USE_SESSIONS", Kind::Flag),
];

/// The form of a setting's value, or `None` if there is no such setting.
pub(super) fn kind_of(name: &str) -> Option<Kind> {
    SETTINGS.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind)
}

/// The names of all settings, in the order in which they are listed to people.
pub(super) fn all() -> impl Iterator<Item = &'static str> {
    SETTINGS.iter().map(|(name, _)| *name)
}

/// The names of Django's session settings.
pub(super) fn session_names() -> impl Iterator<Item = &'static str> {
    all().filter(|name| name.starts_with("SESSION_"))
}

/// A session engine, as `SESSION_ENGINE` names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum EngineName {
    /// `db`: a table in a database.
    #[default]
    Db,
    /// `cache`: a cache, in this process or on a server.
    Cache,
    /// `cached_db`: a table, with a cache in front.
    CachedDb,
    /// `file`: a file for each session.
    File,
    /// `signed_cookies`: the cookie itself.
    SignedCookies,
}

impl EngineName {
    /// All engines.
    pub const ALL: [Self; 5] = [Self::Db, Self::Cache, Self::CachedDb, Self::File, Self::SignedCookies];

    /// The engine of a name, short (`db`) or Django's dotted one (`django.contrib.sessions.backends.db`).
    pub fn parse(name: &str) -> Option<Self> {
        let short = name.strip_prefix("django.contrib.sessions.backends.").unwrap_or(name);
        Self::ALL.into_iter().find(|engine| engine.short() == short)
    }

    /// The short name: `db`.
    pub fn short(self) -> &'static str {
        match self {
            Self::Db => "db",
            Self::Cache => "cache",
            Self::CachedDb => "cached_db",
            Self::File => "file",
            Self::SignedCookies => "signed_cookies",
        }
    }

    /// Django's name: `django.contrib.sessions.backends.db`.
    pub fn dotted(self) -> String {
        format!("django.contrib.sessions.backends.{}", self.short())
    }

    /// Whether the engine keeps sessions in a cache, alone or in front of a database.
    pub fn uses_cache(self) -> bool {
        matches!(self, Self::Cache | Self::CachedDb)
    }

    /// Whether the engine keeps sessions in a database, alone or behind a cache.
    pub fn uses_database(self) -> bool {
        matches!(self, Self::Db | Self::CachedDb)
    }
}

impl fmt::Display for EngineName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.short())
    }
}

/// What a visitor gets while the store does not answer, as `SESSION_ON_UNAVAILABLE` says. Not a setting of Django's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OnUnavailable {
    /// `error`: a request that needs its session is answered 503.
    #[default]
    Error,
    /// `anonymous`: the request is served without a session. It reads as empty, and what is changed is refused.
    Anonymous,
}

impl OnUnavailable {
    /// All choices.
    pub const ALL: [Self; 2] = [Self::Error, Self::Anonymous];

    /// The choice of a name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|choice| choice.name() == name)
    }

    /// Its name in the settings: `error`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Anonymous => "anonymous",
        }
    }
}

/// The kinds of databases that `DATABASE_URL` can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DatabaseKind {
    /// `sqlite:///absolute/path.db`, `sqlite://relative.db`.
    Sqlite,
    /// `postgres://user:password@host/database`, also `postgresql:`.
    Postgres,
    /// `mysql://user:password@host/database`, also `mariadb:`.
    MySql,
}

/// A database, as `DATABASE_URL` names it. `Debug` and `Display` mask its password.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl {
    kind: DatabaseKind,
    url: String,
}

impl DatabaseUrl {
    /// The database of a URL; `None` if its scheme is none that we know.
    pub fn parse(url: &str) -> Option<Self> {
        let (scheme, _) = url.split_once(':')?;
        let kind = match scheme.to_ascii_lowercase().as_str() {
            "sqlite" | "sqlite3" => DatabaseKind::Sqlite,
            "postgres" | "postgresql" | "pgsql" => DatabaseKind::Postgres,
            "mysql" | "mariadb" => DatabaseKind::MySql,
            _ => return None,
        };
        Some(Self { kind, url: url.to_owned() })
    }

    /// What kind of database it is.
    pub fn kind(&self) -> DatabaseKind {
        self.kind
    }

    /// The whole URL, with its password.
    pub fn as_str(&self) -> &str {
        &self.url
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&mask_url(&self.url))
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseUrl({self})")
    }
}

/// A URL with `***` for its password, in front of the host or in a parameter. Text that is no URL stays as it is.
pub(super) fn mask_url(url: &str) -> String {
    let mut url = url.to_owned();
    if let Some(start) = url.find("://").map(|place| place + 3) {
        let end = url[start..].find(['/', '?', '#']).map_or(url.len(), |place| start + place);
        // A password with a `/` in it, which it should not have unescaped, is still a password.
        let at = url[start..end].rfind('@').or_else(|| url[start..].rfind('@')).map(|place| start + place);
        if let Some(at) = at
            && let Some(colon) = url[start..at].find(':')
        {
            url.replace_range(start + colon + 1..at, "***");
        }
    }
    if let Some(query) = url.find('?') {
        let parameters: Vec<String> = url[query + 1..]
            .split('&')
            .map(|parameter| match parameter.split_once('=') {
                Some((name, _)) if name.to_ascii_lowercase().contains("password") => format!("{name}=***"),
                _ => parameter.to_owned(),
            })
            .collect();
        url.replace_range(query + 1.., &parameters.join("&"));
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_have_two_names() {
        for engine in EngineName::ALL {
            assert_eq!(EngineName::parse(engine.short()), Some(engine));
            assert_eq!(EngineName::parse(&engine.dotted()), Some(engine));
        }
        assert_eq!(EngineName::parse("django.contrib.sessions.backends.redis"), None);
        assert_eq!(EngineName::parse(""), None);
    }

    #[test]
    fn passwords_are_masked() {
        for (url, masked) in [
            ("postgres://me:s3cret@db.example/site", "postgres://me:***@db.example/site"),
            ("redis://:p/w@d@host:6379/0", "redis://:***@host:6379/0"),
            ("mysql://host/db?password=x&a=b", "mysql://host/db?password=***&a=b"),
            ("sqlite:///a/b.db", "sqlite:///a/b.db"),
            ("nonsense", "nonsense"),
        ] {
            assert_eq!(mask_url(url), masked);
        }
        assert!(!format!("{:?}", DatabaseUrl::parse("postgres://me:s3cret@h/d").unwrap()).contains("s3cret"));
        assert!(DatabaseUrl::parse("oracle://x").is_none());
    }
}
