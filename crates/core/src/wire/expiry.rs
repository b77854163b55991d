//! When a session ends: the item `_session_expiry`, and the ages and dates that follow from it.
//!
//! Django keeps a session's own expiry in the session, as a number of seconds (**sliding**: counted anew from every
//! save) or as an ISO date (**fixed**). Without one, `SESSION_COOKIE_AGE` applies, also sliding. Everything here works
//! on the raw JSON text of that item, so that a session need not be decoded to know when it ends.

mod datetime;

use std::fmt;
use std::time::{Duration, SystemTime};

use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::json;

pub use datetime::{DateTime, TimeZone};
pub(crate) use datetime::{civil_from_days, put_digits};

/// The session item that holds a session's own expiry.
pub const EXPIRY_KEY: &str = "_session_expiry";

/// What to do about the end of a session: the argument of `set_expiry`.
///
/// # Sliding or fixed
/// A number of seconds is **sliding**: it is counted from the last save, so a visitor who keeps coming, and whose
/// visits change the session (or `SESSION_SAVE_EVERY_REQUEST`), stays. A [`Duration`], a date and a moment are
/// **fixed**: the session ends then, whatever happens until then. That is Django's rule, where an `int` slides and a
/// `timedelta` does not.
///
/// ```
/// use std::time::Duration;
/// use cloakroom_core::wire::expiry::Expiry;
///
/// assert_eq!(Expiry::from(300), Expiry::Seconds(300));               // five minutes after the last change
/// assert_eq!(Expiry::from(Duration::from_secs(300)), Expiry::After(300_000_000)); // five minutes from now
/// assert_eq!(Expiry::from(0), Expiry::Seconds(0));                   // the same as BrowserClose
/// ```
#[derive(Clone, Debug, PartialEq)]
pub enum Expiry {
    /// No expiry of its own: `SESSION_COOKIE_AGE` and `SESSION_EXPIRE_AT_BROWSER_CLOSE` apply. Python's `None`.
    Default,
    /// A cookie that ends with the browser; the server keeps the record for `SESSION_COOKIE_AGE`. Python's `0`.
    BrowserClose,
    /// Sliding: so many seconds after the last save. Zero means [`BrowserClose`](Self::BrowserClose); a negative
    /// number is a session that has ended.
    Seconds(i64),
    /// Sliding, with a fraction of a second. Python's `float`.
    Fractional(f64),
    /// Fixed: so many microseconds after the call, negative if before. Python's `timedelta`.
    After(i64),
    /// Fixed: a date. An aware date is the same moment whatever `USE_TZ` says; a naive one, which says local time,
    /// is for sites with `USE_TZ` false.
    At(DateTime),
    /// Fixed: a date as ISO text, stored as it is.
    Text(String),
}

impl From<i64> for Expiry {
    fn from(secs: i64) -> Self {
        Self::Seconds(secs)
    }
}
impl From<i32> for Expiry {
    fn from(secs: i32) -> Self {
        Self::Seconds(secs.into())
    }
}
impl From<u32> for Expiry {
    fn from(secs: u32) -> Self {
        Self::Seconds(secs.into())
    }
}
impl From<f64> for Expiry {
    fn from(secs: f64) -> Self {
        Self::Fractional(secs)
    }
}
impl From<Duration> for Expiry {
    /// Fixed: the session ends so long after the call. For a sliding expiry give seconds.
    fn from(after: Duration) -> Self {
        Self::After(i64::try_from(after.as_micros()).unwrap_or(i64::MAX))
    }
}
impl From<Timestamp> for Expiry {
    /// A moment outside the calendar is refused where it is set.
    fn from(moment: Timestamp) -> Self {
        match DateTime::utc(moment) {
            Some(date) => Self::At(date),
            None => Self::After(if moment > Timestamp::MAX { i64::MAX } else { i64::MIN }),
        }
    }
}
impl From<SystemTime> for Expiry {
    fn from(moment: SystemTime) -> Self {
        Timestamp::from(moment).into()
    }
}
impl From<DateTime> for Expiry {
    fn from(date: DateTime) -> Self {
        Self::At(date)
    }
}
impl From<String> for Expiry {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}
impl From<&str> for Expiry {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}
impl<T: Into<Expiry>> From<Option<T>> for Expiry {
    /// `None` is [`Expiry::Default`].
    fn from(expiry: Option<T>) -> Self {
        expiry.map_or(Self::Default, Into::into)
    }
}

