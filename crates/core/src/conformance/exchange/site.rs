//! The site that the checks visit: sessions in memory, behind a probe, at a moment that stands still.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{Adapter, Reply, Visit};
use crate::clock::{Clock, Timestamp};
use crate::conformance::probe::{Operation, ProbeStore};
use crate::engine::Engine;
use crate::engine::memory::MemoryStore;
use crate::exchange::{Exchange, Policy};
use crate::key::{KeySource, SessionKey};
use crate::settings::OnUnavailable;
use crate::store::Created;
use crate::wire::cookie::{CookieAttributes, CookieWriter};
use crate::wire::expiry::ExpiryRules;
use crate::wire::session_data::Codec;

/// The key of a session that stands.
pub(super) const VALID: &str = "valid0000000000000000000000000ab";
/// The first key that the site draws.
pub(super) const NEW: &str = "new000000000000000000000000000cd";
/// A key that belongs to nobody.
pub(super) const UNKNOWN: &str = "unknown00000000000000000000000ef";
/// What the session that stands holds.
pub(super) const SEED: &str = "{\"seed\":1}";
/// The cookie that ends a session.
pub(super) const REMOVAL: &str =
    "sessionid=\"\"; expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0; Path=/; SameSite=Lax";

/// The cookie of a session under default settings, at the site's moment.
pub(super) fn cookie(key: &str) -> String {
    format!("sessionid={key}; expires=Fri, 29 Jan 2027 08:00:00 GMT; HttpOnly; Max-Age=1209600; Path=/; SameSite=Lax")
}

pub(super) struct Site<'a, A> {
    adapter: &'a A,
    pub(super) exchange: Exchange,
    pub(super) store: Arc<ProbeStore>,
    pub(super) clock: Clock,
}

impl<'a, A: Adapter> Site<'a, A> {
    /// A site under Django's default settings, with a session under [`VALID`] that holds [`SEED`].
    pub(super) async fn new(adapter: &'a A) -> Self {
        Self::under(adapter, CookieAttributes::default(), false).await
    }

    pub(super) async fn under(adapter: &'a A, cookie: CookieAttributes, save_every_request: bool) -> Self {
        let cookie = CookieWriter::new(&cookie).expect("a cookie that the suite wants");
        Self::by(adapter, Policy { save_every_request, ..Policy::new(cookie, ExpiryRules::default()) }).await
    }

    /// The same, but visitors are served without a session while the store is down.
    pub(super) async fn anonymous(adapter: &'a A, save_every_request: bool) -> Self {
        let cookie = CookieWriter::new(&CookieAttributes::default()).expect("Django's defaults");
        let policy = Policy::new(cookie, ExpiryRules::default());
        Self::by(adapter, Policy { save_every_request, on_unavailable: OnUnavailable::Anonymous, ..policy }).await
    }

    async fn by(adapter: &'a A, policy: Policy) -> Self {
        // Friday, 15 January 2027, 08:00 UTC.
        let clock = Clock::manual(Timestamp::from_secs(1_800_000_000));
        let store = Arc::new(ProbeStore::new(MemoryStore::new(clock.clone())));
        let engine = Engine::Store { store: store.clone(), codec: Codec::json() };
        let exchange = Exchange::new(engine, policy, clock.clone(), KeySource::scripted([NEW]));
        let site = Self { adapter, exchange, store, clock };
        site.put(VALID, SEED, 3600).await;
        site
    }

    pub(super) async fn send(&self, visit: Visit) -> Reply {
        self.adapter.send(self.exchange.clone(), visit).await
    }

    /// Puts a record there that expires so many seconds from now, if one can.
    pub(super) async fn put(&self, key: &str, payload: &str, seconds: i64) {
        let expiry = self.clock.now().checked_add_micros(seconds * 1_000_000).expect("a moment within the calendar");
        let payload = Bytes::copy_from_slice(payload.as_bytes());
        let made = self.store.inner().create(&parsed(key), payload, expiry).await;
        assert!(matches!(made, Ok(Created::Created(_))), "the suite could not make its record: {made:?}");
    }

    pub(super) async fn delete(&self, key: &str) {
        self.store.inner().delete(&parsed(key), None).await.expect("a store in memory does not fail");
    }

    /// All live records as they stand.
    pub(super) async fn records(&self) -> BTreeMap<String, String> {
        let mut records = BTreeMap::new();
        let store = self.store.inner();
        for key in store.list(None, usize::MAX).await.expect("a store in memory can list") {
            if let Some(stored) = store.load(&key).await.expect("a store in memory does not fail") {
                let payload = String::from_utf8(stored.payload.to_vec()).expect("the codec writes ASCII");
                records.insert(key.as_str().to_owned(), payload);
            }
        }
        records
    }

    /// What stands under a key.
    pub(super) async fn record(&self, key: &str) -> Option<String> {
        self.records().await.remove(key)
    }

    /// What the store was asked since the last call of this, as names.
    pub(super) fn calls(&self) -> String {
        let calls: Vec<_> = self.store.take_calls().into_iter().map(Operation::name).collect();
        calls.join(" ")
    }

    /// Lets a minute pass.
    pub(super) fn pass(&self) {
        self.clock.advance(Duration::from_secs(60));
    }
}

fn parsed(key: &str) -> SessionKey {
    SessionKey::presented(key).expect("a key of the suite")
}

/// The records of a site, as a check wants them.
pub(super) fn records<const N: usize>(wanted: [(&str, &str); N]) -> BTreeMap<String, String> {
    wanted.map(|(key, payload)| (key.to_owned(), payload.to_owned())).into()
}
