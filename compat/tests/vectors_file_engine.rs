//! The files of the file engine: as Django wrote them, and how files of all ages and contents are read and swept.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use cloakroom_compat::{Vectors, moment, normal_json, python_json, secret, text};
use cloakroom_core::engine::Engine;
use cloakroom_core::engine::file::{FileStore, dating};
use cloakroom_core::exchange::{Exchange, Policy, SessionSlot};
use cloakroom_core::store::{Created, Store};
use cloakroom_core::wire::cookie::{CookieAttributes, CookieWriter};
use cloakroom_core::wire::expiry::{EXPIRY_KEY, ExpiryRules};
use cloakroom_core::wire::session_data::{Codec, SALT};
use cloakroom_core::wire::signing::{Secrets, loads};
use cloakroom_core::{Clock, KeySource, SessionKey, Timestamp};
use serde_json::Value;
use tempfile::TempDir;

/// A directory with a store in it, as the settings of a case would open it.
struct Files {
    directory: TempDir,
    store: FileStore,
    codec: Codec,
    rules: ExpiryRules,
    clock: Clock,
}

impl Files {
    fn open(case: &Value, prefix: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock = Clock::manual(moment(case, "now"));
        let defaults = ExpiryRules::default();
        let cookie_age = case["session_cookie_age"].as_i64().unwrap_or(defaults.cookie_age);
        let rules = ExpiryRules { cookie_age, ..defaults };
        let codec = Codec::signed_json(&Secrets::new(secret(&case["secret"])));
        let dating = dating(codec.clone(), rules.clone());
        let store = FileStore::new(directory.path(), prefix, clock.clone(), dating).unwrap();
        Self { directory, store, codec, rules, clock }
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.directory.path()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// Writes a file as Django, or whoever it was, left it.
    fn plant(&self, name: &str, content: &[u8], modified: Timestamp) {
        let path = self.directory.path().join(name);
        fs::write(&path, content).unwrap();
        fs::File::options().write(true).open(path).unwrap().set_modified(modified.into()).unwrap();
    }

    async fn sweep(&self) {
        while self.store.clear_expired(10).await.unwrap().more {}
    }

    /// A request with this session cookie.
    fn request(&self, key: &str) -> SessionSlot {
        let engine = Engine::Store { store: Arc::new(self.store.clone()), codec: self.codec.clone() };
        let cookie = CookieWriter::new(&CookieAttributes::default()).unwrap();
        let policy = Policy::new(cookie, self.rules.clone());
        let exchange = Exchange::new(engine, policy, self.clock.clone(), KeySource::system());
        exchange.open([format!("sessionid={key}").as_bytes()].into_iter())
    }
}

async fn check_file(case: &Value) {
    let (prefix, key, theirs) = (text(case, "session_cookie_name"), text(case, "session_key"), text(case, "content"));
    let key = SessionKey::presented(key).unwrap();
    let now = moment(case, "now");

    // Theirs, read by us.
    let files = Files::open(case, prefix);
    files.plant(text(case, "file_name"), theirs.as_bytes(), now);
    let values = files.codec.decode(theirs.as_bytes()).unwrap();
    let expiry = files.rules.expires_at(values.get_raw(EXPIRY_KEY), now).unwrap();
    match files.store.load(&key).await.unwrap() {
        Some(stored) => assert_eq!((stored.payload.as_ref(), stored.expiry), (theirs.as_bytes(), expiry)),
        None => assert!(expiry.micros_since(now) < 1_000_000, "Django's file is not found"),
    }
    let json = python_json(&case["value"]);
    assert_eq!(normal_json(&values.to_json()), normal_json(&json));
    assert_eq!(files.store.list(None, 10).await.unwrap(), std::slice::from_ref(&key));

    // Ours, as they would have written it.
    let files = Files::open(case, prefix);
    let payload = files.codec.encode(&values, now).unwrap();
    assert!(matches!(files.store.create(&key, payload, expiry).await.unwrap(), Created::Created(_)));
    assert_eq!(files.names(), [text(case, "file_name")]);
    let path = files.directory.path().join(text(case, "file_name"));
    let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(format!("{mode:o}"), text(case, "mode_octal"));
    assert_eq!(Timestamp::from(fs::metadata(&path).unwrap().modified().unwrap()), now);
    let ours = fs::read_to_string(&path).unwrap();
    assert!(ours.is_ascii());
    let unpacked = |signed: &str| loads(signed, &Secrets::new(secret(&case["secret"])), SALT, now, None).unwrap().0;
    // Where Python wrote one key twice, reading has merged them.
    if values.len() == case["value"]["d"].as_array().map_or(0, Vec::len) {
        assert_eq!(unpacked(&ours), unpacked(theirs));
        if !ours.starts_with('.') && !theirs.starts_with('.') {
            assert_eq!(ours, theirs);
        }
    }
}

/// Checks one case, and names the row of `docs/django.md` if Django's outcome was another.
async fn check_load(case: &Value) -> Option<&'static str> {
    let (key, now) = (text(case, "session_key"), moment(case, "now"));
    let name = format!("sessionid{key}");
    // One byte a character, as the file was noted down.
    let content: Option<Vec<u8>> = case["content"].as_str().map(|text| text.chars().map(|c| c as u8).collect());
    let files = Files::open(case, "sessionid");
    if let Some(content) = &content {
        files.plant(&name, content, moment(case, "mtime"));
    }
    let before = files.names();
    let slot = files.request(key);
    let session = slot.load().await.unwrap();
    let (json, key_after) = (normal_json(&session.to_json()), session.key());
    assert!(!session.modified());
    assert_eq!(files.names(), before, "reading makes nothing and removes nothing");
    files.sweep().await;
    let kept = !files.names().is_empty();

