//! The near cache: what it saves, and what it must not serve.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cloakroom_core::store::{Deleted, Replaced, Rotated, Store};
use cloakroom_core::{Clock, SessionKey, Timestamp};
use cloakroom_redis::RedisStore;
use cloakroom_test_servers::{Kind, Options, Warnings, require_or_skip};

use crate::faults::{Break, Proxy};
use crate::round_trips::commands;
use crate::{Wire, create, key, later, options, payload, store};

const MIB: usize = 1 << 20;
/// Only what never comes takes so long.
const PATIENCE: Duration = Duration::from_secs(30);

fn near_within(url: &str, staleness: Duration) -> RedisStore {
    RedisStore::open(options(url).near_cache(MIB, staleness), Clock::system()).expect("a store")
}

/// A store whose near cache asks the server of itself so seldom that a test does not see it.
fn near(url: &str) -> RedisStore {
    near_within(url, Duration::from_secs(3_600))
}

fn name(key: &SessionKey) -> String {
    format!(":1:django.contrib.sessions.cache{}", key.as_str())
}

/// A store that holds a session in its near cache.
async fn holding(url: &str, key: &SessionKey, payload: &'static str) -> RedisStore {
    let near = near(url);
    create(&near, key, payload).await;
    let loaded = near.load(key).await.expect("load").expect("the session");
    assert_eq!(loaded.payload, payload);
    near
}

#[tokio::test]
async fn what_was_read_once_costs_nothing() {
    let Some(server) = require_or_skip(Kind::Redis) else { return };
    let mut wire = Wire::to(&server.url()).await;
    let (near, key) = (near(&server.url()), key());
    create(&near, &key, "one").await;
    commands(&mut wire).await;

    assert_eq!(payload(&near, &key).await.as_deref(), Some("one"));
    assert_eq!(commands(&mut wire).await, ["client|caching*1", "get*1", "pttl*1"], "one exchange");
    for _ in 0..10 {
        assert_eq!(payload(&near, &key).await.as_deref(), Some("one"));
    }
    assert_eq!(commands(&mut wire).await, [] as [&str; 0]);

    // A session that is not there is asked for each time.
    let nobody = crate::key();
    for _ in 0..2 {
        assert_eq!(payload(&near, &nobody).await, None);
        assert_eq!(commands(&mut wire).await, ["client|caching*1", "get*1", "pttl*1"]);
    }
}