/// How long a session lives, in seconds. Negative or zero if it has ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Age {
    /// Whole seconds.
    Int(i64),
    /// Seconds that were given with a fraction. Always finite.
    Float(f64),
}

impl Age {
    /// Whole seconds, a fraction cut off toward zero: what `Max-Age` says.
    pub fn as_secs(self) -> i64 {
        match self {
            Self::Int(secs) => secs,
            Self::Float(secs) => secs as i64,
        }
    }

    /// Seconds with their fraction.
    pub fn as_secs_f64(self) -> f64 {
        match self {
            Self::Int(secs) => secs as f64,
            Self::Float(secs) => secs,
        }
    }

    /// `Max-Age` in seconds and `expires` of a cookie that is sent now: the second argument of
    /// [`CookieWriter::set`](super::cookie::CookieWriter::set). A moment after the year 9999 becomes its last.
    pub fn cookie_lifetime(self, now: Timestamp) -> (i64, Timestamp) {
        (self.as_secs(), limited(now, self.as_micros()))
    }

    /// Microseconds, rounded as Python's `timedelta` rounds them.
    fn as_micros(self) -> i64 {
        match self {
            Self::Int(secs) => secs.saturating_mul(1_000_000),
            Self::Float(secs) => {
                let fraction = (secs.fract() * 1e6).round_ties_even() as i64;
                (secs.trunc() as i64).saturating_mul(1_000_000).saturating_add(fraction)
            }
        }
    }
}

impl fmt::Display for Age {
    /// As Python would print it, which is also JSON: `300`, `10.5`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(secs) => secs.fmt(f),
            Self::Float(secs) => f.write_str(&json::to_string(secs).unwrap_or_default()),
        }
    }
}

/// How a file of the file engine ends: counted from its last save, or at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// So many seconds after the last save.
    Sliding(i64),
    /// At this moment, whenever it was saved.
    Fixed(Timestamp),
}

impl Lifetime {
    /// The moment of the end, for a record that was last saved at `saved`, within the years 1 to 9999.
    pub fn end(self, saved: Timestamp) -> Timestamp {
        match self {
            Self::Sliding(secs) => limited(saved, secs.saturating_mul(1_000_000)),
            Self::Fixed(moment) => moment,
        }
    }
}

/// A moment moved by microseconds, kept within Python's calendar.
fn limited(time: Timestamp, micros: i64) -> Timestamp {
    Timestamp::from_micros(time.as_micros().saturating_add(micros)).clamp(Timestamp::MIN, Timestamp::MAX)
}

/// The settings that decide when sessions end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpiryRules {
    /// `SESSION_COOKIE_AGE`, seconds: the lifetime of a session without an expiry of its own.
    pub cookie_age: i64,
    /// `SESSION_EXPIRE_AT_BROWSER_CLOSE`, for sessions without an expiry of their own.
    pub expire_at_browser_close: bool,
    /// `USE_TZ`: whether dates are aware, in UTC, or naive, in the local time of [`time_zone`](Self::time_zone).
    pub use_tz: bool,
    /// `TIME_ZONE`; matters only if `use_tz` is false.
    pub time_zone: TimeZone,
}

impl Default for ExpiryRules {
    /// Django's defaults: 14 days, cookies that outlive the browser, aware dates.
    fn default() -> Self {
        Self { cookie_age: 1_209_600, expire_at_browser_close: false, use_tz: true, time_zone: TimeZone::UTC }
    }
}

/// The item, as far as it decides about the end.
enum Item {
    Missing,
    /// A value that Python counts as false, and whether it equals 0.
    False {
        zero: bool,
    },
    EmptyText,
    Age(Age),
    Text(String),
}

