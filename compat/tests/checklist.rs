//! What Django's own session tests assert, by the numbers of the checklist. Sections A to I; section J, which is about
//! signing, stands with the core. An item in its asynchronous form is the same item here, where I/O has only that form.
//!
//! Of section A the items run on every embedded engine, except where the list excepts one. Items C4 and C5 stand with
//! the core, where a cache can be broken. The rest of B9 waits for the engines that it is about.

mod support;

use std::time::Duration;

use cloakroom_core::store::Deleted;
use cloakroom_core::wire::expiry::{DateTime, Expiry};
use cloakroom_core::{ErrorKind, KeySource, SessionKey, Timestamp};
use support::{Options, Site};

const NOW: Timestamp = Timestamp::from_secs(1_900_000_000);
const AGE: i64 = 1_209_600;

async fn site(engine: &'static str) -> Site {
    Site::open(engine, options()).await
}

fn options() -> Options<'static> {
    Options {
        secret: "checklist",
        fallbacks: Vec::new(),
        cookie_age: AGE,
        save_every_request: false,
        now: NOW,
        keys: Vec::new(),
    }
}

/// One item on each engine.
macro_rules! on {
    (@one [$($engine:ident),*] $name:ident $site:ident $body:block) => {
        mod $name {
            use super::*;
            async fn check($site: Site) $body
            $(#[tokio::test]
            async fn $engine() {
                check(site(stringify!($engine)).await).await;
            })*
        }
    };
    ($engines:tt $($name:ident: |$site:ident| $body:block)*) => {
        $(on!(@one $engines $name $site $body);)*
    };
}

