//! Connections that break in the middle of an operation: nothing is done twice, and nothing is guessed.

use std::sync::Arc;

use cloakroom_core::ErrorKind;
use cloakroom_core::store::{Created, Deleted, Replaced, Rotated, Store, Touched};
use cloakroom_test_servers::{Kind, shared};

use crate::common::{LATER, bytes, key};
use crate::proxy::{Fault, Proxy};
use crate::{create, on_each_server, payload, refused, store};

on_each_server! {
    a_broken_connection_is_replaced
    an_answer_that_is_lost_is_found_out
    a_save_of_the_same_by_another_request_is_not_ours
    a_change_that_may_have_been_merged_is_not_merged_again
    a_rotation_does_not_guess_who_deleted
    a_rotation_whose_answer_is_lost_is_found_out
    a_silent_connection_gives_its_place_back
}

/// A store whose connections break as they are told, and one beside it that sees what came of it.
struct Sides {
    direct: Arc<dyn Store>,
    proxy: Proxy,
    ours: Arc<dyn Store>,
}

impl Sides {
    async fn of(kind: Kind) -> Option<Self> {
        let server = shared(kind)?;
        let url = server.database();
        let proxy = Proxy::new(server.port()).await;
        Some(Self { direct: store(&url).await, ours: store(&proxy.url(&url)).await, proxy })
    }
}

/// The request never arrived: every operation goes through in a second attempt.
async fn a_broken_connection_is_replaced(kind: Kind) {
    let Some(Sides { direct, proxy, ours }) = Sides::of(kind).await else { return };
    let breaks = |n| {
        proxy.arm(key(n).as_str(), Fault::LoseRequest);
        proxy.go_on();
    };

    breaks(1);
    let version = create(&*ours, &key(1), "a").await;
    breaks(1);
    assert_eq!(payload(&*ours, &key(1)).await.unwrap(), "a");
    breaks(1);
    let replaced = ours.replace(&key(1), &version, bytes("b"), LATER).await.unwrap();
    let Replaced::Replaced(version) = replaced else { panic!("{replaced:?}") };
    breaks(1);
    assert_eq!(ours.touch(&key(1), LATER).await.unwrap(), Touched::Touched);
    breaks(1);
    let deleted = ours.delete(&key(1), Some(&version)).await.unwrap();
    assert!(matches!(deleted, Deleted::Deleted), "{deleted:?}");
    let version = create(&*direct, &key(2), "c").await;
    breaks(2);
    let rotated = ours.rotate(&key(2), &version, &key(3), bytes("d"), LATER).await.unwrap();
    assert!(matches!(rotated, Rotated::Rotated(_)), "{rotated:?}");
    assert_eq!((payload(&*direct, &key(2)).await, payload(&*direct, &key(3)).await.as_deref()), (None, Some("d")));
    create(&*direct, &key(2), "c").await;
    breaks(2);
    assert!(matches!(ours.delete(&key(2), None).await.unwrap(), Deleted::Deleted));
}

/// The request was carried out, and nobody heard of it.
async fn an_answer_that_is_lost_is_found_out(kind: Kind) {
    let Some(Sides { direct, proxy, ours }) = Sides::of(kind).await else { return };
    let breaks = || {
        proxy.arm(key(1).as_str(), Fault::LoseAnswer);
        proxy.go_on();
    };

    breaks();
    let version = create(&*ours, &key(1), "a").await;
    proxy.happened().await;
    breaks();
    let replaced = ours.replace(&key(1), &version, bytes("b"), LATER).await;
    proxy.happened().await;
    refused(replaced, ErrorKind::Unavailable, &["save a session", "unknown"]);
    assert_eq!(payload(&*direct, &key(1)).await.unwrap(), "b");
    breaks();
    assert_eq!(ours.touch(&key(1), LATER).await.unwrap(), Touched::Touched);
    proxy.happened().await;
    breaks();
    ours.delete(&key(1), None).await.unwrap();
    proxy.happened().await;
    assert_eq!(payload(&*direct, &key(1)).await, None);

    // Somebody else took the key before.
    create(&*direct, &key(1), "theirs").await;
    breaks();
    assert_eq!(ours.create(&key(1), bytes("ours"), LATER).await.unwrap(), Created::Taken);
    proxy.happened().await;
    assert_eq!(payload(&*direct, &key(1)).await.unwrap(), "theirs");
}

/// Our save never arrived, and another request saved the same meanwhile: two visitors' clicks that both add one to a
/// counter do that. To take theirs for ours would lose one of them.
async fn a_save_of_the_same_by_another_request_is_not_ours(kind: Kind) {
    let Some(Sides { direct, proxy, ours }) = Sides::of(kind).await else { return };
    let version = create(&*ours, &key(1), "5").await;

    proxy.arm(key(1).as_str(), Fault::LoseRequest);
    let expected = version.clone();
    let saving = tokio::spawn(async move { ours.replace(&key(1), &expected, bytes("6"), LATER).await });
    proxy.happened().await;
    let theirs = direct.replace(&key(1), &version, bytes("6"), LATER).await.unwrap();
    assert!(matches!(theirs, Replaced::Replaced(_)));
    proxy.go_on();
    refused(saving.await.unwrap(), ErrorKind::Unavailable, &["save a session", "unknown"]);
}

