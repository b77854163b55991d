use super::*;
use proptest::prelude::*;

const NOW: Timestamp = Timestamp::from_micros(2_016_693_739_109_375);

fn naive() -> ExpiryRules {
    ExpiryRules { use_tz: false, time_zone: TimeZone::named("America/Chicago").unwrap(), ..ExpiryRules::default() }
}

fn stored(rules: &ExpiryRules, expiry: impl Into<Expiry>) -> Result<Option<String>> {
    rules.stored_item(&expiry.into(), NOW)
}

#[test]
fn what_set_expiry_stores() {
    let rules = ExpiryRules::default();
    assert_eq!(stored(&rules, Expiry::Default).unwrap(), None);
    assert_eq!(stored(&rules, None::<i64>).unwrap(), None);
    assert_eq!(stored(&rules, 300).unwrap().as_deref(), Some("300"));
    assert_eq!(stored(&rules, Expiry::BrowserClose).unwrap().as_deref(), Some("0"));
    assert_eq!(stored(&rules, -0.5).unwrap().as_deref(), Some("-0.5"));
    assert_eq!(stored(&rules, 1e22).unwrap().as_deref(), Some("1e+22"));
    assert_eq!(
        stored(&rules, Duration::from_micros(60_000_001)).unwrap().as_deref(),
        Some("\"2033-11-27T08:43:19.109376+00:00\"")
    );
    assert_eq!(stored(&rules, Some(SystemTime::UNIX_EPOCH)).unwrap().as_deref(), Some("\"1970-01-01T00:00:00+00:00\""));
    assert_eq!(stored(&rules, "2031-01-15T04Z").unwrap().as_deref(), Some("\"2031-01-15T04Z\""));
}

#[test]
fn without_use_tz_dates_are_local() {
    let rules = naive();
    assert_eq!(stored(&rules, Timestamp::from_secs(0)).unwrap().as_deref(), Some("\"1969-12-31T18:00:00\""));
    assert_eq!(stored(&rules, Expiry::After(0)).unwrap().as_deref(), Some("\"2033-11-27T02:42:19.109375\""));
    assert_eq!(rules.date(None, NOW).unwrap().to_string(), "2033-12-11T02:42:19.109375");
    assert_eq!(rules.expires_at(None, NOW).unwrap(), Timestamp::from_micros(NOW.as_micros() + 1_209_600_000_000));
    let item = "\"2033-11-27T02:42:20\"";
    assert_eq!(rules.expires_at(Some(item), NOW).unwrap().as_micros(), 2_016_693_740_000_000);
    assert_eq!(rules.age(Some(item), NOW).unwrap(), Age::Int(0));
    assert_eq!(rules.lifetime(Some(item)).unwrap(), Lifetime::Fixed(Timestamp::from_secs(2_016_693_740)));
}

#[test]
fn what_no_request_could_read_is_refused_at_once() {
    let rules = ExpiryRules::default();
    for expiry in [
        Expiry::from(f64::NAN),
        Expiry::from(f64::INFINITY),
        Expiry::from(Duration::MAX),
        Expiry::After(i64::MIN),
        Expiry::from("soon"),
        Expiry::from(""),
        Expiry::from("2031-01-15T04:00"),
        Expiry::from(DateTime::parse_iso("2031-01-15T04:00").unwrap()),
        // No date before sessions were, and none beyond the calendar.
        Expiry::from("1969-12-31T23:59:59Z"),
        Expiry::from("1970-01-01T00:59:59+01:00"),
        Expiry::from(DateTime::parse_iso("0001-01-01T00:00Z").unwrap()),
        Expiry::from(Timestamp::from_micros(-1)),
        Expiry::from(SystemTime::UNIX_EPOCH - Duration::from_secs(1)),
        Expiry::from(Timestamp::from_micros(Timestamp::MAX.as_micros() + 1)),
        Expiry::from(Timestamp::from_micros(i64::MAX)),
        Expiry::from(Timestamp::from_micros(i64::MIN)),
        Expiry::After(-NOW.as_micros() - 1),
    ] {
        assert_eq!(rules.stored_item(&expiry, NOW).unwrap_err().kind(), ErrorKind::Unrepresentable, "{expiry:?}");
    }
    for (expiry, why) in [
        (Timestamp::from_micros(-1), "the date 1969-12-31T23:59:59.999999+00:00 lies before 1970"),
        (Timestamp::from_micros(i64::MAX), "the date lies outside the years 1 to 9999"),
    ] {
        let said = stored(&rules, expiry).unwrap_err().to_string();
        assert!(said.starts_with("set_expiry: ") && said.contains(why), "{said}");
    }
    assert!(stored(&rules, Timestamp::MAX).is_ok() && stored(&rules, Expiry::After(-NOW.as_micros())).is_ok());
    assert!(stored(&naive(), "1969-12-31T18:00:00").is_ok() && stored(&naive(), "1969-12-31T17:59:59").is_err());
    assert!(stored(&naive(), "2031-01-15T04:00").is_ok());
    assert!(stored(&naive(), "2031-01-15T04:00Z").is_err());
}

