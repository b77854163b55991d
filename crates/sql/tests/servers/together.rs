//! Operations that wait at the same moment go together, on servers: one statement for many, and an outcome for each.

use std::sync::Arc;

use bytes::Bytes;
use cloakroom_core::store::{Created, Deleted, Replaced, Store, Touched, Version};
use cloakroom_core::{ErrorKind, Result};
use cloakroom_test_servers::{Kind, Server, require_or_skip, shared};
use tokio::task::{JoinHandle, yield_now};

use crate::common::{LATER, bytes, key};
use crate::locks::Holder;
use crate::proxy::{Fault, Proxy};
use crate::round_trips::counting;
use crate::{create, is_postgres, on_each_server, open, payload, refused, store};

on_each_server! {
    by crate::together::block_on;
    each_has_an_outcome_of_its_own
    a_row_that_another_holds_holds_up_nobody_else
    bad_data_of_one_is_its_own_affair
    a_connection_that_breaks_under_many
    a_server_that_is_killed_under_many
    a_server_that_freezes_under_many
    many_take_fewer_statements
    a_key_that_is_taken_is_one_member_s_affair
    what_was_deleted_stays_deleted
}

type Saving = JoinHandle<Result<Replaced>>;

/// One thread, so that what is started has come as far as it can at the next `yield_now`.
fn block_on(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(std::time::Duration::from_secs(300), test).await.expect("an end") });
}

async fn save(store: &Arc<dyn Store>, n: u32, expected: &str, payload: impl Into<Bytes>) -> Saving {
    let (store, expected, payload) = (store.clone(), Version::payload(bytes(expected)), payload.into());
    let saving = tokio::spawn(async move { store.replace(&key(n), &expected, payload, LATER).await });
    yield_now().await;
    saving
}

/// Saves that take all the lanes there are, of records 100 and 101. Those that come now wait for these.
async fn fill_lanes(store: &Arc<dyn Store>) -> [Saving; 2] {
    [save(store, 100, "old", "new").await, save(store, 101, "old", "new").await]
}

async fn create_old(store: &dyn Store, keys: impl IntoIterator<Item = u32>) {
    for n in keys.into_iter().chain([100, 101]) {
        create(store, &key(n), "old").await;
    }
}

#[track_caller]
fn replaced(outcome: Result<Replaced>) {
    assert!(matches!(outcome, Ok(Replaced::Replaced(_))), "{outcome:?}");
}

async fn each_has_an_outcome_of_its_own(kind: Kind) {
    let Some(server) = shared(kind) else { return };
    let url = server.database();
    let store = store(&url).await;
    create_old(&*store, 1..=20).await;
    let lock = Holder::of_all(&url).await;
    let first = fill_lanes(&store).await;
    let mut saves = Vec::new();
    for n in 1..=30 {
        let expected = if n % 3 == 0 { "older" } else { "old" };
        saves.push((n, save(&store, n, expected, format!("new {n}")).await));
    }
    // A second change of a record sees the first.
    let second = save(&store, 1, "old", "second").await;
    let third = save(&store, 2, "new 2", "third").await;
    drop(lock);
    for save in first {
        replaced(save.await.unwrap());
    }
    for (n, save) in saves {
        match save.await.unwrap().unwrap() {
            Replaced::Gone => assert!(n > 20, "{n}"),
            Replaced::Conflict(stored) => {
                assert!(n <= 20 && n % 3 == 0, "{n}");
                assert_eq!((&*stored.payload, stored.expiry), (&b"old"[..], LATER));
            }
            Replaced::Replaced(version) => {
                assert!(n <= 20 && n % 3 != 0, "{n}");
                assert_eq!(version, Version::payload(bytes(&format!("new {n}"))));
            }
        }
    }
    match second.await.unwrap().unwrap() {
        Replaced::Conflict(stored) => assert_eq!(stored.payload, "new 1"),
        other => panic!("{other:?}"),
    }
    replaced(third.await.unwrap());
    for n in 3..=20 {
        let expected = if n % 3 == 0 { "old".to_owned() } else { format!("new {n}") };
        assert_eq!(payload(&*store, &key(n)).await.unwrap(), expected);
    }
    assert_eq!(payload(&*store, &key(2)).await.unwrap(), "third");
}

/// Not even the first one, which goes alone, and waits.
async fn a_row_that_another_holds_holds_up_nobody_else(kind: Kind) {
    let Some(server) = shared(kind) else { return };
    let url = server.database();
    let store = store(&format!("{url}?statement_timeout=60")).await;
    create_old(&*store, 1..=20).await;
    let holders = [Holder::of(&url, 1).await, Holder::of(&url, 7).await];
    let mut saves = Vec::new();
    for n in 1..=20 {
        saves.push((n, save(&store, n, "old", "new").await));
    }
    let mut waiting = Vec::new();
    for (n, save) in saves {
        match n {
            1 | 7 => waiting.push(save),
            _ => replaced(save.await.unwrap()),
        }
    }
    assert!(waiting.iter().all(|save| !save.is_finished()));
    drop(holders);
    for save in waiting {
        replaced(save.await.unwrap());
    }
}