/// Our save was carried out, its answer was lost, and another request built upon it. To say "conflict" would make the
/// caller merge its changes a second time.
async fn a_change_that_may_have_been_merged_is_not_merged_again(kind: Kind) {
    let Some(Sides { direct, proxy, ours }) = Sides::of(kind).await else { return };
    let version = create(&*ours, &key(1), "1").await;

    proxy.arm(key(1).as_str(), Fault::LoseAnswer);
    let saving = tokio::spawn(async move { ours.replace(&key(1), &version, bytes("2"), LATER).await });
    proxy.happened().await;
    let seen = direct.load(&key(1)).await.unwrap().unwrap();
    assert_eq!(seen.payload, "2", "the save was carried out");
    let built_upon = direct.replace(&key(1), &seen.version, bytes("3"), LATER).await.unwrap();
    assert!(matches!(built_upon, Replaced::Replaced(_)));
    proxy.go_on();
    refused(saving.await.unwrap(), ErrorKind::Unavailable, &["save a session", "unknown"]);
    assert_eq!(payload(&*direct, &key(1)).await.unwrap(), "3");
}

/// A rotation deletes the old record. Whether it was the rotation or a sign-out that deleted it makes all the difference.
async fn a_rotation_does_not_guess_who_deleted(kind: Kind) {
    let Some(Sides { direct, proxy, ours }) = Sides::of(kind).await else { return };
    let version = create(&*ours, &key(1), "1").await;
    proxy.arm(key(1).as_str(), Fault::LoseAnswer);
    proxy.go_on();
    let deleted = ours.delete(&key(1), Some(&version)).await;
    proxy.happened().await;
    refused(deleted, ErrorKind::Unavailable, &["delete a session", "unknown"]);
    assert_eq!(payload(&*direct, &key(1)).await, None);
}

/// In one statement there is nothing to guess: the new key is known to nobody else, so what stands there is ours.
async fn a_rotation_whose_answer_is_lost_is_found_out(kind: Kind) {
    let Some(Sides { direct, proxy, ours }) = Sides::of(kind).await else { return };
    let version = create(&*ours, &key(1), "1").await;
    proxy.arm(key(1).as_str(), Fault::LoseAnswer);
    proxy.go_on();
    let rotated = ours.rotate(&key(1), &version, &key(2), bytes("2"), LATER).await.unwrap();
    proxy.happened().await;
    let Rotated::Rotated(version) = rotated else { panic!("{rotated:?}") };
    assert_eq!(payload(&*direct, &key(1)).await, None);
    assert_eq!(payload(&*direct, &key(2)).await.as_deref(), Some("2"));

    // It never arrived, and the visitor signed out meanwhile, or another request saved.
    for signs_out in [true, false] {
        proxy.arm(key(2).as_str(), Fault::LoseRequest);
        let rotating = tokio::spawn({
            let (ours, version) = (ours.clone(), version.clone());
            async move { ours.rotate(&key(2), &version, &key(3), bytes("3"), LATER).await.unwrap() }
        });
        proxy.happened().await;
        if signs_out {
            direct.delete(&key(2), None).await.unwrap();
        } else {
            direct.replace(&key(2), &version, bytes("theirs"), LATER).await.unwrap();
        }
        proxy.go_on();
        match rotating.await.unwrap() {
            Rotated::Gone if signs_out => create(&*direct, &key(2), "2").await,
            Rotated::Conflict(stored) if !signs_out && stored.payload == "theirs" => stored.version,
            outcome => panic!("{outcome:?}"),
        };
        assert_eq!(payload(&*direct, &key(3)).await, None);
    }
}

/// The only connection of the pool falls silent under a request that is then given up. Without care it would keep its
/// place in the pool until the operating system notices.
async fn a_silent_connection_gives_its_place_back(kind: Kind) {
    let Some(server) = shared(kind) else { return };
    let url = server.database();
    let proxy = Proxy::new(server.port()).await;
    let url = format!("{}?pool=1&statement_timeout=0.1&acquire_timeout=30", proxy.url(&url));
    let ours = store(&url).await;
    create(&*ours, &key(1), "1").await;

    // The visitor goes away in the middle.
    proxy.arm(key(1).as_str(), Fault::Silence);
    let loading = tokio::spawn({
        let ours = ours.clone();
        async move { ours.load(&key(1)).await }
    });
    proxy.happened().await;
    loading.abort();
    assert_eq!(payload(&*ours, &key(1)).await.unwrap(), "1");

    // The visitor waits.
    proxy.arm(key(1).as_str(), Fault::Silence);
    refused(ours.load(&key(1)).await, ErrorKind::Unavailable, &["load a session", "did not answer within"]);
    assert_eq!(payload(&*ours, &key(1)).await.unwrap(), "1");
}
