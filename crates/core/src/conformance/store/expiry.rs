//! When a record ends.

use super::{Harness, payload};
use crate::clock::Timestamp;
use crate::store::{Created, Replaced, Touched};

/// A record is there until its expiry, and gone from that moment on.
pub async fn expired_is_gone(harness: &Harness) {
    let bench = harness.bench().await;
    let (short, long, over) = (bench.key(), bench.key(), bench.key());
    let expiry = bench.after(1);
    bench.create(&short, "short", expiry).await;
    bench.create(&long, "long", bench.later()).await;
    bench.create(&over, "over before it began", bench.after(-1)).await;
    assert!(bench.load(&over).await.is_none(), "a record that had expired when it was made is there");
    assert!(bench.load(&short).await.is_some(), "a record is gone before its expiry");
    if !bench.real_time {
        let secs = |secs: i64| expiry.checked_add_micros(secs * 1_000_000).expect("a moment within the calendar");
        // Django's file engine counts whole seconds, so the last one may be missing.
        bench.clock.set(secs(-2));
        assert!(bench.load(&short).await.is_some(), "a record is gone two seconds before its expiry");
        bench.clock.set(expiry);
        assert!(bench.load(&short).await.is_none(), "a record is there at the moment of its expiry");
        bench.clock.set(secs(1));
    } else {
        bench.pass(1).await;
    }
    assert!(bench.load(&short).await.is_none(), "a record is there after its expiry");
    assert!(bench.load(&long).await.is_some(), "a record is gone with another one");
}

/// A save renews the expiry, or shortens it.
pub async fn replace_moves_the_expiry(harness: &Harness) {
    let bench = harness.bench().await;
    let (longer, shorter) = (bench.key(), bench.key());
    let version = bench.create(&longer, "a", bench.after(1)).await;
    let replaced = bench.store.replace(&longer, &version, payload("b"), bench.later()).await.expect("replace");
    assert!(matches!(replaced, Replaced::Replaced(_)), "{replaced:?}");
    let version = bench.create(&shorter, "a", bench.later()).await;
    let replaced = bench.store.replace(&shorter, &version, payload("b"), bench.after(1)).await.expect("replace");
    assert!(matches!(replaced, Replaced::Replaced(_)), "{replaced:?}");
    bench.pass(1).await;
    assert_eq!(bench.payload(&longer).await.as_deref(), Some("b"), "a save did not renew the expiry");
    assert!(bench.load(&shorter).await.is_none(), "a save did not shorten the expiry");
}

/// `touch` renews the expiry, or shortens it.
pub async fn touch_moves_the_expiry(harness: &Harness) {
    let bench = harness.bench().await;
    let (longer, shorter) = (bench.key(), bench.key());
    bench.create(&longer, "a", bench.after(1)).await;
    bench.create(&shorter, "a", bench.later()).await;
    let later = bench.later();
    assert_eq!(bench.store.touch(&longer, later).await.expect("touch"), Touched::Touched);
    assert_eq!(bench.store.touch(&shorter, bench.after(1)).await.expect("touch"), Touched::Touched);
    let stored = bench.load(&longer).await.expect("the record that was touched");
    bench.assert_expiry(&stored, later);
    bench.pass(1).await;
    assert_eq!(bench.payload(&longer).await.as_deref(), Some("a"), "a touch did not renew the expiry");
    assert!(bench.load(&shorter).await.is_none(), "a touch did not shorten the expiry");
}

/// `touch` on a record that was deleted or has expired answers `Gone`, and it stays gone.
pub async fn touch_never_resurrects(harness: &Harness) {
    let bench = harness.bench().await;
    let (deleted, expired) = (bench.key(), bench.key());
    bench.create(&deleted, "signed in", bench.later()).await;
    bench.create(&expired, "old", bench.after(1)).await;
    bench.other.delete(&deleted, None).await.expect("delete");
    bench.pass(1).await;
    for (key, what) in [(&deleted, "deleted"), (&expired, "expired")] {
        assert_eq!(bench.store.touch(key, bench.later()).await.expect("touch"), Touched::Gone, "{what}");
        assert!(bench.load(key).await.is_none(), "a touch brought a session back that was {what}");
    }
}

/// "For ever" is a moment like any other.
pub async fn the_last_moment_of_the_calendar_will_do(harness: &Harness) {
    let bench = harness.bench().await;
    let key = bench.key();
    let version = bench.create(&key, "a", Timestamp::MAX).await;
    bench.pass(1).await;
    assert_eq!(bench.payload(&key).await.as_deref(), Some("a"));
    let replaced = bench.store.replace(&key, &version, payload("b"), Timestamp::MAX).await.expect("replace");
    assert!(matches!(replaced, Replaced::Replaced(_)), "{replaced:?}");
    assert_eq!(bench.store.touch(&key, Timestamp::MAX).await.expect("touch"), Touched::Touched);
    assert_eq!(bench.payload(&key).await.as_deref(), Some("b"));
}

