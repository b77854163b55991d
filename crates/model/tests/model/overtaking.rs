//! Requests of one session at the same time.

use cloakroom_model::ErrorKind;
use shuttle::future::spawn;

use crate::common::explore;
use crate::site::{Site, count, given, increment, request};

#[test]
fn changes_merge() {
    explore(300, async || {
        let site = Site::new();
        let key = site.saved().await;
        let writers: Vec<_> = ["a", "b", "c"]
            .map(|item| {
                let (site, key) = (site.clone(), key.clone());
                spawn(async move {
                    let work = |session: &cloakroom_model::Session| {
                        session.insert(item, &true)?;
                        increment(session)
                    };
                    request(&site.exchange, Some(&key), work).await.expect("a save");
                })
            })
            .into();
        for writer in writers {
            writer.await.expect("a writer");
        }
        let records = site.records().await;
        let [(_, values)] = records.as_slice() else { panic!("{records:?}") };
        assert_eq!((count(values), values.len()), (4, 4), "{values:?}");
    });
}

#[test]
fn a_session_that_was_ended_stays_ended() {
    explore(300, async || {
        let site = Site::new();
        let key = site.saved().await;
        let writers: Vec<_> = [false, true]
            .map(|rotates| {
                let (site, key) = (site.clone(), key.clone());
                spawn(async move {
                    let saved = request(&site.exchange, Some(&key), |session| {
                        if rotates {
                            session.cycle_key()?;
                        }
                        // One that comes too late to find the session begins a new one, which is not what this is about.
                        if session.contains_key("n") {
                            increment(session)
                        } else {
                            session.flush();
                            Ok(())
                        }
                    });
                    if let Err(error) = saved.await {
                        assert_eq!(error.kind(), ErrorKind::Interrupted);
                        return None;
                    }
                    Some(())
                })
            })
            .into();
        let ended = request(&site.exchange, Some(&key), |session| {
            session.flush();
            Ok(())
        });
        let answer = ended.await.expect("a sign-out");
        assert!(answer.set_cookie.expect("the removal").contains("Max-Age=0"));
        let mut rotated = None;
        for writer in writers {
            rotated = writer.await.expect("a writer");
        }
        // What was rotated before the sign-out is another session, which that did not know.
        let records = site.records().await;
        assert!(records.iter().all(|(other, _)| *other != key), "{records:?}");
        assert!(records.is_empty() || rotated.is_some(), "{records:?}");
    });
}

#[test]
fn a_rotation_takes_along_what_was_saved() {
    explore(300, async || {
        let site = Site::new();
        let key = site.saved().await;
        let rotations: Vec<_> = ["first", "second"]
            .map(|item| {
                let (site, key) = (site.clone(), key.clone());
                spawn(async move {
                    let rotated = request(&site.exchange, Some(&key), |session| {
                        if !session.contains_key("n") {
                            return Ok(());
                        }
                        session.cycle_key()?;
                        session.insert(item, &true)
                    });
                    rotated.await.map(|answer| given(&answer).map(|key| (key, item)))
                })
            })
            .into();
        let counted =
            request(
                &site.exchange,
                Some(&key),
                |session| {
                    if session.contains_key("n") { increment(session) } else { Ok(()) }
                },
            );
        let counted = counted.await.is_ok_and(|answer| given(&answer).is_some());
        let mut winners = Vec::new();
        for rotation in rotations {
            match rotation.await.expect("a task") {
                Ok(given) => winners.extend(given),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Interrupted),
            }
        }
        let records = site.records().await;
        let ([(new, item)], [(standing, values)]) = (winners.as_slice(), records.as_slice()) else {
            panic!("{winners:?} {records:?}")
        };
        assert_eq!((new, values.contains_key(item)), (standing, true), "{values:?}");
        assert_eq!(count(values), 1 + u64::from(counted), "{values:?}");
    });
}
