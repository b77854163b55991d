//! The engine cached_db: which half is asked when, what happens when one is down, and that nothing old comes back.

mod outages;
mod overtaking;
mod stand_in;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use cloakroom_core::engine::Engine;
use cloakroom_core::engine::cached::{CacheForm, CachedStore};
use cloakroom_core::exchange::{Exchange, Policy, Session, SessionSlot};
use cloakroom_core::store::{Created, Store, Version};
use cloakroom_core::wire::cookie::{CookieAttributes, CookieWriter};
use cloakroom_core::wire::expiry::ExpiryRules;
use cloakroom_core::wire::session_data::{Codec, Format};
use cloakroom_core::wire::signing::Secrets;
use cloakroom_core::{Clock, KeySource, Result, SessionKey, Timestamp, Values};
use stand_in::StandIn;

const NOW: Timestamp = Timestamp::from_secs(1_900_000_000);

/// A cache, a database, and as many processes on them as one likes.
struct Site {
    cache: Arc<StandIn>,
    database: Arc<StandIn>,
    form: CacheForm,
    clock: Clock,
}

impl Site {
    fn new(form: CacheForm) -> Self {
        let clock = Clock::manual(NOW);
        Self { cache: StandIn::new(&clock), database: StandIn::new(&clock), form, clock }
    }

    /// A cache that Django reads too, and one that it does not.
    fn both() -> [Self; 2] {
        [Self::django(), Self::new(CacheForm::Private { max_age: Duration::from_secs(60) })]
    }

    fn django() -> Self {
        Self::new(CacheForm::Django(Codec::json()))
    }

    fn codec() -> Codec {
        Codec::signed_json(&Secrets::new("the engine's test"))
    }

    fn store(&self) -> CachedStore {
        let (form, clock) = (self.form.clone(), self.clock.clone());
        CachedStore::new("sessions", self.cache.clone(), form, self.database.clone(), Self::codec(), clock)
    }

    /// One more process.
    fn process(&self) -> Process {
        self.process_on(self.store().into_engine())
    }

    fn process_on(&self, engine: Engine) -> Process {
        let cookie = CookieWriter::new(&CookieAttributes::default()).unwrap();
        let policy = Policy::new(cookie, ExpiryRules::default());
        Process(Exchange::new(engine, policy, self.clock.clone(), KeySource::system()))
    }

    /// Changes the row behind the cache's back, as a process whose cache is down does.
    async fn change_row(&self, key: &SessionKey, change: impl Fn(&mut Values)) {
        let row = self.database.inner.load(key).await.unwrap().unwrap();
        let mut values = Self::codec().decode(&row.payload).unwrap();
        change(&mut values);
        let payload = Self::codec().encode(&values, self.clock.now()).unwrap();
        self.database.inner.replace(key, &row.version, payload, row.expiry).await.unwrap();
    }

    /// What the row holds.
    async fn row(&self, key: &SessionKey) -> Option<String> {
        let row = self.database.inner.load(key).await.unwrap()?;
        Some(Self::codec().decode(&row.payload).unwrap().to_json())
    }

    /// What a Django would find in the cache.
    async fn cached(&self, key: &SessionKey) -> Option<String> {
        let entry = self.cache.inner.load(key).await.unwrap()?;
        Some(String::from_utf8_lossy(&entry.payload).trim().to_owned())
    }

    fn forget_calls(&self) {
        self.cache.calls();
        self.database.calls();
    }

    fn calls(&self) -> (Vec<&'static str>, Vec<&'static str>) {
        (self.cache.calls(), self.database.calls())
    }
}

struct Process(Exchange);

impl Process {
    fn request(&self, key: &SessionKey) -> SessionSlot {
        let cookie = format!("sessionid={}", key.as_str());
        self.0.open([cookie.as_bytes()].into_iter())
    }

    async fn session(&self, key: &SessionKey) -> Result<Session> {
        self.request(key).load().await
    }

    async fn read(&self, key: &SessionKey) -> Result<String> {
        Ok(self.session(key).await?.to_json())
    }

    async fn set(&self, key: &SessionKey, name: &str, value: i32) -> Result<()> {
        let session = self.session(key).await?;
        session.insert(name, &value)?;
        session.save().await
    }

    /// A new session with one item.
    async fn make(&self) -> SessionKey {
        let session = self.0.open(std::iter::empty()).load().await.unwrap();
        session.insert("a", &1).unwrap();
        session.save().await.unwrap();
        session.key().unwrap()
    }

    async fn sign_out(&self, key: &SessionKey) -> Result<()> {
        let slot = self.request(key);
        slot.flush();
        self.0.commit(&slot, 200).await.map(drop)
    }
}

