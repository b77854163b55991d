//! Requests that overtake each other, within a process and between two.

use std::sync::Arc;

use super::*;

/// A reader has seen the row, and is slow; meanwhile its visitor signs out elsewhere.
#[tokio::test]
async fn a_refill_under_way_does_not_bring_a_session_back() {
    for site in Site::both() {
        let (slow, other) = (Arc::new(site.process()), site.process());
        let key = other.make().await;
        site.cache.inner.delete(&key, None).await.unwrap();
        let held = site.database.hold("load");
        let reading = tokio::spawn({
            let (slow, key) = (Arc::clone(&slow), key.clone());
            async move { slow.read(&key).await.unwrap() }
        });
        held.reached().await;
        other.sign_out(&key).await.unwrap();
        held.release();
        assert_eq!(reading.await.unwrap(), "{\"a\":1}", "it began before the sign-out");
        for process in [&*slow, &other] {
            assert_eq!(process.read(&key).await.unwrap(), "{}", "the session is over");
        }
        assert!(!site.cached(&key).await.unwrap().contains("\"a\""), "for Django too");
    }
}

/// A reader has seen the row, and is slow; meanwhile the session is changed twice, so that its entry was in the cache
/// and is not any more.
#[tokio::test]
async fn a_refill_under_way_does_not_bring_old_data_back() {
    for site in Site::both() {
        let (slow, other) = (Arc::new(site.process()), site.process());
        let key = other.make().await;
        site.cache.inner.delete(&key, None).await.unwrap();
        let held = site.database.hold("load");
        let reading = tokio::spawn({
            let (slow, key) = (Arc::clone(&slow), key.clone());
            async move { slow.read(&key).await.unwrap() }
        });
        held.reached().await;
        other.set(&key, "a", 2).await.unwrap();
        held.release();
        reading.await.unwrap();
        for process in [&*slow, &other] {
            assert_eq!(process.read(&key).await.unwrap(), "{\"a\":2}");
        }
    }
}

/// The first writer has changed the row and is slow with the cache; the second one overtakes it.
#[tokio::test]
async fn an_overtaken_writer_does_not_leave_old_data_in_the_cache() {
    for site in Site::both() {
        let (slow, other) = (Arc::new(site.process()), site.process());
        let key = other.make().await;
        let held = site.database.hold("replace");
        let writing = tokio::spawn({
            let (slow, key) = (Arc::clone(&slow), key.clone());
            async move { slow.set(&key, "a", 2).await.unwrap() }
        });
        held.reached().await;
        other.set(&key, "a", 3).await.unwrap();
        held.release();
        writing.await.unwrap();
        assert_eq!(site.row(&key).await.unwrap(), "{\"a\":3}");
        for _ in 0..2 {
            for process in [&*slow, &other] {
                assert_eq!(process.read(&key).await.unwrap(), "{\"a\":3}");
            }
        }
        site.forget_calls();
        other.read(&key).await.unwrap();
        assert_eq!(site.calls(), (vec!["load"], vec![]), "and the cache serves it again");
    }
}

