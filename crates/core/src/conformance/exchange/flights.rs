//! Requests under way at the same time, requests that are dropped, handlers that panic.

use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::sync::{Barrier, Notify};

use super::site::{NEW, REMOVAL, SEED, Site, UNKNOWN, VALID, records};
use super::{Adapter, Reply, Visit, caught, join_all};
use crate::conformance::probe::{Fault, Operation};

fn increment() -> Visit {
    Visit::to(|slot| async move {
        slot.load().await?.update("count", |n: Option<u64>| n.unwrap_or(0) + 1)?;
        Ok(())
    })
}

/// A handler that does `before`, lets the check do something, and then does `after`.
struct Pause {
    reached: Arc<Notify>,
    go_on: Arc<Notify>,
}

impl Pause {
    fn between(before: Visit, after: Visit) -> (Self, Visit) {
        let pause = Self { reached: Arc::default(), go_on: Arc::default() };
        let (reached, go_on) = (Arc::clone(&pause.reached), Arc::clone(&pause.go_on));
        let visit = Visit::to(move |slot| {
            let (before, after) = (before.clone(), after.clone());
            let (reached, go_on) = (Arc::clone(&reached), Arc::clone(&go_on));
            async move {
                before.handle(&slot).await?;
                reached.notify_one();
                go_on.notified().await;
                after.handle(&slot).await.map(drop)
            }
        });
        (pause, visit)
    }

    /// The reply of the request `paused`, in whose middle `meanwhile` happens.
    async fn run<A: Adapter>(&self, site: &Site<'_, A>, paused: Visit, meanwhile: impl Future<Output = ()>) -> Reply {
        let mut paused = pin!(site.send(paused));
        let mut meanwhile = pin!(async {
            self.reached.notified().await;
            meanwhile.await;
            self.go_on.notify_one();
        });
        let mut over = false;
        std::future::poll_fn(move |cx| {
            if !over {
                over = meanwhile.as_mut().poll(cx).is_ready();
            }
            let reply = paused.as_mut().poll(cx);
            assert!(over || reply.is_pending(), "the request was answered before its handler was done: {reply:?}");
            if over { reply } else { Poll::Pending }
        })
        .await
    }
}

/// What a handler did before it panicked is not saved, and the next request finds everything in order.
pub async fn a_panic_changes_nothing(adapter: &impl Adapter) {
    let site = Site::new(adapter).await;
    for rotate in [false, true] {
        let visit = Visit::to(move |slot| async move {
            let session = slot.load().await?;
            session.insert("item", "x")?;
            if rotate {
                session.cycle_key()?;
            }
            panic!("a handler that panics, as this check wants it");
        });
        if let Ok(reply) = caught(site.send(visit.with_key(Some(VALID)))).await {
            assert!(reply.status >= 500, "the answer to a panic: {reply:?}");
            assert_eq!(reply.header("set-cookie"), [""; 0]);
        }
        assert_eq!(site.records().await, records([(VALID, SEED)]));
    }
    assert_eq!(site.send(increment().with_key(Some(VALID))).await.status, 200);
    assert_eq!(site.record(VALID).await.as_deref(), Some("{\"seed\":1,\"count\":1}"));
}

/// A request whose visitor went away while its handler worked saves nothing.
pub async fn a_dropped_request_changes_nothing(adapter: &impl Adapter) {
    let site = Site::new(adapter).await;
    let (pause, visit) = Pause::between(increment(), increment());
    {
        let mut request = pin!(site.send(visit.with_key(Some(VALID))));
        let mut reached = pin!(pause.reached.notified());
        std::future::poll_fn(|cx| {
            assert!(request.as_mut().poll(cx).is_pending(), "the request was answered before its handler was done");
            reached.as_mut().poll(cx)
        })
        .await;
    }
    assert_eq!(site.records().await, records([(VALID, SEED)]));
    assert_eq!(site.send(increment().with_key(Some(VALID))).await.status, 200);
    assert_eq!(site.record(VALID).await.as_deref(), Some("{\"seed\":1,\"count\":1}"));
}

