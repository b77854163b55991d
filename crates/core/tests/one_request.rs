//! What one request may do to its session at once and in any order: several handles, early saves, closures that use the
//! session, stores that fail. Nothing is lost, and what was ended stays ended.

#[path = "cached_engine/stand_in.rs"]
#[allow(dead_code, reason = "shared with the tests of cached_db")]
mod stand_in;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use cloakroom_core::engine::Engine;
use cloakroom_core::exchange::{Answer, Exchange, Policy, Session, SessionSlot};
use cloakroom_core::store::Store;
use cloakroom_core::wire::cookie::{CookieAttributes, CookieWriter};
use cloakroom_core::wire::expiry::ExpiryRules;
use cloakroom_core::wire::session_data::Codec;
use cloakroom_core::{Clock, ErrorKind, KeySource, RawJson, Result, SessionKey, Timestamp};
use stand_in::StandIn;

struct Site {
    store: Arc<StandIn>,
    exchange: Exchange,
}

impl Site {
    fn new() -> Self {
        let clock = Clock::manual(Timestamp::from_secs(1_900_000_000));
        let store = StandIn::new(&clock);
        let engine = Engine::Store { store: store.clone(), codec: Codec::in_process() };
        Self { store, exchange: exchange(engine, clock) }
    }

    fn request(&self, key: Option<&SessionKey>) -> SessionSlot {
        let header = key.map(|key| format!("sessionid={}", key.as_str()));
        self.exchange.open(header.iter().map(|header| header.as_bytes()))
    }

    async fn open(&self, key: &SessionKey) -> (SessionSlot, Session) {
        let slot = self.request(Some(key));
        let session = slot.load().await.unwrap();
        (slot, session)
    }

    /// A saved session with `n` = 0.
    async fn saved(&self) -> SessionKey {
        let slot = self.request(None);
        slot.load().await.unwrap().insert("n", &0).unwrap();
        slot.save().await.unwrap();
        self.store.calls();
        slot.key().unwrap()
    }

    /// What another request does meanwhile, from beginning to end.
    async fn elsewhere(&self, key: &SessionKey, change: impl FnOnce(&Session)) {
        let (slot, session) = self.open(key).await;
        change(&session);
        self.commit(&slot, 200).await.unwrap();
    }

    async fn commit(&self, slot: &SessionSlot, status: u16) -> Result<Answer> {
        self.exchange.commit(slot, status).await
    }

    async fn keys(&self) -> Vec<SessionKey> {
        self.store.inner.list(None, 100).await.unwrap()
    }

    /// There is one record, and it holds this.
    async fn holds_only(&self, key: &SessionKey, data: &str) {
        assert_eq!(self.keys().await, std::slice::from_ref(key));
        assert_eq!(self.data(key).await, data);
    }

    async fn data(&self, key: &SessionKey) -> String {
        self.open(key).await.1.to_json()
    }
}

fn exchange(engine: Engine, clock: Clock) -> Exchange {
    let cookie = CookieWriter::new(&CookieAttributes::default()).unwrap();
    let policy = Policy::new(cookie, ExpiryRules::default());
    Exchange::new(engine, policy, clock, KeySource::system())
}

/// Does `work` while the answer of the next `operation` that `main` leads to is on its way.
async fn during<T>(site: &Site, operation: &'static str, main: impl Future<Output = T>, work: impl FnOnce()) -> T {
    let held = site.store.hold(operation);
    let mut main = std::pin::pin!(main);
    tokio::select! {
        () = held.reached() => {}
        _ = &mut main => panic!("it was done without {operation}"),
    }
    work();
    held.release();
    main.await
}

fn sent_key(answer: &Answer) -> &str {
    answer.set_cookie.as_deref().and_then(|cookie| cookie.strip_prefix("sessionid=")?.split(';').next()).unwrap()
}

const REMOVED: &str = "\"\"";