/// An operation of the store is cancelled between the database and the cache.
#[tokio::test]
async fn a_cancelled_writer_does_not_leave_old_data_in_the_cache() {
    for site in Site::both() {
        let (cancelled, other) = (site.process(), site.process());
        let key = other.make().await;
        let held = site.database.hold("replace");
        let writing = tokio::spawn({
            let Engine::Store { store, codec } = cancelled.0.engine().clone() else { unreachable!() };
            let (key, now) = (key.clone(), site.clock.now());
            async move {
                let stored = store.load(&key).await.unwrap().unwrap();
                let mut values = codec.decode(&stored.payload).unwrap();
                values.insert("a", &2).unwrap();
                store.replace(&key, &stored.version, codec.encode(&values, now).unwrap(), stored.expiry).await
            }
        });
        held.reached().await;
        writing.abort();
        assert!(writing.await.unwrap_err().is_cancelled());
        assert_eq!(site.row(&key).await.unwrap(), "{\"a\":2}");
        assert_eq!(cancelled.read(&key).await.unwrap(), "{\"a\":2}", "this process knows at once");
        while other.read(&key).await.unwrap() != "{\"a\":2}" {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn a_cancelled_sign_out_is_carried_through() {
    for site in Site::both() {
        let (cancelled, other) = (site.process(), site.process());
        let key = other.make().await;
        let held = site.database.hold("delete");
        let leaving = tokio::spawn({
            let (store, key) = (Arc::clone(cancelled.0.engine().store().unwrap()), key.clone());
            async move { store.delete(&key, None).await }
        });
        held.reached().await;
        leaving.abort();
        assert!(leaving.await.unwrap_err().is_cancelled());
        assert_eq!(cancelled.read(&key).await.unwrap(), "{}");
        while other.read(&key).await.unwrap() != "{}" {
            tokio::task::yield_now().await;
        }
    }
}

/// The row was changed by somebody who did not reach the cache: reading shows the old data, and writing loses nothing.
#[tokio::test]
async fn stale_entries_lose_nothing() {
    for site in Site::both() {
        let process = site.process();
        let key = process.make().await;
        site.change_row(&key, |values| values.insert("b", &2).unwrap()).await;
        let session = process.session(&key).await.unwrap();
        assert_eq!(session.to_json(), "{\"a\":1}");
        session.update("a", |n: Option<i32>| n.unwrap() + 10).unwrap();
        session.save().await.unwrap();
        assert_eq!(site.row(&key).await.unwrap(), "{\"a\":11,\"b\":2}");
        assert_eq!(process.read(&key).await.unwrap(), "{\"a\":11,\"b\":2}");

        site.change_row(&key, |values| values.insert("c", &3).unwrap()).await;
        let session = process.session(&key).await.unwrap();
        session.cycle_key().unwrap();
        session.save().await.unwrap();
        let new = session.key().unwrap();
        assert_eq!(site.row(&new).await.unwrap(), "{\"a\":11,\"b\":2,\"c\":3}", "a rotation carries it over");
        assert_eq!((site.row(&key).await, process.read(&key).await.unwrap().as_str()), (None, "{}"));
    }
}

/// The row was deleted by somebody who did not reach the cache.
#[tokio::test]
async fn a_row_that_is_gone_is_not_made_again() {
    for site in Site::both() {
        let process = site.process();
        type Write = fn(&Session);
        let writes: [Write; 3] = [
            |session| session.insert("b", &2).unwrap(),
            |session| session.set_modified(true),
            |session| session.cycle_key().unwrap(),
        ];
        for write in writes {
            let key = process.make().await;
            site.database.inner.delete(&key, None).await.unwrap();
            let session = process.session(&key).await.unwrap();
            assert_eq!(session.to_json(), "{\"a\":1}", "the cache does not know");
            write(&session);
            let error = session.save().await.unwrap_err();
            assert_eq!(error.kind(), cloakroom_core::ErrorKind::Interrupted);
            assert_eq!(process.read(&key).await.unwrap(), "{}", "and now it does");
        }
        assert_eq!(site.database.inner.list(None, 10).await.unwrap(), []);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn increments_of_two_processes_are_all_counted() {
    for site in Site::both() {
        let processes = [Arc::new(site.process()), Arc::new(site.process())];
        let key = processes[0].make().await;
        let workers: Vec<_> = (0..10)
            .map(|worker| {
                let (process, key) = (Arc::clone(&processes[worker % 2]), key.clone());
                tokio::spawn(async move {
                    for _ in 0..20 {
                        let session = process.session(&key).await.unwrap();
                        session.update("n", |n: Option<u32>| n.unwrap_or(0) + 1).unwrap();
                        session.save().await.unwrap();
                    }
                })
            })
            .collect();
        for worker in workers {
            worker.await.unwrap();
        }
        for process in &processes {
            assert_eq!(process.read(&key).await.unwrap(), "{\"a\":1,\"n\":200}");
        }
        assert_eq!(site.row(&key).await.unwrap(), "{\"a\":1,\"n\":200}");
    }
}
