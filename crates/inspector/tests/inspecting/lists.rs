//! Lists, single sessions, revocations and counts.

use bytes::Bytes;
use cloakroom_core::engine::Engine;
use cloakroom_core::store::Store;
use cloakroom_core::wire::session_data::Codec;
use cloakroom_core::wire::signing::Secrets;
use cloakroom_core::{Clock, ErrorKind, SessionKey, Timestamp, Values};
use cloakroom_inspector::{Filter, Handle, Inspector, Named, Revocation, Show, State, Step};

use crate::support::{NOW, Place, step};

/// All that a filter lets through, and how many steps that took.
async fn all(inspector: &Inspector, filter: &Filter, limit: usize, step: Step) -> (Vec<String>, usize) {
    let (mut found, mut after, mut steps): (Vec<String>, Option<Handle>, usize) = (Vec::new(), None, 0);
    loop {
        let listing = inspector.list(filter, after.as_ref(), limit, step).await.unwrap();
        steps += 1;
        found.extend(listing.records.iter().map(|record| record.handle.to_string()));
        match listing.next {
            None => return (found, steps),
            next => after = next,
        }
    }
}

fn of(user: &str) -> Filter {
    Filter { user: Some(user.to_owned()), show: Show::All }
}

fn only(show: Show) -> Filter {
    Filter { user: None, show }
}

#[tokio::test]
async fn each_session_comes_once_in_the_order_of_keys() {
    let place = Place::new();
    for n in 0..103 {
        place.add(&format!("{{\"n\":{n}}}"), 60).await;
    }
    let inspector = place.inspector();
    for (limit, steps) in [(1_000, 1), (103, 1), (102, 2), (10, 11)] {
        let (found, took) = all(&inspector, &Filter::default(), limit, Step::PAGE).await;
        assert_eq!((found.len(), took), (103, steps));
        assert!(found.is_sorted_by_key(|handle| handle[..4].to_owned()));
    }
    assert_eq!(all(&Place::new().inspector(), &Filter::default(), 10, Step::PAGE).await, (vec![], 1));
}

#[tokio::test]
async fn filters_find_theirs_in_bounded_steps() {
    let place = Place::new();
    for n in 0..60 {
        place.add(&format!("{{\"_auth_user_id\":\"{}\"}}", n % 6), if n % 3 == 0 { 10 } else { 100 }).await;
    }
    for _ in 0..7 {
        place.add_raw(Bytes::from_static(b"no session"), 100).await;
    }
    place.clock.set(Timestamp::from_secs(NOW.as_secs() + 10));
    let inspector = place.inspector();
    for (filter, count) in [
        (of("3"), 10),
        (of("6"), 0),
        (only(Show::Live), 40),
        (only(Show::Expired), 20),
        (only(Show::Corrupted), 7),
        (Filter { user: Some("3".into()), show: Show::Expired }, 10),
        (Filter { user: Some("4".into()), show: Show::Expired }, 0),
    ] {
        let (mut found, steps) = all(&inspector, &filter, 25, step(9)).await;
        assert_eq!((found.len(), steps), (count, 67_usize.div_ceil(9)), "{filter:?}");
        found.dedup();
        assert_eq!(found.len(), count);
        assert_eq!(all(&inspector, &filter, 25, Step::PAGE).await.0.len(), count);
    }
    let listing = inspector.list(&of("6"), None, 25, step(9)).await.unwrap();
    assert_eq!((listing.records.len(), listing.scanned), (0, 9));
}

#[tokio::test]
async fn a_list_goes_on_though_the_session_it_stopped_at_is_gone() {
    let place = Place::new();
    for _ in 0..20 {
        place.add("{}", 60).await;
    }
    let inspector = place.inspector();
    let first = inspector.list(&Filter::default(), None, 10, Step::PAGE).await.unwrap();
    let last = first.next.clone().unwrap();
    assert!(inspector.revoke(&first.records[9]).await.unwrap());
    let rest = inspector.list(&Filter::default(), Some(&last), 10, Step::PAGE).await.unwrap();
    assert_eq!((rest.records.len(), rest.next), (10, None));
}

