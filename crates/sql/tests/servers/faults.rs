//! Servers that are wrong, down, silent, read-only, without a table.

use cloakroom_core::ErrorKind;
use cloakroom_core::store::{Created, Deleted, Replaced, Store, Touched};
use cloakroom_test_servers::{Kind, Options, PASSWORD, Server, USER, require_or_skip, shared};
use tokio::net::TcpListener;

use crate::common::{LATER, SmallDisk, bytes, key, random};
use crate::{create, database, impatient, is_postgres, on_each_server, open, payload, refused, store};

on_each_server! {
    a_wrong_password_is_told
    a_wrong_database_is_told
    a_server_that_accepts_and_never_answers
    nobody_listens
    killed_and_restarted
    frozen_and_thawed
    a_read_only_database_is_read
    a_full_database_refuses_and_keeps
    a_missing_table_says_to_migrate
    a_table_that_is_not_djangos
    what_does_not_fit_is_refused
}

async fn a_wrong_password_is_told(kind: Kind) {
    let Some(server) = shared(kind) else { return };
    let url = server.database().replace(PASSWORD, "secretly-wrong");
    let opened = open(&url).await;
    assert!(!format!("{opened:?}").contains("secretly-wrong"));
    refused(opened, ErrorKind::Configuration, &["open the database", "password of DATABASE_URL"]);
    let url = server.database().replace(USER, "nobody-knows-me");
    refused(open(&url).await, ErrorKind::Configuration, &["user or password"]);
}

async fn a_wrong_database_is_told(kind: Kind) {
    let Some(server) = shared(kind) else { return };
    let url = server.url_of("no_such_database");
    refused(open(&url).await, ErrorKind::Configuration, &["does not exist", "\"no_such_database\" on 127.0.0.1"]);
}

async fn a_server_that_accepts_and_never_answers(kind: Kind) {
    let scheme = if is_postgres(kind) { "postgres" } else { "mysql" };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("{scheme}://me:{PASSWORD}@{}/site", listener.local_addr().unwrap());
    // Not an error yet: a server that is only slow to start will answer later.
    let store = open(&format!("{url}?acquire_timeout=0.2")).await.unwrap().into_store();
    refused(store.load(&key(1)).await, ErrorKind::Unavailable, &["load a session", "no connection to", "200ms"]);
    refused(store.create(&key(1), bytes("x"), LATER).await, ErrorKind::Unavailable, &["create a session"]);
}

async fn nobody_listens(kind: Kind) {
    let scheme = if is_postgres(kind) { "postgres" } else { "mysql" };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("{scheme}://me:{PASSWORD}@{}/site?acquire_timeout=0.2", listener.local_addr().unwrap());
    drop(listener);
    let store = open(&url).await.unwrap().into_store();
    refused(store.load(&key(1)).await, ErrorKind::Unavailable, &["it is down or cannot be reached"]);
}

/// Fills the pool, so that many connections are there to be broken.
async fn fill_pool(store: &std::sync::Arc<dyn Store>) {
    let mut loading = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let store = store.clone();
        loading.spawn(async move { store.load(&key(999)).await.unwrap() });
    }
    while let Some(loaded) = loading.join_next().await {
        loaded.unwrap();
    }
}

