//! The file engine on a real directory: what Django finds there, what goes wrong, and what survives it.

mod failures;
mod once;
mod processes;
mod sweeping;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use cloakroom_core::engine::file::FileStore;
use cloakroom_core::store::{Created, Deleted, Replaced, Store, Touched, Version};
use cloakroom_core::wire::expiry::Lifetime;
use cloakroom_core::{Clock, ErrorKind, SessionKey, Timestamp};
use tempfile::TempDir;

const AGE: i64 = 1_000;
const KEY: &str = "abcdefghijklmnopqrstuvwxyz012345";

/// A payload that begins with `until:N:` is a session with a date, `for:N:` one with a number of seconds.
fn lifetime(payload: &Bytes) -> Lifetime {
    let text = String::from_utf8_lossy(payload);
    let number = |rest: &str| rest.split(':').next().and_then(|number| number.parse().ok()).unwrap_or(AGE);
    match (text.strip_prefix("until:"), text.strip_prefix("for:")) {
        (Some(rest), _) => Lifetime::Fixed(Timestamp::from_secs(number(rest))),
        (_, Some(rest)) => Lifetime::Sliding(number(rest)),
        _ => Lifetime::Sliding(AGE),
    }
}

fn open(directory: &Path, clock: &Clock) -> cloakroom_core::Result<FileStore> {
    FileStore::new(directory, "sessionid", clock.clone(), Arc::new(lifetime))
}

