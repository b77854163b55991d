//! The torture itself under test: sites that lose and revive sessions in known ways are found out, and one that does not
//! is left alone.

mod fake;

use std::sync::Arc;
use std::time::Duration;

use cloakroom_bench::breaker::Breaker;
use cloakroom_bench::client::raise_connection_limit;
use cloakroom_bench::course::Course;
use cloakroom_bench::jar::CookieKind;
use cloakroom_bench::phases;
use fake::Habit;

async fn course(habit: Habit) -> Arc<Course> {
    raise_connection_limit();
    Arc::new(Course::new(vec![fake::serve(habit).await], CookieKind::Key, 3))
}

/// A second of mixed load; and more, where the machine is so busy that not all happens in one second that is looked for.
async fn storm(course: &Arc<Course>, enough: fn(&phases::Storm) -> bool) -> phases::Storm {
    let mut seconds = 1;
    loop {
        let breaker = Breaker::new(Vec::new(), None, Duration::ZERO);
        let duration = Duration::from_secs(seconds);
        let storm = phases::storm(course, breaker, duration, |_| {}).await.expect("the fake answers");
        if enough(&storm) || seconds > 60 {
            return storm;
        }
        seconds *= 2;
    }
}

#[tokio::test]
async fn a_site_that_merges_is_left_alone() {
    let course = course(Habit::Merges).await;
    for writers in [
        phases::different_keys(&course, 1).await.unwrap(),
        phases::one_key(&course, 1).await.unwrap(),
        phases::increments(&course, 1).await.unwrap(),
    ] {
        assert_eq!((writers.count.lost, writers.count.twice, writers.refused, writers.failed), (0, 0, 0, 0));
    }
    assert_eq!(phases::increments(&course, 1).await.unwrap().count.found, 1_000);
    let sign_outs = phases::sign_outs(&course, 2).await.unwrap();
    assert_eq!((sign_outs.sign_outs, sign_outs.revived, sign_outs.signed_in_again), (2, 0, 0));
    let rotations = phases::rotations(&course, 2).await.unwrap();
    assert_eq!((rotations.rotations, rotations.count.lost, rotations.count.old_key), (2, 0, 0));
    let storm = storm(&course, |storm| storm.count.found > 0 && storm.count.signed_out > 0).await;
    let count = storm.count;
    assert_eq!((count.lost, count.twice, count.revived, count.old_key, storm.stale), (0, 0, 0, 0, 0), "{count:?}");
    assert!(count.found > 0 && count.signed_out > 0, "{count:?}");
    assert_eq!(count.acknowledged, count.found + count.signed_out);
}

#[tokio::test]
async fn a_site_that_saves_whole_sessions_is_found_out() {
    let course = course(Habit::SavesWhole).await;
    let writers = phases::different_keys(&course, 1).await.unwrap();
    assert_eq!(writers.count.acknowledged, 200);
    assert!(writers.count.lost > 0, "{:?}", writers.count);
    let increments = phases::increments(&course, 1).await.unwrap();
    assert!(increments.count.lost > 0, "{:?}", increments.count);
    // Whoever is last wins: that much a site may do.
    assert_eq!(phases::one_key(&course, 1).await.unwrap().count.lost, 0);
    assert_eq!(phases::sign_outs(&course, 1).await.unwrap().revived, 1);
    assert_eq!(phases::rotations(&course, 1).await.unwrap().count.old_key, 1);
    let count =
        storm(&course, |storm| storm.count.lost > 0 && storm.count.revived > 0 && storm.count.old_key > 0).await.count;
    assert!(count.lost > 0 && count.revived > 0 && count.old_key > 0, "{count:?}");
}

#[tokio::test]
async fn a_site_that_drops_what_it_acknowledged_is_found_out() {
    let course = course(Habit::DropsEveryTenth).await;
    let writers = phases::different_keys(&course, 1).await.unwrap();
    assert_eq!((writers.count.acknowledged, writers.count.lost), (200, 20));
    let increments = phases::increments(&course, 1).await.unwrap();
    assert_eq!((increments.count.acknowledged, increments.count.lost), (1_000, 100));
    let storm = storm(&course, |storm| storm.count.lost > 0 && storm.stale > 0).await;
    assert!(storm.count.lost > 0 && storm.stale > 0, "{storm:?}");
}

#[tokio::test]
async fn a_site_that_counts_twice_is_found_out() {
    let course = course(Habit::CountsTwice).await;
    assert_eq!(phases::increments(&course, 1).await.unwrap().count.twice, 1_000);
    assert!(storm(&course, |storm| storm.count.twice > 0).await.count.twice > 0);
}

#[tokio::test]
async fn a_site_that_refuses_is_not_said_to_lose() {
    let course = course(Habit::RefusesEveryTenth).await;
    let writers = phases::different_keys(&course, 1).await.unwrap();
    assert_eq!((writers.refused, writers.count.acknowledged, writers.count.lost), (20, 180, 0));
    let count = storm(&course, |_| true).await.count;
    assert_eq!((count.lost, count.twice), (0, 0), "{count:?}");
}