async fn killed_and_restarted(kind: Kind) {
    let Some(server) = require_or_skip(kind) else { return };
    let store = store(&impatient(&server.database(), 4)).await;
    let version = create(&*store, &key(1), "one").await;

    type Break = fn(&Server);
    for break_it in [Server::kill as Break, Server::stop as Break] {
        fill_pool(&store).await;
        break_it(&server);
        refused(store.load(&key(1)).await, ErrorKind::Unavailable, &["load a session"]);
        refused(store.delete(&key(1), None).await, ErrorKind::Unavailable, &["delete a session"]);
        server.restart();
        assert_eq!(payload(&*store, &key(1)).await.unwrap(), "one", "the next request works");
    }

    // Each operation, as the first after a restart, meets nothing but broken connections.
    let restart = async || {
        fill_pool(&store).await;
        server.kill();
        server.restart();
    };
    restart().await;
    let replaced = store.replace(&key(1), &version, bytes("two"), LATER).await.unwrap();
    let Replaced::Replaced(version) = replaced else { panic!("{replaced:?}") };
    restart().await;
    assert!(matches!(store.create(&key(2), bytes("x"), LATER).await.unwrap(), Created::Created(_)));
    restart().await;
    assert_eq!(store.touch(&key(1), LATER).await.unwrap(), Touched::Touched);
    restart().await;
    assert!(matches!(store.delete(&key(1), Some(&version)).await.unwrap(), Deleted::Deleted));
    restart().await;
    assert_eq!(store.clear_expired(10).await.unwrap().removed, 0);
    restart().await;
    assert_eq!(store.list(None, 10).await.unwrap(), [key(2)]);
}

async fn frozen_and_thawed(kind: Kind) {
    let Some(server) = require_or_skip(kind) else { return };
    let store = store(&impatient(&server.database(), 2)).await;
    let version = create(&*store, &key(1), "one").await;
    fill_pool(&store).await;
    server.freeze();
    // More operations than connections: the first wait for answers, the others for connections.
    for _ in 0..2 {
        refused(store.load(&key(1)).await, ErrorKind::Unavailable, &["load a session"]);
        let saving = store.replace(&key(1), &version, bytes("two"), LATER).await;
        refused(saving, ErrorKind::Unavailable, &["save a session"]);
    }
    server.thaw();
    // The save may have been carried out after all; the record is whole in either case.
    let text = payload(&*store, &key(1)).await.unwrap();
    assert!(text == "one" || text == "two", "{text}");
}

async fn a_read_only_database_is_read(kind: Kind) {
    let Some(server) = require_or_skip(kind) else { return };
    let url = server.database();
    let writable = store(&url).await;
    let version = create(&*writable, &key(1), "x").await;
    let url = if is_postgres(kind) {
        let sql = format!("ALTER DATABASE {} SET default_transaction_read_only = on", database(&url));
        server.sql("postgres", &sql);
        url
    } else {
        // Administrators may write to a read-only server.
        server.sql("mysql", "CREATE USER site IDENTIFIED BY 'pw'; GRANT SELECT, INSERT, UPDATE, DELETE ON *.* TO site");
        server.sql("mysql", "SET GLOBAL read_only = 1");
        url.replace(USER, "site").replace(PASSWORD, "pw")
    };
    let store = open(&url).await.unwrap().into_store();
    assert_eq!(payload(&*store, &key(1)).await.unwrap(), "x");
    let saving = store.replace(&key(1), &version, bytes("y"), LATER).await;
    refused(saving, ErrorKind::Unavailable, &["save a session", "read-only"]);
    refused(store.create(&key(2), bytes("y"), LATER).await, ErrorKind::Unavailable, &["read-only"]);
    refused(store.delete(&key(1), None).await, ErrorKind::Unavailable, &["read-only"]);
    assert_eq!(payload(&*store, &key(1)).await.unwrap(), "x");
}

