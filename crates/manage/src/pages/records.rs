//! What a sandbox has stored, read past the engine: rows by SQL, files, entries of the cache, the cookie.

use std::fs;
use std::path::Path;

use cloakroom::core::engine::signed_cookies::SALT;
use cloakroom::core::settings::EngineName;
use cloakroom::core::wire::cookie::http_date;
use cloakroom::core::wire::session_data::SignedText;
use cloakroom::{Sessions, Settings, Values};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteRow};
use sqlx::{Connection, Row};

/// Of each place, so many records are shown.
const SHOWN: usize = 6;

/// A place where records are kept, and those that were found there.
#[derive(Clone, Debug)]
pub(crate) struct Shelf {
    /// How it was looked into: the SQL, the directory.
    pub(crate) name: String,
    pub(crate) records: Vec<Record>,
    /// What there is to say of the place itself: that it is empty, or cannot be read.
    pub(crate) note: Option<String>,
}

/// One session as it is stored.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    /// The session's key, or the file's name.
    pub(crate) key: String,
    /// When it ends, or was written, in the words of the place.
    pub(crate) when: String,
    /// The stored bytes.
    pub(crate) raw: String,
    /// The data in them, or why they cannot be read.
    pub(crate) decoded: Result<String, String>,
}

impl Shelf {
    fn new(name: impl Into<String>, found: Result<Vec<Record>, String>) -> Self {
        let name = name.into();
        match found {
            Ok(records) => {
                let note = records.is_empty().then(|| "Nothing is stored here.".to_owned());
                Self { name, records, note }
            }
            Err(why) => Self { name, records: Vec::new(), note: Some(why) },
        }
    }
}

/// What stands in each place that the settings' engine uses.
pub(crate) async fn shelves(
    settings: &Settings,
    sessions: Option<&Sessions>,
    database: &Path,
    cookie: Option<&str>,
) -> Vec<Shelf> {
    let mut shelves = Vec::new();
    let engine = settings.engine();
    if engine.uses_database() {
        shelves.push(rows(settings, database).await);
    }
    if engine.uses_cache() {
        let found = match sessions {
            Some(sessions) => entries(sessions).await,
            None => Err("The site is down, and the cache in its process with it.".to_owned()),
        };
        shelves.push(Shelf::new("The cache in the site's process", found));
    }
    match engine {
        EngineName::File => {
            let directory = settings.file_path();
            let found = files(settings, &directory).map_err(|error| format!("{}: {error}", directory.display()));
            shelves.push(Shelf::new(format!("The directory {}", directory.display()), found));
        }
        EngineName::SignedCookies => {
            let record = |text: &str| {
                let signed = SignedText::new(settings.secrets(), SALT, settings.serializer());
                let read = signed.read(text.as_bytes());
                let when = read.as_ref().map(|(_, signed_at)| format!("signed {}", http_date(*signed_at)));
                let decoded = read.as_ref().map(|(values, _)| values.to_json()).map_err(ToString::to_string);
                Record { key: settings.cookie_name().into(), when: when.unwrap_or_default(), raw: text.into(), decoded }
            };
            let found = cookie.map(record).into_iter().collect();
            shelves.push(Shelf::new("The browser's cookie; the server keeps nothing", Ok(found)));
        }
        EngineName::Db | EngineName::Cache | EngineName::CachedDb => {}
    }
    shelves
}

async fn rows(settings: &Settings, database: &Path) -> Shelf {
    const SELECT: &str = "SELECT session_key, session_data, expire_date FROM django_session ORDER BY expire_date";
    let found = async {
        let file = SqliteConnectOptions::new().filename(database).read_only(true);
        let mut connection = SqliteConnection::connect_with(&file).await?;
        let rows = sqlx::query(SELECT).fetch_all(&mut connection).await?;
        let records = rows.iter().take(SHOWN).map(|row| record(settings, row)).collect::<Result<Vec<_>, _>>()?;
        let schema = "SELECT sql FROM sqlite_master WHERE tbl_name = 'django_session' AND sql IS NOT NULL";
        let made = sqlx::query_scalar::<_, String>(schema).fetch_all(&mut connection).await?;
        connection.close().await?;
        Ok::<_, sqlx::Error>((records, made))
    };
    let (found, note) = match found.await {
        Ok((records, made)) if records.is_empty() => (Ok(records), Some(made.join(";\n") + ";")),
        Ok((records, _)) => (Ok(records), None),
        Err(sqlx::Error::Database(error)) => (Err(error.message().to_owned()), None),
        Err(error) => (Err(error.to_string()), None),
    };
    let mut shelf = Shelf::new(SELECT, found);
    if let Some(made) = note {
        shelf.note = Some(format!("There is no row yet. The table was made so:\n{made}"));
    }
    shelf
}

fn record(settings: &Settings, row: &SqliteRow) -> sqlx::Result<Record> {
    let (raw, when): (String, String) = (row.try_get(1)?, row.try_get(2)?);
    let decoded = decoded(settings.signed_codec().decode(raw.as_bytes()));
    Ok(Record { key: row.try_get(0)?, when: format!("expire_date {when}"), raw, decoded })
}

fn decoded(read: cloakroom::core::Result<Values>) -> Result<String, String> {
    read.map(|values| values.to_json()).map_err(|error| error.to_string())
}

/// The cache's entries; they are read as the engine reads them, since only it knows the form of a private cache.
async fn entries(sessions: &Sessions) -> Result<Vec<Record>, String> {
    let failed = |error: cloakroom::core::Error| error.to_string();
    let (Some(cache), cloakroom::core::engine::Engine::Store { store, codec }) =
        (sessions.cache(), sessions.exchange().engine())
    else {
        return Ok(Vec::new());
    };
    let mut records = Vec::new();
    for key in cache.list(None, SHOWN).await.map_err(failed)? {
        let Some(entry) = cache.load(&key).await.map_err(failed)? else { continue };
        let decoded = match store.load(&key).await.map_err(failed)? {
            Some(stored) => decoded(codec.decode(&stored.payload)),
            None => Err("a mark that the session was deleted".to_owned()),
        };
        let when = format!("expires {}", http_date(entry.expiry));
        records.push(Record { key: key.as_str().into(), when, raw: visible(&entry.payload), decoded });
    }
    Ok(records)
}

/// Bytes as they are where they are text, and by their numbers where not.
fn visible(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains(char::is_control) => text.to_owned(),
        _ => bytes
            .iter()
            .map(|byte| match byte {
                b' '..=b'~' => char::from(*byte).to_string(),
                other => format!("\\x{other:02x}"),
            })
            .collect(),
    }
}

fn files(settings: &Settings, directory: &Path) -> std::io::Result<Vec<Record>> {
    let mut records = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let key = entry.file_name().to_string_lossy().into_owned();
        let content = fs::read(entry.path())?;
        let when = format!("modified {}", http_date(entry.metadata()?.modified()?.into()));
        records.push(Record {
            key,
            when,
            raw: visible(&content),
            decoded: decoded(settings.signed_codec().decode(&content)),
        });
    }
    records.sort_by(|a, b| a.key.cmp(&b.key));
    records.truncate(SHOWN);
    Ok(records)
}