#[tokio::test]
async fn a_session_is_found_by_its_key_and_by_its_handle() {
    let place = Place::new();
    let mut keys = Vec::new();
    for n in 0..50 {
        keys.push(place.add(&format!("{{\"_auth_user_id\":{n},\"n\":1e22}}"), 60).await);
    }
    // Some whose keys begin alike, one of them the first and one the last that there can be.
    for text in ["0000000000", "000000000a", "00000zzzzz", "zzzzzzzzzz", "zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz"] {
        let key = SessionKey::presented(text).unwrap();
        let payload = place.settings.signed_codec().encode(&Values::new(), NOW).unwrap();
        place.store.create(&key, payload, Timestamp::from_secs(NOW.as_secs() + 60)).await.unwrap();
        keys.push(key);
    }
    let inspector = place.inspector();
    for (n, key) in keys.iter().enumerate() {
        let by_key = inspector.find(&Named::parse(key.as_str()).unwrap()).await.unwrap().unwrap();
        let handle = by_key.record.handle.to_string();
        assert!(!handle.contains(&key.as_str()[..5]));
        let by_handle = inspector.find(&Named::parse(&handle).unwrap()).await.unwrap().unwrap();
        let record = by_handle.record;
        assert_eq!(record.handle, by_key.record.handle);
        assert_eq!((record.state(), record.saved), (State::Live, Some(NOW)));
        if n < 50 {
            assert!(!format!("{by_key:?}").contains(&key.as_str()[..5]));
            assert_eq!(record.user, Some(n.to_string()));
            assert_eq!(by_handle.values.unwrap().get_raw("n"), Some("1e22"));
        }
        place.store.delete(key, None).await.unwrap();
        assert!(inspector.find(&Named::parse(&handle).unwrap()).await.unwrap().is_none());
        assert!(inspector.find(&Named::parse(key.as_str()).unwrap()).await.unwrap().is_none());
    }
    assert!(Named::parse("short").is_none() && Named::parse("").is_none());
}

