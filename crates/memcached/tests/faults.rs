//! The store when things are broken.

mod common;

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use cloakroom_core::store::{Created, Deleted, Replaced, Store, Touched, Version};
use cloakroom_core::wire::cache_key::{CACHE_ENGINE, CacheKeys};
use cloakroom_core::{Clock, Error, ErrorKind, SessionKey};
use cloakroom_memcached::{MemcachedOptions, MemcachedStore, Serializer};
use cloakroom_test_servers::{Kind, Options, require_or_skip, shared};
use common::{Wire, bytes, create, key, keys, later, options, store};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Whatever it is, it comes to an end. Far beyond what any timeout of the store allows.
async fn in_bounded_time<T>(operation: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), operation).await.expect("an end")
}

/// The errors of all operations on one session.
async fn errors(store: &MemcachedStore, key: &SessionKey) -> Vec<Error> {
    let version = Version::counter(1);
    in_bounded_time(async {
        vec![
            store.load(key).await.unwrap_err(),
            store.create(key, bytes("data"), later()).await.unwrap_err(),
            store.replace(key, &version, bytes("data"), later()).await.unwrap_err(),
            store.replace(key, &Version::payload(bytes("data")), bytes("data"), later()).await.unwrap_err(),
            store.touch(key, later()).await.unwrap_err(),
            store.delete(key, None).await.unwrap_err(),
            store.delete(key, Some(&version)).await.unwrap_err(),
        ]
    })
    .await
}

/// No message shows the key of a session.
fn assert_errors(errors: &[Error], kind: ErrorKind, key: &SessionKey, words: &[&str]) {
    for error in errors {
        let message = error.to_string();
        assert_eq!(error.kind(), kind, "{message}");
        for word in words {
            assert!(message.contains(word), "{word:?} is missing in {message}");
        }
        assert!(!format!("{error:?}").contains(key.as_str()), "the key is shown: {error:?}");
    }
}

#[tokio::test]
async fn a_server_that_is_down_is_unavailable_and_back_at_the_next_request() {
    let Some(server) = require_or_skip(Kind::Memcached) else { return };
    let (store, key) = (store(&server.address()), key());
    create(&store, &key, bytes("data")).await;
    server.kill();
    let address = server.address();
    assert_errors(&errors(&store, &key).await, ErrorKind::Unavailable, &key, &[&address, "LOCATION"]);

    server.restart();
    // Memcached forgets; that is a missing session, and no error.
    assert!(store.load(&key).await.unwrap().is_none());
    create(&store, &key, bytes("data")).await;
    assert_eq!(store.load(&key).await.unwrap().unwrap().payload, "data");
}

#[tokio::test]
async fn after_a_restart_the_first_request_works_whatever_it_is() {
    let Some(server) = require_or_skip(Kind::Memcached) else { return };
    let (store, key) = (store(&server.address()), key());
    let version = Version::counter(1);
    for first in 0..5 {
        // Several connections lie idle while the server goes.
        let loads = (0..8).map(|_| store.load(&key));
        for load in loads.collect::<Vec<_>>() {
            load.await.unwrap();
        }
        server.restart();
        match first {
            0 => assert!(store.load(&key).await.unwrap().is_none()),
            1 => assert!(matches!(store.create(&key, bytes("a"), later()).await.unwrap(), Created::Created(_))),
            2 => assert!(matches!(store.replace(&key, &version, bytes("a"), later()).await.unwrap(), Replaced::Gone)),
            3 => assert_eq!(store.touch(&key, later()).await.unwrap(), Touched::Gone),
            _ => assert!(matches!(store.delete(&key, None).await.unwrap(), Deleted::Gone)),
        }
    }
}