/// How often each half is asked: what the documentation of [`CachedStore`] says.
#[tokio::test]
async fn round_trips() {
    for site in Site::both() {
        let django = matches!(site.form, CacheForm::Django(_));
        let process = site.process();
        let key = process.make().await;
        assert_eq!(site.calls(), (vec!["create"], vec!["create"]), "a new session");

        process.read(&key).await.unwrap();
        assert_eq!(site.calls(), (vec!["load"], vec![]), "a hit");

        site.cache.inner.delete(&key, None).await.unwrap();
        process.read(&key).await.unwrap();
        assert_eq!(site.calls(), (vec!["load", "create"], vec!["load"]), "a miss");

        let session = process.session(&key).await.unwrap();
        site.forget_calls();
        session.insert("b", &2).unwrap();
        session.save().await.unwrap();
        let after_a_hit = if django { vec!["load", "replace"] } else { vec!["replace"] };
        assert_eq!(site.calls(), (vec!["replace"], after_a_hit), "a save after a hit");

        session.insert("b", &3).unwrap();
        session.save().await.unwrap();
        assert_eq!(site.calls(), (vec!["replace"], vec!["replace"]), "a further save");

        let session = process.session(&key).await.unwrap();
        site.forget_calls();
        session.set_modified(true);
        session.save().await.unwrap();
        assert_eq!(site.calls(), (vec!["touch"], vec!["touch"]), "a renewal");

        let mut key = key;
        for in_one_exchange in [false, true] {
            site.database.rotates.store(in_one_exchange, Ordering::SeqCst);
            let session = process.session(&key).await.unwrap();
            site.forget_calls();
            session.cycle_key().unwrap();
            session.save().await.unwrap();
            // Which row Django's entry is, is asked before each step.
            let costs = match (in_one_exchange, django) {
                (true, true) => (vec!["replace", "create"], vec!["load", "rotate"]),
                (true, false) => (vec!["replace", "create"], vec!["rotate"]),
                (false, true) => (vec!["create", "replace"], vec!["load", "create", "load", "delete"]),
                (false, false) => (vec!["create", "replace"], vec!["create", "delete"]),
            };
            assert_eq!(site.calls(), costs, "a rotation");
            assert_eq!(process.read(&key).await.unwrap(), "{}", "the old key is worth nothing");
            key = session.key().unwrap();
            assert_ne!(process.read(&key).await.unwrap(), "{}", "and the new one has it all");
        }

        site.forget_calls();
        process.sign_out(&key).await.unwrap();
        assert_eq!(site.calls(), (vec!["load", "replace"], vec!["delete"]), "a sign-out");

        let unknown = KeySource::system().draw().unwrap();
        process.read(&unknown).await.unwrap();
        assert_eq!(site.calls(), (vec!["load"], vec!["load"]), "an unknown key");
        assert_eq!(site.cache.inner.load(&unknown).await.unwrap().map(|_| ()), None, "and nothing is made for it");
    }
}

#[tokio::test]
async fn django_finds_plain_data_in_the_cache_and_signed_text_in_the_row() {
    let site = Site::django();
    let process = site.process();
    let key = process.make().await;
    assert_eq!(site.cached(&key).await.unwrap(), "{\"a\":1}");
    let row = site.database.inner.load(&key).await.unwrap().unwrap();
    assert!(row.payload.starts_with(b"eyJhIjoxfQ:"), "{row:?}");
    process.sign_out(&key).await.unwrap();
    assert_eq!(site.cached(&key).await.unwrap(), "null", "which Django reads as no session");
}

#[tokio::test]
async fn an_entry_in_the_cache_ends_with_its_row() {
    for site in Site::both() {
        let process = site.process();
        let key = process.make().await;
        let row = site.database.inner.load(&key).await.unwrap().unwrap();
        assert_eq!(site.cache.inner.load(&key).await.unwrap().unwrap().expiry, row.expiry);

        site.clock.advance(Duration::from_secs(1_000));
        site.cache.inner.delete(&key, None).await.unwrap();
        process.read(&key).await.unwrap();
        assert_eq!(site.cache.inner.load(&key).await.unwrap().unwrap().expiry, row.expiry, "after a refill too");

        let session = process.session(&key).await.unwrap();
        session.set_modified(true);
        session.save().await.unwrap();
        let row = site.database.inner.load(&key).await.unwrap().unwrap();
        assert_eq!(site.cache.inner.load(&key).await.unwrap().unwrap().expiry, row.expiry, "and when it is renewed");

        site.clock.set(row.expiry);
        assert_eq!(process.read(&key).await.unwrap(), "{}");
    }
}

#[tokio::test]
async fn in_private_form_an_entry_is_believed_for_its_age() {
    let site = Site::new(CacheForm::Private { max_age: Duration::from_secs(60) });
    let process = site.process();
    let key = process.make().await;
    site.database.inner.delete(&key, None).await.unwrap();
    site.clock.advance(Duration::from_secs(59));
    assert_eq!(process.read(&key).await.unwrap(), "{\"a\":1}");
    site.clock.advance(Duration::from_secs(1));
    assert_eq!(process.read(&key).await.unwrap(), "{}", "what another process signed out");

    let key = process.make().await;
    site.clock.advance(Duration::from_secs(60));
    process.read(&key).await.unwrap();
    site.forget_calls();
    process.read(&key).await.unwrap();
    assert_eq!(site.calls(), (vec!["load"], vec![]), "an old entry is renewed in its place");
}