#[tokio::test]
async fn what_is_wrong_is_told() {
    let place = Place::new();
    let other = Codec::signed_json(&Secrets::new("another")).encode(&Values::new(), NOW).unwrap();
    let serializer = Codec::signed(&Secrets::new("of a test"), std::sync::Arc::new(Liar)).encode(&Values::new(), NOW);
    for (payload, told) in [
        (other, "signed with another SECRET_KEY"),
        (Bytes::from_static(b"\xff\xfe"), "is not signed"),
        (Bytes::new(), "no separator"),
        (serializer.unwrap(), "damaged, or was written by another"),
    ] {
        let key = place.add_raw(payload.clone(), 60).await;
        for inspector in [place.inspector(), place.stranger()] {
            let details = inspector.find(&Named::Key(key.clone())).await.unwrap().unwrap();
            assert_eq!(
                (details.record.state(), details.values.is_none(), &details.payload),
                (State::Corrupted, true, &payload)
            );
            let problem = details.record.problem.unwrap();
            assert!(problem.contains(told), "{problem}");
        }
    }
    // It can be read, but every request that saves it fails.
    let key = place.add(r#"{"_session_expiry":"soon"}"#, 60).await;
    let details = place.inspector().find(&Named::Key(key)).await.unwrap().unwrap();
    assert!(details.record.problem.unwrap().contains("_session_expiry") && details.values.is_some());
}

/// A serializer whose text Django does not read.
struct Liar;

impl cloakroom_core::wire::session_data::Serializer for Liar {
    fn dumps(&self, _: &Values) -> cloakroom_core::Result<Vec<u8>> {
        Ok(b"not JSON".to_vec())
    }

    fn loads(&self, _: Vec<u8>) -> cloakroom_core::Result<Values> {
        Ok(Values::new())
    }
}

#[tokio::test]
async fn expired_sessions_can_be_looked_at_where_the_store_lets_us() {
    let place = Place::new();
    let key = place.add(r#"{"_auth_user_id":"7"}"#, 10).await;
    place.clock.set(Timestamp::from_secs(NOW.as_secs() + 10));
    let record = place.inspector().find(&Named::Key(key.clone())).await.unwrap().unwrap().record;
    assert_eq!((record.state(), record.user.as_deref()), (State::Expired, Some("7")));
    assert_eq!(record.expiry, Some(Timestamp::from_secs(NOW.as_secs() + 10)));
    // Looking has not removed it.
    let listing = place.stranger().list(&Filter::default(), None, 10, Step::PAGE).await.unwrap();
    assert_eq!((listing.records[0].state(), listing.records[0].size), (State::Expired, None));
}

#[tokio::test]
async fn another_item_may_name_the_user() {
    let place = Place::new();
    place.add(r#"{"user":"ada","_auth_user_id":"7"}"#, 60).await;
    let inspector = place.inspector();
    let named = inspector.clone().with_user_item("user");
    assert_eq!(named.list(&of("ada"), None, 9, Step::PAGE).await.unwrap().records.len(), 1);
    assert_eq!(inspector.list(&of("7"), None, 9, Step::PAGE).await.unwrap().records.len(), 1);
}

#[tokio::test]
async fn all_sessions_of_a_user_end_and_no_other() {
    for records in [1, 7, 1_000] {
        let place = Place::new();
        let (mut theirs, mut others) = (Vec::new(), Vec::new());
        for n in 0..40 {
            let user = if n % 4 == 0 { "7" } else { "8" };
            let key = place.add(&format!("{{\"_auth_user_id\":\"{user}\"}}"), 60).await;
            if user == "7" { theirs.push(key) } else { others.push(key) }
        }
        let inspector = place.inspector();
        let mut revocation = Revocation::of("7");
        let mut late = Some(SessionKey::presented("00000000late").unwrap());
        while !revocation.done {
            let before = revocation.scanned;
            revocation.go_on(&inspector, step(records)).await.unwrap();
            assert!(revocation.scanned - before <= records);
            if let Some(key) = late.take_if(|_| records < 40) {
                // The user signs in while this goes on, under a key that was passed already.
                let values = Values::parse(br#"{"_auth_user_id":"7"}"#.to_vec()).unwrap();
                let payload = place.settings.signed_codec().encode(&values, NOW).unwrap();
                place.store.create(&key, payload, Timestamp::from_secs(NOW.as_secs() + 60)).await.unwrap();
                theirs.push(key);
            }
        }
        assert_eq!(revocation.revoked, theirs.len() as u64, "steps of {records}");
        for key in &theirs {
            assert!(!place.has(key).await);
        }
        for key in &others {
            assert!(place.has(key).await);
        }
    }
}

#[tokio::test]
async fn counts_are_exact_or_say_that_they_are_not() {
    let place = Place::new();
    for n in 0..3_000 {
        let user = if n % 2 == 0 { r#"{"_auth_user_id":"7"}"# } else { "{}" };
        place.add(user, if n % 3 == 0 { 10 } else { 100_000 }).await;
    }
    place.add_raw(Bytes::from(vec![b'x'; 70_000]), 100).await;
    place.clock.set(Timestamp::from_secs(NOW.as_secs() + 10));
    let inspector = place.inspector();
    let mut told = 0;
    let stats = inspector.stats(Step::ALL, |looked_at| told = looked_at).await.unwrap();
    assert_eq!((stats.scanned, stats.total, stats.complete, told), (3_001, 3_001, true, 3_001));
    assert_eq!((stats.live, stats.expired, stats.corrupted, stats.with_user), (2_000, 1_000, 1, 1_000));
    assert_eq!((stats.largest, stats.in_all(stats.live)), (70_000, 2_000));
    let count = |bars: Vec<cloakroom_inspector::Bar>, name| bars.iter().find(|bar| bar.name == name).unwrap().count;
    assert_eq!(count(stats.ends(), "expired"), 1_000);
    assert_eq!(count(stats.ends(), "within an hour"), 1);
    assert_eq!(count(stats.ends(), "within 3 days"), 2_000);
    assert_eq!((count(stats.sizes(), "up to 256 B"), count(stats.sizes(), "larger")), (3_000, 1));

    let stats = inspector.stats(step(500), |_| {}).await.unwrap();
    assert_eq!((stats.scanned, stats.complete), (500, false));
    // Keys are random: six standard deviations of the place of the 500th of 3,001.
    assert!((2_200..4_600).contains(&stats.total), "{}", stats.total);
    assert!((1_200..3_400).contains(&stats.in_all(stats.live)), "{}", stats.in_all(stats.live));
}

#[tokio::test]
async fn an_engine_that_keeps_nothing_says_so() {
    let place = Place::new();
    let off = Inspector::new(&place.settings, Engine::Off, None, Clock::system());
    let error = off.list(&Filter::default(), None, 9, Step::PAGE).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotInstalled);
    assert_eq!(off.stats(Step::PAGE, |_| {}).await.unwrap_err().kind(), ErrorKind::NotInstalled);
}
