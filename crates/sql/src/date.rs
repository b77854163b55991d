//! Dates as text, as Django writes them on SQLite and MySQL: `2028-04-12 02:56:50.359375`.
//!
//! SQLite compares them as text, so the form is part of the contract: a space, no offset, six digits of a second or
//! none at all. Reading is as lenient as Python, since other programs write `T`, offsets and shorter fractions.

use cloakroom_core::Timestamp;
use cloakroom_core::wire::expiry::{DateTime, TimeZone};

/// The text of a moment, in UTC or as local time of `zone`. A moment outside the years 1 to 9999 becomes the first or
/// last of them.
pub(crate) fn format(moment: Timestamp, zone: Option<&TimeZone>) -> String {
    let date = zone.and_then(|zone| DateTime::local(moment, zone)).unwrap_or_else(|| moment.into());
    date.civil_text(' ')
}

/// The moment that a text names, `None` if it is no date.
pub(crate) fn parse(text: &str, zone: Option<&TimeZone>) -> Option<Timestamp> {
    let date = DateTime::parse_iso(text.trim()).ok()?;
    Some(date.moment(zone.unwrap_or(&TimeZone::UTC)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_six_digits_or_none() {
        assert_eq!(format(Timestamp::from_micros(1_837_911_410_359_375), None), "2028-03-29 02:56:50.359375");
        assert_eq!(format(Timestamp::from_secs(0), None), "1970-01-01 00:00:00");
        assert_eq!(format(Timestamp::MIN, None), "0001-01-01 00:00:00");
        assert_eq!(format(Timestamp::from_micros(i64::MAX), None), "9999-12-31 23:59:59.999999");
        let zone = TimeZone::named("Asia/Kolkata").unwrap();
        assert_eq!(format(Timestamp::MAX, Some(&zone)), "9999-12-31 23:59:59.999999");
    }

    #[test]
    fn local_time_follows_the_zone() {
        let zone = TimeZone::named("America/Chicago").unwrap();
        let moment = Timestamp::from_secs(2_082_502_496);
        assert_eq!(format(moment, Some(&zone)), "2035-12-28 18:54:56");
        assert_eq!(parse("2035-12-28 18:54:56", Some(&zone)), Some(moment));
    }

    #[test]
    fn odd_forms_are_read_and_nonsense_is_not() {
        let expected = parse("2028-03-29 02:56:50.5", None);
        assert_eq!(expected.unwrap().as_micros() % 1_000_000, 500_000);
        for text in ["2028-03-29T02:56:50.500Z", "2028-03-29 04:56:50.5+02:00", "2028-03-28T21:26:50.5-0530 "] {
            assert_eq!(parse(text, None), expected, "{text}");
        }
        assert_eq!(parse("2028-03-29", None), parse("2028-03-29 00:00", None));
        for text in ["", "now", "2028-02-30 00:00:00", "2028-13-01", "2028-03-29 25:00:00", "0000-01-01", "ü-1-1 é"] {
            assert_eq!(parse(text, None), None, "{text}");
        }
    }
}
