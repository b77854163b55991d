//! The SQLite store and its migrations, when nothing is broken.

mod common;

use std::time::Duration;

use cloakroom_core::store::{Created, Deleted, Replaced, Store, Touched, Version};
use cloakroom_core::{Clock, ErrorKind, Timestamp};
use cloakroom_sql::{AnySqlStore, Outcome, SqliteOptions, SqliteStore, State};
use common::*;

const TABLE: &str = "CREATE TABLE \"django_session\" (\"session_key\" varchar(40) NOT NULL PRIMARY KEY, \
                     \"session_data\" text NOT NULL, \"expire_date\" datetime NOT NULL)";
const INDEX: &str = "CREATE INDEX \"django_session_expire_date_a5c62663\" ON \"django_session\" (\"expire_date\")";
const RECORDER: &str = "CREATE TABLE \"django_migrations\" (\"id\" integer NOT NULL PRIMARY KEY AUTOINCREMENT, \
                        \"app\" varchar(255) NOT NULL, \"name\" varchar(255) NOT NULL, \"applied\" datetime NOT NULL)";

#[tokio::test]
async fn a_record_goes_through_its_life() {
    let store = SqliteStore::open(SqliteOptions::in_memory(), clock()).await.unwrap();
    store.migrations().apply().await.unwrap();
    let Created::Created(first) = store.create(&key(1), bytes("one"), LATER).await.unwrap() else { panic!() };
    assert_eq!(store.create(&key(1), bytes("two"), LATER).await.unwrap(), Created::Taken);
    let stored = store.load(&key(1)).await.unwrap().unwrap();
    assert_eq!((&stored.payload, &stored.version, stored.expiry), (&bytes("one"), &first, LATER));

    let replaced = store.replace(&key(1), &first, bytes("two"), LATER).await.unwrap();
    assert!(matches!(replaced, Replaced::Replaced(_)));
    match store.replace(&key(1), &first, bytes("three"), LATER).await.unwrap() {
        Replaced::Conflict(stored) => assert_eq!(stored.payload, bytes("two")),
        other => panic!("{other:?}"),
    }
    assert!(matches!(store.delete(&key(1), Some(&first)).await.unwrap(), Deleted::Conflict(_)));
    assert_eq!(store.touch(&key(1), NOW).await.unwrap(), Touched::Touched);
    assert_eq!(store.touch(&key(1), LATER).await.unwrap(), Touched::Gone, "it has expired");
    assert!(matches!(store.delete(&key(1), None).await.unwrap(), Deleted::Deleted));
    assert!(matches!(store.delete(&key(1), None).await.unwrap(), Deleted::Gone));
    assert!(matches!(store.replace(&key(1), &first, bytes("four"), LATER).await.unwrap(), Replaced::Gone));
    assert!(store.load(&key(1)).await.unwrap().is_none());
    let foreign = store.replace(&key(1), &Version::counter(1), bytes("five"), LATER).await.unwrap_err();
    assert_eq!(foreign.kind(), ErrorKind::Unsupported);
}