#[tokio::test]
async fn in_private_form_a_clock_that_is_set_back_makes_no_entry_younger() {
    let site = Site::new(CacheForm::Private { max_age: Duration::from_secs(60) });
    let process = site.process();
    let key = process.make().await;
    site.database.inner.delete(&key, None).await.unwrap();
    site.clock.set(NOW.checked_add_micros(-3_600_000_000).unwrap());
    assert_eq!(process.read(&key).await.unwrap(), "{}", "another process signed it out, more than an hour would pass");
}

#[tokio::test]
async fn what_the_cache_holds_is_read_or_passed_over() {
    let site = Site::django();
    let process = site.process();
    for foreign in ["not json", "[1]", "null", "\u{0}{\"a\":2}", ""] {
        let key = process.make().await;
        let entry = site.cache.inner.load(&key).await.unwrap().unwrap();
        site.cache.inner.replace(&key, &entry.version, Bytes::from(foreign), entry.expiry).await.unwrap();
        assert_eq!(process.read(&key).await.unwrap(), "{\"a\":1}", "{foreign:?}");
        assert_eq!(site.cached(&key).await.unwrap(), "{\"a\":1}", "the row takes its place");
    }
    // What a Django wrote is as good as what we wrote.
    let key = process.make().await;
    site.change_row(&key, |values| values.insert("b", &2).unwrap()).await;
    let entry = site.cache.inner.load(&key).await.unwrap().unwrap();
    let written = Bytes::from_static(b"{\"a\": 1, \"b\": 2}");
    site.cache.inner.replace(&key, &entry.version, written, entry.expiry).await.unwrap();
    site.forget_calls();
    process.set(&key, "c", 3).await.unwrap();
    assert_eq!(site.calls(), (vec!["load", "replace"], vec!["load", "replace"]));
    assert_eq!(site.row(&key).await.unwrap(), "{\"a\":1,\"b\":2,\"c\":3}");
    assert_eq!(site.cached(&key).await.unwrap(), "{\"a\":1,\"b\":2,\"c\":3}");
}

/// Data in the cache is not signed, so a row must not be able to pass for it.
#[tokio::test]
async fn a_row_cannot_pass_for_an_entry() {
    let site = Site::django();
    let process = site.process();
    let key = process.make().await;
    site.cache.inner.delete(&key, None).await.unwrap();
    let row = site.database.inner.load(&key).await.unwrap().unwrap();
    let forged = Bytes::from_static(b"\0{\"_auth_user_id\":\"1\"}");
    site.database.inner.replace(&key, &row.version, forged.clone(), row.expiry).await.unwrap();
    assert_eq!(process.read(&key).await.unwrap(), "{}");
    assert_eq!(site.cached(&key).await, None);
    assert_eq!(site.database.inner.load(&key).await.unwrap().unwrap().payload, forged, "and it is left as it stands");
}

#[tokio::test]
async fn a_payload_in_another_secret_is_not_cached() {
    for site in Site::both() {
        let key = KeySource::system().draw().unwrap();
        let other = Codec::signed_json(&Secrets::new("another deployment"));
        let mut values = Values::new();
        values.insert("theirs", &1).unwrap();
        let payload = other.encode(&values, NOW).unwrap();
        let expiry = Timestamp::from_secs(NOW.as_secs() + 1_000);
        site.database.inner.create(&key, payload.clone(), expiry).await.unwrap();
        let process = site.process();
        for _ in 0..2 {
            assert_eq!(process.read(&key).await.unwrap(), "{}");
        }
        process.set(&key, "ours", 1).await.unwrap();
        assert_eq!(site.database.inner.load(&key).await.unwrap().unwrap().payload, payload, "nothing is destroyed");
    }
}

/// A form without a marker: the entry is deleted then.
#[tokio::test]
async fn a_form_may_have_no_marker() {
    struct Plain;
    impl Format for Plain {
        fn name(&self) -> &'static str {
            "plain"
        }
        fn encode(&self, values: &Values, _: Timestamp) -> Result<Bytes> {
            Ok(values.to_json().into())
        }
        fn decode(&self, payload: &[u8]) -> Result<Values> {
            Values::parse(payload.to_vec())
        }
    }
    let site = Site::new(CacheForm::Django(Codec::new(Plain)));
    let process = site.process();
    let key = process.make().await;
    process.sign_out(&key).await.unwrap();
    assert_eq!((site.cached(&key).await, site.row(&key).await), (None, None));
    assert_eq!(process.read(&key).await.unwrap(), "{}");
}

#[tokio::test]
async fn a_version_of_another_store_is_refused() {
    let site = Site::django();
    let (store, key) = (site.store(), KeySource::system().draw().unwrap());
    assert!(matches!(store.create(&key, Bytes::from_static(b"x"), Timestamp::MAX).await, Ok(Created::Created(_))));
    let foreign = Version::counter(1);
    assert!(store.replace(&key, &foreign, Bytes::from_static(b"y"), Timestamp::MAX).await.is_err());
    assert!(store.delete(&key, Some(&foreign)).await.is_err());
    assert_eq!(site.database.inner.load(&key).await.unwrap().unwrap().payload, "x");
}
