//! What holds when many come at once. Every worker is a task of its own, and uses one of the two handles.

use std::sync::Arc;

use tokio::sync::Barrier;

use super::{Harness, payload, text};
use crate::store::{Created, Deleted, Replaced, Rotated, Touched};

/// Five workers add one ten times each, by compare-and-swap: that makes fifty.
pub async fn race_increments_are_not_lost(harness: &Harness) {
    let bench = harness.bench().await;
    let key = bench.key();
    let expiry = bench.later();
    bench.create(&key, "0", expiry).await;
    let all_have_read = Arc::new(Barrier::new(5));
    let workers: Vec<_> = (0..5)
        .map(|worker| {
            let (store, key) = (bench.handle(worker), key.clone());
            let all_have_read = Arc::clone(&all_have_read);
            tokio::spawn(async move {
                for turn in 0..10 {
                    let mut stored = store.load(&key).await.expect("load").expect("the counter");
                    if turn == 0 {
                        // However the scheduler runs them: all have read before any of them writes.
                        all_have_read.wait().await;
                    }
                    loop {
                        tokio::task::yield_now().await;
                        let count: u32 = text(&stored).parse().expect("a number");
                        let next = payload(&(count + 1).to_string());
                        match store.replace(&key, &stored.version, next, expiry).await.expect("replace") {
                            Replaced::Replaced(_) => break,
                            Replaced::Conflict(standing) => stored = standing,
                            Replaced::Gone => panic!("the counter is gone"),
                        }
                    }
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await.expect("a worker");
    }
    assert_eq!(bench.payload(&key).await.as_deref(), Some("50"), "concurrent changes were lost");
}

/// Of many that make a record under one key, exactly one does.
pub async fn race_one_create_wins(harness: &Harness) {
    let bench = harness.bench().await;
    for _ in 0..5 {
        let (key, expiry) = (bench.key(), bench.later());
        let workers: Vec<_> = (0..12)
            .map(|worker| {
                let (store, key) = (bench.handle(worker), key.clone());
                tokio::spawn(async move { store.create(&key, payload(&format!("worker {worker}")), expiry).await })
            })
            .collect();
        let mut winners = Vec::new();
        for (worker, task) in workers.into_iter().enumerate() {
            match task.await.expect("a worker").expect("create") {
                Created::Created(_) => winners.push(format!("worker {worker}")),
                Created::Taken => {}
            }
        }
        assert_eq!(winners.len(), 1, "records made under one key by {winners:?}");
        assert_eq!(bench.payload(&key).await.as_ref(), winners.first(), "another record stands than was made");
    }
}

/// Of many that replace the same version, exactly one does, and the others learn what it stored.
pub async fn race_one_replace_wins(harness: &Harness) {
    let bench = harness.bench().await;
    for _ in 0..5 {
        let (key, expiry) = (bench.key(), bench.later());
        let version = bench.create(&key, "first", expiry).await;
        let workers: Vec<_> = (0..12)
            .map(|worker| {
                let (store, key, version) = (bench.handle(worker), key.clone(), version.clone());
                let new = payload(&format!("worker {worker}"));
                tokio::spawn(async move { store.replace(&key, &version, new, expiry).await })
            })
            .collect();
        let (mut winners, mut handed_over) = (Vec::new(), Vec::new());
        for (worker, task) in workers.into_iter().enumerate() {
            match task.await.expect("a worker").expect("replace") {
                Replaced::Replaced(_) => winners.push(format!("worker {worker}")),
                Replaced::Conflict(standing) => handed_over.push(text(&standing)),
                Replaced::Gone => panic!("the record is gone"),
            }
        }
        assert_eq!(winners.len(), 1, "one version was replaced by {winners:?}");
        assert!(handed_over.iter().all(|text| *text == winners[0]), "conflicts handed over {handed_over:?}");
        assert_eq!(bench.payload(&key).await.as_ref(), winners.first());
    }
}

/// Whatever is under way when a session is deleted: it stays deleted.
pub async fn race_delete_is_final(harness: &Harness) {
    let bench = harness.bench().await;
    for _ in 0..10 {
        let (key, expiry) = (bench.key(), bench.later());
        bench.create(&key, "signed in", expiry).await;
        let writers: Vec<_> = (0..6)
            .map(|worker| {
                let (store, key) = (bench.handle(worker), key.clone());
                tokio::spawn(async move {
                    // Until the sign-out is seen, which the test waits for.
                    while let Some(stored) = store.load(&key).await.expect("load") {
                        if worker < 4 {
                            let next = payload(&format!("{} by {worker}", text(&stored).len()));
                            store.replace(&key, &stored.version, next, expiry).await.expect("replace");
                        } else if store.touch(&key, expiry).await.expect("touch") == Touched::Gone {
                            break;
                        }
                        tokio::task::yield_now().await;
                    }
                })
            })
            .collect();
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
        let deleted = bench.store.delete(&key, None).await.expect("delete");
        assert!(matches!(deleted, Deleted::Deleted), "{deleted:?}");
        let at_once = bench.load(&key).await;
        let ended = tokio::time::timeout(std::time::Duration::from_secs(20), async {
            for writer in writers {
                writer.await.expect("a writer");
            }
        });
        assert!(ended.await.is_ok(), "writers go on after the session was deleted: one of them brought it back");
        assert!(at_once.is_none() && bench.load(&key).await.is_none(), "a deleted session is back");
    }
}

/// A rotation's deletion and a save of the same version: one of them is done, and the other learns of it.
pub async fn race_guarded_delete_or_replace(harness: &Harness) {
    let bench = harness.bench().await;
    for round in 0..20 {
        let (key, expiry) = (bench.key(), bench.later());
        let version = bench.create(&key, "first", expiry).await;
        let replacing = {
            let (store, key, version) = (bench.handle(round), key.clone(), version.clone());
            tokio::spawn(async move { store.replace(&key, &version, payload("second"), expiry).await })
        };
        let deleting = {
            let (store, key) = (bench.handle(round + 1), key.clone());
            tokio::spawn(async move { store.delete(&key, Some(&version)).await })
        };
        let replaced = replacing.await.expect("a worker").expect("replace");
        let deleted = deleting.await.expect("a worker").expect("delete");
        match (&replaced, &deleted, bench.payload(&key).await.as_deref()) {
            (Replaced::Replaced(_), Deleted::Conflict(standing), Some("second")) if text(standing) == "second" => {}
            (Replaced::Gone, Deleted::Deleted, None) => {}
            (_, _, standing) => panic!("{replaced:?} and {deleted:?} at once, and then stands {standing:?}"),
        }
    }
}

/// A rotation in one exchange and a save of the same version: one of them is done, and the other learns of it.
pub async fn race_rotate_or_replace(harness: &Harness) {
    let bench = harness.bench().await;
    for round in 0..20 {
        let (old, new, expiry) = (bench.key(), bench.key(), bench.later());
        let version = bench.create(&old, "first", expiry).await;
        let replacing = {
            let (store, old, version) = (bench.handle(round), old.clone(), version.clone());
            tokio::spawn(async move { store.replace(&old, &version, payload("second"), expiry).await })
        };
        let rotating = {
            let (store, old, new) = (bench.handle(round + 1), old.clone(), new.clone());
            tokio::spawn(async move { store.rotate(&old, &version, &new, payload("rotated"), expiry).await })
        };
        let replaced = replacing.await.expect("a worker").expect("replace");
        let rotated = rotating.await.expect("a worker").expect("rotate");
        let stand = (bench.payload(&old).await, bench.payload(&new).await);
        match (&replaced, &rotated, (stand.0.as_deref(), stand.1.as_deref())) {
            (_, Rotated::Unsupported, (Some("second"), None)) => return,
            (Replaced::Replaced(_), Rotated::Conflict(other), (Some("second"), None)) if text(other) == "second" => {}
            (Replaced::Gone, Rotated::Rotated(_), (None, Some("rotated"))) => {}
            _ => panic!("{replaced:?} and {rotated:?} at once, and then stand {stand:?}"),
        }
    }
}
