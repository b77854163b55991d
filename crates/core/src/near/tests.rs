use super::*;

const HOUR: Duration = Duration::from_secs(3_600);

fn cache(staleness: Duration, clock: &Clock) -> NearCache {
    relied_on(NearCache::new(1 << 20, staleness, clock.clone()))
}

fn relied_on(cache: NearCache) -> NearCache {
    cache.rely_on(1);
    cache.answered(1, cache.now());
    cache
}

fn get(cache: &NearCache, key: &str) -> Option<Bytes> {
    cache.get(key).map(|kept| kept.payload)
}

fn clock() -> Clock {
    Clock::manual(Timestamp::from_secs(1_800_000_000))
}

fn keep(cache: &NearCache, key: &str, line: u64) {
    let place = cache.reserve(key).expect("a place");
    place.keep(line, Bytes::from_static(b"x"), Moment::NEVER);
}

#[test]
fn an_answer_is_kept_only_in_its_place() {
    let cache = cache(HOUR, &clock());
    keep(&cache, "a", 1);
    assert_eq!(get(&cache, "a").as_deref(), Some(&b"x"[..]));
    assert!(cache.reserve("a").is_none(), "it is there already");

    // A change while the question is under way.
    let place = cache.reserve("b").expect("a place");
    assert!(cache.reserve("b").is_none(), "one asks, and that is enough");
    cache.forget("b");
    let second = cache.reserve("b").expect("a place");
    place.keep(1, Bytes::from_static(b"old"), Moment::NEVER);
    assert_eq!(get(&cache, "b"), None);
    second.keep(1, Bytes::from_static(b"new"), Moment::NEVER);
    assert_eq!(get(&cache, "b").as_deref(), Some(&b"new"[..]));

    // A change by this process.
    let place = cache.reserve("c").expect("a place");
    drop(cache.changing("c"));
    place.keep(1, Bytes::from_static(b"old"), Moment::NEVER);
    assert_eq!(get(&cache, "c"), None);

    // A question that was given up.
    drop(cache.reserve("d"));
    assert!(cache.reserve("d").is_some());
    // An answer on another connection than the one that is relied on.
    keep(&cache, "e", 2);
    assert_eq!(get(&cache, "e"), None);
}

#[test]
fn a_connection_that_is_lost_takes_all_along() {
    let cache = cache(HOUR, &clock());
    keep(&cache, "a", 1);
    let place = cache.reserve("b").expect("a place");
    cache.give_up(1);
    assert_eq!(get(&cache, "a"), None);
    assert!(cache.reserve("c").is_none(), "nothing can be kept");
    cache.rely_on(2);
    cache.answered(2, cache.now());
    place.keep(1, Bytes::from_static(b"old"), Moment::NEVER);
    assert_eq!((get(&cache, "a"), cache.get("b")), (None, None));
    keep(&cache, "a", 2);
    // What the former connection still says is no matter.
    cache.give_up(1);
    assert!(cache.get("a").is_some());
    cache.forget_all();
    assert_eq!(get(&cache, "a"), None);
}

#[test]
fn without_a_young_proof_nothing_is_served() {
    let clock = clock();
    let cache = cache(Duration::from_secs(1_000), &clock);
    keep(&cache, "a", 1);
    clock.advance(Duration::from_secs(500));
    assert!(cache.get("a").is_some());
    clock.advance(Duration::from_secs(1));
    // Whether one was sent for a proof a while ago goes by the steady clock, which a test does not move.
    assert!(cache.get("a").is_some());
    clock.advance(Duration::from_secs(500));
    assert_eq!(get(&cache, "a"), None);
    cache.answered(7, cache.now());
    assert_eq!(get(&cache, "a"), None, "an answer on another connection");
    cache.answered(1, cache.now());
    assert!(cache.get("a").is_some());
    // A clock that is set back makes nothing old, and nothing young.
    clock.set(Timestamp::from_secs(1_700_000_000));
    assert!(cache.get("a").is_some());
}

#[test]
fn before_the_proof_is_too_old_one_is_sent_for_another() {
    let cache = cache(Duration::from_secs(400), &clock());
    let proven = cache.proven.load(Ordering::SeqCst);
    let after = |seconds: u64| Moment { steady: proven + seconds * 1_000_000, ..cache.now() };
    let served: Vec<bool> = [200, 201, 202, 300, 302, 303, 400, 401].map(|at| cache.is_proven(after(at))).into();
    assert_eq!(served, [true, false, true, true, false, true, true, false]);
}