impl ExpiryRules {
    /// The raw JSON text to store as `_session_expiry`, or `None` to remove the item.
    ///
    /// # Errors
    /// [`ErrorKind::Unrepresentable`] for what no later request could read: a number that is not finite, a date outside
    /// the years 1 to 9999, text that is no ISO date, a naive date where `USE_TZ` is true, text with an offset where
    /// it is false; and for a date before 1970, which comes of a mistake and would end the session at once.
    pub fn stored_item(&self, expiry: &Expiry, now: Timestamp) -> Result<Option<String>> {
        let refused = |what: String| Err(Error::new(ErrorKind::Unrepresentable, format!("set_expiry: {what}")));
        let date = |date: Option<DateTime>| match date {
            Some(date) if self.is_before_1970(&date) => refused(before_1970(&date)),
            Some(date) => Ok(Some(format!("\"{date}\""))),
            None => refused("the date lies outside the years 1 to 9999".into()),
        };
        match expiry {
            Expiry::Default => Ok(None),
            Expiry::BrowserClose => Ok(Some("0".into())),
            Expiry::Seconds(secs) => Ok(Some(secs.to_string())),
            Expiry::Fractional(secs) if !secs.is_finite() => refused(format!("{secs} is no number of seconds")),
            Expiry::Fractional(secs) => json::to_string(secs).map(Some),
            Expiry::After(micros) => date(self.date_of(now).and_then(|now| now.checked_add_micros(*micros))),
            Expiry::At(at) if at.is_aware() == self.use_tz => date(Some(*at)),
            Expiry::At(at) if at.is_aware() => date(DateTime::local(at.moment(&self.time_zone), &self.time_zone)),
            Expiry::At(at) => refused(format!("the date {at} has no offset from UTC, and USE_TZ is true")),
            Expiry::Text(text) => match DateTime::parse_iso(text) {
                Err(error) => refused(error.to_string()),
                Ok(at) if at.is_aware() != self.use_tz => refused(format!(
                    "the date {text:?} {} an offset from UTC, and USE_TZ is {}",
                    if at.is_aware() { "has" } else { "lacks" },
                    self.use_tz
                )),
                Ok(at) if self.is_before_1970(&at) => refused(before_1970(&at)),
                Ok(_) => json::to_string(text).map(Some),
            },
        }
    }

    /// `get_expiry_age`: how long the session lives, counted from `modification` if its expiry is a date, and rounded
    /// down then.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupted`] if the item says nothing that an age follows from: unreadable text, a date that has an
    /// offset where `USE_TZ` is false or lacks one where it is true, a number beyond all bounds, a list.
    pub fn age(&self, item: Option<&str>, modification: Timestamp) -> Result<Age> {
        Ok(match read(item)? {
            Item::Missing | Item::False { .. } | Item::EmptyText => Age::Int(self.cookie_age),
            Item::Age(age) => age,
            Item::Text(text) => {
                let expiry = parse_date(&text)?;
                let modification = self.date_of(modification).ok_or_else(|| corrupted("the year is out of bounds"))?;
                let micros = expiry.micros_since(&modification).ok_or_else(|| self.mixed(&text))?;
                Age::Int(micros.div_euclid(1_000_000))
            }
        })
    }

    /// `get_expiry_date`: when the session ends if it was last modified at `modification`. A stored date is given as
    /// it is; otherwise the date is aware in UTC, or naive local time where `USE_TZ` is false.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupted`] if the item says nothing that a date follows from, or one outside the years 1 to 9999.
    pub fn date(&self, item: Option<&str>, modification: Timestamp) -> Result<DateTime> {
        let age = match read(item)? {
            Item::Text(text) => return parse_date(&text),
            Item::EmptyText => return parse_date(""),
            Item::Age(age) => age,
            Item::Missing | Item::False { .. } => Age::Int(self.cookie_age),
        };
        self.date_of(modification)
            .and_then(|date| date.checked_add_micros(age.as_micros()))
            .ok_or_else(|| corrupted("the date lies outside the years 1 to 9999"))
    }

    /// The moment at which the store's record expires if the session is saved now: [`date`](Self::date) as a moment,
    /// where one beyond the calendar becomes its last (so that a lifetime of "for ever" works), a date without offset
    /// is local time, and empty text says nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupted`] as for [`age`](Self::age), except that the kind of the date does not matter.
    pub fn expires_at(&self, item: Option<&str>, now: Timestamp) -> Result<Timestamp> {
        Ok(match read(item)? {
            Item::Missing | Item::False { .. } | Item::EmptyText => limited(now, Age::Int(self.cookie_age).as_micros()),
            Item::Age(age) => limited(now, age.as_micros()),
            Item::Text(text) => parse_date(&text)?.moment(&self.time_zone).clamp(Timestamp::MIN, Timestamp::MAX),
        })
    }

