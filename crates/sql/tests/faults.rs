//! The SQLite store when something is broken: each fault gives an error of its own kind, and harms nothing stored.

mod common;

use std::io::Write;
use std::sync::Arc;

use cloakroom_core::store::{Created, Store};
use cloakroom_core::{Error, ErrorKind};
use cloakroom_sql::{SqliteOptions, SqliteStore};
use common::*;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};

#[track_caller]
fn says(error: &Error, kind: ErrorKind, parts: &[&str]) {
    let text = error.to_string();
    assert_eq!(error.kind(), kind, "{text}");
    assert!(parts.iter().all(|part| text.contains(part)), "{text}");
}

#[tokio::test]
async fn a_missing_file_is_a_configuration_error() {
    let (directory, path) = place();
    let error = SqliteStore::open(SqliteOptions::new(&path), clock()).await.unwrap_err();
    says(&error, ErrorKind::Configuration, &["db.sqlite3", "cloakroom migrate"]);
    assert!(!path.exists(), "looking must not create");
    let error = SqliteStore::open(SqliteOptions::new(directory.path()), clock()).await.unwrap_err();
    says(&error, ErrorKind::Configuration, &["is a directory"]);
    let nowhere = SqliteOptions::new(directory.path().join("no/db")).create_if_missing(true);
    says(&SqliteStore::open(nowhere, clock()).await.unwrap_err(), ErrorKind::Configuration, &["does not exist"]);
}

#[tokio::test]
async fn a_missing_table_says_to_migrate() {
    let (_directory, path) = place();
    let store = SqliteStore::open(options(&path).create_if_missing(true), clock()).await.unwrap();
    for error in [
        store.load(&key(1)).await.unwrap_err(),
        store.create(&key(1), bytes("x"), LATER).await.unwrap_err(),
        store.clear_expired(1).await.unwrap_err(),
    ] {
        says(&error, ErrorKind::NotMigrated, &["db.sqlite3", "cloakroom migrate"]);
    }
}

#[tokio::test]
async fn a_locked_database_is_unavailable_and_recovers() {
    let (_directory, path) = place();
    let store = store(&path).await;
    store.create(&key(1), bytes("before"), LATER).await.unwrap();
    let mut other = stranger(&path).await;
    run(&mut other, "BEGIN IMMEDIATE").await;
    let error = store.create(&key(2), bytes("x"), LATER).await.unwrap_err();
    says(&error, ErrorKind::Unavailable, &["the database is locked", "db.sqlite3"]);
    assert!(store.load(&key(1)).await.unwrap().is_some(), "readers do not wait for writers");
    run(&mut other, "ROLLBACK").await;
    assert!(matches!(store.create(&key(2), bytes("x"), LATER).await.unwrap(), Created::Created(_)));
}

#[tokio::test]
async fn a_database_locked_at_the_start_is_no_reason_not_to_start() {
    let (_directory, path) = place();
    let mut other = stranger(&path).await;
    run(&mut other, "CREATE TABLE t (x); PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; INSERT INTO t VALUES (1)")
        .await;
    let store = SqliteStore::open(options(&path), clock()).await.unwrap();
    says(&store.load(&key(1)).await.unwrap_err(), ErrorKind::Unavailable, &["locked"]);
    drop(other);
    // The other program is gone some time after its connection was dropped; the store then works by itself.
    let mut tries = 0;
    while let Err(error) = store.migrations().apply().await {
        tries += 1;
        assert!(tries < 100, "{error}");
    }
    assert!(matches!(store.create(&key(1), bytes("x"), LATER).await.unwrap(), Created::Created(_)));
}

#[tokio::test]
async fn a_read_only_database_can_be_read() {
    let (_directory, path) = place();
    let writer = store(&path).await;
    writer.create(&key(1), bytes("x"), LATER).await.unwrap();
    let url = format!("sqlite://{}?mode=ro", path.display());
    let store = SqliteStore::open(url.parse().unwrap(), clock()).await.unwrap();
    assert!(store.load(&key(1)).await.unwrap().is_some());
    for error in [
        store.create(&key(2), bytes("x"), LATER).await.unwrap_err(),
        store.touch(&key(1), LATER).await.unwrap_err(),
        store.delete(&key(1), None).await.unwrap_err(),
    ] {
        says(&error, ErrorKind::Unavailable, &["read-only", "db.sqlite3"]);
    }
}