async fn bad_data_of_one_is_its_own_affair(kind: Kind) {
    let Some(server) = shared(kind) else { return };
    let url = server.database();
    let store = store(&url).await;
    create_old(&*store, 1..=5).await;
    let lock = Holder::of_all(&url).await;
    let first = fill_lanes(&store).await;
    let mut saves = Vec::new();
    for n in 1..=5 {
        let payload = if n == 3 { Bytes::from_static(b"\xff\xfe") } else { bytes("new") };
        saves.push((n, save(&store, n, "old", payload).await));
    }
    let mut creates = Vec::new();
    for n in 11..=15 {
        let key = if n == 13 { "k".repeat(41) } else { format!("{n:032}") };
        let key = cloakroom_core::SessionKey::presented(&key).unwrap();
        let store = store.clone();
        creates.push((n, tokio::spawn(async move { store.create(&key, bytes("x"), LATER).await })));
        yield_now().await;
    }
    drop(lock);
    for save in first {
        replaced(save.await.unwrap());
    }
    for (n, save) in saves {
        match n {
            3 => refused(save.await.unwrap(), ErrorKind::Unrepresentable, &["save a session"]),
            _ => replaced(save.await.unwrap()),
        }
    }
    for (n, create) in creates {
        match n {
            13 => refused(create.await.unwrap(), ErrorKind::TooLarge, &["create a session"]),
            _ => assert!(matches!(create.await.unwrap(), Ok(Created::Created(_))), "{n}"),
        }
    }
    assert_eq!(payload(&*store, &key(3)).await.unwrap(), "old");
}

/// The statement for many is lost on its way, or was carried out and nobody heard of it.
async fn a_connection_that_breaks_under_many(kind: Kind) {
    for fault in [Fault::LoseRequest, Fault::LoseAnswer] {
        let Some(server) = shared(kind) else { return };
        let url = server.database();
        let direct = store(&url).await;
        let proxy = Proxy::new(server.port()).await;
        let ours = store(&proxy.url(&url)).await;
        create_old(&*direct, 1..=10).await;
        let lock = Holder::of_all(&url).await;
        let first = fill_lanes(&ours).await;
        let mut saves = Vec::new();
        for n in 1..=10 {
            saves.push(save(&ours, n, "old", "new").await);
        }
        proxy.arm(key(5).as_str(), fault);
        proxy.go_on();
        drop(lock);
        proxy.happened().await;
        for save in first {
            replaced(save.await.unwrap());
        }
        for save in saves {
            match fault {
                Fault::LoseAnswer => {
                    refused(save.await.unwrap(), ErrorKind::Unavailable, &["save a session", "unknown"]);
                }
                _ => replaced(save.await.unwrap()),
            }
        }
        for n in 1..=10 {
            assert_eq!(payload(&*direct, &key(n)).await.unwrap(), "new");
        }
    }
}

async fn a_server_that_is_killed_under_many(kind: Kind) {
    let Some(server) = require_or_skip(kind) else { return };
    let url = server.database();
    let store = store(&format!("{url}?acquire_timeout=1&statement_timeout=60")).await;
    create_old(&*store, 1..=10).await;
    let lock = Holder::of_all(&url).await;
    let mut saves: Vec<_> = fill_lanes(&store).await.into();
    for n in 1..=10 {
        saves.push(save(&store, n, "old", "new").await);
    }
    server.kill();
    for save in saves {
        refused(save.await.unwrap(), ErrorKind::Unavailable, &["save a session"]);
    }
    server.restart();
    drop(lock);
    for n in 1..=10 {
        assert_eq!(payload(&*store, &key(n)).await.unwrap(), "old");
        replaced(store.replace(&key(n), &Version::payload(bytes("old")), bytes("new"), LATER).await);
    }
}

/// A server that falls silent fails all who wait, and within bounds.
async fn a_server_that_freezes_under_many(kind: Kind) {
    let Some(server) = require_or_skip(kind) else { return };
    let store = store(&format!("{}?statement_timeout=0.2", server.database())).await;
    create_old(&*store, 1..=10).await;
    server.freeze();
    let mut saves = Vec::new();
    for n in 1..=10 {
        saves.push(save(&store, n, "old", "new").await);
    }
    for save in saves {
        refused(save.await.unwrap(), ErrorKind::Unavailable, &["save a session"]);
    }
    server.thaw();
    for n in 1..=10 {
        // A save may have been carried out after all; the record is whole in either case.
        let text = payload(&*store, &key(n)).await.unwrap();
        assert!(text == "old" || text == "new", "{text}");
    }
}

/// How many statements of the sessions' the server has begun.
fn count(server: &Server, kind: Kind) -> u32 {
    let count = if is_postgres(kind) {
        "SELECT COALESCE(SUM(calls), 0) FROM pg_stat_statements WHERE query LIKE '%django_session%'"
    } else {
        "SELECT SUM(variable_value) FROM information_schema.global_status WHERE variable_name = 'COM_STMT_EXECUTE'"
    };
    let database = if is_postgres(kind) { "postgres" } else { "mysql" };
    server.sql(database, count).trim().parse().unwrap()
}