// State and mapping behaviour, encoding of expiry: every engine.
on! { [db, cache, cached_db, file, signed_cookies]
    a01_a_new_session_is_neither_modified_nor_accessed: |site| {
        let slot = site.request(None);
        assert!(!slot.modified() && !slot.accessed());
    }
    a02_a03_a_missing_item_is_none: |site| {
        assert_eq!(site.request(None).load().await.unwrap().get::<String>("foo").unwrap(), None);
    }
    a04_a05_assigning_marks_as_modified_and_popping_gives_the_value: |site| {
        let session = site.request(None).load().await.unwrap();
        session.insert("foo", "bar").unwrap();
        assert!(session.modified());
        assert_eq!(session.remove::<String>("foo").unwrap().unwrap(), "bar");
    }
    a06_a07_popping_an_existing_item: |site| {
        let session = site.request(None).load().await.unwrap();
        session.insert("some key", "exists").unwrap();
        session.slot().reset_flags();
        assert_eq!(session.remove::<String>("some key").unwrap().unwrap(), "exists");
        assert!(session.accessed() && session.modified());
        assert!(session.get_raw("some key").is_none());
    }
    a08_to_a13_popping_a_missing_item: |site| {
        let session = site.request(None).load().await.unwrap();
        assert_eq!(session.remove::<String>("some key").unwrap().unwrap_or("does not exist".into()), "does not exist");
        assert!(session.accessed() && !session.modified());
        assert!(session.remove_raw("some key").is_none());
    }
    a14_a15_setdefault: |site| {
        let session = site.request(None).load().await.unwrap();
        assert_eq!(session.get_or_insert_with("foo", || "bar".to_owned()).unwrap(), "bar");
        assert_eq!(session.get_or_insert_with("foo", || "baz".to_owned()).unwrap(), "bar");
        assert!(session.accessed() && session.modified());
    }
    a16_a17_update: |site| {
        let session = site.request(None).load().await.unwrap();
        session.extend([("update key", 1)]).unwrap();
        assert!(session.accessed() && session.modified());
        assert_eq!(session.get("update key").unwrap(), Some(1));
    }
    a18_a19_membership: |site| {
        let session = site.request(None).load().await.unwrap();
        session.insert("some key", &1).unwrap();
        session.slot().reset_flags();
        assert!(session.contains_key("some key"));
        assert!(session.accessed() && !session.modified());
    }
    a20_to_a25_values_keys_items: |site| {
        let session = site.request(None).load().await.unwrap();
        assert_eq!(session.iter().count(), 0);
        assert!(session.accessed());
        session.insert("some key", &1).unwrap();
        session.slot().reset_flags();
        let items: Vec<_> = session.iter().map(|(key, value)| (key, value.as_str().to_owned())).collect();
        assert_eq!(items, [("some key".to_owned(), "1".to_owned())]);
        assert!(session.accessed() && !session.modified());
        session.slot().reset_flags();
        assert_eq!(session.keys(), ["some key"]);
        assert!(session.accessed() && !session.modified());
    }
    a26_clear: |site| {
        let session = site.request(None).load().await.unwrap();
        session.insert("some key", &1).unwrap();
        session.slot().reset_flags();
        session.clear();
        assert_eq!(session.len(), 0);
        assert!(session.accessed() && session.modified());
    }
    a29_a30_a_deleted_session_does_not_exist: |site| {
        let slot = site.request(None);
        slot.save().await.unwrap();
        let key = slot.key().unwrap();
        if let Some(store) = site.store() {
            store.delete(&key, None).await.unwrap();
        }
        assert!(!site.exists(Some(key.as_str())).await);
    }
    a31_a32_flush: |site| {
        let session = site.request(None).load().await.unwrap();
        session.insert("foo", "bar").unwrap();
        session.save().await.unwrap();
        let before = session.key();
        session.flush();
        site.exchange.commit(session.slot(), 200).await.unwrap();
        assert!(!site.exists(before.as_ref().map(SessionKey::as_str)).await);
        assert!(session.key().is_none() && session.modified() && session.accessed());
    }
    a35_a36_cycle_key_keeps_data_that_was_not_loaded: |site| {
        let session = site.request(None).load().await.unwrap();
        session.insert("k", "v").unwrap();
        session.save().await.unwrap();
        let again = site.request(session.key().as_ref().map(SessionKey::as_str)).load().await.unwrap();
        again.cycle_key().unwrap();
        again.save().await.unwrap();
        let last = site.request(again.key().as_ref().map(SessionKey::as_str)).load().await.unwrap();
        assert_eq!(last.get::<String>("k").unwrap().unwrap(), "v");
    }
    a37_a38_save_keeps_the_data_in_memory: |site| {
        let session = site.request(None).load().await.unwrap();
        session.insert("key", &1).unwrap();
        session.save().await.unwrap();
        assert_eq!(session.get("key").unwrap(), Some(1));
    }
    a39_a40_a_short_key_is_not_adopted: |site| {
        let slot = site.request(Some("1"));
        slot.save().await.unwrap();
        assert_ne!(slot.key().unwrap().as_str(), "1");
        assert_eq!(slot.load().await.unwrap().len(), 0);
    }
    a41_to_a44_presented_keys: |site| {
        assert!(site.request(Some("")).key().is_none());
        assert!(site.request(Some("1234567")).key().is_none());
        // A44: the key can be read, and there is no way to assign it.
        assert_eq!(site.request(Some("12345678")).key().unwrap().as_str(), "12345678");
    }
    a49_a50_default_expiry: |site| {
        let session = site.request(None).load().await.unwrap();
        assert_eq!(session.expiry_age().unwrap().as_secs(), AGE);
        session.set_expiry(0).unwrap();
        assert_eq!(session.expiry_age().unwrap().as_secs(), AGE);
    }
    a51_a52_expiry_in_seconds: |site| {
        let session = site.request(None).load().await.unwrap();
        session.set_expiry(10).unwrap();
        assert_eq!(session.expiry_date_from(NOW).unwrap(), DateTime::from(Timestamp::from_secs(1_900_000_010)));
        assert_eq!(session.expiry_age_from(NOW).unwrap().as_secs(), 10);
    }
    a53_a54_expiry_as_a_span: |site| {
        let session = site.request(None).load().await.unwrap();
        session.set_expiry(Duration::from_secs(10)).unwrap();
        assert_eq!(session.expiry_date_from(NOW).unwrap(), DateTime::from(Timestamp::from_secs(1_900_000_010)));
        assert_eq!(session.expiry_age_from(NOW).unwrap().as_secs(), 10);
    }
    a55_a56_expiry_as_a_date: |site| {
        let session = site.request(None).load().await.unwrap();
        let end = Timestamp::from_secs(1_900_000_010);
        session.set_expiry(end).unwrap();
        assert_eq!(session.expiry_date_from(NOW).unwrap(), DateTime::from(end));
        assert_eq!(session.expiry_age_from(NOW).unwrap().as_secs(), 10);
    }
    a57_a58_expiry_reset: |site| {
        let session = site.request(None).load().await.unwrap();
        session.set_expiry(Expiry::Default).unwrap();
        session.set_expiry(10).unwrap();
        session.set_expiry(Expiry::Default).unwrap();
        assert_eq!(session.expiry_age().unwrap().as_secs(), AGE);
    }
    a59_a60_browser_close: |site| {
        let session = site.request(None).load().await.unwrap();
        for (expiry, closes) in [(Expiry::from(10), false), (Expiry::from(0), true), (Expiry::Default, false)] {
            session.set_expiry(expiry).unwrap();
            assert_eq!(session.expires_at_browser_close().unwrap(), closes);
        }
        let rules = cloakroom_core::wire::expiry::ExpiryRules { expire_at_browser_close: true, ..Default::default() };
        for (item, closes) in [(Some("10"), false), (Some("0"), true), (None, true)] {
            assert_eq!(rules.browser_close(item).unwrap(), closes);
        }
    }
    a61_a62_f2_an_expired_session_is_not_read: |site| {
        let session = site.request(None).load().await.unwrap();
        session.insert("foo", "bar").unwrap();
        session.set_expiry(Timestamp::from_secs(1_899_999_990)).unwrap();
        session.save().await.unwrap();
        let again = site.request(session.key().as_ref().map(SessionKey::as_str)).load().await.unwrap();
        assert!(!again.contains_key("foo"));
    }
    i11_i12_test_cookie: |site| {
        let session = site.request(None).load().await.unwrap();
        assert!(!session.test_cookie_worked());
        session.set_test_cookie();
        assert!(session.test_cookie_worked());
        session.delete_test_cookie().unwrap();
        assert!(!session.contains_key("testcookie"));
        assert_eq!(session.delete_test_cookie().unwrap_err().kind(), ErrorKind::Missing);
    }
    i13_is_empty_on_a_new_object: |site| {
        assert!(site.request(None).is_empty());
    }
}

