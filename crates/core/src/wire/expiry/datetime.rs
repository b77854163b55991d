//! Python's `datetime`: a civil date and time, with or without an offset, and its ISO text.

use std::fmt;
use std::str::FromStr;

use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};

const DAY_MICROS: i64 = 86_400_000_000;

/// A time zone: what turns moments into local dates where `USE_TZ` is false.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeZone(jiff::tz::TimeZone);

impl TimeZone {
    /// Coordinated universal time.
    pub const UTC: Self = Self(jiff::tz::TimeZone::UTC);

    /// The zone of this machine, or UTC if it cannot be told (Django's `TIME_ZONE = None`).
    pub fn system() -> Self {
        Self(jiff::tz::TimeZone::try_system().unwrap_or(jiff::tz::TimeZone::UTC))
    }

    /// The zone of a name of the time zone database, such as `America/Chicago` (Django's `TIME_ZONE`).
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] if there is no such zone.
    pub fn named(name: &str) -> Result<Self> {
        jiff::tz::TimeZone::get(name).map(Self).map_err(|e| {
            Error::new(
                ErrorKind::Configuration,
                format!(
                    "TIME_ZONE is {name:?}, which is no zone of the time zone database; write \"UTC\" or a name \
                         such as \"Europe/Berlin\""
                ),
            )
            .with_source(e)
        })
    }

    /// The zone's distance from UTC at a moment, in microseconds, positive to the east.
    fn offset_micros(&self, time: Timestamp) -> i64 {
        // jiff's calendar ends a day before Python's on either side; the zone does not change in that day.
        let time = jiff::Timestamp::from_microsecond(time.as_micros()).unwrap_or(if time.as_micros() < 0 {
            jiff::Timestamp::MIN
        } else {
            jiff::Timestamp::MAX
        });
        i64::from(self.0.to_offset(time).seconds()) * 1_000_000
    }

    /// The moment at which a clock of the zone shows `civil`. A time that the clock shows twice is its first showing,
    /// one that it skips is counted with the offset before the skip: Python's `fold=0`.
    fn moment(&self, civil: i64) -> Timestamp {
        let exact = || {
            let (year, month, day, micros) = split(civil);
            let (secs, subsec) = (micros / 1_000_000, micros % 1_000_000);
            let local = jiff::civil::DateTime::new(
                i16::try_from(year).ok()?,
                month as i8,
                day as i8,
                (secs / 3600) as i8,
                (secs / 60 % 60) as i8,
                (secs % 60) as i8,
                subsec as i32 * 1000,
            )
            .ok()?;
            Some(self.0.to_timestamp(local).ok()?.as_microsecond())
        };
        Timestamp::from_micros(
            exact().unwrap_or_else(|| civil.saturating_sub(self.offset_micros(Timestamp::from_micros(civil)))),
        )
    }
}

/// A date and time as Python's `datetime` holds it: a civil date and time of day to the microsecond, in the years 1 to
/// 9999, and either an offset from UTC ("aware") or none ("naive").
///
/// `Display` writes Python's `isoformat()`, [`parse_iso`](Self::parse_iso) reads what Python's `fromisoformat` reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DateTime {
    /// The civil date and time, as microseconds after 1970-01-01 00:00 on the same clock.
    civil: i64,
    /// Microseconds east of UTC.
    offset: Option<i64>,
}

impl DateTime {
    /// An aware date in UTC; `None` outside the years 1 to 9999.
    pub fn utc(time: Timestamp) -> Option<Self> {
        Self::new(time.as_micros(), Some(0))
    }

    /// The naive date that a clock of the zone shows at a moment; `None` outside the years 1 to 9999.
    pub fn local(time: Timestamp, zone: &TimeZone) -> Option<Self> {
        Self::new(time.as_micros().checked_add(zone.offset_micros(time))?, None)
    }

    fn new(civil: i64, offset: Option<i64>) -> Option<Self> {
        (Timestamp::MIN.as_micros()..=Timestamp::MAX.as_micros()).contains(&civil).then_some(Self { civil, offset })
    }