#[tokio::test]
async fn a_frozen_server_is_unavailable_and_answers_get_to_their_own_questions() {
    let Some(server) = require_or_skip(Kind::Memcached) else { return };
    let options = options(&server.address()).timeout(Duration::from_millis(100));
    let store = MemcachedStore::new(options, keys(), Clock::system()).unwrap();
    let (first, second) = (key(), key());
    create(&store, &first, bytes("first")).await;
    create(&store, &second, bytes("second")).await;
    server.freeze();
    let address = server.address();
    let unknown = key();
    assert_errors(&errors(&store, &unknown).await, ErrorKind::Unavailable, &unknown, &[&address, "did not answer"]);
    // Requests that are given up, as those of a visitor who closes the browser.
    for _ in 0..5 {
        let given_up = tokio::time::timeout(Duration::from_millis(10), store.load(&first)).await;
        assert!(given_up.is_err(), "a frozen server answered");
    }
    server.thaw();
    for _ in 0..20 {
        assert_eq!(store.load(&first).await.unwrap().unwrap().payload, "first");
        assert_eq!(store.load(&second).await.unwrap().unwrap().payload, "second");
    }
}

#[tokio::test]
async fn a_value_over_the_limit_is_too_large_and_harms_nothing() {
    let Some(server) = shared(Kind::Memcached) else { return };
    let store = store(&server.address());
    let (key, unused) = (key(), key());
    create(&store, &key, bytes("small")).await;
    let loaded = store.load(&key).await.unwrap().unwrap().version;
    let large = Bytes::from(vec![b'x'; 3 << 20]);
    let errors = [
        store.replace(&key, &loaded, large.clone(), later()).await.unwrap_err(),
        store.replace(&key, &Version::payload(bytes("small")), large.clone(), later()).await.unwrap_err(),
        store.replace(&key, &Version::counter(1), large.clone(), later()).await.unwrap_err(),
        store.create(&key, large.clone(), later()).await.unwrap_err(),
        store.create(&unused, large, later()).await.unwrap_err(),
    ];
    assert_errors(&errors, ErrorKind::TooLarge, &key, &["3145728 bytes", "-I"]);
    assert!(store.load(&unused).await.unwrap().is_none());
    assert_eq!(store.load(&key).await.unwrap().unwrap().payload, "small");
    let replaced = store.replace(&key, &loaded, bytes("next"), later()).await.unwrap();
    assert!(matches!(replaced, Replaced::Replaced(_)), "a failed save changed the version: {replaced:?}");
}

#[tokio::test]
async fn a_server_without_memory_says_so_and_keeps_what_stood() {
    // Without eviction, and with as little memory as it takes.
    let small = Options::new(Kind::Memcached).args(["-M", "-m", "8", "-o", "no_modern"]);
    let Some(server) = small.require_or_skip() else { return };
    let (store, victim) = (store(&server.address()), key());
    create(&store, &victim, bytes("small")).await;
    let filling = Bytes::from(vec![b'x'; 50_000]);
    let mut full = false;
    for _ in 0..2_000 {
        match store.create(&key(), filling.clone(), later()).await {
            Ok(_) => {}
            Err(error) => {
                assert_errors(&[error], ErrorKind::Unavailable, &victim, &["memory", "50000 bytes", "-m"]);
                full = true;
                break;
            }
        }
    }
    assert!(full, "eight megabytes took a hundred");
    let loaded = store.load(&victim).await.unwrap().unwrap();
    for version in [&loaded.version, &Version::counter(u64::MAX)] {
        let error = store.replace(&victim, version, filling.clone(), later()).await.unwrap_err();
        assert_errors(&[error], ErrorKind::Unavailable, &victim, &["memory", "stands unchanged"]);
    }
    assert_eq!(store.load(&victim).await.unwrap().unwrap().payload, "small");
}