// What signed_cookies cannot do (F3).
on! { [db, cache, cached_db, file]
    a27_a28_e2_e4_e5_a_saved_session_exists: |site| {
        let slot = site.request(None);
        slot.save().await.unwrap();
        assert!(site.exists(slot.key().as_ref().map(SessionKey::as_str)).await);
        let created = site.request(None);
        created.create().await.unwrap();
        created.save().await.unwrap();
        assert!(site.exists(created.key().as_ref().map(SessionKey::as_str)).await);
    }
    a33_a34_cycle_key: |site| {
        let session = site.request(None).load().await.unwrap();
        session.extend([("a", "c"), ("b", "d")]).unwrap();
        session.save().await.unwrap();
        let (before, data) = (session.key(), session.to_json());
        session.cycle_key().unwrap();
        session.save().await.unwrap();
        assert!(!site.exists(before.as_ref().map(SessionKey::as_str)).await);
        assert_ne!(session.key(), before);
        let again = site.request(session.key().as_ref().map(SessionKey::as_str)).load().await.unwrap();
        assert_eq!(again.to_json(), data);
    }
    a45_a46_an_unknown_key_makes_no_record: |site| {
        let slot = site.request(Some("someunknownkey"));
        slot.load().await.unwrap();
        assert!(slot.key().is_none());
        assert!(!site.exists(Some("someunknownkey")).await);
        slot.save().await.unwrap();
        assert_ne!(slot.key().unwrap().as_str(), "someunknownkey");
    }
    a47_a48_a_deleted_session_is_not_revived: |site| {
        let first = site.request(None).load().await.unwrap();
        first.insert("foo", "bar").unwrap();
        first.save().await.unwrap();
        let key = first.key().unwrap();
        let deleted = site.store().unwrap().delete(&key, None).await.unwrap();
        assert!(matches!(deleted, Deleted::Deleted));
        first.insert("foo", "again").unwrap();
        assert_eq!(first.save().await.unwrap_err().kind(), ErrorKind::Interrupted);
        assert!(!site.exists(Some(key.as_str())).await);
        assert!(first.slot().reload().await.unwrap().is_empty());
    }
    c2_e1_an_over_long_key_reads_as_empty: |site| {
        let slot = site.request(Some(&"a".repeat(1240)));
        assert_eq!(slot.load().await.unwrap().len(), 0);
    }
    b4_b5_d4_h_clear_expired: |site| {
        for (name, expiry) in [("hour", Some(3600)), ("gone", Some(-3600)), ("none", None)] {
            let session = site.request(None).load().await.unwrap();
            session.insert(name, &1).unwrap();
            if let Some(seconds) = expiry {
                session.set_expiry(Timestamp::from_secs(NOW.as_secs() + seconds)).unwrap();
            }
            session.save().await.unwrap();
        }
        // D4 sets the default age to 0, so that what has no expiry of its own has ended too.
        site.clear_expired().await;
        let mut left = Vec::new();
        for key in site.keys().await {
            left.extend(site.request(Some(key.as_str())).load().await.unwrap().keys());
        }
        left.sort();
        assert_eq!(left, ["_session_expiry", "hour", "none"]);
    }
    d2_d3_keys_of_other_characters_reach_no_store: |site| {
        for key in [r"a\b\c\d\e", "a/b/c/d/e", "../../etc/passwd", "ABCDEFGHIJ", "abcdefgh\0"] {
            let slot = site.request(Some(key));
            assert_eq!(slot.load().await.unwrap().len(), 0, "{key:?}");
            assert!(slot.key().is_none());
        }
    }
    g5_g6_a_server_error_saves_nothing: |site| {
        for status in [500, 503] {
            let slot = site.request(None);
            slot.load().await.unwrap().insert("hello", "world").unwrap();
            let answer = site.exchange.commit(&slot, status).await.unwrap();
            assert_eq!(answer.set_cookie, None);
            assert!(site.keys().await.is_empty());
        }
    }
    g7_a_session_that_was_deleted_meanwhile: |site| {
        let first = site.request(None).load().await.unwrap();
        first.insert("hello", "world").unwrap();
        first.save().await.unwrap();
        let slot = site.request(first.key().as_ref().map(SessionKey::as_str));
        slot.load().await.unwrap().insert("hello", "again").unwrap();
        site.store().unwrap().delete(&first.key().unwrap(), None).await.unwrap();
        let error = site.exchange.commit(&slot, 200).await.unwrap_err();
        assert_eq!((error.kind(), error.status()), (ErrorKind::Interrupted, 400));
        assert!(error.to_string().contains("deleted before the request completed"));
        assert!(site.keys().await.is_empty());
    }
    g12_emptied_but_keyed: |site| {
        let first = site.request(None).load().await.unwrap();
        first.insert("foo", "bar").unwrap();
        first.save().await.unwrap();
        let key = first.key().unwrap();
        let slot = site.request(Some(key.as_str()));
        slot.load().await.unwrap().remove_raw("foo").unwrap();
        let answer = site.exchange.commit(&slot, 200).await.unwrap();
        assert!(answer.vary && answer.set_cookie.unwrap().contains(key.as_str()));
        assert_eq!(site.request(Some(key.as_str())).load().await.unwrap().to_json(), "{}");
    }
}

