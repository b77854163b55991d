//! What goes wrong is an error that says what, and never a missing session; what stood before still stands.

use std::process::Command;

use super::*;

/// A path that not even root can write to.
fn unwritable() -> PathBuf {
    PathBuf::from("/proc")
}

fn refusal(directory: &Path) -> String {
    let error = open(directory, &Clock::system()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    let message = error.to_string();
    assert!(message.contains("SESSION_FILE_PATH"), "{message}");
    assert!(message.contains(&directory.display().to_string()), "{message}");
    message
}

#[test]
fn a_directory_that_will_not_do_is_refused_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    assert!(refusal(&directory.path().join("absent")).contains("does not exist"));
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(refusal(&file).contains("is not a directory"));
    assert!(refusal(&unwritable()).contains("is not writable"));

    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o500)).unwrap();
    if fs::write(directory.path().join("probe"), "").is_err() {
        assert!(refusal(directory.path()).contains("is not writable"));
    } else {
        println!("skipped: modes do not hold for this user, who is root");
    }
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn a_try_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    open(directory.path(), &Clock::system()).unwrap();
    assert!(names(directory.path()).is_empty());
}

#[test]
fn a_cookie_name_that_leads_elsewhere_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    for prefix in ["../s", "a/b", "a\0"] {
        let error = FileStore::new(directory.path(), prefix, Clock::system(), Arc::new(lifetime)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration);
        assert!(error.to_string().contains("SESSION_COOKIE_NAME"), "{error}");
    }
}

fn unavailable<T: std::fmt::Debug>(outcome: cloakroom_core::Result<T>) {
    let error = outcome.expect_err("a failure is not an outcome");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains(&KEY[4..]), "an error shows a session's key: {shown}");
    assert!(std::error::Error::source(&error).is_some());
}

#[tokio::test]
async fn a_directory_removed_under_way_is_no_absence_of_sessions() {
    let site = Site::new();
    let version = site.create(KEY, "payload", site.in_secs(AGE)).await;
    fs::remove_dir_all(site.directory.path()).unwrap();
    let key = key(KEY);
    unavailable(site.store.load(&key).await);
    unavailable(site.store.create(&key, bytes("x"), site.in_secs(AGE)).await);
    unavailable(site.store.replace(&key, &version, bytes("x"), site.in_secs(AGE)).await);
    unavailable(site.store.touch(&key, site.in_secs(AGE)).await);
    unavailable(site.store.delete(&key, None).await);
    unavailable(site.store.delete(&key, Some(&version)).await);
    unavailable(site.store.clear_expired(10).await);
    unavailable(site.store.list(None, 10).await);
    // When it is there again, so is the service.
    fs::create_dir(site.directory.path()).unwrap();
    assert_eq!(site.payload(KEY).await, None);
    site.create(KEY, "payload", site.in_secs(AGE)).await;
}

#[tokio::test]
async fn a_directory_in_the_place_of_a_file_is_an_error() {
    let site = Site::new();
    let version = site.create(KEY, "payload", site.in_secs(AGE)).await;
    fs::remove_file(site.path(KEY)).unwrap();
    fs::create_dir(site.path(KEY)).unwrap();
    let key = key(KEY);
    unavailable(site.store.load(&key).await);
    unavailable(site.store.replace(&key, &version, bytes("x"), site.in_secs(AGE)).await);
    unavailable(site.store.touch(&key, site.in_secs(AGE)).await);
    unavailable(site.store.delete(&key, None).await);
    assert_eq!(site.store.create(&key, bytes("x"), site.in_secs(AGE)).await.unwrap(), Created::Taken);
    assert!(site.store.list(None, 10).await.unwrap().is_empty());
    while site.store.clear_expired(10).await.unwrap().more {}
    assert_eq!(site.names().len(), 1, "a temporary file was left behind");
}

#[tokio::test]
async fn an_unreadable_file_is_an_error() {
    let site = Site::new();
    site.create(KEY, "payload", site.in_secs(AGE)).await;
    fs::set_permissions(site.path(KEY), fs::Permissions::from_mode(0o000)).unwrap();
    if fs::read(site.path(KEY)).is_ok() {
        println!("skipped: modes do not hold for this user, who is root");
        return;
    }
    unavailable(site.store.load(&key(KEY)).await);
    unavailable(site.store.touch(&key(KEY), site.in_secs(AGE)).await);
}