#[tokio::test]
async fn a_flush_while_the_session_is_loaded_ends_it() {
    let site = Site::new();
    let key = site.saved().await;
    let slot = site.request(Some(&key));
    let session = during(&site, "load", slot.load(), || slot.flush()).await.unwrap();
    assert_eq!((session.len(), slot.key()), (0, None));
    let answer = site.commit(&slot, 200).await.unwrap();
    assert_eq!(sent_key(&answer), REMOVED);
    assert!(site.keys().await.is_empty());
}

#[tokio::test]
async fn a_flush_while_the_session_is_saved_ends_it() {
    for (operation, rotate) in [("replace", false), ("create", true), ("delete", true)] {
        let site = Site::new();
        let key = site.saved().await;
        let (slot, session) = site.open(&key).await;
        session.insert("user", "ada").unwrap();
        if rotate {
            session.cycle_key().unwrap();
        }
        during(&site, operation, session.save(), || session.flush()).await.unwrap();
        assert_eq!((session.len(), session.key()), (0, None), "{operation}");
        let answer = site.commit(&slot, 200).await.unwrap();
        assert_eq!(sent_key(&answer), REMOVED, "{operation}");
        assert!(site.keys().await.is_empty(), "{operation}");
    }
}

#[tokio::test]
async fn a_flush_while_a_new_session_is_made_ends_it() {
    let site = Site::new();
    let slot = site.request(None);
    let session = slot.load().await.unwrap();
    session.insert("user", "ada").unwrap();
    during(&site, "create", session.save(), || session.flush()).await.unwrap();
    assert_eq!((session.len(), session.key()), (0, None));
    assert_eq!(site.commit(&slot, 200).await.unwrap().set_cookie, None);
    assert!(site.keys().await.is_empty());
}

#[tokio::test]
async fn a_flush_while_the_response_is_committed_ends_it() {
    let site = Site::new();
    let key = site.saved().await;
    let (slot, session) = site.open(&key).await;
    session.insert("x", &1).unwrap();
    let answer = during(&site, "replace", site.commit(&slot, 200), || session.flush()).await.unwrap();
    assert_eq!(sent_key(&answer), REMOVED);
    assert!(site.keys().await.is_empty());
}

