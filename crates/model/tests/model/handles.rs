//! Several handles of one request's session, while that is saved.

use shuttle::future::spawn;

use crate::common::explore;
use crate::site::{Site, count, given, increment};

#[test]
fn what_changes_during_a_save_is_saved_by_the_next() {
    explore(300, async || {
        let site = Site::new();
        let key = site.saved().await;
        let cookie = format!("sessionid={}", key.as_str());
        let slot = site.exchange.open([cookie.as_bytes()].into_iter());
        let session = slot.load().await.expect("a session");
        let changing = {
            let session = session.clone();
            spawn(async move {
                increment(&session).expect("a change");
                session.cycle_key().expect("a new key");
                session.insert("user", &7).expect("a change");
            })
        };
        let saving = {
            let session = session.clone();
            spawn(async move { session.save().await.expect("a save") })
        };
        increment(&session).expect("a change");
        session.save().await.expect("a save");
        changing.await.expect("a task");
        saving.await.expect("a task");
        let answer = site.exchange.commit(&slot, 200).await.expect("a save");
        let records = site.records().await;
        let [(standing, values)] = records.as_slice() else { panic!("{records:?}") };
        assert_ne!(*standing, key);
        assert_eq!((given(&answer).as_ref(), count(values)), (Some(standing), 3), "{values:?}");
        assert_eq!(values.get::<u64>("user").expect("a number"), Some(7));
    });
}

#[test]
fn what_is_ended_during_a_save_leaves_nothing() {
    explore(300, async || {
        let site = Site::new();
        let key = site.saved().await;
        let cookie = format!("sessionid={}", key.as_str());
        let slot = site.exchange.open([cookie.as_bytes()].into_iter());
        let session = slot.load().await.expect("a session");
        let ending = {
            let session = session.clone();
            spawn(async move { session.flush() })
        };
        increment(&session).expect("a change");
        session.save().await.expect("a save");
        ending.await.expect("a task");
        let answer = site.exchange.commit(&slot, 200).await.expect("an answer");
        let records = site.records().await;
        // It was ended before the change, which then began a new session, or after it.
        let standing = records.first().map(|(key, _)| key);
        assert!(records.len() <= 1 && standing != Some(&key) && standing == given(&answer).as_ref(), "{records:?}");
    });
}