#[test]
fn items_that_say_nothing_readable_are_named_in_the_error() {
    let rules = ExpiryRules::default();
    for item in [
        "[1]",
        "{\"a\": 1}",
        "NaN",
        "-Infinity",
        "1e400",
        "99999999999999999999",
        "\"12\"",
        "\"2030-01-01\"",
        "x",
        "\"",
    ] {
        let error = rules.age(Some(item), NOW).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupted, "{item}");
        assert!(error.to_string().contains("_session_expiry"), "{error}");
    }
    assert_eq!(rules.date(Some("1e15"), NOW).unwrap_err().kind(), ErrorKind::Corrupted);
    // A record needs some moment: one beyond the calendar is its last.
    assert_eq!(rules.expires_at(Some("1e15"), NOW).unwrap(), Timestamp::MAX);
    assert_eq!(rules.expires_at(Some("\"0001-01-01T00:00+05:00\""), NOW).unwrap(), Timestamp::MIN);
}

#[test]
fn browser_close_asks_only_for_zero() {
    let rules = ExpiryRules::default();
    for (item, close) in [
        (None, false),
        (Some("null"), false),
        (Some("0"), true),
        (Some("-0.0"), true),
        (Some("false"), true),
        (Some("true"), false),
        (Some("[]"), false),
        (Some("\"\""), false),
        (Some("NaN"), false),
        (Some("{\"a\":1}"), false),
    ] {
        assert_eq!(rules.browser_close(item).unwrap(), close, "{item:?}");
    }
    let closing = ExpiryRules { expire_at_browser_close: true, ..rules };
    assert!(closing.browser_close(None).unwrap() && !closing.browser_close(Some("5")).unwrap());
}

#[test]
fn a_cookies_lifetime_is_cut_after_adding() {
    let (age, expires) = Age::Float(10.5).cookie_lifetime(Timestamp::from_micros(1_500_000));
    assert_eq!((age, expires.as_micros()), (10, 12_000_000));
    assert_eq!(Age::Float(-0.5).cookie_lifetime(Timestamp::from_secs(0)), (0, Timestamp::from_micros(-500_000)));
    assert_eq!(Age::Int(i64::MAX).cookie_lifetime(NOW), (i64::MAX, Timestamp::MAX));
}

#[test]
fn lifetimes_of_the_file_engine() {
    let rules = ExpiryRules::default();
    for item in [None, Some("null"), Some("0"), Some("false"), Some("\"\""), Some("[ ]")] {
        assert_eq!(rules.lifetime(item).unwrap(), Lifetime::Sliding(1_209_600), "{item:?}");
    }
    assert_eq!(rules.lifetime(Some("-1")).unwrap().end(NOW).as_micros(), NOW.as_micros() - 1_000_000);
    assert_eq!(rules.lifetime(Some("10.5")).unwrap(), Lifetime::Sliding(10));
    assert!(rules.lifetime(Some("\"2030-01-01\"")).is_err());
}

proptest! {
    #[test]
    fn no_item_makes_anything_panic(
        item in "\\PC*|\"[0-9:T+-]{0,30}\"|-?[0-9]{1,30}|-?[0-9]{1,4}\\.[0-9]{1,4}(e[+-]?[0-9]{1,3})?",
        now in any::<i64>(),
    ) {
        let now = Timestamp::from_micros(now);
        for rules in [ExpiryRules::default(), naive()] {
            let _ = rules.age(Some(&item), now).map(|age| age.cookie_lifetime(now));
            let _ = rules.date(Some(&item), now);
            let _ = rules.browser_close(Some(&item));
            let _ = rules.lifetime(Some(&item)).map(|lifetime| lifetime.end(now));
            if let Ok(end) = rules.expires_at(Some(&item), now) {
                prop_assert!((Timestamp::MIN..=Timestamp::MAX).contains(&end));
            }
        }
    }

    #[test]
    fn what_is_stored_can_be_read(secs in any::<i64>(), float in any::<f64>(), micros in any::<i64>()) {
        for rules in [ExpiryRules::default(), naive()] {
            for expiry in [secs.into(), float.into(), Expiry::After(micros), Timestamp::from_micros(micros).into()] {
                if let Ok(Some(item)) = rules.stored_item(&expiry, NOW) {
                    prop_assert!(rules.age(Some(&item), NOW).is_ok(), "{item}");
                    prop_assert!(rules.expires_at(Some(&item), NOW).is_ok(), "{item}");
                }
            }
        }
    }
    #[test]
    fn dates_are_written_as_by_a_calendar(micros in Timestamp::MIN.as_micros()..=Timestamp::MAX.as_micros(), whole: bool) {
        let micros = if whole { micros.div_euclid(1_000_000) * 1_000_000 } else { micros };
        let date = DateTime::utc(Timestamp::from_micros(micros)).unwrap();
        let theirs = jiff::Timestamp::from_microsecond(micros);
        // Their calendar ends a day earlier.
        prop_assume!(theirs.is_ok());
        let theirs = theirs.unwrap().strftime(if micros % 1_000_000 == 0 { "%Y-%m-%d\u{2028}%H:%M:%S" } else { "%Y-%m-%d\u{2028}%H:%M:%S.%6f" });
        prop_assert_eq!(date.civil_text('\u{2028}'), theirs.to_string());
        prop_assert_eq!(DateTime::parse_iso(&date.to_string()).unwrap(), date);
    }
}