/// Under the key of an expired record that was swept, a new one can be made; until then it may count as taken. In no
/// case is the old payload seen again.
pub async fn expired_keys_can_be_used_again(harness: &Harness) {
    let bench = harness.bench().await;
    let key = bench.key();
    bench.create(&key, "old", bench.after(1)).await;
    bench.pass(2).await;
    let early = bench.store.create(&key, payload("new"), bench.later()).await.expect("create");
    if early == Created::Taken {
        assert!(bench.load(&key).await.is_none(), "an expired record was revived by a collision");
        while bench.store.clear_expired(100).await.expect("clear_expired").more {}
        bench.create(&key, "new", bench.later()).await;
    }
    assert_eq!(bench.payload(&key).await.as_deref(), Some("new"));
}

/// The clock of a site may be set forth or back by an hour: what counts is where it stands. No session ends that has
/// time left by then, however often it was looked at or swept meanwhile, and none is there whose time is over or that
/// was deleted.
///
/// A store that keeps its own time does not notice, and is not tried.
pub async fn a_clock_that_jumps_neither_ends_nor_revives(harness: &Harness) {
    let bench = harness.bench().await;
    if bench.real_time {
        return;
    }
    let begin = bench.clock.now();
    let minutes = |minutes: i64| begin.checked_add_micros(minutes * 60_000_000).expect("a moment within the calendar");
    let sweep = async || while bench.store.clear_expired(100).await.expect("clear_expired").more {};
    let (long, short, deleted) = (bench.key(), bench.key(), bench.key());
    let version = bench.create(&long, "long", minutes(180)).await;
    bench.create(&short, "short", minutes(30)).await;
    let deleted_version = bench.create(&deleted, "signed out", minutes(180)).await;
    bench.other.delete(&deleted, None).await.expect("delete");
    let stays_deleted = async |when: &str| {
        assert!(bench.load(&deleted).await.is_none(), "{when}: a session that was deleted is there");
        let replaced = bench.store.replace(&deleted, &deleted_version, payload("again"), minutes(180)).await;
        assert!(matches!(replaced, Ok(Replaced::Gone)), "{when}: a late save of a deleted session: {replaced:?}");
        let touched = bench.store.touch(&deleted, minutes(180)).await.expect("touch");
        assert_eq!(touched, Touched::Gone, "{when}: a deleted session");
    };

    // An hour forth.
    bench.clock.set(minutes(60));
    assert_eq!(bench.payload(&long).await.as_deref(), Some("long"), "a clock set forth ended a session too early");
    assert!(bench.load(&short).await.is_none(), "a session is there whose time is over by the clock");
    assert_eq!(bench.store.touch(&short, minutes(180)).await.expect("touch"), Touched::Gone);
    stays_deleted("an hour forth").await;
    let late = bench.key();
    bench.create(&late, "made an hour ahead", minutes(120)).await;
    let replaced = bench.store.replace(&long, &version, payload("saved an hour ahead"), minutes(180)).await;
    let version = match replaced.expect("replace") {
        Replaced::Replaced(version) => version,
        other => panic!("a save after a clock was set forth: {other:?}"),
    };
    sweep().await;

    // Two hours back from there: an hour before the beginning.
    bench.clock.set(minutes(-60));
    for (key, wanted) in [(&long, "saved an hour ahead"), (&late, "made an hour ahead")] {
        assert_eq!(bench.payload(key).await.as_deref(), Some(wanted), "a clock set back ended a session");
    }
    stays_deleted("an hour back").await;
    // What was swept while its time was over is gone for good.
    assert!(bench.load(&short).await.is_none(), "a session that was swept is there");
    let replaced = bench.store.replace(&long, &version, payload("saved an hour back"), minutes(170)).await;
    assert!(matches!(replaced, Ok(Replaced::Replaced(_))), "a save after a clock was set back: {replaced:?}");
    assert_eq!(bench.store.touch(&late, minutes(110)).await.expect("touch"), Touched::Touched);
    let early = bench.key();
    bench.create(&early, "made an hour back", minutes(-10)).await;
    sweep().await;
    assert_eq!(bench.payload(&early).await.as_deref(), Some("made an hour back"), "a sweep took a session too early");

    // Where it was, and on from there: each ends at its time, and not before.
    let there =
        [(&long, "saved an hour back", 170), (&late, "made an hour ahead", 110), (&early, "made an hour back", -10)];
    for now in [-11, -9, 0, 109, 111, 169, 171] {
        bench.clock.set(minutes(now));
        for (key, wanted, end) in there {
            let wanted = (now < end).then_some(wanted);
            assert_eq!(bench.payload(key).await.as_deref(), wanted, "minute {now} of a session until minute {end}");
        }
        stays_deleted("later").await;
    }
}