fn key(text: &str) -> SessionKey {
    SessionKey::presented(text).unwrap()
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// The directory for temporary files, and a file system in memory (on nearly every Linux), where the engine goes another
/// way.
fn places() -> [PathBuf; 2] {
    let memory = PathBuf::from("/dev/shm");
    let disk = std::env::temp_dir();
    [disk.clone(), if memory.is_dir() { memory } else { disk }]
}

/// A store in a directory of its own, at a time of its own.
struct Site {
    directory: TempDir,
    clock: Clock,
    store: FileStore,
}

impl Site {
    fn new() -> Self {
        Self::new_in(&std::env::temp_dir())
    }

    fn new_in(place: &Path) -> Self {
        let directory = tempfile::tempdir_in(place).unwrap();
        let clock = Clock::manual(Timestamp::from_micros(1_800_000_000_500_000));
        let store = open(directory.path(), &clock).unwrap();
        Self { directory, clock, store }
    }

    fn path(&self, key: &str) -> PathBuf {
        self.directory.path().join(format!("sessionid{key}"))
    }

    fn in_secs(&self, secs: i64) -> Timestamp {
        self.clock.now().checked_add_micros(secs * 1_000_000).unwrap()
    }

    async fn create(&self, key: &str, payload: &str, expiry: Timestamp) -> Version {
        match self.store.create(&crate::key(key), bytes(payload), expiry).await.unwrap() {
            Created::Created(version) => version,
            Created::Taken => panic!("{key} is taken"),
        }
    }

    async fn payload(&self, key: &str) -> Option<String> {
        let stored = self.store.load(&crate::key(key)).await.unwrap();
        stored.map(|stored| String::from_utf8_lossy(&stored.payload).into_owned())
    }

    /// Writes a file as another program would.
    fn plant(&self, name: &str, content: &str, age_secs: i64) {
        let path = self.directory.path().join(name);
        fs::write(&path, content).unwrap();
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(self.in_secs(-age_secs).into()).unwrap();
    }

    /// The names in the directory, in order.
    fn names(&self) -> Vec<String> {
        names(self.directory.path())
    }
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn modified(path: &Path) -> SystemTime {
    fs::metadata(path).unwrap().modified().unwrap()
}

#[tokio::test]
async fn a_file_is_as_django_would_leave_it() {
    let site = Site::new();
    let version = site.create(KEY, "payload", site.in_secs(AGE)).await;
    assert_eq!(site.names(), [format!("sessionid{KEY}")]);
    let path = site.path(KEY);
    assert_eq!(fs::read(&path).unwrap(), b"payload");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    // Django counts the age from the time of modification: that of the save.
    assert_eq!(modified(&path), site.clock.now().into());

    site.clock.advance(std::time::Duration::from_secs(10));
    let replaced = site.store.replace(&key(KEY), &version, bytes("longer payload"), site.in_secs(AGE)).await.unwrap();
    assert!(matches!(replaced, Replaced::Replaced(_)));
    assert_eq!(fs::read(&path).unwrap(), b"longer payload");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    assert_eq!(modified(&path), site.clock.now().into());
    assert_eq!(site.names().len(), 1, "a temporary file was left behind");
}

#[tokio::test]
async fn the_time_of_modification_tells_the_expiry() {
    let site = Site::new();
    site.create(KEY, "payload", site.in_secs(60)).await;
    assert_eq!(modified(&site.path(KEY)), site.in_secs(60 - AGE).into());
    assert_eq!(site.store.load(&key(KEY)).await.unwrap().unwrap().expiry, site.in_secs(60));
    assert_eq!(site.store.touch(&key(KEY), site.in_secs(AGE)).await.unwrap(), Touched::Touched);
    assert_eq!(modified(&site.path(KEY)), site.clock.now().into());

    // A date in the session says when it ends, whenever the file was written.
    let until = site.in_secs(50).as_secs();
    site.create("fixedfixed", &format!("until:{until}:"), Timestamp::from_secs(until)).await;
    assert_eq!(modified(&site.path("fixedfixed")), site.clock.now().into());
    let stored = site.store.load(&key("fixedfixed")).await.unwrap().unwrap();
    assert_eq!(stored.expiry, Timestamp::from_secs(until));

    // "For ever" leaves the file a time that any file system can hold.
    site.create("longlonglong", "for:99999999999999:", Timestamp::MAX).await;
    assert_eq!(modified(&site.path("longlonglong")), site.clock.now().into());
    // What Django has saved with a negative age is over.
    site.plant("sessionidnegative", "for:-5:", 0);
    assert_eq!(site.payload("negative").await, None);
}

#[tokio::test]
async fn less_than_a_second_left_is_expired() {
    let site = Site::new();
    for (name, age, there) in [("age00000", AGE - 1, true), ("age00001", AGE, false), ("age00002", AGE + 1, false)] {
        site.plant(&format!("sessionid{name}"), "payload", age);
        assert_eq!(site.payload(name).await.is_some(), there, "{name}");
    }
    // Now is half past a second.
    let now = site.clock.now().as_secs();
    for (secs, there) in [(0, false), (1, false), (2, true)] {
        site.plant("sessionidfixedfixed", &format!("until:{}:", now + secs), 0);
        assert_eq!(site.payload("fixedfixed").await.is_some(), there, "{secs}");
    }
}

#[tokio::test]
async fn an_empty_file_is_a_session_and_never_expires() {
    let site = Site::new();
    site.plant(&format!("sessionid{KEY}"), "", 10 * AGE);
    let stored = site.store.load(&key(KEY)).await.unwrap().unwrap();
    assert!(stored.payload.is_empty());
    assert_eq!(site.store.touch(&key(KEY), site.in_secs(AGE)).await.unwrap(), Touched::Touched);
    while site.store.clear_expired(10).await.unwrap().more {}
    assert_eq!(site.names().len(), 1);
    let replaced = site.store.replace(&key(KEY), &stored.version, bytes("x"), site.in_secs(AGE)).await.unwrap();
    assert!(matches!(replaced, Replaced::Replaced(_)));
}

#[tokio::test]
async fn any_bytes_are_a_payload() {
    let site = Site::new();
    let odd = Bytes::from((0..=255u8).cycle().take(100_000).collect::<Vec<u8>>());
    site.store.create(&key(KEY), odd.clone(), site.in_secs(AGE)).await.unwrap();
    assert_eq!(site.store.load(&key(KEY)).await.unwrap().unwrap().payload, odd);
}

#[tokio::test]
async fn odd_keys_never_reach_the_file_system() {
    let site = Site::new();
    site.plant("sessionidABCDEFGH", "payload", 0);
    for odd in ["../../etc/passwd", "ABCDEFGH", "sessions/../x", "abcdefg\0", "abcdefgh\n", "ａｂｃｄｅｆｇｈ"]
    {
        let odd = key(odd);
        assert!(site.store.load(&odd).await.unwrap().is_none());
        let created = site.store.create(&odd, bytes("x"), site.in_secs(AGE)).await;
        assert_eq!(created.unwrap_err().kind(), ErrorKind::Unsupported);
        let version = Version::payload(bytes("payload"));
        let replaced = site.store.replace(&odd, &version, bytes("x"), site.in_secs(AGE)).await.unwrap();
        assert!(matches!(replaced, Replaced::Gone));
        assert_eq!(site.store.touch(&odd, site.in_secs(AGE)).await.unwrap(), Touched::Gone);
        assert!(matches!(site.store.delete(&odd, None).await.unwrap(), Deleted::Gone));
    }
    assert_eq!(site.names(), ["sessionidABCDEFGH"]);
}
