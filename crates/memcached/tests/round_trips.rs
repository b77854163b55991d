//! What each operation costs, as the server itself counts it.

mod common;

use std::collections::BTreeMap;

use cloakroom_core::store::{Created, Deleted, Replaced, Store, Touched, Version};
use cloakroom_test_servers::{Kind, require_or_skip};
use common::{Wire, bytes, create, key, later, store};

/// The statistics in which every command of the store shows.
const STATISTICS: [&str; 5] = ["cmd_get", "cmd_set", "cmd_touch", "delete_hits", "delete_misses"];

struct Count {
    wire: Wire,
    before: BTreeMap<&'static str, u64>,
}

impl Count {
    fn new(wire: Wire) -> Self {
        let mut count = Self { wire, before: BTreeMap::new() };
        count.commands();
        count
    }

    /// Commands since the last call.
    fn commands(&mut self) -> Vec<(&'static str, u64)> {
        let mut changed = Vec::new();
        for name in STATISTICS {
            let now = self.wire.stat(name);
            let before = self.before.insert(name, now).unwrap_or_default();
            if now > before {
                changed.push((name, now - before));
            }
        }
        changed
    }
}

#[tokio::test]
async fn every_operation_is_one_command() {
    let Some(server) = require_or_skip(Kind::Memcached) else { return };
    let store = store(&server.address());
    let (key, other) = (key(), key());
    let mut count = Count::new(Wire::open(&server.address()));

    let created = create(&store, &key, bytes("one")).await;
    assert_eq!(count.commands(), [("cmd_set", 1)], "create");
    assert_eq!(store.create(&key, bytes("two"), later()).await.unwrap(), Created::Taken);
    assert_eq!(count.commands(), [("cmd_set", 1)], "create under a key that is taken");

    let loaded = store.load(&key).await.unwrap().unwrap().version;
    assert_eq!(count.commands(), [("cmd_get", 1)], "load");
    assert!(store.load(&other).await.unwrap().is_none());
    assert_eq!(count.commands(), [("cmd_get", 1)], "load of an unknown key");

    assert_eq!(store.touch(&key, later()).await.unwrap(), Touched::Touched);
    assert_eq!(count.commands(), [("cmd_touch", 1)], "touch");
    assert_eq!(store.touch(&other, later()).await.unwrap(), Touched::Gone);
    // A touch that finds nothing is counted as a get.
    assert_eq!(count.commands(), [("cmd_get", 1)], "touch of an unknown key");

    let replaced = store.replace(&key, &loaded, bytes("two"), later()).await.unwrap();
    let Replaced::Replaced(second) = replaced else { panic!("{replaced:?}") };
    assert_eq!(count.commands(), [("cmd_set", 1)], "replace");
    assert!(matches!(store.replace(&other, &loaded, bytes("two"), later()).await.unwrap(), Replaced::Gone));
    assert_eq!(count.commands(), [("cmd_set", 1)], "replace of an unknown key");
    assert!(matches!(store.replace(&key, &loaded, bytes("late"), later()).await.unwrap(), Replaced::Conflict(_)));
    assert_eq!(count.commands(), [("cmd_get", 1), ("cmd_set", 1)], "a conflict fetches what stands");

    // The second save in one request: the server did not tell the number of the first one's value.
    assert!(matches!(store.replace(&key, &created, bytes("stale"), later()).await.unwrap(), Replaced::Conflict(_)));
    assert_eq!(count.commands(), [("cmd_get", 1)], "a former value no longer stands");
    assert!(matches!(store.replace(&key, &second, bytes("three"), later()).await.unwrap(), Replaced::Replaced(_)));
    assert_eq!(count.commands(), [("cmd_get", 1), ("cmd_set", 1)], "a second save");

    let stale = Version::counter(u64::MAX);
    let standing = match store.delete(&key, Some(&stale)).await.unwrap() {
        Deleted::Conflict(standing) => standing,
        other => panic!("{other:?}"),
    };
    count.commands();
    assert!(matches!(store.delete(&key, Some(&standing.version)).await.unwrap(), Deleted::Deleted));
    assert_eq!(count.commands(), [("delete_hits", 1)], "guarded delete");
    assert!(matches!(store.delete(&key, None).await.unwrap(), Deleted::Gone));
    assert_eq!(count.commands(), [("delete_misses", 1)], "delete");

    store.clear_expired(100).await.unwrap();
    assert!(store.list(None, 100).await.is_err());
    assert_eq!(count.commands(), [], "nothing to sweep, nothing to list");
}