    /// Whether the date has an offset from UTC.
    pub fn is_aware(&self) -> bool {
        self.offset.is_some()
    }

    /// The moment, where `zone` says what a naive date means.
    ///
    /// Within a day of the ends of the calendar it may lie outside [`Timestamp::MIN`] and [`Timestamp::MAX`].
    pub fn moment(&self, zone: &TimeZone) -> Timestamp {
        match self.offset {
            Some(offset) => Timestamp::from_micros(self.civil - offset),
            None => zone.moment(self.civil),
        }
    }

    /// This date moved by so many microseconds on its own clock; `None` outside the years 1 to 9999.
    pub fn checked_add_micros(&self, micros: i64) -> Option<Self> {
        Self::new(self.civil.checked_add(micros)?, self.offset)
    }

    /// Microseconds from `earlier` to this date; `None` if one is aware and the other naive, which Python cannot
    /// subtract either.
    pub fn micros_since(&self, earlier: &Self) -> Option<i64> {
        match (self.offset, earlier.offset) {
            (Some(offset), Some(earlier_offset)) => Some((self.civil - offset) - (earlier.civil - earlier_offset)),
            (None, None) => Some(self.civil - earlier.civil),
            _ => None,
        }
    }

    /// Reads what `datetime.fromisoformat` of Python 3.11 reads, and refuses what it refuses.
    ///
    /// That is: dates as `2031-01-15`, `20310115`, `2031-W03-3`, `2031W033`, `2031-W03`; then, if there is more, any
    /// one character and a time as `04`, `04:42`, `0442`, `04:42:31.94`, with a comma for the dot, and any number of
    /// digits of which six count; then `Z` or an offset in the forms of a time, below 24 hours.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupted`] for anything else.
    pub fn parse_iso(text: &str) -> Result<Self> {
        parse(text.as_bytes())
            .ok_or_else(|| Error::new(ErrorKind::Corrupted, format!("{:?} is no ISO date", shorten(text))))
    }

    /// Date and time without offset, `separator` between them, the fraction six digits or left out if zero.
    ///
    /// With a space, in UTC or in local time as `USE_TZ` says, this is the text that Django stores in SQLite.
    pub fn civil_text(&self, separator: char) -> String {
        let (year, month, day, micros) = split(self.civil);
        let (secs, subsec) = (micros / 1_000_000, micros % 1_000_000);
        let mut date = *b"0000-00-00";
        put_digits(&mut date, 0, year / 100);
        put_digits(&mut date, 2, year);
        put_digits(&mut date, 5, month);
        put_digits(&mut date, 8, day);
        let mut time = *b"00:00:00.000000";
        put_digits(&mut time, 0, secs / 3600);
        put_digits(&mut time, 3, secs / 60 % 60);
        put_digits(&mut time, 6, secs % 60);
        put_digits(&mut time, 9, subsec / 10_000);
        put_digits(&mut time, 11, subsec / 100);
        put_digits(&mut time, 13, subsec);
        let time = if subsec == 0 { &time[..8] } else { &time[..] };
        let mut text = String::with_capacity(date.len() + separator.len_utf8() + time.len());
        text.push_str(std::str::from_utf8(&date).expect("digits and hyphens"));
        text.push(separator);
        text.push_str(std::str::from_utf8(time).expect("digits and colons"));
        text
    }
}

/// Text from a store, cut to what a message should carry.
pub(super) fn shorten(text: &str) -> &str {
    match text.char_indices().nth(48) {
        Some((end, _)) => &text[..end],
        None => text,
    }
}

impl fmt::Display for DateTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.civil_text('T'))?;
        let Some(offset) = self.offset else { return Ok(()) };
        let sign = if offset < 0 { '-' } else { '+' };
        let (secs, subsec) = (offset.abs() / 1_000_000, offset.abs() % 1_000_000);
        write!(f, "{sign}{:02}:{:02}", secs / 3600, secs / 60 % 60)?;
        if secs % 60 != 0 || subsec != 0 {
            write!(f, ":{:02}", secs % 60)?;
        }
        if subsec != 0 {
            write!(f, ".{subsec:06}")?;
        }
        Ok(())
    }
}