/// Two stores on one file stand for two processes: SQLite does not share anything between them.
#[tokio::test(flavor = "multi_thread")]
async fn increments_of_two_stores_are_all_counted() {
    let (_directory, path) = place();
    drop(store(&path).await);
    let options = SqliteOptions::new(&path).busy_timeout(Duration::from_secs(60));
    let stores = [
        SqliteStore::open(options.clone(), clock()).await.unwrap(),
        SqliteStore::open(options, clock()).await.unwrap(),
    ];
    stores[0].create(&key(1), bytes("0"), LATER).await.unwrap();
    let workers: Vec<_> = stores
        .map(std::sync::Arc::new)
        .iter()
        .flat_map(|store| (0..4).map(|_| std::sync::Arc::clone(store)))
        .map(|store| {
            tokio::spawn(async move {
                for _ in 0..25 {
                    let mut stored = store.load(&key(1)).await.unwrap().unwrap();
                    loop {
                        let n: u32 = std::str::from_utf8(&stored.payload).unwrap().parse().unwrap();
                        let next = bytes(&(n + 1).to_string());
                        match store.replace(&key(1), &stored.version, next, LATER).await.unwrap() {
                            Replaced::Replaced(_) => break,
                            Replaced::Conflict(now) => stored = now,
                            Replaced::Gone => panic!("nobody deleted it"),
                        }
                    }
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await.unwrap();
    }
    assert_eq!(stores_payload(&path).await, ["200"]);
}

async fn stores_payload(path: &std::path::Path) -> Vec<String> {
    column(&mut stranger(path).await, "SELECT session_data FROM django_session").await
}

#[tokio::test]
async fn what_others_put_into_a_row_is_handed_over_and_can_be_replaced() {
    let (_directory, path) = place();
    let store = store(&path).await;
    let mut conn = stranger(&path).await;
    let date = "'2099-01-01T00:00:00Z'";
    let rows: [(&str, &[u8], &str); 5] = [
        ("CAST(X'ff00fe' AS TEXT)", b"\xff\x00\xfe", date),
        ("X'ff00fe'", b"\xff\x00\xfe", date),
        ("''", b"", date),
        ("42", b"42", date),
        ("'fine'", b"fine", "'zzz'"),
    ];
    for (n, (data, expected, date)) in rows.into_iter().enumerate() {
        let key = key(n as u32);
        run(&mut conn, &format!("INSERT INTO django_session VALUES ('{}', {data}, {date})", key.as_str())).await;
        let stored = store.load(&key).await.unwrap().unwrap();
        assert_eq!(stored.payload, expected, "{data}");
        assert!(stored.expiry > NOW, "{date}");
        let replaced = store.replace(&key, &stored.version, bytes("ours"), LATER).await.unwrap();
        assert!(matches!(replaced, Replaced::Replaced(_)), "{data}");
        assert_eq!(store.load(&key).await.unwrap().unwrap().payload, bytes("ours"));
    }
}

#[tokio::test]
async fn dates_are_text_in_utc_or_in_the_zone() {
    let (_directory, path) = place();
    let store = store(&path).await;
    let expiry = Timestamp::from_micros(LATER.as_micros() + 5);
    store.create(&key(1), bytes("utc"), expiry).await.unwrap();
    let local = SqliteStore::open(options(&path), clock()).await.unwrap();
    let local = local.with_time_zone(Some(cloakroom_core::wire::expiry::TimeZone::named("Asia/Kolkata").unwrap()));
    local.create(&key(2), bytes("local"), expiry).await.unwrap();
    assert_eq!(local.load(&key(2)).await.unwrap().unwrap().expiry, expiry);
    assert_eq!(
        column(&mut stranger(&path).await, "SELECT expire_date FROM django_session ORDER BY session_key").await,
        ["2030-03-17 18:46:40.000005", "2030-03-18 00:16:40.000005"]
    );
}

#[tokio::test]
async fn keys_are_listed_in_pages() {
    let (_directory, path) = place();
    let store = store(&path).await;
    for n in [5, 3, 4, 1, 2] {
        store.create(&key(n), bytes("x"), NOW).await.unwrap();
    }
    run(&mut stranger(&path).await, "INSERT INTO django_session VALUES ('0short', 'x', '2099-01-01')").await;
    assert_eq!(store.list(None, 2).await.unwrap(), [key(1), key(2)]);
    assert_eq!(store.list(Some(&key(2)), 10).await.unwrap(), [key(3), key(4), key(5)]);
    assert_eq!(store.list(Some(&key(5)), 10).await.unwrap(), []);
}

#[tokio::test]
async fn the_schema_is_django_s_to_the_letter() {
    let (_directory, path) = place();
    let store = SqliteStore::open(options(&path).create_if_missing(true), clock()).await.unwrap();
    let migrations = store.migrations();
    assert!(!migrations.is_migrated().await.unwrap());
    let plan = migrations.plan().await.unwrap();
    assert_eq!((plan.steps.len(), plan.steps[0].state, plan.is_done()), (1, State::Pending, false));
    assert_eq!(migrations.apply().await.unwrap(), Outcome::Created);
    assert_eq!(migrations.apply().await.unwrap(), Outcome::UpToDate);
    assert!(migrations.is_migrated().await.unwrap() && migrations.plan().await.unwrap().is_done());

    let mut conn = stranger(&path).await;
    let made = "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' ORDER BY rowid";
    assert_eq!(column(&mut conn, made).await, [TABLE, INDEX, RECORDER]);
    let recorded = "SELECT app || '.' || name || ' ' || applied FROM django_migrations";
    assert_eq!(column(&mut conn, recorded).await, ["sessions.0001_initial 2030-03-17 17:46:40"]);
}

#[tokio::test]
async fn after_django_s_migration_there_is_nothing_to_do() {
    let (_directory, path) = place();
    let record = "INSERT INTO django_migrations VALUES (7, 'sessions', '0001_initial', '2020-01-01 00:00:00')";
    run(&mut stranger(&path).await, &format!("{RECORDER}; {TABLE}; {INDEX}; {record}")).await;
    let store = SqliteStore::open(options(&path), clock()).await.unwrap();
    assert!(store.migrations().plan().await.unwrap().is_done());
    assert_eq!(store.migrations().apply().await.unwrap(), Outcome::UpToDate);
    assert_eq!(column(&mut stranger(&path).await, "SELECT id || '' FROM django_migrations").await, ["7"]);
}

#[tokio::test]
async fn a_table_without_a_record_is_adopted() {
    let (_directory, path) = place();
    run(&mut stranger(&path).await, &format!("{TABLE}; {INDEX}")).await;
    let store = SqliteStore::open(options(&path), clock()).await.unwrap();
    assert_eq!(store.migrations().plan().await.unwrap().steps[0].state, State::Unrecorded);
    assert!(store.migrations().is_migrated().await.unwrap());
    assert_eq!(store.migrations().apply().await.unwrap(), Outcome::Recorded);
    assert!(store.migrations().plan().await.unwrap().is_done());
}

#[tokio::test]
async fn a_table_that_is_not_django_s_is_refused_and_left_alone() {
    let (_directory, path) = place();
    run(&mut stranger(&path).await, "CREATE TABLE django_session (session_key text, data text)").await;
    let store = SqliteStore::open(options(&path), clock()).await.unwrap();
    let error = store.migrations().apply().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert!(error.to_string().contains("session_data, expire_date"), "{error}");
    assert_eq!(column(&mut stranger(&path).await, "SELECT name FROM sqlite_master").await, ["django_session"]);
    // Another trap of SQLite: a quoted name that is no column may be read as a text literal.
    for error in [
        store.load(&key(1)).await.unwrap_err(),
        store.create(&key(1), bytes("x"), LATER).await.unwrap_err(),
        store.touch(&key(1), LATER).await.unwrap_err(),
        store.clear_expired(1).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Configuration, "{error}");
    }
}

#[tokio::test]
async fn a_record_without_a_table_is_told() {
    let (_directory, path) = place();
    let store = store(&path).await;
    run(&mut stranger(&path).await, "DROP TABLE django_session").await;
    for error in [store.migrations().plan().await.unwrap_err(), store.migrations().apply().await.unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::NotMigrated);
        assert!(error.to_string().contains("cloakroom migrate"), "{error}");
    }
    // The transaction was rolled back: the writer works on.
    run(&mut stranger(&path).await, "DELETE FROM django_migrations").await;
    assert_eq!(store.migrations().apply().await.unwrap(), Outcome::Created);
}

#[tokio::test(flavor = "multi_thread")]
async fn migrations_at_the_same_time_happen_once() {
    let (_directory, path) = place();
    let mut stores = Vec::new();
    for _ in 0..4 {
        let options = SqliteOptions::new(&path).create_if_missing(true);
        stores.push(SqliteStore::open(options, clock()).await.unwrap());
    }
    let tasks: Vec<_> = stores
        .into_iter()
        .map(|store| tokio::spawn(async move { store.migrations().apply().await.unwrap() }))
        .collect();
    let mut created = 0;
    for task in tasks {
        created += u32::from(task.await.unwrap() == Outcome::Created);
    }
    assert_eq!(created, 1);
    assert_eq!(column(&mut stranger(&path).await, "SELECT name FROM django_migrations").await, ["0001_initial"]);
}

#[tokio::test]
async fn a_user_s_own_pool_serves() {
    let (_directory, path) = place();
    drop(store(&path).await);
    let pool = sqlx::SqlitePool::connect(&format!("sqlite://{}", path.display())).await.unwrap();
    let store = SqliteStore::from_pool(pool, Clock::system());
    let Created::Created(_) = store.create(&key(1), bytes("x"), Timestamp::MAX).await.unwrap() else { panic!() };
    assert_eq!(store.load(&key(1)).await.unwrap().unwrap().expiry, Timestamp::MAX);
}

/// The figures to beat are in the peers' sweeps, during which a writer waits for 5 s and then fails.
#[tokio::test(flavor = "multi_thread")]
async fn writers_go_on_during_a_sweep() {
    let (_directory, path) = place();
    let store = std::sync::Arc::new(store(&path).await);
    run(
        &mut stranger(&path).await,
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)
         INSERT INTO django_session SELECT printf('old%029d', i), 'x', '2029-01-01 00:00:00' FROM n",
    )
    .await;
    let sweeping = std::sync::Arc::clone(&store);
    let sweep = tokio::spawn(async move {
        let mut removed = 0;
        loop {
            let cleared = sweeping.clear_expired(1_000).await.unwrap();
            assert!(cleared.removed <= 1_000);
            removed += cleared.removed;
            if !cleared.more {
                return removed;
            }
        }
    });
    let mut written = 0;
    while !sweep.is_finished() || written < 10 {
        written += 1;
        assert!(matches!(store.create(&key(written), bytes("x"), LATER).await.unwrap(), Created::Created(_)));
    }
    assert_eq!(sweep.await.unwrap(), 100_000);
    assert_eq!(
        column(&mut stranger(&path).await, "SELECT count(*) || '' FROM django_session").await,
        [written.to_string()]
    );
}

/// A request that is cancelled drops its future at any point: no transaction may stay open, no connection be lost.
#[tokio::test(flavor = "multi_thread")]
async fn dropped_futures_leave_nothing_behind() {
    let (_directory, path) = place();
    let store = store(&path).await;
    let Created::Created(_) = store.create(&key(0), bytes("0"), LATER).await.unwrap() else { panic!() };
    let key = key(0);
    for n in 0..200u64 {
        let version = store.load(&key).await.unwrap().unwrap().version;
        let save = store.replace(&key, &version, bytes(&n.to_string()), LATER);
        let _ = tokio::time::timeout(std::time::Duration::from_micros(n * 3), save).await;
        let migrations = store.migrations();
        let _ = tokio::time::timeout(std::time::Duration::from_micros(n * 3), migrations.apply()).await;
    }
    let mut version = store.load(&key).await.unwrap().unwrap().version;
    // The last of the dropped saves may be under way still, and land between our load and our save: once, not again.
    if let Replaced::Conflict(landed) = store.replace(&key, &version, bytes("end"), LATER).await.unwrap() {
        version = landed.version;
        assert!(matches!(store.replace(&key, &version, bytes("end"), LATER).await.unwrap(), Replaced::Replaced(_)));
    }
    assert_eq!(store.load(&key).await.unwrap().unwrap().payload, "end");
    run(&mut stranger(&path).await, "BEGIN IMMEDIATE; COMMIT").await;
}

/// What the URL says of a missing file holds, unless the caller asks for more.
#[tokio::test]
async fn a_url_may_ask_for_a_missing_file_to_be_made() {
    let (_directory, path) = place();
    let open = async |options: &str, create| {
        AnySqlStore::open(&format!("sqlite://{}{options}", path.display()), create, None, clock()).await
    };
    assert_eq!(open("", false).await.unwrap_err().kind(), ErrorKind::Configuration);
    assert!(!path.exists());
    open("?mode=rwc", false).await.unwrap();
    assert!(path.exists());
    std::fs::remove_file(&path).unwrap();
    open("", true).await.unwrap();
    assert!(path.exists());
}

/// Processes of one machine are told apart by a lock of the directory, of which nothing stays behind.
#[tokio::test]
async fn one_process_has_the_turn_to_sweep() {
    use cloakroom_core::sweep::Turns;

    let (directory, path) = place();
    let (one, two) = (store(&path).await, store(&path).await);
    let names = || std::fs::read_dir(directory.path()).unwrap().count();
    let before = names();
    let turn = one.take().await.unwrap().expect("nobody has it");
    assert!(two.take().await.unwrap().is_none());
    assert_eq!(names(), before);
    // Nobody is held up by it.
    two.create(&key(1), bytes("x"), LATER).await.unwrap();
    turn.end().await;
    assert!(two.take().await.unwrap().is_some());
}

#[tokio::test]
async fn what_has_expired_is_counted() {
    let (_directory, path) = place();
    let clock = clock();
    let store = store_at(&path, clock.clone()).await;
    for n in 0..7 {
        store.create(&key(n), bytes("x"), NOW.checked_add_micros(i64::from(n) * 1_000_000).unwrap()).await.unwrap();
    }
    assert_eq!(store.count_expired().await.unwrap(), 0);
    clock.advance(std::time::Duration::from_secs(5));
    assert_eq!(store.count_expired().await.unwrap(), 5);
    assert_eq!(store.clear_expired(100).await.unwrap().removed, 5);
}
