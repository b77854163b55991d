//! Requests that are given up at any moment of their save.

use std::sync::atomic::{AtomicUsize, Ordering};

use cloakroom_model::SessionKey;
use shuttle::future::{spawn, yield_now};
use shuttle::rand::{Rng, thread_rng};

use crate::common::{explore, give_up};
use crate::site::{Site, count, given, increment, request};

/// Waits until exactly one record stands, and gives it: the rest of what was given up may be under way. If that never
/// comes, the schedule has too many steps.
async fn the_record(site: &Site) -> (SessionKey, cloakroom_model::Values) {
    loop {
        let mut records = site.records().await;
        if records.len() == 1 {
            return records.remove(0);
        }
        yield_now().await;
    }
}

#[test]
fn a_rotation_that_is_given_up_leaves_one_session() {
    static TAKEN_BACK: AtomicUsize = AtomicUsize::new(0);
    explore(300, async || {
        let site = Site::new();
        let key = site.saved().await;
        let writer = {
            let (site, key) = (site.clone(), key.clone());
            spawn(async move {
                let saved = request(&site.exchange, Some(&key), |session| {
                    if session.contains_key("n") { increment(session) } else { Ok(()) }
                });
                saved.await.is_ok_and(|answer| given(&answer).is_some())
            })
        };
        let cookie = format!("sessionid={}", key.as_str());
        let slot = site.exchange.open([cookie.as_bytes()].into_iter());
        let session = slot.load().await.expect("a session");
        session.cycle_key().expect("a new key");
        session.insert("user", &7).expect("a change");
        let polls = thread_rng().gen_range(0..16);
        let answer = give_up(polls, site.exchange.commit(&slot, 200)).await;
        let half_way = answer.is_none() && site.records().await.len() == 2;
        let counted = writer.await.expect("a writer");
        let (standing, values) = the_record(&site).await;
        let signed_in = values.contains_key("user");
        assert_eq!(signed_in, standing != key, "half of a rotation: {values:?}");
        if half_way && !signed_in {
            TAKEN_BACK.fetch_add(1, Ordering::SeqCst);
        }
        if let Some(answer) = answer {
            assert_eq!(given(&answer.expect("a rotation")), Some(standing));
        }
        assert_eq!(count(&values), 1 + u64::from(counted), "{values:?}");
    });
    // Only one that already deletes the old record goes on.
    assert!(TAKEN_BACK.load(Ordering::SeqCst) > 0, "no rotation was taken back, whose new key nobody learns of");
}

#[test]
fn changes_that_are_given_up_are_all_there_or_none() {
    explore(300, async || {
        let site = Site::new();
        let key = site.saved().await;
        let writer = {
            let (site, key) = (site.clone(), key.clone());
            spawn(async move { request(&site.exchange, Some(&key), increment).await.expect("a save") })
        };
        let polls = thread_rng().gen_range(0..12);
        let work = |session: &cloakroom_model::Session| {
            session.insert("one", &1)?;
            session.insert("other", &2)?;
            increment(session)
        };
        let done = give_up(polls, request(&site.exchange, Some(&key), work)).await;
        writer.await.expect("a writer");
        // The runtime may be about to finish it, so this looks a few times.
        for _ in 0..5 {
            let (_, values) = the_record(&site).await;
            let there = values.contains_key("one");
            assert_eq!((there, values.len()), (values.contains_key("other"), if there { 3 } else { 1 }));
            assert_eq!(count(&values), 2 + u64::from(there), "{values:?}");
            assert!(there || done.is_none(), "it was acknowledged");
            yield_now().await;
        }
    });
}