impl FromStr for DateTime {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse_iso(text)
    }
}

impl From<Timestamp> for DateTime {
    /// The moment in UTC; one outside the years 1 to 9999 becomes the first or last of them.
    fn from(time: Timestamp) -> Self {
        Self { civil: time.clamp(Timestamp::MIN, Timestamp::MAX).as_micros(), offset: Some(0) }
    }
}

/// Writes the last two digits of a number that is not negative; the formatting machinery takes many times as long.
pub(crate) fn put_digits(text: &mut [u8], at: usize, number: i64) {
    text[at] = b'0' + (number / 10 % 10) as u8;
    text[at + 1] = b'0' + (number % 10) as u8;
}

/// Year, month, day, and microseconds of the day.
fn split(civil: i64) -> (i64, i64, i64, i64) {
    let (year, month, day) = civil_from_days(civil.div_euclid(DAY_MICROS));
    (year, month, day, civil.rem_euclid(DAY_MICROS))
}

/// The date so many days after 1970-01-01, by counting in years that begin in March, whose leap day comes last.
pub(crate) fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468; // since 0000-03-01
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, of_year - (153 * march_month + 2) / 5 + 1)
}

/// Days from 1970-01-01 to a date that exists.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let year_of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year.div_euclid(400) * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year - 719_468
}

fn parse(text: &[u8]) -> Option<DateTime> {
    if text.len() < 7 {
        return None;
    }
    let date_end = date_end(text)?;
    let days = parse_date(text, date_end)?;
    let mut micros = 0;
    let mut offset = None;
    if text.len() > date_end {
        // One character of any kind stands between date and time, however many bytes it has.
        let separator = std::str::from_utf8(&text[date_end..]).ok()?.chars().next()?;
        let time = &text[date_end + separator.len_utf8()..];
        let zone = time.iter().position(|b| matches!(b, b'+' | b'-' | b'Z'));
        let (clock, complete) = parse_clock(time, zone.unwrap_or(time.len()))?;
        // With a zone behind it, Python does not look whether the time was read to its end.
        if zone.is_none() && !complete || clock.hour > 23 || clock.minute > 59 || clock.second > 59 {
            return None;
        }
        micros = clock.micros();
        offset = match zone {
            None => None,
            Some(place) => Some(parse_offset(&time[place..])?),
        };
    }
    DateTime::new(days * DAY_MICROS + micros, offset)
}

/// Where the date ends. The separator may be any character, a digit too, so only the date's own form tells.
fn date_end(text: &[u8]) -> Option<usize> {
    let at = |place: usize| text.get(place).copied().unwrap_or(0);
    if text.len() == 7 {
        return Some(7);
    }
    if at(4) == b'-' {
        if at(5) != b'W' {
            return Some(10);
        }
        // 2031-W03 and a separator, or 2031-W03-3; a hyphen may be either, and a digit two places on decides.
        return match text.len() {
            9 if at(8) == b'-' => None,
            _ if at(8) == b'-' && !at(10).is_ascii_digit() => Some(10),
            _ => Some(8),
        };
    }
    if at(4) == b'W' {
        // 2031W03 or 2031W033, directly followed by a digit as separator or by another character.
        let digits_end = 7 + text[7..].iter().take_while(|b| b.is_ascii_digit()).count();
        return Some(match digits_end {
            7 | 8 => digits_end,
            _ if digits_end % 2 == 0 => 7,
            _ => 8,
        });
    }
    Some(8)
}

