//! What the server counts for each operation.

use cloakroom_core::store::{Deleted, Replaced, Rotated, Store, Touched};
use cloakroom_test_servers::{Kind, Server, require_or_skip};

use crate::{BOTH, Wire, create, key, later, payload, store};

/// The commands since the counters were last set to zero, as `NAME*COUNT`, without those of the test itself. What a
/// script does in the server is counted there too.
pub(crate) async fn commands(wire: &mut Wire) -> Vec<String> {
    let text: String = wire.ask(&["INFO", "commandstats"]).await;
    let _: () = wire.ask(&["CONFIG", "RESETSTAT"]).await;
    let count = |line: &str| {
        let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        let calls = rest.split(',').next()?;
        (!matches!(name, "info" | "config|resetstat")).then(|| format!("{name}*{calls}"))
    };
    let mut commands: Vec<String> = text.lines().filter_map(count).collect();
    commands.sort();
    commands
}

#[tokio::test]
async fn each_operation_is_one_command() {
    for kind in BOTH {
        let Some(server) = require_or_skip(kind) else { continue };
        let compares = Wire::to(&server.url()).await.compares().await;
        assert!(compares || kind != Kind::Valkey, "Valkey 8.1 and newer compare by themselves");
        one_command_each(&server, compares).await;
    }
}

async fn one_command_each(server: &Server, compares: bool) {
    let (save, conflict): (&[&str], &[&str]) = match compares {
        true => (&["set*1"], &["set*1"]),
        false => (&["evalsha*1", "get*1", "set*1"], &["evalsha*1", "get*1"]),
    };
    let (store, key) = (store(&server.url()), key());
    let mut wire = Wire::to(&server.url()).await;
    store.ping().await.expect("a server");
    // From here on, the server knows both scripts.
    let version = create(&store, &key, "warm").await;
    store.replace(&key, &version, "up".into(), later()).await.unwrap();
    store.delete(&key, Some(&version)).await.unwrap();
    store.delete(&key, None).await.unwrap();
    commands(&mut wire).await;

    let one = create(&store, &key, "one").await;
    assert_eq!(commands(&mut wire).await, ["set*1"]);

    assert_eq!(payload(&store, &key).await.as_deref(), Some("one"));
    assert_eq!(commands(&mut wire).await, ["get*1"]);

    let replaced = store.replace(&key, &one, "two".into(), later()).await.unwrap();
    let Replaced::Replaced(two) = replaced else { panic!("{replaced:?}") };
    assert_eq!(commands(&mut wire).await, save, "a script reads and writes");

    let refused = store.replace(&key, &one, "late".into(), later()).await.unwrap();
    assert!(matches!(refused, Replaced::Conflict(_)), "{refused:?}");
    assert_eq!(commands(&mut wire).await, conflict, "a conflict brings along what stands");

    assert_eq!(store.touch(&key, later()).await.unwrap(), Touched::Touched);
    assert_eq!(commands(&mut wire).await, ["expire*1"]);

    let deleted = store.delete(&key, Some(&two)).await.unwrap();
    assert!(matches!(deleted, Deleted::Deleted), "{deleted:?}");
    assert_eq!(commands(&mut wire).await, ["del*1", "evalsha*1", "get*1"]);

    store.delete(&key, None).await.unwrap();
    assert_eq!(commands(&mut wire).await, ["del*1"]);

    assert_eq!(store.clear_expired(10).await.unwrap().removed, 0);
    assert_eq!(commands(&mut wire).await, [] as [&str; 0], "the server ends sessions by itself");
}

/// A server that forgot the scripts, or was restarted, is told them once more.
#[tokio::test]
async fn a_forgotten_script_is_told_again() {
    let Some(server) = require_or_skip(Kind::Redis) else { return };
    let (store, mut key) = (store(&server.url()), key());
    let mut wire = Wire::to(&server.url()).await;
    let mut version = create(&store, &key, "0").await;
    for round in 1..4 {
        let _: () = wire.ask(&["SCRIPT", "FLUSH"]).await;
        commands(&mut wire).await;
        let new = crate::key();
        let rotated = store.rotate(&key, &version, &new, round.to_string().into(), later()).await.unwrap();
        let Rotated::Rotated(next) = rotated else { panic!("{rotated:?}") };
        assert_eq!(commands(&mut wire).await, ["del*1", "eval*1", "evalsha*1", "exists*1", "get*1", "set*1"]);
        (key, version) = (new, next);
    }
    assert_eq!(payload(&store, &key).await.as_deref(), Some("3"));
}

/// A server that does not compare by itself is asked to once on each connection, behind which another one may stand.
#[tokio::test]
async fn a_refusal_to_compare_is_remembered_as_long_as_the_connection() {
    let Some(server) = require_or_skip(Kind::Redis) else { return };
    let (store, key) = (store(&server.url()), key());
    let mut wire = Wire::to(&server.url()).await;
    if wire.compares().await {
        return;
    }
    let mut version = create(&store, &key, "0").await;
    for round in 1..9 {
        let is_new = round % 3 == 1;
        if is_new {
            let _: i64 = wire.ask(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
            store.ping().await.expect("a new connection");
        }
        commands(&mut wire).await;
        let replaced = store.replace(&key, &version, round.to_string().into(), later()).await.unwrap();
        let Replaced::Replaced(next) = replaced else { panic!("{replaced:?}") };
        version = next;
        // The script sets it once more.
        let sets = if is_new { "set*2" } else { "set*1" };
        assert!(commands(&mut wire).await.iter().any(|command| command == sets), "round {round}");
    }
    assert_eq!(payload(&store, &key).await.as_deref(), Some("8"));
}

/// A list is as many steps as the database is large, and each is bounded.
#[tokio::test]
async fn a_list_goes_in_bounded_steps() {
    let Some(server) = require_or_skip(Kind::Redis) else { return };
    let store = store(&server.url());
    let mut wire = Wire::to(&server.url()).await;
    let mut fill = redis::cmd("EVAL");
    fill.arg(
        "for i = 1, 20000 do redis.call('SET', 'other:' .. i, '') end \
         for i = 1, 300 do redis.call('SET', ':1:django.contrib.sessions.cache' .. (10000000 + i), '') end \
         redis.call('SET', ':1:django.contrib.sessions.cached_db10000000', '') \
         redis.call('SET', ':1:django.contrib.sessions.cacheUPPERCASE', '')",
    );
    let _: () = fill.arg(0).query_async(&mut wire.0).await.expect("filled");
    commands(&mut wire).await;
    let all = store.list(None, 1_000).await.unwrap();
    assert_eq!(all.len(), 300);
    assert!(all.is_sorted());
    let seen = commands(&mut wire).await;
    let steps: usize = seen[0].strip_prefix("scan*").expect("nothing but scans").parse().unwrap();
    assert!(seen.len() == 1 && (10..=40).contains(&steps), "{seen:?}");
    let page = store.list(Some(&all[99]), 100).await.unwrap();
    assert_eq!(page, all[100..200]);
}