async fn many_take_fewer_statements(kind: Kind) {
    let Some(server) = counting(kind) else { return };
    let url = server.database();
    let store = store(&format!("{url}?statement_timeout=60")).await;
    // Other rows than the saves': a touch that meets a row which a save holds goes alone.
    let touched = 110..170;
    create_old(&*store, (1..=60).chain(touched.clone())).await;
    let before = count(&server, kind);
    let lock = Holder::of_all(&url).await;
    let mut loads: Vec<JoinHandle<bool>> = Vec::new();
    let mut touches: Vec<JoinHandle<Touched>> = Vec::new();
    let mut creates: Vec<JoinHandle<Created>> = Vec::new();
    let mut saves: Vec<_> = fill_lanes(&store).await.into();
    for n in 1..=60 {
        saves.push(save(&store, n, "old", "new").await);
        let ours = store.clone();
        loads.push(tokio::spawn(async move { ours.load(&key(n)).await.unwrap().is_some() }));
        let ours = store.clone();
        creates.push(tokio::spawn(async move { ours.create(&key(1000 + n), bytes("x"), LATER).await.unwrap() }));
    }
    for n in touched {
        let ours = store.clone();
        touches.push(tokio::spawn(async move { ours.touch(&key(n), LATER).await.unwrap() }));
    }
    yield_now().await;
    drop(lock);
    for save in saves {
        replaced(save.await.unwrap());
    }
    for load in loads {
        assert!(load.await.unwrap());
    }
    for touch in touches {
        assert_eq!(touch.await.unwrap(), Touched::Touched);
    }
    for create in creates {
        assert!(matches!(create.await.unwrap(), Created::Created(_)));
    }
    let count = count(&server, kind) - before;
    // Of each kind those that had a lane, and one for the others; and questions whether that works here.
    assert!((12..30).contains(&count), "{count} statements for 242 operations");
}

/// Of several that are created one has a key that somebody else has.
async fn a_key_that_is_taken_is_one_member_s_affair(kind: Kind) {
    let Some(server) = shared(kind) else { return };
    let url = server.database();
    let store = store(&url).await;
    create_old(&*store, [7]).await;
    let lock = Holder::of_all(&url).await;
    let mut creates = Vec::new();
    // The last two draw the same key.
    for n in [1, 2, 3, 4, 5, 6, 7, 8, 9, 9] {
        let store = store.clone();
        creates.push((n, tokio::spawn(async move { store.create(&key(n), bytes(&format!("new {n}")), LATER).await })));
        yield_now().await;
    }
    drop(lock);
    let mut taken = Vec::new();
    for (n, create) in creates {
        if create.await.unwrap().unwrap() == Created::Taken {
            taken.push(n);
        }
    }
    assert_eq!(taken, [7, 9]);
    assert_eq!(payload(&*store, &key(7)).await.unwrap(), "old");
    assert_eq!(payload(&*store, &key(9)).await.unwrap(), "new 9");
}

/// Two sites save and renew the same records in crowds, while a third program deletes some of them. Each save that
/// was confirmed is there, once, and no record comes back.
async fn what_was_deleted_stays_deleted(kind: Kind) {
    const RECORDS: u32 = 12;

    let Some(server) = shared(kind) else { return };
    let url = server.database();
    let sites = [store(&url).await, open(&url).await.unwrap().into_store()];
    let third = open(&url).await.unwrap().into_store();
    for n in 0..RECORDS {
        create(&*third, &key(n), "0").await;
    }
    let saving = |site: &Arc<dyn Store>, n: u32| {
        let site = site.clone();
        tokio::spawn(async move {
            let (mut saved, mut gone) = (0, false);
            while saved < 40 {
                let Some(stored) = site.load(&key(n)).await.unwrap() else { return (saved, true) };
                assert!(!gone, "record {n} is back");
                let number: u32 = std::str::from_utf8(&stored.payload).unwrap().parse().unwrap();
                let payload = bytes(&(number + 1).to_string());
                match site.replace(&key(n), &stored.version, payload, LATER).await.unwrap() {
                    Replaced::Replaced(_) => saved += 1,
                    Replaced::Conflict(_) => {}
                    Replaced::Gone => gone = true,
                }
                gone |= site.touch(&key(n), LATER).await.unwrap() == Touched::Gone;
            }
            (saved, gone)
        })
    };
    // Two of each site on each record.
    let work: Vec<_> = (0..RECORDS * 4).map(|i| (i / 4, saving(&sites[i as usize % 2], i / 4))).collect();
    for n in (0..RECORDS).step_by(3) {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        assert!(matches!(third.delete(&key(n), None).await.unwrap(), Deleted::Deleted));
    }
    let mut counts = [0; RECORDS as usize];
    for (n, work) in work {
        let (saved, _) = work.await.unwrap();
        counts[n as usize] += saved;
    }
    for n in 0..RECORDS {
        let stands = payload(&*third, &key(n)).await;
        let expected = (n % 3 != 0).then(|| counts[n as usize].to_string());
        assert_eq!(stands, expected, "record {n}");
    }
}
