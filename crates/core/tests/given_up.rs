//! Requests that are given up while their session is saved: either all of their changes are there, or none.

#[path = "cached_engine/stand_in.rs"]
#[allow(dead_code, reason = "shared with the tests of cached_db")]
mod stand_in;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use cloakroom_core::engine::Engine;
use cloakroom_core::exchange::{Exchange, Policy, Session, SessionSlot};
use cloakroom_core::store::Store;
use cloakroom_core::wire::cookie::{CookieAttributes, CookieWriter};
use cloakroom_core::wire::expiry::ExpiryRules;
use cloakroom_core::wire::session_data::Codec;
use cloakroom_core::{Clock, ErrorKind, KeySource, Result, SessionKey, Timestamp};
use stand_in::{Held, StandIn};

struct Site {
    store: Arc<StandIn>,
    exchange: Exchange,
}

impl Site {
    fn new() -> Self {
        let clock = Clock::manual(Timestamp::from_secs(1_900_000_000));
        let store = StandIn::new(&clock);
        let engine = Engine::Store { store: store.clone(), codec: Codec::json() };
        let cookie = CookieWriter::new(&CookieAttributes::default()).unwrap();
        let policy = Policy::new(cookie, ExpiryRules::default());
        Self { store, exchange: Exchange::new(engine, policy, clock, KeySource::system()) }
    }

    async fn open(&self, key: Option<&SessionKey>) -> (SessionSlot, Session) {
        let header = key.map(|key| format!("sessionid={}", key.as_str()));
        let slot = self.exchange.open(header.iter().map(|header| header.as_bytes()));
        let session = slot.load().await.unwrap();
        (slot, session)
    }

    /// A saved session with `n` = 0.
    async fn saved(&self) -> SessionKey {
        let (slot, session) = self.open(None).await;
        session.insert("n", &0).unwrap();
        slot.save().await.unwrap();
        slot.key().unwrap()
    }

    /// Every session that stands, with its data.
    async fn sessions(&self) -> Vec<(SessionKey, String)> {
        let mut sessions = Vec::new();
        for key in self.store.inner.list(None, 100).await.unwrap() {
            let payload = self.store.inner.load(&key).await.unwrap().unwrap().payload;
            sessions.push((key, String::from_utf8(payload.to_vec()).unwrap()));
        }
        sessions
    }

    /// Waits until this session stands and no other.
    async fn comes_to(&self, key: Option<&SessionKey>, data: &str) {
        let wanted: Vec<_> = key.map(|key| (key.clone(), data.to_owned())).into_iter().collect();
        self.comes_to_be(|sessions| *sessions == wanted).await;
    }

    async fn comes_to_be(&self, wanted: impl Fn(&[(SessionKey, String)]) -> bool) {
        let arrived = async {
            while !wanted(&self.sessions().await) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(60), arrived).await.is_err() {
            panic!("something else was due than {:?}", self.sessions().await);
        }
    }
}

/// Begins `work`, and gives it up when the store's answer is on its way.
async fn give_up<T>(held: &Held, work: impl Future<Output = T>) {
    let mut work = pin!(work);
    tokio::select! {
        () = held.reached() => {}
        _ = &mut work => panic!("the work was done before it could be given up"),
    }
}