/// Permissions do not bind root, so a root that runs this test becomes nobody in a child process.
#[cfg(unix)]
#[test]
fn permissions_on_the_file_and_its_directory() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::os::unix::process::CommandExt;

    const CHILD: &str = "CLOAKROOM_TEST_READ_ONLY";
    if let Some(path) = std::env::var_os(CHILD) {
        return read_only_child(path.as_ref());
    }
    let (directory, path) = place();
    let runtime = || tokio::runtime::Runtime::new().unwrap();
    runtime().block_on(async { store(&path).await.create(&key(1), bytes("x"), LATER).await.unwrap() });
    let chmod = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    chmod(&path, 0o444);
    chmod(directory.path(), 0o555);
    let mut child = std::process::Command::new("/proc/self/exe");
    child.args(["--exact", "permissions_on_the_file_and_its_directory", "--nocapture"]).env(CHILD, &path);
    if std::fs::metadata("/proc/self").unwrap().uid() == 0 {
        child.uid(65_534).gid(65_534).current_dir("/");
    }
    let output = child.output().unwrap();
    chmod(directory.path(), 0o755);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[cfg(unix)]
fn read_only_child(path: &std::path::Path) {
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let store = SqliteStore::open(options(path), clock()).await.unwrap();
        let error = store.create(&key(2), bytes("x"), LATER).await.unwrap_err();
        says(&error, ErrorKind::Unavailable, &["permissions", "db.sqlite3"]);
        // Reading a database in WAL mode needs the files beside it, which cannot be made here.
        if let Err(error) = store.load(&key(1)).await {
            says(&error, ErrorKind::Unavailable, &["permissions", "db.sqlite3"]);
        }
    });
}

#[tokio::test]
async fn a_full_disk_refuses_and_keeps() {
    let (_directory, path) = place();
    drop(store(&path).await);
    let options = SqliteConnectOptions::new().filename(&path).pragma("max_page_count", "12");
    let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await.unwrap();
    let store = SqliteStore::from_pool(pool, clock());
    let mut kept = 0;
    let error = loop {
        match store.create(&key(kept), bytes(&"x".repeat(3_000)), LATER).await {
            Ok(_) => kept += 1,
            Err(error) => break error,
        }
    };
    says(&error, ErrorKind::Unavailable, &["disk is full"]);
    for n in 0..kept {
        assert_eq!(store.load(&key(n)).await.unwrap().unwrap().payload.len(), 3_000);
    }
    assert!(store.load(&key(kept)).await.unwrap().is_none());
}

/// The same on a file system that is really full, so that SQLite's other files cannot grow either.
#[cfg(unix)]
#[tokio::test]
async fn a_full_file_system_refuses_and_keeps() {
    let directory = tempfile::tempdir().unwrap();
    let small = directory.path().join("small");
    let Some(_disk) = SmallDisk::mount(&small, "size=512k", None) else { return };
    let path = small.join("db.sqlite3");
    let store = store(&path).await;
    let mut kept = 0;
    let error = loop {
        match store.create(&key(kept), bytes(&"x".repeat(3_000)), LATER).await {
            Ok(_) => kept += 1,
            Err(error) => break error,
        }
        assert!(kept < 1_000, "the disk is larger than it should be");
    };
    says(&error, ErrorKind::Unavailable, &["disk is full"]);
    for n in 0..kept {
        assert_eq!(store.load(&key(n)).await.unwrap().unwrap().payload.len(), 3_000);
    }
    assert!(store.load(&key(kept)).await.unwrap().is_none());
    let mut conn = stranger(&path).await;
    assert_eq!(column(&mut conn, "PRAGMA integrity_check").await, ["ok"]);
    sqlx::Connection::close(conn).await.unwrap();
    // Room again, and the next save works.
    let output = std::process::Command::new("mount").args(["-o", "remount,size=4m"]).arg(&small).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(matches!(store.create(&key(kept), bytes("x"), LATER).await.unwrap(), Created::Created(_)));
}