#[tokio::test]
async fn a_truncated_file_is_another_version() {
    let site = Site::new();
    let version = site.create(KEY, "payload", site.in_secs(AGE)).await;
    site.plant(&format!("sessionid{KEY}"), "pay", 0);
    assert_eq!(site.payload(KEY).await.as_deref(), Some("pay"));
    let replaced = site.store.replace(&key(KEY), &version, bytes("x"), site.in_secs(AGE)).await.unwrap();
    assert!(matches!(replaced, Replaced::Conflict(_)), "what was damaged is not overwritten unseen");
    let deleted = site.store.delete(&key(KEY), Some(&version)).await.unwrap();
    assert!(matches!(deleted, Deleted::Conflict(_)));
}

#[tokio::test]
async fn a_lock_that_is_never_given_up_is_an_error() {
    for place in places() {
        let site = Site::new_in(&place);
        let version = site.create(KEY, "payload", site.in_secs(AGE)).await;
        let holder = fs::File::open(site.path(KEY)).unwrap();
        holder.lock().unwrap();
        // Reading needs no lock.
        assert_eq!(site.payload(KEY).await.as_deref(), Some("payload"));
        unavailable(site.store.replace(&key(KEY), &version, bytes("x"), site.in_secs(AGE)).await);
        assert_eq!(site.names().len(), 1, "a temporary file was left behind");
        drop(holder);
        assert_eq!(site.store.touch(&key(KEY), site.in_secs(AGE)).await.unwrap(), Touched::Touched);
    }
}

/// A small file system in memory, for as long as this lives.
struct SmallDisk(TempDir);

impl SmallDisk {
    /// `None`, with a word about it, where the user may not mount.
    fn mount(options: &str) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new("mount");
        let mounted = command.args(["-t", "tmpfs", "-o", options, "none"]).arg(directory.path()).output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(directory)),
            other => {
                println!("skipped: no file system could be mounted: {other:?}");
                None
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_read_only_file_system_is_refused_at_the_start() {
    if let Some(disk) = SmallDisk::mount("size=64k,ro") {
        assert!(refusal(disk.0.path()).contains("is not writable"));
    }
}

#[tokio::test]
async fn a_full_disk_is_an_error_and_loses_nothing() {
    let Some(disk) = SmallDisk::mount("size=256k") else { return };
    let clock = Clock::manual(Timestamp::from_secs(1_800_000_000));
    let store = open(disk.0.path(), &clock).unwrap();
    let expiry = Timestamp::from_secs(1_800_000_000 + AGE);
    let record = |n: usize| (key(&format!("key{n:08}")), bytes(&format!("{n}").repeat(5_000)));
    let mut made = 0;
    let full = loop {
        let (key, payload) = record(made);
        match store.create(&key, payload, expiry).await {
            Ok(_) => made += 1,
            Err(full) => break full,
        }
        assert!(made < 1_000, "the disk is larger than it should be");
    };
    assert_eq!(full.kind(), ErrorKind::Unavailable);
    assert!(made > 5, "{full:?}");
    let (first, payload) = record(0);
    let version = Version::payload(payload);
    let replaced = store.replace(&first, &version, bytes(&"x".repeat(50_000)), expiry).await;
    assert_eq!(replaced.unwrap_err().kind(), ErrorKind::Unavailable);
    for n in 0..made {
        let (key, payload) = record(n);
        assert_eq!(store.load(&key).await.unwrap().unwrap().payload, payload);
    }
    assert_eq!(names(disk.0.path()).len(), made, "a failed save left a file behind");
    // A sign-out works on a full disk, and makes room.
    assert!(matches!(store.delete(&first, None).await.unwrap(), Deleted::Deleted));
    let (key, payload) = record(0);
    assert!(matches!(store.create(&key, payload, expiry).await.unwrap(), Created::Created(_)));
}