#[tokio::test]
async fn what_was_not_pickled_is_handed_over_as_unreadable_and_stays() {
    let Some(server) = shared(Kind::Memcached) else { return };
    let (keys, key) = (keys(), key());
    let store = MemcachedStore::new(options(&server.address()), keys.clone(), Clock::system()).unwrap();
    let place = keys.key(key.as_str());
    let mut wire = Wire::open(&server.address());
    // Bytes that would be a pickle, and text that would be JSON, if they had been stored as such.
    let pickle = b"\x80\x05}\x94.";
    for (flags, value) in [(0, &pickle[..]), (2, b"17"), (4, b"17"), (9, pickle), (16, b"{}"), (0, b"")] {
        wire.set(&place, flags, value);
        let stored = store.load(&key).await.unwrap().unwrap();
        assert_eq!(stored.payload[0], 0, "no pickle begins so, and no JSON");
        // No version of this server: it counts from one.
        let conflict = store.replace(&key, &Version::counter(u64::MAX), bytes("data"), later()).await.unwrap();
        assert!(matches!(conflict, Replaced::Conflict(standing) if standing.payload == stored.payload));
        assert_eq!(wire.get(&place), Some((flags, value.to_vec())));
    }
    wire.set(&place, 1, pickle);
    assert_eq!(store.load(&key).await.unwrap().unwrap().payload, pickle[..]);

    // The other way round for sessions in JSON.
    let options = options(&server.address()).serializer(Serializer::Json);
    let store = MemcachedStore::new(options, keys, Clock::system()).unwrap();
    assert_eq!(store.load(&key).await.unwrap().unwrap().payload[0], 0);
    store.delete(&key, None).await.unwrap();
    create(&store, &key, bytes("{}")).await;
    assert_eq!(wire.get(&place), Some((16, b"{}".to_vec())));
    assert_eq!(store.load(&key).await.unwrap().unwrap().payload, "{}");
}

#[tokio::test]
async fn keys_that_memcached_refuses_never_reach_it() {
    let Some(server) = require_or_skip(Kind::Memcached) else { return };
    let prefix = "p".repeat(186);
    let keys = CacheKeys::new(&prefix, 1, CACHE_ENGINE);
    let store = MemcachedStore::new(options(&server.address()), keys, Clock::system()).unwrap();
    let long = SessionKey::presented(&"k".repeat(33)).unwrap();
    assert!(store.load(&long).await.unwrap().is_none());
    assert_eq!(store.touch(&long, later()).await.unwrap(), Touched::Gone);
    assert!(matches!(store.delete(&long, None).await.unwrap(), Deleted::Gone));
    let replaced = store.replace(&long, &Version::counter(1), bytes("data"), later()).await.unwrap();
    assert!(matches!(replaced, Replaced::Gone));
    assert!(store.create(&long, bytes("data"), later()).await.is_err());
    let mut wire = Wire::open(&server.address());
    assert_eq!((wire.stat("cmd_get"), wire.stat("cmd_set"), wire.stat("total_connections")), (0, 0, 2));

    for keys in [CacheKeys::new(&"p".repeat(187), 1, CACHE_ENGINE), CacheKeys::new("my site", 1, CACHE_ENGINE)] {
        let error = MemcachedStore::new(options(&server.address()), keys, Clock::system()).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Configuration);
    }
}

