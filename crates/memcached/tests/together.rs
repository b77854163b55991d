//! Operations that come at the same moment: one piece for the server, and an answer for each.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use cloakroom_core::store::{Created, Deleted, Replaced, Store, Touched};
use cloakroom_core::{Clock, ErrorKind, Result, SessionKey};
use cloakroom_memcached::MemcachedStore;
use cloakroom_test_servers::{Kind, require_or_skip, shared};
use common::{bytes, create, key, keys, later, options, store};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A way to the server on which somebody counts the pieces that are sent.
async fn counted(server: String) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, count) = (listener.local_addr().unwrap().to_string(), Arc::new(AtomicUsize::new(0)));
    let pieces = count.clone();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (server, pieces) = (TcpStream::connect(&server).await.unwrap(), pieces.clone());
            tokio::spawn(async move {
                let ((mut questions, mut back), (mut answers, mut on)) = (client.into_split(), server.into_split());
                tokio::spawn(async move { tokio::io::copy(&mut answers, &mut back).await });
                let mut piece = vec![0; 1 << 16];
                while let Ok(length @ 1..) = questions.read(&mut piece).await {
                    pieces.fetch_add(1, Ordering::Relaxed);
                    on.write_all(&piece[..length]).await.unwrap();
                }
            });
        }
    });
    (address, count)
}

type Loading = JoinHandle<Result<Option<Bytes>>>;

/// Loads that are all under way before the first has its answer: the test's runtime has one thread.
fn load_all(store: &Arc<MemcachedStore>, keys: &[SessionKey]) -> Vec<Loading> {
    let load = |key: &SessionKey| {
        let (store, key) = (store.clone(), key.clone());
        tokio::spawn(async move { Ok(store.load(&key).await?.map(|stored| stored.payload)) })
    };
    keys.iter().map(load).collect()
}

async fn create_all(store: &MemcachedStore, count: usize) -> Vec<SessionKey> {
    let keys: Vec<_> = (0..count).map(|_| key()).collect();
    for key in &keys {
        create(store, key, bytes(key.as_str())).await;
    }
    keys
}

