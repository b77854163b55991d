//! One half is down.

use std::sync::{Arc, Mutex};

use cloakroom_core::ErrorKind;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::DefaultGuard;
use tracing::{Event, Level, Metadata, Subscriber};

use super::*;

/// Keeps what is logged as an error, on this thread.
#[derive(Clone, Default)]
struct Errors(Arc<Mutex<Vec<String>>>);

impl Errors {
    fn listen(&self) -> DefaultGuard {
        tracing::subscriber::set_default(self.clone())
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

impl Subscriber for Errors {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::ERROR
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        struct Line(String);
        impl Visit for Line {
            fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
                self.0 += &format!("{field}={value:?} ");
            }
        }
        let mut line = Line(String::new());
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }
}

/// Without the cache every request is served, and nothing is lost.
// Time stands still, so that the repair does not run before the test lets it.
#[tokio::test(start_paused = true)]
async fn without_the_cache() {
    for site in Site::both() {
        let process = site.process();
        let before = process.make().await;
        site.cache.set_down(true);
        assert_eq!(process.read(&before).await.unwrap(), "{\"a\":1}");
        process.set(&before, "b", 2).await.unwrap();
        assert_eq!(process.read(&before).await.unwrap(), "{\"a\":1,\"b\":2}");

        let during = process.make().await;
        process.set(&during, "b", 2).await.unwrap();
        let session = process.session(&during).await.unwrap();
        session.set_modified(true);
        session.save().await.unwrap();
        session.cycle_key().unwrap();
        session.save().await.unwrap();
        assert_eq!(process.read(&session.key().unwrap()).await.unwrap(), "{\"a\":1,\"b\":2}");
        assert_eq!(process.read(&during).await.unwrap(), "{}");

        // It comes back, with all that it held, and this process does not fall for it.
        site.cache.set_down(false);
        assert_eq!(process.read(&before).await.unwrap(), "{\"a\":1,\"b\":2}");
        let other = site.process();
        for _ in 0..2 {
            assert_eq!(other.read(&before).await.unwrap(), "{\"a\":1,\"b\":2}", "nor, from then on, does another");
        }
        site.forget_calls();
        other.read(&before).await.unwrap();
        assert_eq!(site.calls(), (vec!["load"], vec![]), "and the cache serves the session again");
    }
}

/// Checklist C4, C5: a cache whose set fails does not make a save fail, and one error names the cache and the cause.
#[tokio::test(start_paused = true)]
async fn c4_c5_a_full_cache_is_an_error_in_the_log() {
    for site in Site::both() {
        let process = site.process();
        let key = process.make().await;
        site.cache.set_full(true);
        let errors = Errors::default();
        let listening = errors.listen();
        process.set(&key, "b", 2).await.unwrap();
        drop(listening);
        let logged = errors.take();
        assert_eq!(logged.len(), 1, "{logged:?}");
        assert!(logged[0].contains("Error saving to cache (sessions)"), "{logged:?}");
        assert!(logged[0].contains("the wire is cut") && logged[0].contains(&key.masked()), "{logged:?}");
        assert!(!logged[0].contains(key.as_str()), "a key is a secret: {logged:?}");
        // It takes nothing, but it deletes: so no process sees the old data.
        assert_eq!(site.cached(&key).await, None);
        assert_eq!(site.process().read(&key).await.unwrap(), "{\"a\":1,\"b\":2}");
        assert_eq!(site.row(&key).await.unwrap(), "{\"a\":1,\"b\":2}");
        process.sign_out(&key).await.unwrap();
        assert_eq!(site.process().read(&key).await.unwrap(), "{}");
    }
}

/// A sign-out that the cache did not hear of is not claimed, and can be repeated.
#[tokio::test(start_paused = true)]
async fn a_sign_out_without_the_cache_fails() {
    for site in Site::both() {
        let (process, other) = (site.process(), site.process());
        let key = process.make().await;
        site.cache.set_down(true);
        let error = process.sign_out(&key).await.unwrap_err();
        assert_eq!((error.kind(), error.status()), (ErrorKind::Unavailable, 503));
        assert!(error.to_string().contains("the cache (sessions)"), "{error}");
        assert_eq!(site.row(&key).await, None, "its row is deleted all the same");

        site.cache.set_down(false);
        assert_eq!(other.read(&key).await.unwrap(), "{\"a\":1}", "what the failure was about");
        process.sign_out(&key).await.unwrap();
        assert_eq!(other.read(&key).await.unwrap(), "{}");
    }
}

/// What the cache did not take is offered again until it does: also for other processes, and for Django, the old data
/// is gone soon after the cache is back.
#[tokio::test(start_paused = true)]
async fn the_cache_is_repaired_when_it_is_back() {
    for site in Site::both() {
        let (process, other) = (site.process(), site.process());
        let (changed, left) = (process.make().await, process.make().await);
        site.cache.set_down(true);
        process.set(&changed, "b", 2).await.unwrap();
        process.sign_out(&left).await.unwrap_err();
        tokio::time::sleep(Duration::from_secs(120)).await;
        site.cache.set_down(false);
        assert_eq!(other.read(&left).await.unwrap(), "{\"a\":1}");
        site.forget_calls();
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(site.calls().1, [""; 0], "the database is not asked for it");
        assert_eq!(other.read(&left).await.unwrap(), "{}");
        assert_eq!(other.read(&changed).await.unwrap(), "{\"a\":1,\"b\":2}");
        site.forget_calls();
        tokio::time::sleep(Duration::from_secs(3_600)).await;
        assert_eq!(site.calls(), (vec![], vec![]), "and then the repair has ended");

        site.cache.set_down(true);
        process.set(&changed, "c", 3).await.unwrap();
        site.cache.set_down(false);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(other.read(&changed).await.unwrap(), "{\"a\":1,\"b\":2,\"c\":3}", "the next one begins anew");
    }
}

#[tokio::test(start_paused = true)]
async fn without_the_database() {
    for site in Site::both() {
        let process = site.process();
        let (cached, not_cached) = (process.make().await, process.make().await);
        site.cache.inner.delete(&not_cached, None).await.unwrap();
        site.database.set_down(true);
        assert_eq!(process.read(&cached).await.unwrap(), "{\"a\":1}");
        let unavailable = |outcome: Result<()>| assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Unavailable);
        unavailable(process.read(&not_cached).await.map(drop));
        unavailable(process.set(&cached, "b", 2).await);
        unavailable(process.sign_out(&cached).await);
        let session = process.session(&cached).await.unwrap();
        session.set_modified(true);
        unavailable(session.save().await);
        assert_eq!(process.read(&cached).await.unwrap(), "{\"a\":1}", "what was refused was not cached either");

        site.database.set_down(false);
        process.set(&cached, "b", 2).await.unwrap();
        assert_eq!(site.row(&cached).await.unwrap(), "{\"a\":1,\"b\":2}");
        assert_eq!(process.read(&not_cached).await.unwrap(), "{\"a\":1}");
    }
}