/// A server that says one thing to everybody, and closes the connection then or does not.
async fn impostor(says: &'static str, closes: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = [0; 4_096];
                while let Ok(length @ 1..) = stream.read(&mut request).await {
                    let request = String::from_utf8_lossy(&request[..length]).replace(['\r', '\n'], "");
                    let _ = stream.write_all(says.replace("REQUEST", &request).as_bytes()).await;
                    if closes {
                        break;
                    }
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn other_servers_at_the_address_are_told_apart() {
    let key = key();
    for (says, closes, kind, words) in [
        // As Redis answers: with the request in it.
        (
            "-ERR unknown command 'mg', with args beginning with: 'REQUEST'\r\n",
            false,
            ErrorKind::Configuration,
            "LOCATION",
        ),
        ("REQUEST\r\n", false, ErrorKind::Configuration, "LOCATION"),
        ("HTTP/1.1 400 Bad Request\r\n\r\n", true, ErrorKind::Configuration, "LOCATION"),
        ("ERROR\r\n", false, ErrorKind::Configuration, "1.6 or newer"),
        ("CLIENT_ERROR unauthenticated\r\n", true, ErrorKind::Configuration, "password"),
        ("CLIENT_ERROR bad command REQUEST\r\n", false, ErrorKind::Unavailable, "refused"),
        ("SERVER_ERROR busy with REQUEST\r\n", false, ErrorKind::Unavailable, "busy"),
        ("", true, ErrorKind::Unavailable, "closed the connection"),
        ("", false, ErrorKind::Unavailable, "did not answer"),
        ("VA 100 f1 c1 t1\r\ncut off", false, ErrorKind::Unavailable, "did not answer"),
        ("VA 100 f1 c1 t1\r\ncut off", true, ErrorKind::Unavailable, "closed the connection"),
    ] {
        let address = impostor(says, closes).await;
        let options = options(&address).timeout(Duration::from_millis(100));
        let store = MemcachedStore::new(options, keys(), Clock::system()).unwrap();
        if says.starts_with("VA") {
            assert_errors(&[in_bounded_time(store.load(&key)).await.unwrap_err()], kind, &key, &[words]);
        } else {
            assert_errors(&errors(&store, &key).await, kind, &key, &[&address, words]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_pool_serves_many_and_says_when_it_cannot() {
    let Some(server) = require_or_skip(Kind::Memcached) else { return };
    let options = options(&server.address()).max_connections(2).connect_timeout(Duration::from_secs(30));
    let store = std::sync::Arc::new(MemcachedStore::new(options, keys(), Clock::system()).unwrap());
    let workers: Vec<_> = (0..50)
        .map(|_| {
            let (store, key) = (store.clone(), key());
            tokio::spawn(async move {
                create(&store, &key, bytes(key.as_str())).await;
                assert_eq!(store.load(&key).await.unwrap().unwrap().payload, key.as_str());
            })
        })
        .collect();
    for worker in workers {
        worker.await.unwrap();
    }
    // Two of the pool, one of ours, one that the server opens for itself.
    assert!(Wire::open(&server.address()).stat("total_connections") <= 4);

    let options = common::options(&server.address()).max_connections(1).timeout(Duration::from_secs(30));
    let options = options.connect_timeout(Duration::from_millis(50));
    let store = MemcachedStore::new(options, keys(), Clock::system()).unwrap();
    store.load(&key()).await.unwrap();
    server.freeze();
    let (first, second) = (key(), key());
    // The first waits for the frozen server, the second for the first.
    let error = tokio::select! {
        biased;
        answered = store.load(&first) => panic!("a frozen server answered {answered:?}"),
        error = store.load(&second) => error.unwrap_err(),
    };
    server.thaw();
    assert_errors(&[error], ErrorKind::Unavailable, &second, &["max_pool_size", "of 1 at most"]);
}

#[tokio::test]
async fn of_several_servers_one_that_is_down_takes_only_its_own_sessions_along() {
    let (Some(one), Some(other)) = (require_or_skip(Kind::Memcached), require_or_skip(Kind::Memcached)) else { return };
    let options = MemcachedOptions::new([one.address(), other.address()]).unwrap();
    let store = MemcachedStore::new(options, keys(), Clock::system()).unwrap();
    let mut keys = Vec::new();
    for _ in 0..40 {
        keys.push(key());
        create(&store, keys.last().unwrap(), bytes("data")).await;
    }
    let items = [&one, &other].map(|server| Wire::open(&server.address()).stat("curr_items"));
    assert!(items[0] + items[1] == 40 && items.iter().all(|items| *items > 0), "{items:?}");
    other.kill();
    let (mut found, mut unavailable) = (0, 0);
    for key in &keys {
        match store.load(key).await {
            Ok(stored) => found += u64::from(stored.is_some()),
            Err(error) => {
                assert_errors(&[error], ErrorKind::Unavailable, key, &[&other.address()]);
                unavailable += 1;
            }
        }
    }
    assert_eq!([found, unavailable], items);
}

#[cfg(unix)]
#[tokio::test]
async fn a_socket_is_as_good_as_a_port() {
    let Some(server) = shared(Kind::Memcached) else { return };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("memcached.sock");
    let missing = store(&format!("unix:{}", path.display()));
    let key = key();
    assert_errors(&errors(&missing, &key).await, ErrorKind::Unavailable, &key, &["memcached.sock", "LOCATION"]);

    let (listener, address) = (tokio::net::UnixListener::bind(&path).unwrap(), server.address());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut server = tokio::net::TcpStream::connect(&address).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut stream, &mut server).await });
        }
    });
    let version = create(&missing, &key, bytes("data")).await;
    let large = Bytes::from(vec![b'y'; 500_000]);
    assert!(matches!(missing.replace(&key, &version, large.clone(), later()).await.unwrap(), Replaced::Replaced(_)));
    assert_eq!(missing.load(&key).await.unwrap().unwrap().payload, large);
}