#[test]
fn sizes_are_kept_account_of() {
    let cache = cache(HOUR, &clock());
    for round in 0..3 {
        for key in 0..1_000 {
            let key = format!("key{key}");
            if let Some(place) = cache.reserve(&key) {
                place.keep(1, vec![0; 100 * round].into(), Moment::NEVER);
            }
            if round == 1 {
                cache.forget(&key);
            }
        }
    }
    for shard in &cache.shards {
        let shard = lock(shard);
        let size: usize = shard.entries.iter().map(|(key, entry)| entry.size(key)).sum();
        assert_eq!(size, shard.size);
        assert!(size <= cache.room);
    }
}

#[test]
fn a_name_that_is_a_part_of_the_key() {
    let cache = relied_on(NearCache::new(1 << 20, HOUR, clock()).named_by_first(4));
    keep(&cache, "aaaa1", 1);
    assert!(cache.get("aaaa1").is_some());
    assert_eq!((cache.get("aaaa2"), cache.get("aaaa"), cache.get("aaaa11")), (None, None, None));
    // Whoever presents another key of that name takes nothing away.
    assert!(cache.reserve("aaaa2").is_none());
    assert!(cache.get("aaaa1").is_some());
    keep(&cache, "bbbb1", 1);
    let place = cache.reserve("cccc1").expect("a place");
    for name in ["aaaa", "cccc", "aaa", "cc", ""] {
        cache.forget(name);
    }
    place.keep(1, Bytes::from_static(b"old"), Moment::NEVER);
    assert_eq!((cache.get("aaaa1"), cache.get("cccc1")), (None, None));
    assert!(cache.get("bbbb1").is_some());
    drop(cache.changing("bbbb2"));
    assert_eq!(cache.get("bbbb1"), None);
    // A key that is all name.
    keep(&cache, "dd", 1);
    assert!(cache.get("dd").is_some());
    cache.forget("dd");
    assert_eq!(cache.get("dd"), None);
}

#[test]
fn an_end_by_either_clock() {
    let clock = clock();
    let cache = cache(2 * HOUR, &clock);
    let (asked, end) = (cache.now(), Timestamp::from_secs(1_800_000_060));
    cache.reserve("a").expect("a place").keep(1, Bytes::from_static(b"x"), asked.until(end));
    assert_eq!(cache.get("a").map(|kept| kept.end), Some(end));
    clock.set(end);
    assert_eq!(cache.get("a"), None);
    clock.set(asked.calendar);
    assert_eq!(cache.get("a"), None, "it was removed");
    // The steady clock does not go along when the other one is set back.
    let gone = Moment { steady: cache.now().steady, calendar: end };
    cache.reserve("a").expect("a place").keep(1, Bytes::from_static(b"x"), gone);
    assert_eq!(cache.get("a"), None);
    assert_eq!(asked.until(end).steady - asked.steady, 60_000_000);
    assert_eq!(asked.until(Timestamp::MIN).steady, asked.steady, "it was over before");
    assert_eq!((asked.after(5).calendar.micros_since(asked.calendar), asked.after(u64::MAX).steady), (5, u64::MAX));
}

#[test]
fn somebody_else_who_gets_the_proofs() {
    let prover = Arc::new(Notify::new());
    let called = || {
        let mut waiting = std::pin::pin!(prover.notified());
        waiting.as_mut().enable()
    };
    let clock = clock();
    let cache = NearCache::new(1 << 20, Duration::from_secs(1_000), clock.clone()).proven_by(prover.clone());
    assert!(!called());
    assert_eq!(cache.get("a"), None);
    assert!(called(), "there is no connection");
    cache.rely_on(1);
    cache.answered(1, cache.now());
    keep(&cache, "a", 1);
    clock.advance(Duration::from_secs(500));
    assert!(cache.get("a").is_some() && !called());
    // Whether one was sent for a proof a while ago goes by the steady clock, which begins with the cache.
    cache.sent_for.store(0, Ordering::SeqCst);
    let sent = Moment { steady: 400_000_000, ..cache.now() };
    clock.advance(Duration::from_secs(1));
    assert!(cache.is_proven(Moment { calendar: cache.clock.now(), ..sent }), "it is served meanwhile");
    assert!(called());
    assert!(cache.is_proven(Moment { calendar: cache.clock.now(), ..sent }) && !called(), "once in a while");
    clock.advance(Duration::from_secs(500));
    assert_eq!(cache.get("a"), None);
    cache.answered(1, cache.now());
    assert!(cache.get("a").is_some(), "what was kept is good again");
}