#[tokio::test]
async fn what_others_do_is_seen() {
    let Some(server) = require_or_skip(Kind::Redis) else { return };
    let mut wire = Wire::to(&server.url()).await;
    let key = key();
    let near = holding(&server.url(), &key, "one").await;

    // As Django saves. What is answered to a question that was sent later comes after what the server told of it.
    let _: () = wire.ask(&["SET", &name(&key), "two", "EX", "1000"]).await;
    near.ping().await.expect("a server");
    assert_eq!(payload(&near, &key).await.as_deref(), Some("two"));

    let _: i64 = wire.ask(&["EXPIRE", &name(&key), "2000"]).await;
    near.ping().await.expect("a server");
    commands(&mut wire).await;
    assert_eq!(payload(&near, &key).await.as_deref(), Some("two"));
    assert_eq!(commands(&mut wire).await.len(), 3, "it asks how long it lives now");

    let _: i64 = wire.ask(&["DEL", &name(&key)]).await;
    near.ping().await.expect("a server");
    assert_eq!(payload(&near, &key).await, None);

    // Without a word from us, it comes too.
    let key = crate::key();
    let near = holding(&server.url(), &key, "one").await;
    let _: i64 = wire.ask(&["DEL", &name(&key)]).await;
    let start = Instant::now();
    while payload(&near, &key).await.is_some() {
        assert!(start.elapsed() < PATIENCE, "a sign-out elsewhere is not heard of");
        // What is had from the near cache waits for nothing, and this runtime has one thread, which has to hear of it.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn what_this_process_does_is_seen_at_once() {
    let Some(server) = require_or_skip(Kind::Redis) else { return };
    let (key, other) = (key(), key());
    let near = holding(&server.url(), &key, "one").await;
    let version = near.load(&key).await.unwrap().expect("it stands").version;
    let replaced = near.replace(&key, &version, "two".into(), later()).await.unwrap();
    let Replaced::Replaced(version) = replaced else { panic!("{replaced:?}") };
    assert_eq!(payload(&near, &key).await.as_deref(), Some("two"));
    let rotated = near.rotate(&key, &version, &other, "three".into(), later()).await.unwrap();
    assert!(matches!(rotated, Rotated::Rotated(_)), "{rotated:?}");
    assert_eq!((payload(&near, &key).await, payload(&near, &other).await.as_deref()), (None, Some("three")));
    assert!(matches!(near.delete(&other, None).await.unwrap(), Deleted::Deleted));
    assert_eq!(payload(&near, &other).await, None);
    create(&near, &other, "four").await;
    assert_eq!(payload(&near, &other).await.as_deref(), Some("four"));
    let version = near.load(&other).await.unwrap().expect("it stands").version;
    assert!(matches!(near.delete(&other, Some(&version)).await.unwrap(), Deleted::Deleted));
    assert_eq!(payload(&near, &other).await, None);
}

/// What is read is old: what is written from it is compared all the same.
#[tokio::test]
async fn a_save_from_a_stale_copy_is_a_conflict() {
    let Some(server) = require_or_skip(Kind::Redis) else { return };
    let proxy = Proxy::before(server.port()).await;
    let there = store(&server.url());
    let (changed, deleted) = (key(), key());
    let (first, second) = (create(&there, &changed, "one").await, create(&there, &deleted, "one").await);
    let near = near(&format!("redis://127.0.0.1:{}", proxy.port));
    near.ping().await.expect("a connection");
    for key in [&changed, &deleted] {
        assert_eq!(payload(&near, key).await.as_deref(), Some("one"));
    }
    // From here on the near cache hears of nothing.
    proxy.plan(Break::Silence);
    there.replace(&changed, &first, "two".into(), later()).await.expect("replace");
    there.delete(&deleted, Some(&second)).await.expect("delete");
    for key in [&changed, &deleted] {
        assert_eq!(payload(&near, key).await.as_deref(), Some("one"), "the connection hangs");
    }
    proxy.plan(Break::Nothing);
    let replaced = near.replace(&changed, &first, "three".into(), later()).await.expect("replace");
    assert!(matches!(&replaced, Replaced::Conflict(standing) if standing.payload == "two"), "{replaced:?}");
    let replaced = near.replace(&deleted, &second, "three".into(), later()).await.expect("replace");
    assert!(matches!(replaced, Replaced::Gone), "{replaced:?}");
}

/// A connection that hangs while the server goes on: nothing older than the staleness is served.
#[tokio::test]
async fn a_silent_connection_is_not_believed_for_long() {
    let Some(server) = require_or_skip(Kind::Redis) else { return };
    let proxy = Proxy::before(server.port()).await;
    let there = store(&server.url());
    let (staleness, key) = (Duration::from_secs(1), key());
    create(&there, &key, "signed in").await;
    let near = near_within(&format!("redis://127.0.0.1:{}", proxy.port), staleness);
    near.ping().await.expect("a connection");
    assert_eq!(payload(&near, &key).await.as_deref(), Some("signed in"));

    proxy.plan(Break::Silence);
    let silent = Instant::now();
    there.delete(&key, None).await.expect("delete");
    let mut failed = false;
    loop {
        let asked = silent.elapsed();
        match near.load(&key).await {
            Ok(Some(_)) => assert!(asked <= staleness, "served {asked:?} after the sign-out"),
            // Whoever asks the server meets the silence.
            Err(error) => {
                assert_eq!(error.kind(), cloakroom_core::ErrorKind::Unavailable);
                failed = true;
                proxy.plan(Break::Nothing);
            }
            Ok(None) => break,
        }
        assert!(asked < PATIENCE, "neither an answer nor an error");
    }
    assert!(failed);
}

#[tokio::test]
async fn a_server_that_is_frozen() {
    let Some(server) = require_or_skip(Kind::Redis) else { return };
    let (staleness, key) = (Duration::from_millis(500), key());
    let quick = options(&server.url()).response_timeout(Duration::from_millis(300)).near_cache(MIB, staleness);
    let near = RedisStore::open(quick, Clock::system()).unwrap();
    create(&near, &key, "kept").await;
    assert_eq!(payload(&near, &key).await.as_deref(), Some("kept"));
    server.freeze();
    let frozen = Instant::now();
    loop {
        let asked = frozen.elapsed();
        match near.load(&key).await {
            Ok(found) => {
                assert_eq!(found.expect("a frozen server is no sign-out").payload, "kept");
                assert!(asked <= staleness, "served {asked:?} after the server froze");
            }
            Err(error) => break assert_eq!(error.kind(), cloakroom_core::ErrorKind::Unavailable),
        }
    }
    server.thaw();
    assert_eq!(payload(&near, &key).await.as_deref(), Some("kept"));
}

/// A connection that is cut while others change the session.
#[tokio::test]
async fn a_connection_that_the_server_ends() {
    let Some(server) = require_or_skip(Kind::Redis) else { return };
    let mut wire = Wire::to(&server.url()).await;
    let key = key();
    let near = holding(&server.url(), &key, "0").await;
    for round in 1..20 {
        let _: i64 = wire.ask(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
        let _: () = wire.ask(&["SET", &name(&key), &round.to_string(), "EX", "1000"]).await;
        near.ping().await.expect("a new connection");
        let expected = round.to_string();
        assert_eq!(payload(&near, &key).await, Some(expected.clone()));
        assert_eq!(payload(&near, &key).await, Some(expected));
    }
    commands(&mut wire).await;
    assert_eq!(payload(&near, &key).await.as_deref(), Some("19"));
    assert_eq!(commands(&mut wire).await, [] as [&str; 0], "it is used again");
}

#[tokio::test]
async fn a_restart() {
    let Some(server) = require_or_skip(Kind::Redis) else { return };
    let (kept, lost) = (key(), key());
    let near = holding(&server.url(), &kept, "kept").await;
    create(&near, &lost, "lost").await;
    assert_eq!(payload(&near, &lost).await.as_deref(), Some("lost"));
    server.restart();
    let mut wire = Wire::to(&server.url()).await;
    let _: i64 = wire.ask(&["DEL", &name(&lost)]).await;
    near.ping().await.expect("a new connection");
    assert_eq!((payload(&near, &lost).await, payload(&near, &kept).await.as_deref()), (None, Some("kept")));
    commands(&mut wire).await;
    assert_eq!(payload(&near, &kept).await.as_deref(), Some("kept"));
    assert_eq!(commands(&mut wire).await, [] as [&str; 0]);
}

#[tokio::test]
async fn a_database_that_is_emptied() {
    let Some(server) = require_or_skip(Kind::Redis) else { return };
    let mut wire = Wire::to(&server.url()).await;
    for command in ["FLUSHDB", "FLUSHALL"] {
        let key = key();
        let near = holding(&server.url(), &key, "one").await;
        let _: () = wire.ask(&[command]).await;
        near.ping().await.expect("a server");
        assert_eq!(payload(&near, &key).await, None, "{command}");
    }
}

/// The server's clock, in milliseconds since 1970.
async fn milliseconds(wire: &mut Wire) -> i64 {
    let (seconds, microseconds): (i64, i64) = wire.ask(&["TIME"]).await;
    seconds * 1_000 + microseconds / 1_000
}

/// The server ends a session without a word, since nobody looks at it there: here it ends all the same.
#[tokio::test]
async fn an_end_of_which_nobody_tells() {
    let late = Options::new(Kind::Redis).args(["--enable-debug-command", "yes"]);
    let Some(server) = late.require_or_skip() else { return };
    let mut wire = Wire::to(&server.url()).await;
    let _: () = wire.ask(&["DEBUG", "SET-ACTIVE-EXPIRE", "0"]).await;
    let (near, key) = (near(&server.url()), key());
    // By the server's clock, which is asked each time: it knows nothing finer than a millisecond.
    let end = milliseconds(&mut wire).await + 1_500;
    let _: () = wire.ask(&["SET", &name(&key), "short", "PXAT", &end.to_string()]).await;
    commands(&mut wire).await;
    let mut served = 0;
    loop {
        let asked = milliseconds(&mut wire).await;
        let found = payload(&near, &key).await;
        if found.is_none() {
            break;
        }
        served += 1;
        assert!(asked <= end, "served {} ms after its end", asked - end);
    }
    let asked = commands(&mut wire).await;
    let gets = asked.iter().find_map(|line| line.strip_prefix("get*")?.parse::<u32>().ok());
    assert!(gets.is_some_and(|gets| gets < served), "{served} times, and {asked:?}");

    // One without an end is kept.
    let _: () = wire.ask(&["SET", &name(&key), "for ever"]).await;
    // The server tells of that change, which may come while the first load is under way: that one is not kept.
    for _ in 0..2 {
        assert_eq!(payload(&near, &key).await.as_deref(), Some("for ever"));
    }
    commands(&mut wire).await;
    assert_eq!(payload(&near, &key).await.as_deref(), Some("for ever"));
    assert_eq!(commands(&mut wire).await, [] as [&str; 0]);
}

#[tokio::test]
async fn its_memory_is_bounded() {
    let Some(server) = require_or_skip(Kind::Redis) else { return };
    let mut wire = Wire::to(&server.url()).await;
    let near = near(&server.url());
    let keys: Vec<SessionKey> = (0..2_000).map(|_| key()).collect();
    let kilobyte = bytes::Bytes::from(vec![b'x'; 1_024]);
    for key in &keys {
        near.create(key, kilobyte.clone(), later()).await.expect("create");
        near.load(key).await.expect("load");
    }
    commands(&mut wire).await;
    for key in keys.iter().rev() {
        assert_eq!(near.load(key).await.expect("load").expect("it stands").payload, kilobyte);
    }
    let asked = commands(&mut wire).await;
    let misses: usize = asked.iter().find_map(|line| line.strip_prefix("get*")?.parse().ok()).unwrap_or(0);
    let hits = keys.len() - misses;
    assert!((400..1_024).contains(&hits), "{hits} KiB in 1 MiB");

    // What has no room at all is read from the server, and harms nothing.
    let key = key();
    near.create(&key, vec![b'x'; MIB].into(), later()).await.expect("create");
    for _ in 0..2 {
        assert_eq!(near.load(&key).await.expect("load").expect("it stands").payload.len(), MIB);
    }
}

/// An answer that is under way when the session changes, and comes together with the news of that, is not kept.
#[tokio::test]
async fn an_answer_that_was_overtaken_is_not_kept() {
    let Some(server) = require_or_skip(Kind::Redis) else { return };
    let proxy = Proxy::before(server.port()).await;
    let (there, key) = (store(&server.url()), key());
    let version = create(&there, &key, "one").await;
    let patient = options(&format!("redis://127.0.0.1:{}", proxy.port)).response_timeout(PATIENCE);
    let near = Arc::new(RedisStore::open(patient.near_cache(MIB, 2 * PATIENCE), Clock::system()).unwrap());
    near.ping().await.expect("a connection");
    let mut wire = Wire::to(&server.url()).await;
    commands(&mut wire).await;

    proxy.plan(Break::Pause);
    let loading = {
        let (near, key) = (near.clone(), key.clone());
        tokio::spawn(async move { payload(&near, &key).await })
    };
    while !wire.ask::<String>(&["INFO", "commandstats"]).await.contains("cmdstat_pttl:calls=1,") {}
    there.replace(&key, &version, "two".into(), later()).await.expect("replace");
    proxy.plan(Break::Nothing);
    assert_eq!(loading.await.expect("no panic").as_deref(), Some("one"), "it was asked before");
    near.ping().await.expect("a server");
    assert_eq!(payload(&near, &key).await.as_deref(), Some("two"));
}

/// Servers that do not tell what changes, or not to everybody.
#[tokio::test]
async fn without_tracking_it_works_as_without_the_cache() {
    let old = Options::new(Kind::Redis).args(["--rename-command", "HELLO", ""]);
    let Some(old) = old.require_or_skip() else { return };
    let Some(strict) = Options::new(Kind::Redis).password("all").require_or_skip() else { return };
    let address = strict.address();
    let mut wire = Wire::to(&format!("redis://:all@{address}")).await;
    for (user, denied) in [("a", "-client|tracking"), ("b", "-client|caching"), ("c", "-pttl"), ("d", "-client")] {
        let _: () = wire.ask(&["ACL", "SETUSER", user, "on", ">p", "~*", "+@all", denied]).await;
    }
    let mut urls = vec![(old.url(), old.url())];
    for user in ["a", "b", "c", "d"] {
        urls.push((format!("redis://{user}:p@{address}"), format!("redis://:all@{address}")));
    }
    for (url, watch) in urls {
        let warnings = Warnings::of("cloakroom_redis::tracking");
        let _listening = warnings.listen();
        let mut wire = Wire::to(&watch).await;
        let (near, key) = (near(&url), key());
        let version = create(&near, &key, "one").await;
        commands(&mut wire).await;
        for _ in 0..2 {
            assert_eq!(payload(&near, &key).await.as_deref(), Some("one"));
            assert_eq!(commands(&mut wire).await, ["get*1"], "{url}");
        }
        let _: () = wire.ask(&["SET", &name(&key), "two", "EX", "1000"]).await;
        assert_eq!(payload(&near, &key).await.as_deref(), Some("two"), "{url}");
        let replaced = near.replace(&key, &version, "three".into(), later()).await.unwrap();
        assert!(matches!(replaced, Replaced::Conflict(_)), "{url}: {replaced:?}");
        let _: i64 = wire.ask(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
        assert_eq!(payload(&near, &key).await.as_deref(), Some("two"), "{url}");
        assert_eq!(warnings.count(), 1, "{url}");
    }
    // A wrong password is told as ever.
    let error = near(&format!("redis://a:wrong@{address}")).ping().await.expect_err("a wrong password");
    assert!(error.to_string().contains("refused the user name or the password"), "{error}");
}

/// A session whose end has come by our own clock is not served, whatever the server says.
#[tokio::test]
async fn an_end_by_the_calendar() {
    let Some(server) = require_or_skip(Kind::Redis) else { return };
    let clock = Clock::manual(Timestamp::from_secs(1_800_000_000));
    let near = RedisStore::open(options(&server.url()).near_cache(MIB, PATIENCE), clock.clone()).unwrap();
    let key = key();
    let expiry = clock.now().checked_add_micros(60_000_000).expect("within the calendar");
    near.create(&key, "one".into(), expiry).await.expect("create");
    let mut wire = Wire::to(&server.url()).await;
    near.load(&key).await.expect("load");
    commands(&mut wire).await;
    assert_eq!(payload(&near, &key).await.as_deref(), Some("one"));
    assert_eq!(commands(&mut wire).await, [] as [&str; 0]);
    clock.advance(Duration::from_secs(61));
    payload(&near, &key).await;
    assert!(!commands(&mut wire).await.is_empty(), "the server is asked");
}