/// The date in the first `end` bytes, as days since 1970.
fn parse_date(text: &[u8], end: usize) -> Option<i64> {
    let year = digits(text, 0, 4)?;
    let dashes = usize::from(text.get(4) == Some(&b'-'));
    let mut place = 4 + dashes;
    if text.get(place) == Some(&b'W') {
        let week = digits(text, place + 1, 2)?;
        place += 3;
        let mut weekday = 1;
        if place < end {
            if dashes == 1 && text.get(place) != Some(&b'-') {
                return None;
            }
            weekday = digits(text, place + dashes, 1)?;
        }
        return days_of_week_date(year, week, weekday);
    }
    let month = digits(text, place, 2)?;
    place += 2;
    if dashes == 1 && text.get(place) != Some(&b'-') {
        return None;
    }
    let day = digits(text, place + dashes, 2)?;
    if place + dashes + 2 != end || !(1..=12).contains(&month) || year == 0 {
        return None;
    }
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    (1..=length).contains(&day).then(|| days_from_civil(year, month, day))
}

/// An ISO week date. Week 1 is the one with the year's first Thursday; some years have 53.
fn days_of_week_date(year: i64, week: i64, weekday: i64) -> Option<i64> {
    let first_monday = |year: i64| {
        let fourth = days_from_civil(year, 1, 4);
        fourth - (fourth + 3).rem_euclid(7) // 1970-01-01 was a Thursday
    };
    let monday = first_monday(year) + (week - 1) * 7;
    let exists = (1..=9999).contains(&year)
        && (1..=53).contains(&week)
        && (week < 53 || monday < first_monday(year + 1))
        && (1..=7).contains(&weekday);
    exists.then(|| monday + weekday - 1)
}

#[derive(Default)]
struct ClockTime {
    hour: i64,
    minute: i64,
    second: i64,
    micro: i64,
}

impl ClockTime {
    fn micros(&self) -> i64 {
        ((self.hour * 60 + self.minute) * 60 + self.second) * 1_000_000 + self.micro
    }
}

/// `HH`, `HH:MM`, `HHMM`, `HH:MM:SS`, `HHMMSS`, with a fraction, in `text[..end]`; and whether that is all of `text`.
///
/// Follows the reader of CPython through its odd corners, since a date that Django reads we must read alike: six
/// digits after `HHMMSS` count as a fraction without a dot, and a separator at the very end is left unread.
fn parse_clock(text: &[u8], end: usize) -> Option<(ClockTime, bool)> {
    let at = |place: usize| text.get(place).copied().unwrap_or(0);
    let mut clock = ClockTime::default();
    let mut place = 0;
    let mut colons = true;
    for part in 0..3 {
        let number = digits(text, place, 2)?;
        match part {
            0 => clock.hour = number,
            1 => clock.minute = number,
            _ => clock.second = number,
        }
        let next = at(place + 2);
        place += 3;
        if part == 0 {
            colons = next == b':';
        }
        if place >= end {
            return Some((clock, next == 0));
        }
        match next {
            b':' if colons => {}
            b'.' | b',' => break,
            _ if !colons => place -= 1,
            _ => return None,
        }
    }
    let length = (end - place).min(6);
    clock.micro = digits(text, place, length)? * 10_i64.pow(6 - length as u32);
    place += length;
    while at(place).is_ascii_digit() {
        place += 1;
    }
    Some((clock, at(place) == 0))
}

/// `Z` or a signed time, as microseconds east of UTC.
fn parse_offset(text: &[u8]) -> Option<i64> {
    if text[0] == b'Z' {
        return (text.len() == 1).then_some(0);
    }
    let (clock, complete) = parse_clock(&text[1..], text.len() - 1)?;
    if !complete {
        return None;
    }
    let micros = clock.micros();
    if micros < 1_000_000 {
        return Some(0); // Python takes an offset of no whole second for UTC
    }
    (micros < DAY_MICROS).then_some(if text[0] == b'-' { -micros } else { micros })
}