/// A request that is dropped while the store works on its save holds up no other.
pub async fn a_dropped_save_blocks_nobody(adapter: &impl Adapter) {
    let site = Site::new(adapter).await;
    site.store.fail(Operation::Replace, Fault::Silent);
    {
        let mut request = pin!(site.send(increment().with_key(Some(VALID))));
        std::future::poll_fn(|cx| {
            assert!(request.as_mut().poll(cx).is_pending(), "answered before the save was done");
            if site.store.take_calls().contains(&Operation::Replace) {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }
    site.store.heal();
    assert_eq!(site.send(increment().with_key(Some(VALID))).await.status, 200);
    assert_eq!(site.record(VALID).await.as_deref(), Some("{\"seed\":1,\"count\":1}"));
}

/// Requests of different visitors at the same time each have their own session.
pub async fn visitors_do_not_mix(adapter: &impl Adapter) {
    let site = Site::new(adapter).await;
    let names: Vec<String> = (0..20).map(|n| format!("visitor{n:025}")).collect();
    for name in &names {
        site.put(name, "{}", 3600).await;
    }
    let all = Arc::new(Barrier::new(names.len()));
    let replies = join_all(names.iter().map(|name| {
        let (all, own) = (Arc::clone(&all), name.clone());
        let visit = Visit::to(move |slot| {
            let (all, own) = (Arc::clone(&all), own.clone());
            async move {
                let session = slot.load().await?;
                all.wait().await;
                session.insert("name", &own)
            }
        });
        site.send(visit.with_key(Some(name)))
    }))
    .await;
    for (name, reply) in names.iter().zip(replies) {
        assert_eq!(reply.header("set-cookie"), [super::site::cookie(name)]);
        assert_eq!(site.record(name).await, Some(format!("{{\"name\":\"{name}\"}}")));
    }
}

/// Twenty requests of one session that all read before any of them saves: no increment and no key is lost.
pub async fn changes_at_the_same_time_merge(adapter: &impl Adapter) {
    let site = Site::new(adapter).await;
    let all = Arc::new(Barrier::new(20));
    let replies = join_all((0..20).map(|n| {
        let all = Arc::clone(&all);
        let visit = Visit::to(move |slot| {
            let all = Arc::clone(&all);
            async move {
                let session = slot.load().await?;
                session.update("count", |n: Option<u64>| n.unwrap_or(0) + 1)?;
                session.insert(&format!("key{n}"), &n)?;
                all.wait().await;
                Ok(())
            }
        });
        site.send(visit.with_key(Some(VALID)))
    }))
    .await;
    assert!(replies.iter().all(|reply| reply.status == 200), "{replies:?}");
    let check = Visit::to(|slot| async move {
        let session = slot.load().await?;
        assert_eq!(session.get::<u64>("count")?, Some(20));
        for n in 0..20 {
            assert_eq!(session.get::<u64>(&format!("key{n}"))?, Some(n));
        }
        Ok(())
    });
    assert_eq!(site.send(check.with_key(Some(VALID))).await.status, 200);
}

/// What another request saved while this one rotated the key stands under the new key, and the old key is gone.
pub async fn rotation_carries_a_concurrent_change(adapter: &impl Adapter) {
    let site = Site::new(adapter).await;
    let cycle = Visit::to(|slot| async move { slot.load().await?.cycle_key() });
    let (pause, visit) = Pause::between(increment(), cycle);
    let reply = pause
        .run(&site, visit.with_key(Some(VALID)), async {
            assert_eq!(site.send(increment().with_key(Some(VALID))).await.status, 200);
        })
        .await;
    assert_eq!(reply.header("set-cookie"), [super::site::cookie(NEW)]);
    assert_eq!(site.records().await, records([(NEW, "{\"seed\":1,\"count\":2}")]));
}

/// A session that was ended does not come back through requests that were under way: they answer 400.
pub async fn a_flush_is_final(adapter: &impl Adapter) {
    let flush = || {
        Visit::to(|slot| async move {
            slot.flush();
            Ok(())
        })
    };
    let cycle = Visit::to(|slot| async move { slot.load().await?.cycle_key() });
    for late in [increment(), cycle] {
        let site = Site::new(adapter).await;
        site.put(UNKNOWN, SEED, 3600).await;
        let (pause, visit) = Pause::between(increment(), late);
        let reply = pause
            .run(&site, visit.with_key(Some(VALID)), async {
                let ended = site.send(flush().with_key(Some(VALID))).await;
                assert_eq!(ended.header("set-cookie"), [REMOVAL]);
            })
            .await;
        assert_eq!((reply.status, reply.header("set-cookie").len()), (400, 0), "{reply:?}");
        assert_eq!(site.records().await, records([(UNKNOWN, SEED)]), "the session came back");
        let reply = site.send(increment().with_key(Some(VALID))).await;
        assert_ne!(reply.header("set-cookie"), [super::site::cookie(VALID)], "the old key lives again");
    }
}
