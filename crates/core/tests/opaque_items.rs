//! A session that a Python program left in a cache with something in it that JSON has no form for.

use std::sync::Arc;

use bytes::Bytes;
use cloakroom_core::engine::Engine;
use cloakroom_core::engine::memory::MemoryStore;
use cloakroom_core::exchange::{Exchange, Policy, Session, SessionSlot};
use cloakroom_core::store::Store;
use cloakroom_core::wire::cookie::{CookieAttributes, CookieWriter};
use cloakroom_core::wire::expiry::ExpiryRules;
use cloakroom_core::wire::pickle::Protocol;
use cloakroom_core::wire::session_data::Codec;
use cloakroom_core::{Clock, ErrorKind, KeySource, Result, SessionKey, Timestamp};

/// `{"n": 1, "day": datetime.date(2034, 7, 3)}`, as Python pickles it.
const STORED: &[u8] = b"\x80\x04\x950\0\0\0\0\0\0\0}\x94(\x8c\x01n\x94K\x01\x8c\x03day\x94\x8c\x08datetime\x94\x8c\
    \x04date\x94\x93\x94C\x04\x07\xf2\x07\x03\x94\x85\x94R\x94u.";
const KEY: &str = "abcdefghijklmnopqrstuvwxyz012345";

struct Site {
    exchange: Exchange,
    store: Arc<MemoryStore>,
}

impl Site {
    async fn with(payload: &'static [u8], save_every_request: bool) -> Self {
        let clock = Clock::manual(Timestamp::from_secs(1_900_000_000));
        let store = Arc::new(MemoryStore::new(clock.clone()));
        let key = SessionKey::presented(KEY).unwrap();
        store.create(&key, Bytes::from_static(payload), Timestamp::from_secs(1_900_001_000)).await.unwrap();
        let cookie = CookieWriter::new(&CookieAttributes::default()).unwrap();
        let policy = Policy { save_every_request, ..Policy::new(cookie, ExpiryRules::default()) };
        let engine = Engine::Store { store: store.clone(), codec: Codec::pickle(Protocol::V4) };
        Self { exchange: Exchange::new(engine, policy, clock, KeySource::system()), store }
    }

    async fn visit(&self) -> (SessionSlot, Session) {
        let slot = self.exchange.open(std::iter::once(format!("sessionid={KEY}").as_bytes()));
        let session = slot.load().await.unwrap();
        (slot, session)
    }

    /// All that is stored: keys and payloads.
    async fn stored(&self) -> Vec<(String, Bytes)> {
        let mut found = Vec::new();
        for key in self.store.list(None, 10).await.unwrap() {
            let stored = self.store.load(&key).await.unwrap().unwrap();
            found.push((key.as_str().to_owned(), stored.payload));
        }
        found
    }

    async fn is_untouched(&self, payload: &'static [u8]) {
        assert_eq!(self.stored().await, [(KEY.to_owned(), Bytes::from_static(payload))]);
    }
}

#[tokio::test]
async fn the_other_items_can_be_read() {
    let site = Site::with(STORED, false).await;
    let (slot, session) = site.visit().await;
    assert_eq!(session.get::<u8>("n").unwrap(), Some(1));
    assert_eq!((session.len(), session.keys(), session.contains_key("day")), (2, vec!["n".into(), "day".into()], true));
    for error in [
        session.get::<Option<String>>("day").unwrap_err(),
        session.try_get_raw("day").unwrap_err(),
        session.remove::<String>("day").unwrap_err(),
        session.get_or_insert_with("day", String::new).unwrap_err(),
        session.update("day", |day: Option<String>| day.unwrap_or_default()).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Type);
        assert!(error.to_string().contains("\"day\"") && error.to_string().contains("datetime.date"), "{error}");
    }
    assert!(!session.modified());
    let answer = site.exchange.commit(&slot, 200).await.unwrap();
    assert!(answer.set_cookie.is_none() && answer.vary);
    site.is_untouched(STORED).await;
}

#[tokio::test]
async fn nothing_is_written_over_it() {
    type Change = fn(&Session) -> Result<()>;
    let changes: [Change; 4] = [
        |session| session.insert("n", &2),
        |session| session.update("n", |n: Option<u8>| n.unwrap_or(0) + 1).map(drop),
        |session| session.remove::<u8>("n").map(drop),
        |session| session.cycle_key(),
    ];
    for change in changes {
        let site = Site::with(STORED, false).await;
        let (slot, session) = site.visit().await;
        change(&session).unwrap();
        let error = site.exchange.commit(&slot, 200).await.unwrap_err();
        assert_eq!((error.kind(), error.status()), (ErrorKind::Unrepresentable, 500));
        assert!(error.to_string().contains("\"day\"") && error.to_string().contains("datetime.date"), "{error}");
        site.is_untouched(STORED).await;
    }
}

#[tokio::test]
async fn whoever_gives_it_up_can_write() {
    type Change = fn(&Session);
    let changes: [(Change, &str); 3] = [
        (|session| drop(session.remove_raw("day")), r#"{"n":1}"#),
        (|session| session.insert("day", "2034-07-03").unwrap(), r#"{"n":1,"day":"2034-07-03"}"#),
        (|session| session.clear(), "{}"),
    ];
    for (change, expected) in changes {
        let site = Site::with(STORED, false).await;
        let (slot, session) = site.visit().await;
        change(&session);
        site.exchange.commit(&slot, 200).await.unwrap();
        assert_eq!(site.visit().await.1.to_json(), expected);
    }
    let site = Site::with(STORED, false).await;
    let (slot, session) = site.visit().await;
    session.flush();
    site.exchange.commit(&slot, 200).await.unwrap();
    assert!(site.stored().await.is_empty());
}

#[tokio::test]
async fn what_another_process_put_there_meanwhile_counts_too() {
    let site = Site::with(b"\x80\x04}\x94.", false).await;
    let (slot, session) = site.visit().await;
    session.insert("n", &2).unwrap();
    let key = SessionKey::presented(KEY).unwrap();
    let standing = site.store.load(&key).await.unwrap().unwrap();
    let expiry = standing.expiry;
    site.store.replace(&key, &standing.version, Bytes::from_static(STORED), expiry).await.unwrap();
    let error = site.exchange.commit(&slot, 200).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unrepresentable);
    site.is_untouched(STORED).await;
}

#[tokio::test]
async fn an_expiry_that_is_a_python_date_is_not_taken_for_none() {
    // `{"_session_expiry": datetime.date(2034, 7, 3)}`: saving on every request would move the end of the session.
    const DATED: &[u8] =
        b"\x80\x02}X\x0f\0\0\0_session_expirycdatetime\ndate\nc_codecs\nencode\nX\x05\0\0\0\x07\xc3\xb2\x07\x03\
        X\x06\0\0\0latin1\x86R\x85Rs.";
    let site = Site::with(DATED, true).await;
    let (slot, session) = site.visit().await;
    assert_eq!(session.expiry_age().unwrap_err().kind(), ErrorKind::Type);
    let error = site.exchange.commit(&slot, 200).await.unwrap_err();
    assert!(error.to_string().contains("_session_expiry") && error.to_string().contains("datetime.date"), "{error}");
    site.is_untouched(DATED).await;
}