#[tokio::test]
async fn what_was_set_after_a_flush_during_a_save_is_all_there_is() {
    let site = Site::new();
    let key = site.saved().await;
    let (slot, session) = site.open(&key).await;
    session.insert("user", "ada").unwrap();
    during(&site, "replace", session.save(), || {
        session.flush();
        session.insert("bye", &true).unwrap();
    })
    .await
    .unwrap();
    let answer = site.commit(&slot, 200).await.unwrap();
    let new = slot.key().unwrap();
    assert_eq!(sent_key(&answer), new.as_str());
    site.holds_only(&new, r#"{"bye":true}"#).await;
}

#[tokio::test]
async fn a_failed_save_leaves_nothing_behind_for_what_follows_a_flush() {
    let site = Site::new();
    let key = site.saved().await;
    let (slot, session) = site.open(&key).await;
    session.insert("user", "ada").unwrap();
    site.store.set_down(true);
    assert_eq!(session.save().await.unwrap_err().kind(), ErrorKind::Unavailable);
    site.store.set_down(false);
    session.flush();
    session.insert("bye", &true).unwrap();
    site.commit(&slot, 200).await.unwrap();
    let new = slot.key().unwrap();
    site.holds_only(&new, r#"{"bye":true}"#).await;
}

#[tokio::test]
async fn a_sign_out_is_tried_again_though_a_save_after_it_failed() {
    let site = Site::new();
    let key = site.saved().await;
    let (slot, session) = site.open(&key).await;
    session.flush();
    session.insert("bye", &true).unwrap();
    site.store.set_down(true);
    session.save().await.unwrap_err();
    site.store.set_down(false);
    // Whether the new session was made is not known, so it is not made again.
    site.commit(&slot, 200).await.unwrap_err();
    assert!(site.keys().await.is_empty());
}

#[tokio::test]
async fn a_flush_that_is_not_to_be_saved_is_carried_out() {
    let site = Site::new();
    let key = site.saved().await;
    let (slot, session) = site.open(&key).await;
    session.flush();
    session.insert("bye", &true).unwrap();
    session.set_modified(false);
    site.commit(&slot, 200).await.unwrap();
    assert!(site.keys().await.is_empty());
}

#[tokio::test]
async fn a_rotation_while_the_session_is_saved_carries_over_what_that_merged() {
    let site = Site::new();
    let key = site.saved().await;
    let (slot, session) = site.open(&key).await;
    session.insert("mine", &1).unwrap();
    site.elsewhere(&key, |other| other.insert("theirs", &1).unwrap()).await;
    during(&site, "replace", session.save(), || session.cycle_key().unwrap()).await.unwrap();
    let answer = site.commit(&slot, 200).await.unwrap();
    let new = slot.key().unwrap();
    assert_eq!(sent_key(&answer), new.as_str());
    site.holds_only(&new, r#"{"n":0,"theirs":1,"mine":1}"#).await;
}

#[tokio::test]
async fn a_rotation_while_a_record_is_made_leaves_one_record() {
    for saved in [false, true] {
        let site = Site::new();
        let key = if saved { Some(site.saved().await) } else { None };
        let slot = site.request(key.as_ref());
        let session = slot.load().await.unwrap();
        session.insert("n", &1).unwrap();
        if saved {
            session.cycle_key().unwrap();
        }
        during(&site, "create", session.save(), || session.cycle_key().unwrap()).await.unwrap();
        let answer = site.commit(&slot, 200).await.unwrap();
        let new = slot.key().unwrap();
        assert_eq!(sent_key(&answer), new.as_str());
        site.holds_only(&new, r#"{"n":1}"#).await;
    }
}

#[tokio::test]
async fn changes_while_the_session_is_saved_are_saved_next() {
    let site = Site::new();
    let key = site.saved().await;
    let (slot, session) = site.open(&key).await;
    let add = |session: &Session| {
        session.update("n", |n: Option<u64>| n.unwrap_or(0) + 1).unwrap();
    };
    add(&session);
    site.elsewhere(&key, |other| add(other)).await;
    during(&site, "replace", session.save(), || add(&session)).await.unwrap();
    assert_eq!(session.get::<u64>("n").unwrap(), Some(3));
    site.commit(&slot, 200).await.unwrap();
    assert_eq!(site.data(&key).await, r#"{"n":3}"#);
}

#[tokio::test]
async fn a_rotation_that_was_saved_early_is_told_though_the_response_is_an_error() {
    for again in [false, true] {
        let site = Site::new();
        let key = site.saved().await;
        let (slot, session) = site.open(&key).await;
        session.cycle_key().unwrap();
        session.save().await.unwrap();
        let new = session.key().unwrap();
        session.insert("unsaved", &1).unwrap();
        if again {
            session.cycle_key().unwrap();
        }
        // The former key is gone: without the new one the visitor would lose the session.
        let answer = site.commit(&slot, 500).await.unwrap();
        assert_eq!(sent_key(&answer), new.as_str());
        assert!(answer.vary);
        site.holds_only(&new, r#"{"n":0}"#).await;
    }
}

#[tokio::test]
async fn an_expiry_that_nobody_can_read_is_refused_before_anything_is_saved() {
    let site = Site::new();
    let key = site.saved().await;
    let (slot, session) = site.open(&key).await;
    session.cycle_key().unwrap();
    // Without an offset from UTC, though USE_TZ is true.
    session.insert_raw("_session_expiry", RawJson::parse("\"2040-01-01T00:00:00\"").unwrap());
    assert_eq!(site.commit(&slot, 200).await.unwrap_err().kind(), ErrorKind::Corrupted);
    site.holds_only(&key, r#"{"n":0}"#).await;
}

#[tokio::test]
async fn a_session_that_was_found_deleted_is_not_made_again() {
    for rotate in [false, true] {
        let site = Site::new();
        let key = site.saved().await;
        let (slot, session) = site.open(&key).await;
        site.elsewhere(&key, Session::flush).await;
        assert!(slot.reload().await.unwrap().is_empty());
        assert_eq!(slot.key(), None);
        session.insert("late", &1).unwrap();
        if rotate {
            session.cycle_key().unwrap();
        }
        assert_eq!(site.commit(&slot, 200).await.unwrap_err().kind(), ErrorKind::Interrupted, "rotate: {rotate}");
        assert!(site.keys().await.is_empty());
    }
}

#[tokio::test]
async fn a_reload_does_not_undo_a_rotation() {
    let site = Site::new();
    let key = site.saved().await;
    let (slot, session) = site.open(&key).await;
    during(&site, "load", slot.reload(), || session.cycle_key().unwrap()).await.unwrap();
    let new = session.key().unwrap();
    site.commit(&slot, 200).await.unwrap();
    assert_eq!(site.keys().await, [new]);
}

/// Fails instead of hanging: what is run may wait for itself.
fn in_time<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, outcome) = std::sync::mpsc::channel();
    std::thread::spawn(move || done.send(work()));
    outcome.recv_timeout(Duration::from_secs(20)).expect("neither hangs nor panics")
}

#[tokio::test]
async fn a_closure_may_read_its_session() {
    let site = Site::new();
    let (_, session) = site.open(&site.saved().await).await;
    session.insert("step", &5).unwrap();
    let total = in_time(move || {
        let reader = session.clone();
        let step = move || reader.get::<u64>("step").unwrap().unwrap();
        let total = session.update("n", move |n: Option<u64>| n.unwrap_or(0) + step()).unwrap();
        let reader = session.clone();
        total + session.get_or_insert_with("twice", || reader.get::<u64>("n").unwrap().unwrap() * 2).unwrap()
    });
    assert_eq!(total, 15);
}

#[tokio::test]
async fn a_closure_may_read_its_session_when_it_is_run_again() {
    let site = Site::new();
    let key = site.saved().await;
    let (slot, session) = site.open(&key).await;
    session.insert("step", &5).unwrap();
    site.elsewhere(&key, |other| other.insert("n", &100).unwrap()).await;
    let add = |session: &Session| {
        let reader = session.clone();
        let step = move || reader.get::<u64>("step").unwrap().unwrap();
        session.update("n", move |n: Option<u64>| n.unwrap_or(0) + step()).unwrap();
    };
    add(&session);
    // Once in the conflict, once on what that merged.
    let both = async move {
        during(&site, "replace", session.save(), || add(&session)).await.unwrap();
        site.commit(&slot, 200).await.unwrap();
        site.data(&key).await
    };
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    assert_eq!(in_time(move || runtime().block_on(both)), r#"{"n":110,"step":5}"#);
}

#[tokio::test]
async fn a_closure_that_changes_its_own_item_is_refused() {
    let site = Site::new();
    let (_, session) = site.open(&site.saved().await).await;
    let error = in_time(move || {
        let inner = session.clone();
        let change = move |n: Option<u64>| {
            inner.update("n", |n: Option<u64>| n.unwrap_or(0) + 1).unwrap();
            n.unwrap_or(0) + 1
        };
        session.update("n", change).unwrap_err()
    });
    assert_eq!(error.kind(), ErrorKind::Contended);
    assert!(error.to_string().contains("\"n\""), "{error}");
}

#[tokio::test]
async fn an_item_that_its_default_sets_is_found() {
    let site = Site::new();
    let (_, session) = site.open(&site.saved().await).await;
    let found = in_time(move || {
        let inner = session.clone();
        let default = move || {
            inner.insert("cart", "full").unwrap();
            "empty".to_owned()
        };
        session.get_or_insert_with("cart", default).unwrap()
    });
    assert_eq!(found, "full");
}

#[tokio::test]
async fn a_closure_that_panics_changes_nothing() {
    let site = Site::new();
    let key = site.saved().await;
    let (slot, session) = site.open(&key).await;
    let panicking = session.clone();
    let thread = std::thread::spawn(move || panicking.update("n", |_: Option<u64>| -> u64 { panic!("on purpose") }));
    thread.join().unwrap_err();
    assert_eq!((session.get::<u64>("n").unwrap(), session.modified()), (Some(0), false));
    session.insert("after", &1).unwrap();
    site.commit(&slot, 200).await.unwrap();
    assert_eq!(site.data(&key).await, r#"{"n":0,"after":1}"#);
}

#[tokio::test]
async fn handles_on_several_threads_count_together() {
    let site = Site::new();
    let key = site.saved().await;
    let (slot, session) = site.open(&key).await;
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..500 {
                    session.update("n", |n: Option<u64>| n.unwrap_or(0) + 1).unwrap();
                }
            });
        }
    });
    site.commit(&slot, 200).await.unwrap();
    assert_eq!(site.data(&key).await, r#"{"n":2000}"#);
}

/// Written as a number, and read as nothing that was written so.
#[derive(Debug, serde::Deserialize)]
struct OneWay(#[allow(dead_code, reason = "read only")] String);

impl serde::Serialize for OneWay {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_u8(7)
    }
}

#[tokio::test]
async fn an_update_that_fails_changes_nothing() {
    let site = Site::new();
    let (_, session) = site.open(&site.saved().await).await;
    let error = session.update("new", |_: Option<OneWay>| OneWay(String::new())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Type);
    assert!(!session.contains_key("new") && !session.modified());
}

/// Whoever says that there is nothing to commit has to be right, whatever is done to a session.
#[tokio::test]
async fn there_is_nothing_to_commit_until_somebody_touches_the_session() {
    type Touch = fn(&SessionSlot);
    let touches: [Touch; 6] = [
        SessionSlot::flush,
        SessionSlot::detach,
        |slot| slot.set_modified(true),
        |slot| drop(slot.key()),
        |slot| _ = slot.is_empty(),
        |slot| _ = slot.accessed(),
    ];
    let site = Site::new();
    let key = site.saved().await;
    for presented in [None, Some(&key)] {
        let untouched = site.request(presented);
        assert!(untouched.has_nothing_to_commit(200));
        assert_eq!(site.commit(&untouched, 200).await.unwrap(), Answer::default());
        for touch in touches {
            let slot = site.request(presented);
            touch(&slot);
            assert!(!slot.has_nothing_to_commit(200));
        }
        let (loaded, reloaded, saved) = (site.request(presented), site.request(presented), site.request(presented));
        loaded.load().await.unwrap();
        reloaded.reload().await.unwrap();
        saved.save().await.unwrap();
        assert!([loaded, reloaded, saved].iter().all(|slot| !slot.has_nothing_to_commit(200)));
    }
    let too_short = site.exchange.open([&b"sessionid=short"[..]].into_iter());
    assert!(!too_short.has_nothing_to_commit(200));
    let cookie = CookieWriter::new(&CookieAttributes::default()).unwrap();
    let every = Policy { save_every_request: true, ..Policy::new(cookie, ExpiryRules::default()) };
    let engine = Engine::Store { store: site.store.clone(), codec: Codec::in_process() };
    let every = Exchange::new(engine, every, Clock::system(), KeySource::system());
    let header = format!("sessionid={}", key.as_str());
    assert!(!every.open([header.as_bytes()].into_iter()).has_nothing_to_commit(200));
}

#[tokio::test]
async fn sessions_that_are_off_say_so_whatever_is_done() {
    let exchange = exchange(Engine::Off, Clock::system());
    for cookie in [None, Some(&b"sessionid=0123456789abcdef"[..])] {
        let slot = || exchange.open(cookie.into_iter());
        let off = |outcome: Result<()>| assert_eq!(outcome.unwrap_err().kind(), ErrorKind::NotInstalled);
        off(slot().load().await.map(drop));
        off(slot().save().await);
        off(slot().create().await);
        off(slot().reload().await.map(drop));
    }
}