    /// `get_expire_at_browser_close`: whether the cookie ends with the browser.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupted`] if the item is not JSON.
    pub fn browser_close(&self, item: Option<&str>) -> Result<bool> {
        // Any value has an answer here, so one that has no age is only looked at for being there.
        match item.map(str::trim) {
            None | Some("null") => Ok(self.expire_at_browser_close),
            Some(text) if text.starts_with(['{', '[', 'N', 'I', '"']) || text.starts_with("-I") => Ok(false),
            item => Ok(matches!(read(item)?, Item::False { zero: true })),
        }
    }

    /// How long the session lives, apart from when it was saved: for an engine that keeps no date of its own.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupted`] as for [`age`](Self::age).
    pub fn lifetime(&self, item: Option<&str>) -> Result<Lifetime> {
        Ok(match read(item)? {
            Item::Missing | Item::False { .. } | Item::EmptyText => Lifetime::Sliding(self.cookie_age),
            Item::Age(Age::Int(secs)) => Lifetime::Sliding(secs),
            Item::Age(Age::Float(secs)) => Lifetime::Sliding(secs.floor() as i64),
            Item::Text(text) => {
                let date = parse_date(&text)?;
                if date.is_aware() != self.use_tz {
                    return Err(self.mixed(&text));
                }
                Lifetime::Fixed(date.moment(&self.time_zone).clamp(Timestamp::MIN, Timestamp::MAX))
            }
        })
    }

    fn is_before_1970(&self, date: &DateTime) -> bool {
        date.moment(&self.time_zone) < Timestamp::from_secs(0)
    }

    /// A moment as `timezone.now()` would show it under these settings.
    fn date_of(&self, time: Timestamp) -> Option<DateTime> {
        if self.use_tz { DateTime::utc(time) } else { DateTime::local(time, &self.time_zone) }
    }

    fn mixed(&self, text: &str) -> Error {
        let (has, use_tz) = if self.use_tz { ("lacks", "true") } else { ("has", "false") };
        corrupted(format!(
            "the date {:?} {has} an offset from UTC, and USE_TZ is {use_tz}; was USE_TZ changed?",
            datetime::shorten(text)
        ))
    }
}

fn corrupted(what: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Corrupted, format!("the item {EXPIRY_KEY} of the session cannot be read: {what}"))
}

fn before_1970(date: &DateTime) -> String {
    format!("the date {date} lies before 1970, when no session was; a clock that is wrong, or a difference for a date?")
}

fn parse_date(text: &str) -> Result<DateTime> {
    DateTime::parse_iso(text).map_err(corrupted)
}

/// What the raw JSON text of the item says.
fn read(item: Option<&str>) -> Result<Item> {
    let Some(text) = item else { return Ok(Item::Missing) };
    let text = text.trim_matches([' ', '\t', '\n', '\r']);
    let age = |age: Age| if age.as_secs_f64() == 0.0 { Item::False { zero: true } } else { Item::Age(age) };
    let empty_inside = |open, close| {
        let inside: Option<&str> = text.strip_prefix(open).and_then(|rest| rest.strip_suffix(close));
        inside.is_some_and(|inside| inside.trim().is_empty())
    };
    match text.as_bytes() {
        b"null" => Ok(Item::Missing),
        b"false" => Ok(Item::False { zero: true }),
        b"true" => Ok(age(Age::Int(1))),
        b"\"\"" => Ok(Item::EmptyText),
        [b'"', ..] => match json::RawJson::parse(text) {
            // Half a surrogate pair may even stand in a date, as the separator, which may be any character.
            Ok(valid) => {
                Ok(Item::Text(json::unescape_lossy(&valid.as_str()[1..valid.as_str().len() - 1]).into_owned()))
            }
            Err(error) => Err(corrupted(error)),
        },
        [b'[' | b'{', ..] if empty_inside('[', ']') || empty_inside('{', '}') => Ok(Item::False { zero: false }),
        [b'0'..=b'9', ..] | [b'-', b'0'..=b'9', ..] => {
            if text.bytes().any(|b| matches!(b, b'.' | b'e' | b'E')) {
                match text.parse::<f64>() {
                    Ok(secs) if secs.is_finite() => Ok(age(Age::Float(secs))),
                    _ => Err(corrupted(format!("{} is no number of seconds", datetime::shorten(text)))),
                }
            } else {
                text.parse()
                    .map(|secs| age(Age::Int(secs)))
                    .map_err(|_| corrupted(format!("{} is no number of seconds", datetime::shorten(text))))
            }
        }
        _ => Err(corrupted("it is neither a number of seconds nor a date")),
    }
}

#[cfg(test)]
mod tests;