async fn a_full_database_refuses_and_keeps(kind: Kind) {
    // A data file of a fixed size is as good as a disk, where the server has one. Else it takes a file system.
    let small = ["--innodb-file-per-table=0", "--innodb-data-file-path=ibdata1:12M:autoextend:max:14M"];
    let options = Options::new(kind);
    let options = if is_postgres(kind) { options } else { options.args(small) };
    let Some(server) = options.require_or_skip() else { return };
    let url = server.database();
    let store = store(&url).await;
    let _disk = if is_postgres(kind) {
        let directory = server.directory().join("small");
        let Some(disk) = SmallDisk::mount(&directory, "size=1m,mode=700", Some(server.directory())) else { return };
        server.sql(&url, &format!("CREATE TABLESPACE small LOCATION '{}'", directory.display()));
        server.sql(&url, "ALTER TABLE django_session SET TABLESPACE small");
        Some(disk)
    } else {
        None
    };
    let version = create(&*store, &key(0), &random(1_000)).await;
    let mut kept = 1;
    let full = loop {
        match store.create(&key(kept), bytes(&random(10_000)), LATER).await {
            Ok(_) => kept += 1,
            Err(full) => break full,
        }
        assert!(kept < 5_000, "the database is larger than it should be");
    };
    refused(Err::<(), _>(full), ErrorKind::Unavailable, &["create a session", "full"]);
    let saving = store.replace(&key(0), &version, bytes(&random(2_000_000)), LATER).await;
    refused(saving, ErrorKind::Unavailable, &["save a session", "full"]);
    assert_eq!(store.load(&key(0)).await.unwrap().unwrap().version, version, "the former data stays");
    for n in 1..kept {
        assert_eq!(store.load(&key(n)).await.unwrap().unwrap().payload.len(), 10_000);
    }
    assert!(store.load(&key(kept)).await.unwrap().is_none());
    // A sign-out works all the same, but where it takes room to undo it.
    match store.delete(&key(1), None).await {
        Err(full) if !is_postgres(kind) => refused(Err::<(), _>(full), ErrorKind::Unavailable, &["full"]),
        deleted => assert!(matches!(deleted, Ok(Deleted::Deleted)), "{deleted:?}"),
    }
}

async fn a_missing_table_says_to_migrate(kind: Kind) {
    let Some(server) = shared(kind) else { return };
    let url = server.database();
    let store = open(&url).await.unwrap();
    assert!(!store.is_migrated().await.unwrap());
    let store = store.into_store();
    let words = ["no session table", "cloakroom migrate"];
    refused(store.load(&key(1)).await, ErrorKind::NotMigrated, &words);
    refused(store.create(&key(1), bytes("x"), LATER).await, ErrorKind::NotMigrated, &words);
    refused(store.clear_expired(10).await, ErrorKind::NotMigrated, &words);

    // Dropped under way.
    open(&url).await.unwrap().migrate().await.unwrap();
    create(&*store, &key(1), "x").await;
    server.sql(&url, "DROP TABLE django_session");
    refused(store.load(&key(1)).await, ErrorKind::NotMigrated, &words);
}

async fn a_table_that_is_not_djangos(kind: Kind) {
    let Some(server) = shared(kind) else { return };
    let url = server.database();
    server.sql(&url, "CREATE TABLE django_session (session_key varchar(40) PRIMARY KEY, data text, expires date)");
    let store = open(&url).await.unwrap();
    refused(store.migrate().await, ErrorKind::Configuration, &["not Django's", "session_data, expire_date"]);
    let store = store.into_store();
    refused(store.load(&key(1)).await, ErrorKind::Configuration, &["not Django's"]);

    // A project's own column that every row must have.
    let url = server.database();
    let store = crate::store(&url).await;
    server.sql(&url, "ALTER TABLE django_session ADD COLUMN tenant varchar(10) NOT NULL");
    refused(store.create(&key(1), bytes("x"), LATER).await, ErrorKind::Configuration, &["not Django's", "tenant"]);
}

async fn what_does_not_fit_is_refused(kind: Kind) {
    let Some(server) = shared(kind) else { return };
    let store = store(&server.database()).await;
    let long = cloakroom_core::SessionKey::presented(&"k".repeat(41)).unwrap();
    assert!(store.load(&long).await.unwrap().is_none());
    assert!(matches!(store.delete(&long, None).await.unwrap(), Deleted::Gone));
    refused(store.create(&long, bytes("x"), LATER).await, ErrorKind::TooLarge, &["create a session"]);

    let version = create(&*store, &key(1), "text").await;
    let invalid = bytes::Bytes::from_static(b"\xff\xfe");
    let saving = store.replace(&key(1), &version, invalid, LATER).await;
    refused(saving, ErrorKind::Unrepresentable, &["save a session"]);
    assert_eq!(payload(&*store, &key(1)).await.unwrap(), "text");
}