#[tokio::test]
async fn many_are_one_piece_and_each_has_its_answer() {
    let Some(server) = shared(Kind::Memcached) else { return };
    let (address, pieces) = counted(server.address()).await;
    let store = Arc::new(store(&address));
    let keys = create_all(&store, 50).await;
    store.delete(&keys[20], None).await.unwrap();
    pieces.store(0, Ordering::Relaxed);
    for (place, (loading, key)) in load_all(&store, &keys).into_iter().zip(&keys).enumerate() {
        let found = loading.await.unwrap().unwrap();
        assert_eq!(found, (place != 20).then(|| bytes(key.as_str())), "{place}");
    }
    // The first one finds nobody under way.
    assert_eq!(pieces.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn operations_of_all_kinds_and_sizes_go_together() {
    let Some(server) = shared(Kind::Memcached) else { return };
    let (address, pieces) = counted(server.address()).await;
    let store = Arc::new(store(&address));
    let workers: Vec<_> = (0..60)
        .map(|number: usize| {
            let store = store.clone();
            tokio::spawn(async move {
                let key = key();
                // Some are too large to go together with others, and some for the server.
                let size = [10, 500, 5_000, 40_000, 400_000, 2_000_000][number % 6];
                let payload = |byte: u8| Bytes::from(vec![byte; size]);
                let created = store.create(&key, payload(b'a'), later()).await;
                if size == 2_000_000 {
                    assert_eq!(created.unwrap_err().kind(), ErrorKind::TooLarge);
                    assert!(store.load(&key).await.unwrap().is_none());
                    return;
                }
                assert!(matches!(created.unwrap(), Created::Created(_)));
                assert_eq!(store.create(&key, payload(b'b'), later()).await.unwrap(), Created::Taken);
                let first = store.load(&key).await.unwrap().unwrap();
                assert_eq!(first.payload, payload(b'a'));
                let replaced = store.replace(&key, &first.version, payload(b'c'), later()).await.unwrap();
                assert!(matches!(replaced, Replaced::Replaced(_)));
                match store.replace(&key, &first.version, payload(b'd'), later()).await.unwrap() {
                    Replaced::Conflict(standing) => assert_eq!(standing.payload, payload(b'c')),
                    other => panic!("{other:?}"),
                }
                assert_eq!(store.touch(&key, later()).await.unwrap(), Touched::Touched);
                assert!(matches!(store.delete(&key, Some(&first.version)).await.unwrap(), Deleted::Conflict(_)));
                assert!(matches!(store.delete(&key, None).await.unwrap(), Deleted::Deleted));
                assert_eq!(store.touch(&key, later()).await.unwrap(), Touched::Gone);
            })
        })
        .collect();
    for worker in workers {
        worker.await.unwrap();
    }
    assert!(pieces.load(Ordering::Relaxed) > 0);
}

#[tokio::test]
async fn a_server_that_freezes_and_one_that_is_killed_under_many() {
    let Some(server) = require_or_skip(Kind::Memcached) else { return };
    let quick = options(&server.address()).connect_timeout(Duration::from_secs(20)).timeout(Duration::from_millis(300));
    let store = Arc::new(MemcachedStore::new(quick, keys(), Clock::system()).unwrap());
    let sessions = create_all(&store, 30).await;
    server.freeze();
    for loading in load_all(&store, &sessions) {
        let error = loading.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.to_string().contains("did not answer within 300ms"), "{error}");
    }
    server.thaw();
    for (loading, key) in load_all(&store, &sessions).into_iter().zip(&sessions) {
        assert_eq!(loading.await.unwrap().unwrap().unwrap(), key.as_str());
    }
    server.freeze();
    let loading = load_all(&store, &sessions);
    tokio::time::sleep(Duration::from_millis(50)).await;
    server.kill();
    for loading in loading {
        assert_eq!(loading.await.unwrap().unwrap_err().kind(), ErrorKind::Unavailable);
    }
    server.restart();
    for loading in load_all(&store, &sessions) {
        assert_eq!(loading.await.unwrap().unwrap(), None, "it remembers nothing");
    }
}

/// Connections that break with many questions on them cost the loads among these nothing, and the saves an error.
#[tokio::test]
async fn a_connection_that_breaks_is_replaced_for_those_who_may_ask_again() {
    let Some(server) = shared(Kind::Memcached) else { return };
    let (behind, listener) = (server.address(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let store = Arc::new(store(&listener.local_addr().unwrap().to_string()));
    // Passes on what comes in one piece with nothing else. With many it breaks off, once on each connection.
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(&behind).await.unwrap();
            tokio::spawn(async move {
                let ((mut questions, mut back), (mut answers, mut on)) = (client.into_split(), server.into_split());
                let answering = tokio::spawn(async move { tokio::io::copy(&mut answers, &mut back).await });
                let mut piece = vec![0; 1 << 16];
                while let Ok(length @ 1..) = questions.read(&mut piece).await {
                    let commands = piece[..length].windows(3).filter(|start| *start == b"mg " || *start == b"add");
                    if commands.count() > 1 {
                        answering.abort();
                        break;
                    }
                    on.write_all(&piece[..length]).await.unwrap();
                }
            });
        }
    });
    let sessions = create_all(&store, 20).await;
    // A connection for the first one, and one of the pool for the others.
    let first = load_all(&store, &sessions[..2]);
    for loading in first {
        loading.await.unwrap().unwrap();
    }
    let loading = load_all(&store, &sessions);
    let (saver, saved) = (store.clone(), key());
    let saving = tokio::spawn(async move { saver.create(&saved, bytes("data"), later()).await });
    for (loading, key) in loading.into_iter().zip(&sessions) {
        assert_eq!(loading.await.unwrap().unwrap().unwrap(), key.as_str());
    }
    let error = saving.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
}

/// Visitors who leave take nobody along.
#[tokio::test]
async fn loads_that_are_given_up() {
    let Some(server) = shared(Kind::Memcached) else { return };
    let store = Arc::new(store(&server.address()));
    let sessions = create_all(&store, 30).await;
    for turns in 0..6 {
        for given_up in 0..4 {
            let mut loading = load_all(&store, &sessions);
            for _ in 0..turns {
                tokio::task::yield_now().await;
            }
            loading.remove(given_up).abort();
            let left = sessions.iter().enumerate().filter(|(place, _)| *place != given_up);
            for (loading, (_, key)) in loading.into_iter().zip(left) {
                assert_eq!(loading.await.unwrap().unwrap().unwrap(), key.as_str());
            }
        }
    }
}