#[tokio::test]
async fn a_change_that_is_on_its_way_arrives() {
    let site = Site::new();
    let key = site.saved().await;
    let (slot, session) = site.open(Some(&key)).await;
    session.insert("x", &1).unwrap();
    session.update("n", |n: Option<u64>| n.unwrap_or(0) + 1).unwrap();
    // Another request comes first, so that there is a conflict, and the rest of the save is a second attempt.
    let (other, elsewhere) = site.open(Some(&key)).await;
    elsewhere.insert("y", &2).unwrap();
    site.exchange.commit(&other, 200).await.unwrap();
    let held = site.store.hold("replace");
    give_up(&held, site.exchange.commit(&slot, 200)).await;
    held.release();
    site.comes_to(Some(&key), r#"{"n":1,"y":2,"x":1}"#).await;
}

#[tokio::test]
async fn a_rotation_that_nobody_learns_of_is_taken_back() {
    let site = Site::new();
    let key = site.saved().await;
    let (slot, session) = site.open(Some(&key)).await;
    session.cycle_key().unwrap();
    session.insert("user", "ada").unwrap();
    let held = site.store.hold("create");
    give_up(&held, site.exchange.commit(&slot, 200)).await;
    assert_eq!(site.sessions().await.len(), 2);
    held.release();
    site.comes_to(Some(&key), r#"{"n":0}"#).await;
}

/// Where old and new record change places at once, the way back is the same.
#[tokio::test]
async fn a_rotation_in_one_exchange_that_nobody_learns_of_is_taken_back() {
    let site = Site::new();
    site.store.rotates.store(true, Ordering::SeqCst);
    let key = site.saved().await;
    let (slot, session) = site.open(Some(&key)).await;
    session.cycle_key().unwrap();
    session.insert("user", "ada").unwrap();
    let new = slot.key().unwrap();
    let held = site.store.hold("rotate");
    give_up(&held, site.exchange.commit(&slot, 200)).await;
    site.comes_to(Some(&new), r#"{"n":0,"user":"ada"}"#).await;
    held.release();
    site.comes_to(Some(&key), r#"{"n":0}"#).await;
    assert_eq!(site.store.calls(), ["create", "load", "rotate", "rotate"]);
}

/// What another request has saved under the new key meanwhile is not thrown away with it.
#[tokio::test]
async fn a_rotation_that_others_built_on_stays() {
    let site = Site::new();
    site.store.rotates.store(true, Ordering::SeqCst);
    let key = site.saved().await;
    let (slot, session) = site.open(Some(&key)).await;
    session.cycle_key().unwrap();
    let new = slot.key().unwrap();
    let held = site.store.hold("rotate");
    give_up(&held, site.exchange.commit(&slot, 200)).await;
    let (other, elsewhere) = site.open(Some(&new)).await;
    elsewhere.insert("y", &2).unwrap();
    site.exchange.commit(&other, 200).await.unwrap();
    held.release();
    site.comes_to(Some(&new), r#"{"n":0,"y":2}"#).await;
}

/// A change that came in between is carried over, and nothing else stands afterwards.
#[tokio::test]
async fn a_rotation_in_one_exchange_carries_changes_over() {
    let site = Site::new();
    site.store.rotates.store(true, Ordering::SeqCst);
    let key = site.saved().await;
    let (slot, session) = site.open(Some(&key)).await;
    session.cycle_key().unwrap();
    session.update("n", |n: Option<u64>| n.unwrap_or(0) + 1).unwrap();
    let (other, elsewhere) = site.open(Some(&key)).await;
    elsewhere.insert("n", &10).unwrap();
    site.exchange.commit(&other, 200).await.unwrap();
    let answer = site.exchange.commit(&slot, 200).await.unwrap();
    let new = slot.key().unwrap();
    assert!(answer.set_cookie.unwrap().contains(new.as_str()));
    site.comes_to(Some(&new), r#"{"n":11}"#).await;
    // A sign-out elsewhere ends it for good.
    let (slot, session) = site.open(Some(&new)).await;
    session.cycle_key().unwrap();
    site.store.inner.delete(&new, None).await.unwrap();
    assert_eq!(site.exchange.commit(&slot, 200).await.unwrap_err().kind(), ErrorKind::Interrupted);
    site.comes_to(None, "").await;
}

#[tokio::test]
async fn a_rotation_that_is_past_return_is_carried_out() {
    let site = Site::new();
    let key = site.saved().await;
    let (slot, session) = site.open(Some(&key)).await;
    session.cycle_key().unwrap();
    session.insert("user", "ada").unwrap();
    let new = slot.key().unwrap();
    let held = site.store.hold("delete");
    give_up(&held, site.exchange.commit(&slot, 200)).await;
    held.release();
    site.comes_to(Some(&new), r#"{"n":0,"user":"ada"}"#).await;
}

#[tokio::test]
async fn a_sign_out_takes_place_and_so_does_what_follows_it() {
    for then in [None, Some("x")] {
        let site = Site::new();
        let key = site.saved().await;
        let (slot, session) = site.open(Some(&key)).await;
        session.flush();
        if let Some(item) = then {
            session.insert(item, &1).unwrap();
        }
        let held = site.store.hold("delete");
        give_up(&held, site.exchange.commit(&slot, 200)).await;
        held.release();
        match then {
            None => site.comes_to(None, "").await,
            Some(_) => {
                let new = |sessions: &[(SessionKey, String)]| matches!(sessions, [(new, data)] if *new != key && data == r#"{"x":1}"#);
                site.comes_to_be(new).await;
            }
        }
    }
}

/// Given up before anything was changed, a save does nothing at all.
#[tokio::test]
async fn a_save_that_waits_for_its_turn_does_not_begin() {
    let site = Site::new();
    let key = site.saved().await;
    let (slot, session) = site.open(Some(&key)).await;
    session.insert("early", &1).unwrap();
    let held = site.store.hold("replace");
    let mut first = Box::pin(session.save());
    tokio::select! {
        () = held.reached() => {}
        _ = &mut first => panic!("it was held up"),
    }
    session.insert("late", &1).unwrap();
    let mut second = Box::pin(slot.save());
    assert!(std::future::poll_fn(|cx| Poll::Ready(second.as_mut().poll(cx).is_pending())).await);
    drop(second);
    held.release();
    first.await.unwrap();
    tokio::task::yield_now().await;
    site.comes_to(Some(&key), r#"{"n":0,"early":1}"#).await;
}

/// A handler that waits only so long for its own early save goes on, and the end of the request saves all.
#[tokio::test]
async fn a_handler_that_gives_its_save_up_goes_on() {
    for (operation, rotate) in [("replace", false), ("create", true), ("delete", true), ("rotate", true)] {
        let site = Site::new();
        site.store.rotates.store(operation == "rotate", Ordering::SeqCst);
        let key = site.saved().await;
        let (slot, session) = site.open(Some(&key)).await;
        session.insert("early", &1).unwrap();
        if rotate {
            session.cycle_key().unwrap();
        }
        let held = site.store.hold(operation);
        give_up(&held, session.save()).await;
        session.insert("late", &1).unwrap();
        held.release();
        let answer = site.exchange.commit(&slot, 200).await.unwrap();
        let key = slot.key().unwrap();
        assert!(answer.set_cookie.unwrap().contains(key.as_str()), "{operation}");
        site.comes_to(Some(&key), r#"{"n":0,"early":1,"late":1}"#).await;
    }
}

/// A store that panics does so once.
#[tokio::test]
async fn a_save_that_panics_is_not_gone_on_with() {
    struct Panics;

    #[async_trait::async_trait]
    impl Store for Panics {
        async fn load(&self, _: &SessionKey) -> Result<Option<cloakroom_core::store::Stored>> {
            Ok(None)
        }
        async fn create(
            &self,
            _: &SessionKey,
            _: bytes::Bytes,
            _: Timestamp,
        ) -> Result<cloakroom_core::store::Created> {
            tokio::task::yield_now().await;
            panic!("on purpose")
        }
        async fn replace(
            &self,
            _: &SessionKey,
            _: &cloakroom_core::store::Version,
            _: bytes::Bytes,
            _: Timestamp,
        ) -> Result<cloakroom_core::store::Replaced> {
            Ok(cloakroom_core::store::Replaced::Gone)
        }
        async fn touch(&self, _: &SessionKey, _: Timestamp) -> Result<cloakroom_core::store::Touched> {
            Ok(cloakroom_core::store::Touched::Gone)
        }
        async fn delete(
            &self,
            _: &SessionKey,
            _: Option<&cloakroom_core::store::Version>,
        ) -> Result<cloakroom_core::store::Deleted> {
            Ok(cloakroom_core::store::Deleted::Gone)
        }
        async fn clear_expired(&self, _: usize) -> Result<cloakroom_core::store::Cleared> {
            Ok(cloakroom_core::store::Cleared { removed: 0, more: false })
        }
        async fn list(&self, _: Option<&SessionKey>, _: usize) -> Result<Vec<SessionKey>> {
            Ok(Vec::new())
        }
    }

    let clock = Clock::system();
    let cookie = CookieWriter::new(&CookieAttributes::default()).unwrap();
    let engine = Engine::Store { store: Arc::new(Panics), codec: Codec::json() };
    let policy = Policy::new(cookie, ExpiryRules::default());
    let exchange = Exchange::new(engine, policy, clock, KeySource::system());
    let slot = exchange.open(std::iter::empty());
    slot.load().await.unwrap().insert("x", &1).unwrap();
    let saving = slot.clone();
    assert!(tokio::spawn(async move { saving.save().await }).await.unwrap_err().is_panic());
    // What became of it is not known, and it is not tried again.
    assert_eq!(slot.save().await.unwrap_err().kind(), ErrorKind::Unavailable);
}