#[tokio::test]
async fn a_file_that_is_no_database_is_named() {
    let (_directory, path) = place();
    std::fs::write(&path, "these are not the bytes of a database ".repeat(100)).unwrap();
    let before = std::fs::read(&path).unwrap();
    let error = SqliteStore::open(options(&path), clock()).await.unwrap_err();
    says(&error, ErrorKind::Unavailable, &["db.sqlite3", "not an SQLite database"]);
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn a_damaged_database_is_unavailable() {
    let (_directory, path) = place();
    let writer = store(&path).await;
    for n in 0..200 {
        writer.create(&key(n), bytes(&"x".repeat(500)), LATER).await.unwrap();
    }
    run(&mut stranger(&path).await, "PRAGMA wal_checkpoint(TRUNCATE)").await;
    drop(writer);
    let mut file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(4096)).unwrap();
    file.write_all(&[0x5a; 40_000]).unwrap();
    drop(file);
    let store = SqliteStore::open(options(&path), clock()).await.unwrap();
    let error = store.load(&key(1)).await.unwrap_err();
    says(&error, ErrorKind::Unavailable, &["damaged", "db.sqlite3"]);
}

#[tokio::test]
async fn a_file_deleted_under_way_is_unavailable_until_it_is_back() {
    let (directory, path) = place();
    let store = store(&path).await;
    store.create(&key(1), bytes("x"), LATER).await.unwrap();
    let away = directory.path().join("away");
    std::fs::rename(&path, &away).unwrap();
    for error in [
        store.load(&key(1)).await.unwrap_err(),
        store.create(&key(2), bytes("x"), LATER).await.unwrap_err(),
        store.touch(&key(1), LATER).await.unwrap_err(),
        store.delete(&key(1), None).await.unwrap_err(),
        store.migrations().apply().await.unwrap_err(),
    ] {
        says(&error, ErrorKind::Unavailable, &["db.sqlite3", "is gone"]);
    }
    assert!(!path.exists(), "the file must not be made again behind the operator's back");
    std::fs::rename(&away, &path).unwrap();
    assert!(store.load(&key(1)).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_replaced_under_way_is_taken_up_whole() {
    let (directory, path) = place();
    let store = Arc::new(store(&path).await);
    for n in 0..300 {
        store.create(&key(n), bytes("old"), LATER).await.unwrap();
    }
    assert!(store.load(&key(1)).await.unwrap().is_some());
    // Another database, closed properly, takes the place of ours, whose -wal file is left behind, full of changes.
    let elsewhere = directory.path().join("new.sqlite3");
    let mut other = stranger(&elsewhere).await;
    run(
        &mut other,
        "CREATE TABLE django_session (session_key varchar(40) NOT NULL PRIMARY KEY, session_data text NOT NULL,
         expire_date datetime NOT NULL);
         INSERT INTO django_session VALUES ('00000000000000000000000000000007', 'new', '2099-01-01 00:00:00')",
    )
    .await;
    sqlx::Connection::close(other).await.unwrap();
    std::fs::rename(&elsewhere, &path).unwrap();

    let tasks: Vec<_> = (0..8)
        .map(|n| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                assert!(store.load(&key(1)).await.unwrap().is_none());
                assert_eq!(store.load(&key(7)).await.unwrap().unwrap().payload, bytes("new"));
                store.create(&key(1_000 + n), bytes("after"), LATER).await.unwrap();
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let mut conn = stranger(&path).await;
    assert_eq!(column(&mut conn, "PRAGMA integrity_check").await, ["ok"]);
    assert_eq!(column(&mut conn, "SELECT count(*) || '' FROM django_session").await, ["9"]);
}
