//! Both sides at work on one session at the same time.

use std::thread;
use std::time::Duration;

use cloakroom_compat::live::http::{Reply, Visitor};
use cloakroom_compat::live::json::Json;
use cloakroom_compat::live::site::{Engine, Pair, Site};

/// Starts a slow request, runs `meanwhile`, and gives both results once a try came out in that order: the slow one had
/// read its session before, and ended after. How long "slow" has to be depends on the machine, so it grows.
fn overlap<T>(
    visitor: &Visitor,
    slow: (&Site, &str, &[(&str, &str)]),
    mut meanwhile: impl FnMut(&mut Visitor) -> T,
) -> Option<(Reply, T)> {
    for tenths in [4_u32, 8, 16, 32] {
        let (site, page, query) = slow;
        let (mut first, mut second) = (visitor.copy(), visitor.copy());
        let sleep = format!("{}.{}", tenths * 2 / 10, tenths * 2 % 10);
        let query: Vec<(&str, &str)> = query.iter().copied().chain([("sleep", sleep.as_str())]).collect();
        let (reply, result, in_order) = thread::scope(|scope| {
            let slow = scope.spawn(|| first.get(site, page, &query));
            thread::sleep(Duration::from_millis(u64::from(tenths) * 100));
            let result = meanwhile(&mut second);
            let in_order = !slow.is_finished();
            (slow.join().expect("the slow request is answered"), result, in_order)
        });
        if in_order {
            return Some((reply, result));
        }
    }
    None
}

on_each_store!(django_and_we_work_at_the_same_time);

fn django_and_we_work_at_the_same_time(engine: Engine) {
    let Some(pair) = Pair::start(engine) else { return };
    django_writes_while_our_request_runs_and_both_changes_stay(&pair);
    deleted_under_way(&pair, (&pair.cloakroom, &pair.django));
    deleted_under_way(&pair, (&pair.django, &pair.cloakroom));
}

fn django_writes_while_our_request_runs_and_both_changes_stay(pair: &Pair) {
    let mut visitor = Visitor::new();
    visitor.get(&pair.django, "set", &[("k", "start"), ("v", "0")]).ok();
    let slow: (&Site, &str, &[(&str, &str)]) = (&pair.cloakroom, "set", &[("k", "ours"), ("v", "1")]);
    let (ours, _) = overlap(&visitor, slow, |other| {
        other.get(&pair.django, "set", &[("k", "theirs"), ("v", "2")]).ok();
    })
    .expect("one try in order");
    ours.ok();
    let data = visitor.get(&pair.django, "all", &[]).ok().member("data");
    for (key, value) in [("start", "0"), ("theirs", "2"), ("ours", "1")] {
        assert_eq!(data.get(key).map(Json::to_string).as_deref(), Some(value), "{data}");
    }

    // A counter is counted on the fresh value.
    let slow: (&Site, &str, &[(&str, &str)]) = (&pair.cloakroom, "incr", &[("k", "n")]);
    let (ours, _) =
        overlap(&visitor, slow, |other| other.get(&pair.django, "incr", &[("k", "n")]).ok()).expect("one try in order");
    ours.ok();
    let counted = visitor.get(&pair.django, "get", &[("k", "n")]).ok().member("value").as_i64();
    assert!(counted >= Some(2) && counted.is_some_and(|n| n % 2 == 0), "{counted:?}");
}

/// One side's request is under way while the other flushes its session: nothing comes back.
fn deleted_under_way(pair: &Pair, (slow, quick): (&Site, &Site)) {
    // A try in which the flush came too early for the slow request gives that request a session of its own.
    let interrupted = (0..5).any(|_| {
        let mut visitor = Visitor::new();
        visitor.get(slow, "login", &[("u", "1")]).ok();
        let request: (&Site, &str, &[(&str, &str)]) = (slow, "set", &[("k", "late"), ("v", "1")]);
        let (reply, _) =
            overlap(&visitor, request, |other| other.get(quick, "flush", &[]).ok()).expect("one try in order");
        let kept = pair.deployment.stored().into_iter().any(|(key, _)| key == visitor.session());
        assert!(!kept, "a flushed session stays away");
        for site in [slow, quick] {
            assert_eq!(visitor.copy().get(site, "whoami", &[]).ok().member("user"), Json::Null);
        }
        if reply.status == 400 {
            assert!(reply.cookies().is_empty(), "{reply:#?}");
        }
        reply.status == 400
    });
    assert!(interrupted, "no request was interrupted");
}
