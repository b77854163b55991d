//! What SQLite's errors mean, with what to do.

use std::error::Error as StdError;

use cloakroom_core::{Error, ErrorKind};

/// SQLite's primary result codes, <https://www.sqlite.org/rescode.html>.
pub(super) mod code {
    pub(in super::super) const ERROR: u32 = 1;
    pub(in super::super) const BUSY: u32 = 5;
    pub(in super::super) const LOCKED: u32 = 6;
    pub(in super::super) const READONLY: u32 = 8;
    pub(in super::super) const IOERR: u32 = 10;
    pub(in super::super) const CORRUPT: u32 = 11;
    pub(in super::super) const FULL: u32 = 13;
    pub(in super::super) const CANTOPEN: u32 = 14;
    pub(in super::super) const NOTADB: u32 = 26;
}

/// The primary result code of an error that SQLite gave.
pub(super) fn primary_code(error: &sqlx::Error) -> Option<u32> {
    let code: u32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(code & 0xff)
}

/// An error of sqlx, while `doing` something to the database at `place`.
pub(super) fn of_sqlx(doing: &str, place: &str, error: sqlx::Error) -> Error {
    let (code, message) = match &error {
        sqlx::Error::PoolTimedOut => (Some(code::BUSY), String::new()),
        sqlx::Error::Encode(_) => {
            let message = format!("could not {doing}: SQLite cannot carry a value");
            return Error::new(ErrorKind::Unrepresentable, message).with_source(error);
        }
        sqlx::Error::Database(told) => (primary_code(&error), told.message().to_owned()),
        _ => (None, error.to_string()),
    };
    failure(doing, place, code, &message, error)
}

/// The same of rusqlite, where one error may be that of many.
pub(super) fn of_rusqlite(doing: &str, place: &str, error: std::sync::Arc<rusqlite::Error>) -> Error {
    let (code, message) = match &*error {
        rusqlite::Error::SqliteFailure(told, message) => {
            (told.extended_code.unsigned_abs() & 0xff, message.clone().unwrap_or_else(|| told.to_string()))
        }
        // Of a statement that SQLite does not understand, if rusqlite was built to say where.
        other => (code::ERROR, other.to_string()),
    };
    failure(doing, place, Some(code), &message, error)
}

fn failure(
    doing: &str,
    place: &str,
    code: Option<u32>,
    message: &str,
    source: impl StdError + Send + Sync + 'static,
) -> Error {
    let (kind, what) = match code {
        Some(code::BUSY | code::LOCKED) => (
            ErrorKind::Unavailable,
            format!("the database is locked: another program keeps writing to {place}, longer than the busy timeout"),
        ),
        Some(code::READONLY) => {
            (ErrorKind::Unavailable, format!("{place} is read-only: see the permissions of the file and its directory"))
        }
        Some(code::FULL) => (ErrorKind::Unavailable, format!("{place} cannot grow: the disk is full")),
        Some(code::CANTOPEN) => (
            ErrorKind::Unavailable,
            format!("{place} cannot be opened: see the permissions of the file and its directory"),
        ),
        Some(code::IOERR) => (ErrorKind::Unavailable, format!("reading or writing {place} failed")),
        Some(code::CORRUPT) => (
            ErrorKind::Unavailable,
            format!("{place} is damaged: `PRAGMA integrity_check` tells more; restore it from a backup"),
        ),
        Some(code::NOTADB) => (
            ErrorKind::Unavailable,
            format!("{place} is not an SQLite database: see that DATABASE_URL names the right file"),
        ),
        Some(code::ERROR) if message.starts_with("no such table") => {
            (ErrorKind::NotMigrated, format!("{place} has no session table ({message}): run `cloakroom migrate`"))
        }
        Some(code::ERROR) if message.contains("column") => {
            (ErrorKind::Configuration, format!("the session table in {place} is not Django's ({message})"))
        }
        _ => (ErrorKind::Unavailable, format!("{place} failed: {message}")),
    };
    Error::new(kind, format!("could not {doing}: {what}")).with_source(source)
}
