//! Removing what has expired, and listing what there is.

use super::{Bench, Harness};
use crate::error::ErrorKind;
use crate::key::SessionKey;

/// Makes so many records that are over when it returns.
async fn expired(bench: &Bench, count: usize) -> Vec<SessionKey> {
    let keys: Vec<SessionKey> = (0..count).map(|_| bench.key()).collect();
    for key in &keys {
        bench.create(key, "over", bench.after(1)).await;
    }
    bench.pass(2).await;
    keys
}

async fn live(bench: &Bench, count: usize) -> Vec<SessionKey> {
    let keys: Vec<SessionKey> = (0..count).map(|_| bench.key()).collect();
    for key in &keys {
        bench.create(key, "live", bench.later()).await;
    }
    keys
}

/// All keys, or `None` if the store cannot list.
async fn listed(bench: &Bench) -> Option<Vec<SessionKey>> {
    match bench.store.list(None, 1_000).await {
        Ok(keys) => Some(keys),
        Err(error) if error.kind() == ErrorKind::Unsupported => None,
        Err(error) => panic!("list failed: {error}"),
    }
}

async fn assert_swept(bench: &Bench, live: &[SessionKey], expired: &[SessionKey]) {
    // Listed before anything is loaded: a load may remove what has expired.
    if let Some(mut keys) = listed(bench).await {
        let mut live = live.to_vec();
        live.sort();
        keys.sort();
        assert_eq!(keys, live, "after a sweep, exactly the live records stand");
    }
    for key in live {
        assert_eq!(bench.payload(key).await.as_deref(), Some("live"), "a sweep removed a live record");
    }
    for key in expired {
        assert!(bench.load(key).await.is_none(), "an expired record is there");
    }
}

/// A sweep removes the expired records, all of them, and no other.
pub async fn clear_expired_removes_only_what_expired(harness: &Harness) {
    let bench = harness.bench().await;
    let nothing = bench.store.clear_expired(10).await.expect("clear_expired");
    assert_eq!(nothing.removed, 0, "there was nothing to remove");
    let live = live(&bench, 5).await;
    let expired = expired(&bench, 5).await;
    let mut removed = 0;
    loop {
        let cleared = bench.store.clear_expired(100).await.expect("clear_expired");
        removed += cleared.removed;
        if !cleared.more {
            break;
        }
    }
    assert!(removed <= 5, "{removed} records were removed, of which 5 had expired");
    assert_swept(&bench, &live, &expired).await;
}

/// A call removes no more than it was asked to, and says whether to call again.
pub async fn clear_expired_works_in_batches(harness: &Harness) {
    let bench = harness.bench().await;
    let live = live(&bench, 3).await;
    let expired = expired(&bench, 7).await;
    for call in 0.. {
        assert!(call < 1_000, "a thousand calls did not remove seven records");
        let cleared = bench.store.clear_expired(2).await.expect("clear_expired");
        assert!(cleared.removed <= 2, "a batch of 2 removed {}", cleared.removed);
        if !cleared.more {
            break;
        }
    }
    assert_swept(&bench, &live, &expired).await;
}

/// Two sweeps at the same time, on two nodes perhaps, disturb neither each other nor the records that live.
pub async fn two_sweepers_do_not_collide(harness: &Harness) {
    let bench = harness.bench().await;
    let live = live(&bench, 5).await;
    let expired = expired(&bench, 40).await;
    let sweepers: Vec<_> = (0..2)
        .map(|worker| {
            let store = bench.handle(worker);
            tokio::spawn(async move {
                let mut removed = 0;
                loop {
                    let cleared = store.clear_expired(3).await.expect("clear_expired");
                    removed += cleared.removed;
                    if !cleared.more {
                        return removed;
                    }
                }
            })
        })
        .collect();
    let mut removed = 0;
    for sweeper in sweepers {
        removed += sweeper.await.expect("a sweeper");
    }
    assert!(removed <= 40, "two sweepers counted {removed} of 40 records");
    // What one of them was about to remove when the other one looked may be left for a next sweep.
    while bench.store.clear_expired(100).await.expect("clear_expired").more {}
    assert_swept(&bench, &live, &expired).await;
}

/// `list` goes through all keys in ascending order, page by page; or it is [`ErrorKind::Unsupported`].
pub async fn list_pages_in_order(harness: &Harness) {
    let bench = harness.bench().await;
    if listed(&bench).await.is_none() {
        return;
    }
    let mut keys = live(&bench, 25).await;
    keys.sort();
    let mut seen: Vec<SessionKey> = Vec::new();
    loop {
        let page = bench.store.list(seen.last(), 10).await.expect("list");
        assert!(page.len() <= 10, "a page of 10 has {} keys", page.len());
        if page.is_empty() {
            break;
        }
        seen.extend(page);
        assert!(seen.len() <= 25, "a listing came to more keys than there are");
    }
    assert_eq!(seen, keys);
    bench.store.delete(&keys[3], None).await.expect("delete");
    assert_eq!(bench.store.list(Some(&keys[1]), 2).await.expect("list"), [keys[2].clone(), keys[4].clone()]);
}