/// The number in `count` decimal digits.
fn digits(text: &[u8], place: usize, count: usize) -> Option<i64> {
    text.get(place..place + count)?
        .iter()
        .try_fold(0, |number, byte| byte.is_ascii_digit().then(|| number * 10 + i64::from(byte - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Option<String> {
        DateTime::parse_iso(text).ok().map(|date| date.to_string())
    }

    /// What Python 3.11.7 says to each.
    #[test]
    fn reads_what_python_reads() {
        for (text, expected) in [
            ("2031-01-15", "2031-01-15T00:00:00"),
            ("20310115T04", "2031-01-15T04:00:00"),
            ("2031-01-15T04:42:31.940816+00:00", "2031-01-15T04:42:31.940816+00:00"),
            ("2031-01-15 04:42:31,5Z", "2031-01-15T04:42:31.500000+00:00"),
            ("2030-01-01T12:+00:00", "2030-01-01T12:00:00+00:00"),
            ("20300101T123456789", "2030-01-01T12:34:56.789000"),
            ("2026-W53-7", "2027-01-03T00:00:00"),
            ("2030-W01-01", "2029-12-31T01:00:00"),
            ("2030-W01-1T00", "2029-12-31T00:00:00"),
            ("2030-01-01T00+00:00:00.5", "2030-01-01T00:00:00+00:00"),
            ("2030-01-01 00:00:00.1234567", "2030-01-01T00:00:00.123456"),
            ("2030-01-01é00", "2030-01-01T00:00:00"),
            ("2030-01-01T00:00-00:00", "2030-01-01T00:00:00+00:00"),
            ("2030-01-01T00:00:00.+00:00", "2030-01-01T00:00:00+00:00"),
            ("2030-01-01T0000.5", "2030-01-01T00:00:00.500000"),
            ("2030-01-01T00:00-00:00:30", "2030-01-01T00:00:00-00:00:30"),
            ("2030-01-01T00:00+05:30:15.000001", "2030-01-01T00:00:00+05:30:15.000001"),
        ] {
            assert_eq!(read(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn refuses_what_python_refuses() {
        for text in [
            "",
            "12",
            "2030-01",
            "2030-1-1",
            "not a date",
            "2030-01-01T",
            "0000-W01-1",
            "9999-W53-7",
            "2030-W53",
            "2030-01-01T00:00:00+24:00",
            "2030-01-01T00:00:00-23:99",
            "2030-01-01T24:00",
            "2030-01-01T00:00:00.",
            "2030-01-01T00:00Zx",
            "1995-W53-7",
            "2030-02-29",
            "0000-01-01",
            "2030-00-01",
            "+030-01-01",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn local_dates_follow_the_zone() {
        let zone = TimeZone::named("America/Chicago").unwrap();
        // 2027-11-07 06:30 UTC is the first showing of 01:30, 07:30 UTC the second.
        let first = Timestamp::from_secs(1_825_569_000);
        let date = DateTime::local(first, &zone).unwrap();
        assert_eq!(date.to_string(), "2027-11-07T01:30:00");
        assert_eq!(DateTime::local(Timestamp::from_secs(1_825_572_600), &zone).unwrap(), date);
        assert_eq!(date.moment(&zone), first);
        assert!(DateTime::local(Timestamp::MIN, &zone).is_none());
        assert!(TimeZone::named("Atlantis/Capital").is_err());
        // 2027-03-14 02:30 is skipped; with the offset before the skip it is 03:30.
        let skipped = DateTime::parse_iso("2027-03-14T02:30").unwrap().moment(&zone);
        assert_eq!(DateTime::local(skipped, &zone).unwrap().to_string(), "2027-03-14T03:30:00");
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "\\PC*", near in "[0-9]{4}-?W?[0-9]{2}-?[0-9]{0,2}.?[0-9:.,+Z-]{0,20}") {
            let _ = DateTime::parse_iso(&text);
            let _ = DateTime::parse_iso(&near);
        }

        #[test]
        fn written_dates_read_back(
            civil in Timestamp::MIN.as_micros()..=Timestamp::MAX.as_micros(),
            offset in proptest::option::of(-86_399..86_400_i64),
        ) {
            let date = DateTime::new(civil, offset.map(|secs| secs * 1_000_000)).unwrap();
            prop_assert_eq!(DateTime::parse_iso(&date.to_string()).unwrap(), date);
        }
    }
}