on! { [db, cache, cached_db, file, signed_cookies]
    g8_g10_flush: |site| {
        let first = site.request(None).load().await.unwrap();
        first.insert("foo", "bar").unwrap();
        first.save().await.unwrap();
        let slot = site.request(first.key().as_ref().map(SessionKey::as_str));
        slot.flush();
        let answer = site.exchange.commit(&slot, 200).await.unwrap();
        assert_eq!(
            answer.set_cookie.unwrap(),
            "sessionid=\"\"; expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0; Path=/; SameSite=Lax"
        );
        assert!(answer.vary);

        let without_cookie = site.request(None);
        without_cookie.flush();
        let answer = site.exchange.commit(&without_cookie, 200).await.unwrap();
        assert_eq!(answer.set_cookie, None);
        assert!(answer.vary);
    }
}

/// Checklist C1, as far as there is such a question here: to read a saved session, the database is not asked.
#[tokio::test]
async fn c1_a_cached_session_is_read_without_the_database() {
    let site = site("cached_db").await;
    let first = site.request(None).load().await.unwrap();
    first.insert("foo", "bar").unwrap();
    first.save().await.unwrap();
    site.remove_database();
    let again = site.request(first.key().as_ref().map(SessionKey::as_str)).load().await.unwrap();
    assert_eq!(again.get::<String>("foo").unwrap().unwrap(), "bar");
    let other = site.request(Some("0123456789abcdef")).load().await;
    assert_eq!(other.unwrap_err().kind(), ErrorKind::Unavailable, "the database is really gone");
}