    let Some(content) = content else {
        assert_eq!((json.as_str(), key_after, case["key_after"].as_str()), ("{}", None, None));
        return None;
    };
    if !case["error"].is_null() {
        // Django stops at a file that is not ASCII, and so does its sweep.
        assert!(!content.is_ascii());
        assert_eq!((json.as_str(), kept), ("{}", case["kept_by_clear_expired"] == true));
        return Some("FILE-NOT-ASCII");
    }
    let seconds = files.codec.decode(&content).ok().and_then(|values| values.get::<i64>(EXPIRY_KEY).ok().flatten());
    let age = now.micros_since(moment(case, "mtime"));
    if let Some(seconds) = seconds.filter(|seconds| *seconds > 0 && age > (seconds - 1) * 1_000_000) {
        assert_eq!(case["kept_by_clear_expired"], true, "in Django, {seconds} seconds never end");
        assert_eq!((json.as_str(), key_after, kept), ("{}", None, false));
        return Some("FILE-INT-EXPIRY");
    }
    assert_eq!(kept, case["kept_by_clear_expired"] == true);
    assert_eq!(files.names().len() as u64, case["files_after_clear_expired"].as_u64().unwrap());
    assert_eq!(json, normal_json(&python_json(&case["loaded"])));
    if case["key_after"] == "new" {
        // Django has made a new file, and marked the session as modified so that its cookie is sent.
        assert_eq!((key_after, &case["modified_after"]), (None, &Value::Bool(true)));
        return Some("FILE-EXPIRED-READ");
    }
    assert_eq!(key_after.as_ref().map(SessionKey::as_str), Some(key));
    assert_eq!((&case["key_after"], &case["modified_after"]), (&"same".into(), &Value::Bool(false)));
    assert_eq!(case["files_after"], serde_json::json!(["presented"]));
    None
}

#[test]
fn vectors_file_engine() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let vectors = Vectors::load("file_engine");
    let mut report = vectors.report(&vectors.sections());
    for (at, case) in vectors.section("files").iter().enumerate() {
        report.case(&format!("files[{at}] {}", case["name"]), || runtime.block_on(check_file(case)));
    }
    for (at, case) in vectors.section("loads").iter().enumerate() {
        let check = std::panic::AssertUnwindSafe(|| runtime.block_on(check_load(case)));
        match std::panic::catch_unwind(check) {
            Ok(None) => report.checked(),
            Ok(Some(row)) => report.departure(row),
            Err(_) => report.fail(&format!("loads[{at}] {}", case["name"]), "see the panic above"),
        }
    }
    report.finish();
}
