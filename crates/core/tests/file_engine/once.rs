//! What is in a file is read once, whoever asks for it, and not at all if it was written here.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cloakroom_core::engine::Engine;
use cloakroom_core::engine::file::{Dating, FileStore, dating};
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
    directory: Arc<TempDir>,
}

impl Site {
    fn new() -> Self {
        Self::on(Arc::new(tempfile::tempdir().unwrap()))
    }

    /// Another process, as it were.
    fn beside(&self) -> Self {
        Self::on(self.directory.clone())
    }

    fn on(directory: Arc<TempDir>) -> Self {
        let serializer = Arc::new(Counting::default());
        let (codec, dating) = codec("of this test", serializer.clone());
        let store = Arc::new(FileStore::new(directory.path(), "sessionid", Clock::system(), dating).unwrap());
        let policy = Policy::new(CookieWriter::new(&CookieAttributes::default()).unwrap(), ExpiryRules::default());
        let engine = Engine::Store { store: store.clone(), codec };
        let exchange = Exchange::new(engine, policy, Clock::system(), KeySource::system());
        Self { exchange, store, serializer, directory }
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
    let codec = Codec::signed(&Secrets::new(secret), serializer);
    (codec.clone(), dating(codec, ExpiryRules::default()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_read_once() {
    let here = Site::new();
    let there = here.beside();
    let later = Clock::system().now().checked_add_micros(3_600_000_000).unwrap();
    let key = here.request(None, Some(1)).await;
    here.request(Some(&key), None).await;
    here.request(Some(&key), Some(2)).await;
    here.store.touch(&key, later).await.unwrap();
    assert_eq!(here.reads(), 0, "made, read, written and touched where it was written");
    for _ in 0..3 {
        there.request(Some(&key), None).await;
    }
    there.store.touch(&key, later).await.unwrap();
    assert_eq!(there.reads(), 1, "read and touched by another one");
    there.request(Some(&key), Some(3)).await;
    assert_eq!(there.reads(), 0, "written");
    here.request(Some(&key), None).await;
    assert_eq!(here.reads(), 1, "it is another text now");
}

#[tokio::test]
async fn a_conflict_reads_what_stands_there_once() {
    let site = Site::new();
    let key = site.request(None, Some(1)).await;
    let cookie = format!("sessionid={}", key.as_str());
    let slot = site.exchange.open(std::iter::once(cookie.as_bytes()));
    slot.load().await.unwrap().insert("other", &1).unwrap();
    site.beside().request(Some(&key), Some(2)).await;
    assert_eq!(site.reads(), 0);
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
    for place in 0..short.len() {
        let mut forged = short.to_vec();
        forged[place] ^= 1;
        assert!(ours.read(&forged.into()).is_err(), "byte {place}");
    }
}

/// What is known of a text does not depend on how it came to be known.
#[test]
fn what_was_written_is_as_what_was_read() {
    let now = Timestamp::from_micros(1_800_000_000_999_999);
    let values = Values::parse(br#"{"a":1e22,"\u00e9":[1, 2]}"#.to_vec()).unwrap();
    let codec = |secrets: Secrets| Codec::signed_json(&secrets);
    let (writer, reader) = (codec(Secrets::new("old")), codec(Secrets::new("old")));
    let rotated = codec(Secrets::new("new").with_fallbacks(["old"]));
    let payload = writer.encode(&values, now).unwrap();
    for round in 0..2 {
        let dated = [&writer, &reader].map(|codec| codec.decode_dated(&payload).unwrap());
        let [written, read] = dated.map(|(values, at)| (values.to_json(), at));
        assert_eq!((&written.0, written.1), (&values.to_json(), Some(Timestamp::from_secs(1_800_000_000))), "{round}");
        assert_eq!(written, read, "{round}");
        assert!(writer.read(&payload).unwrap().1 && reader.read(&payload).unwrap().1, "{round}");
        assert!(!rotated.read(&payload).unwrap().1, "{round}: signed with a secret of the past");
    }
}

/// Who changes what was read changes nothing for who reads it next.
#[test]
fn each_reader_has_data_of_its_own() {
    let (codec, _) = codec("of this test", Arc::new(JsonSerializer));
    let mut values = Values::parse(br#"{"a":1}"#.to_vec()).unwrap();
    let payload = codec.encode(&values, Timestamp::from_secs(0)).unwrap();
    values.insert("a", &2).unwrap();
    let mut read = codec.read(&payload).unwrap().0;
    read.remove("a");
    assert_eq!(codec.read(&payload).unwrap().0.to_json(), r#"{"a":1}"#);
}
