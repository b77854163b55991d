//! Servers that are there and take no writes, or nothing yet: full, replicas, loading.

use cloakroom_core::ErrorKind;
use cloakroom_core::store::{Created, Replaced, Store};
use cloakroom_test_servers::{Kind, Options, require_or_skip};

use crate::{BOTH, Wire, create, key, later, payload, store};

#[tokio::test]
async fn a_server_that_is_full() {
    for kind in BOTH {
        let full = Options::new(kind).args(["--maxmemory", "3mb", "--maxmemory-policy", "noeviction"]);
        let Some(server) = full.require_or_skip() else { continue };
        let (store, first) = (store(&server.url()), key());
        let version = create(&store, &first, "kept").await;
        let heavy = bytes::Bytes::from(vec![b'x'; 100_000]);
        let mut refused = None;
        for _ in 0..100 {
            match store.create(&key(), heavy.clone(), later()).await {
                Ok(created) => assert!(matches!(created, Created::Created(_))),
                Err(error) => {
                    refused = Some(error);
                    break;
                }
            }
        }
        let error = refused.expect("3 MB are full before 10 MB are written");
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.to_string().contains("is full"), "{error}");
        let error = store.replace(&first, &version, heavy, later()).await.expect_err("there is no place for it");
        assert!(error.to_string().contains("is full"), "{error}");
        assert_eq!(payload(&store, &first).await.as_deref(), Some("kept"), "reading works, and nothing was harmed");
        // What takes no place is done all the same: visitors can sign out.
        store.delete(&first, None).await.expect("delete");
        assert_eq!(payload(&store, &first).await, None);
    }
}

#[tokio::test]
async fn a_replica() {
    for kind in BOTH {
        let Some(primary) = require_or_skip(kind) else { continue };
        let Some(server) = require_or_skip(kind) else { continue };
        let (store, key) = (store(&server.url()), key());
        let version = create(&store, &key, "kept").await;
        let mut wire = Wire::to(&server.url()).await;
        let mut elsewhere = Wire::to(&primary.url()).await;
        let name = format!(":1:django.contrib.sessions.cache{}", key.as_str());
        let _: () = elsewhere.ask(&["SET", &name, "kept"]).await;
        let _: () = wire.ask(&["REPLICAOF", "127.0.0.1", &primary.port().to_string()]).await;
        loop {
            let role: String = wire.ask(&["INFO", "replication"]).await;
            if role.contains("master_link_status:up") {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        assert_eq!(payload(&store, &key).await.as_deref(), Some("kept"), "a replica can be read");
        for error in [
            store.create(&crate::key(), "x".into(), later()).await.expect_err("create"),
            store.replace(&key, &version, "x".into(), later()).await.expect_err("replace"),
            store.touch(&key, later()).await.expect_err("touch"),
            store.delete(&key, None).await.expect_err("delete"),
        ] {
            assert_eq!(error.kind(), ErrorKind::Unavailable);
            assert!(error.to_string().contains("read-only replica"), "{error}");
        }
        assert_eq!(payload(&store, &key).await.as_deref(), Some("kept"));
        // It takes over.
        let _: () = wire.ask(&["REPLICAOF", "NO", "ONE"]).await;
        let replaced = store.replace(&key, &version, "new".into(), later()).await.expect("replace");
        assert!(matches!(replaced, Replaced::Replaced(_)), "{replaced:?}");
    }
}

#[tokio::test]
async fn a_server_that_loads() {
    // Ten milliseconds for each key that is read back: it loads for a good while.
    let slow = Options::new(Kind::Redis).args(["--enable-debug-command", "yes"]);
    let Some(server) = slow.require_or_skip() else { return };
    let (store, first) = (store(&server.url()), key());
    create(&store, &first, "kept").await;
    let mut wire = Wire::to(&server.url()).await;
    let _: () = wire.ask(&["DEBUG", "POPULATE", "300"]).await;
    let _: () = wire.ask(&["CONFIG", "SET", "key-load-delay", "10000"]).await;
    let _: () = wire.ask(&["CONFIG", "SET", "loading-process-events-interval-bytes", "1024"]).await;
    let reload = tokio::spawn(async move { wire.try_ask(&["DEBUG", "RELOAD"]).await });
    let error = loop {
        match store.load(&first).await {
            Ok(_) => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("is still loading its data"), "{error}");
    let _ = reload.await.expect("no panic");
    loop {
        match store.load(&first).await {
            Ok(found) => {
                assert_eq!(&found.expect("it was loaded").payload[..], b"kept");
                break;
            }
            Err(error) => assert!(error.to_string().contains("is still loading"), "{error}"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}