#[tokio::test]
async fn c2_an_over_long_key_loads_as_empty() {
    for engine in ["db", "cache", "cached_db", "file"] {
        let site = site(engine).await;
        let slot = site.request(Some(&"1".repeat(1240)));
        assert_eq!(slot.load().await.unwrap().len(), 0, "{engine}");
        assert!(slot.key().is_none());
    }
}

#[tokio::test]
async fn c3_an_unknown_cache_alias_fails_at_once() {
    for engine in ["cached_db", "cache"] {
        let settings = cloakroom::Settings::builder().toml(&format!(
            "SECRET_KEY = 'checklist'\nSESSION_ENGINE = '{engine}'\nSESSION_CACHE_ALIAS = 'sessions'\n\
             DATABASE_URL = 'sqlite::memory:'\n[CACHES.default]\nBACKEND = 'locmem'"
        ));
        let error = settings.build().unwrap_err().to_string();
        assert!(error.contains("SESSION_CACHE_ALIAS") && error.contains("sessions"), "{error}");
    }
}

#[tokio::test]
async fn d4_with_a_default_age_of_zero() {
    for engine in ["db", "cache", "cached_db", "file"] {
        let site = Site::open(engine, Options { cookie_age: 0, ..options() }).await;
        for expiry in [Some(3600), Some(-3600), None] {
            let session = site.request(None).load().await.unwrap();
            session.insert("k", &1).unwrap();
            if let Some(seconds) = expiry {
                session.set_expiry(Timestamp::from_secs(NOW.as_secs() + seconds)).unwrap();
            }
            session.save().await.unwrap();
        }
        site.clock.advance(Duration::from_secs(1));
        site.clear_expired().await;
        assert_eq!(site.keys().await.len(), 1, "{engine}");
    }
}

#[tokio::test]
async fn g11_save_every_request() {
    for engine in ["db", "cache", "cached_db", "file", "signed_cookies"] {
        let site = Site::open(engine, Options { save_every_request: true, ..options() }).await;
        let first = site.request(None).load().await.unwrap();
        first.insert("foo", "bar").unwrap();
        first.save().await.unwrap();
        let slot = site.request(first.key().as_ref().map(SessionKey::as_str));
        let answer = site.exchange.commit(&slot, 200).await.unwrap();
        assert!(answer.vary && answer.set_cookie.is_some(), "{engine}");
    }
}

#[test]
fn g1_to_g4_g9_cookie_attributes() {
    use cloakroom_core::wire::cookie::{CookieAttributes, CookieWriter};
    let cookie = |attributes: CookieAttributes| CookieWriter::new(&attributes).unwrap();
    let default = CookieAttributes::default();
    assert!(cookie(CookieAttributes { secure: true, ..default.clone() }).set("v", None).contains("; Secure"));
    assert!(cookie(default.clone()).set("v", None).contains("; HttpOnly"));
    let strict = CookieAttributes { same_site: Some("Strict".into()), ..default.clone() };
    assert!(cookie(strict).set("v", None).contains("; SameSite=Strict"));
    assert!(!cookie(CookieAttributes { http_only: false, ..default.clone() }).set("v", None).contains("HttpOnly"));
    let elsewhere = CookieAttributes { domain: Some(".example.local".into()), path: "/example/".into(), ..default };
    assert_eq!(
        cookie(elsewhere).removal(),
        "sessionid=\"\"; Domain=.example.local; expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0; Path=/example/; \
         SameSite=Lax"
    );
}

#[tokio::test]
async fn f1_a_cookie_that_cannot_be_verified_is_contained() {
    let site = site("signed_cookies").await;
    for cookie in ["not a signed cookie", "eyJhIjoxfQ:1abc:forged-signature-of-a-stranger", "::::::::", ".....:...:..."]
    {
        assert_eq!(site.request(Some(cookie)).load().await.unwrap().len(), 0);
    }
}

#[test]
fn a44_keys_are_drawn_and_cannot_be_set() {
    assert_eq!(KeySource::system().draw().unwrap().as_str().len(), SessionKey::GENERATED_LENGTH);
}
