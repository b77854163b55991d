//! What is in a file is read once by a request, whoever asks for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cloakroom_core::engine::Engine;
use cloakroom_core::engine::file::{Dating, FileStore, dated};
use cloakroom_core::exchange::{Exchange, Policy};
use cloakroom_core::store::Store;
use cloakroom_core::wire::cookie::{CookieAttributes, CookieWriter};
use cloakroom_core::wire::expiry::{ExpiryRules, Lifetime};
use cloakroom_core::wire::session_data::{Codec, JsonSerializer, Serializer};
use cloakroom_core::wire::signing::Secrets;
use cloakroom_core::{Clock, KeySource, Result, SessionKey, Timestamp, Values};
use tempfile::TempDir;

/// JSON, and how often it was read.
#[derive(Default)]
struct Counting(AtomicUsize);

impl Serializer for Counting {
    fn dumps(&self, values: &Values) -> Result<Vec<u8>> {
        JsonSerializer.dumps(values)
    }

    fn loads(&self, data: Vec<u8>) -> Result<Values> {
        self.0.fetch_add(1, Ordering::Relaxed);
        JsonSerializer.loads(data)
    }
}

struct Site {
    exchange: Exchange,
    store: Arc<FileStore>,
    serializer: Arc<Counting>,
    _directory: TempDir,
}

impl Site {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let serializer = Arc::new(Counting::default());
        let (codec, dating) = codec("of this test", serializer.clone());
        let store = Arc::new(FileStore::new(directory.path(), "sessionid", Clock::system(), dating).unwrap());
        let policy = Policy::new(CookieWriter::new(&CookieAttributes::default()).unwrap(), ExpiryRules::default());
        let engine = Engine::Store { store: store.clone(), codec };
        let exchange = Exchange::new(engine, policy, Clock::system(), KeySource::system());
        Self { exchange, store, serializer, _directory: directory }
    }

    /// A request that sets an item if it is told to, and otherwise reads it; and the session's key.
    async fn request(&self, key: Option<&SessionKey>, set: Option<i64>) -> SessionKey {
        let cookie = key.map(|key| format!("sessionid={}", key.as_str()));
        let slot = self.exchange.open(cookie.iter().map(String::as_bytes));
        let session = slot.load().await.unwrap();
        match set {
            Some(number) => session.insert("number", &number).unwrap(),
            None => assert!(session.get::<i64>("number").unwrap().is_some()),
        }
        slot.commit(200).await.unwrap();
        slot.key().unwrap()
    }

    /// How often a file was read since this was asked for.
    fn reads(&self) -> usize {
        self.serializer.0.swap(0, Ordering::Relaxed)
    }
}

fn codec(secret: &str, serializer: Arc<dyn Serializer>) -> (Codec, Dating) {
    dated(Codec::signed(&Secrets::new(secret), serializer), ExpiryRules::default())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_reads_a_file_once() {
    let site = Site::new();
    let key = site.request(None, Some(1)).await;
    assert_eq!(site.reads(), 0, "made");
    site.request(Some(&key), None).await;
    assert_eq!(site.reads(), 1, "read");
    site.request(Some(&key), Some(2)).await;
    assert_eq!(site.reads(), 1, "written");
    site.store.touch(&key, Clock::system().now()).await.unwrap();
    assert_eq!(site.reads(), 1, "touched");
}

#[tokio::test]
async fn a_conflict_reads_what_stands_there_once() {
    let site = Site::new();
    let key = site.request(None, Some(1)).await;
    let cookie = format!("sessionid={}", key.as_str());
    let slot = site.exchange.open(std::iter::once(cookie.as_bytes()));
    slot.load().await.unwrap().insert("other", &1).unwrap();
    site.request(Some(&key), Some(2)).await;
    assert_eq!(site.reads(), 2);
    slot.commit(200).await.unwrap();
    assert_eq!(site.reads(), 1);
    let found = slot.reload().await.unwrap();
    assert_eq!((found.get_raw("number"), found.get_raw("other")), (Some("2"), Some("1")));
}

/// What one codec has read of some bytes is no other one's business, and none of it is that of other bytes.
#[test]
fn nothing_is_mixed_up() {
    let (now, rules) = (Timestamp::from_secs(1_800_000_000), ExpiryRules::default());
    let (ours, dating) = codec("ours", Arc::new(JsonSerializer));
    let (theirs, their_dating) = codec("theirs", Arc::new(JsonSerializer));
    let with = |json: &str| Values::parse(json.into()).unwrap();
    let long = ours.encode(&with(r#"{"_session_expiry":9000000}"#), now).unwrap();
    let short = ours.encode(&with(r#"{"_session_expiry":60}"#), now).unwrap();
    assert_eq!((dating(&long), dating(&short)), (Lifetime::Sliding(9_000_000), Lifetime::Sliding(60)));
    assert_eq!(ours.read(&long).unwrap().0.to_json(), r#"{"_session_expiry":9000000}"#);
    assert_eq!(ours.read(&short).unwrap().0.to_json(), r#"{"_session_expiry":60}"#);
    for payload in [&long, &short] {
        assert_eq!(dating(payload), dating(payload));
        assert_eq!(their_dating(payload), Lifetime::Sliding(rules.cookie_age));
        dating(payload);
        assert!(theirs.read(payload).is_err());
        assert!(theirs.decode(payload).is_err());
    }
    let mut forged = short.to_vec();
    dating(&short);
    *forged.last_mut().unwrap() ^= 1;
    assert!(ours.read(&forged.into()).is_err());
}
