//! Servers that are down, frozen, restarted, killed, cut off, or not what they should be.

use std::time::{Duration, Instant};

use cloakroom_core::store::{Created, Deleted, Replaced, Rotated, Store, Touched};
use cloakroom_core::{Clock, Error, ErrorKind};
use cloakroom_redis::RedisStore;
use cloakroom_test_servers::{Kind, require_or_skip};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::{BOTH, Wire, create, key, later, options, payload, store};

/// No operation may take longer. Far more than the time limits of the options, since machines are shared, and far less
/// than for ever.
const BOUND: Duration = Duration::from_secs(20);

/// Every operation on a store that cannot work; all of them fail, in bounded time, for the same reason.
async fn failures(store: &RedisStore) -> Vec<Error> {
    let (key, start) = (key(), Instant::now());
    let version = cloakroom_core::store::Version::payload("x".into());
    let failures = vec![
        store.load(&key).await.expect_err("load"),
        store.create(&key, "x".into(), later()).await.expect_err("create"),
        store.replace(&key, &version, "y".into(), later()).await.expect_err("replace"),
        store.touch(&key, later()).await.expect_err("touch"),
        store.delete(&key, None).await.expect_err("delete"),
        store.delete(&key, Some(&version)).await.expect_err("guarded delete"),
        store.rotate(&key, &version, &crate::key(), "y".into(), later()).await.expect_err("rotate"),
        store.list(None, 10).await.expect_err("list"),
    ];
    assert!(start.elapsed() < BOUND, "{:?}", start.elapsed());
    failures
}

#[tokio::test]
async fn a_server_that_is_down() {
    let Some(server) = require_or_skip(Kind::Redis) else { return };
    let (store, key) = (store(&server.url()), key());
    create(&store, &key, "kept").await;
    server.stop();
    for error in failures(&store).await {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        let text = error.to_string();
        assert!(text.contains(&server.address()) && text.contains("start it, or correct LOCATION"), "{text}");
    }
    server.restart();
    assert_eq!(payload(&store, &key).await.as_deref(), Some("kept"), "the next request works, and nothing was harmed");
}

/// Each operation as the first one after a restart: none notices it.
#[tokio::test]
async fn a_restart_between_two_requests() {
    for kind in BOTH {
        let Some(server) = require_or_skip(kind) else { continue };
        let (store, key) = (store(&server.url()), key());
        let version = create(&store, &key, "one").await;
        server.restart();
        assert_eq!(payload(&store, &key).await.as_deref(), Some("one"));
        server.kill();
        server.restart();
        let replaced = store.replace(&key, &version, "two".into(), later()).await.expect("replace after a restart");
        let Replaced::Replaced(version) = replaced else { panic!("{replaced:?}") };
        server.restart();
        assert_eq!(store.touch(&key, later()).await.expect("touch after a restart"), Touched::Touched);
        server.restart();
        let deleted = store.delete(&key, Some(&version)).await.expect("delete after a restart");
        assert!(matches!(deleted, Deleted::Deleted), "{deleted:?}");
        server.restart();
        create(&store, &key, "three").await;
        server.restart();
        let deleted = store.delete(&key, None).await.expect("delete after a restart");
        assert!(matches!(deleted, Deleted::Deleted), "{deleted:?}");
        server.restart();
        assert_eq!(store.list(None, 10).await.expect("list after a restart"), []);
    }
}

#[tokio::test]
async fn a_server_that_is_frozen() {
    for kind in BOTH {
        let Some(server) = require_or_skip(kind) else { continue };
        let quick = options(&server.url())
            .connect_timeout(Duration::from_millis(200))
            .response_timeout(Duration::from_millis(200));
        let (store, key) = (RedisStore::open(quick, Clock::system()).unwrap(), key());
        create(&store, &key, "kept").await;
        server.freeze();
        let mut texts = Vec::new();
        for error in failures(&store).await {
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
            texts.push(error.to_string());
        }
        // On the connection that stood, nobody answers; on the next one, nobody greets.
        assert!(texts[0].contains("did not answer within 0.2 s"), "{texts:?}");
        assert!(texts[1].contains("took no connection within 0.2 s"), "{texts:?}");
        server.thaw();
        assert_eq!(payload(&store, &key).await.as_deref(), Some("kept"));
    }
}

/// A crowd that meets a frozen server waits no longer than one.
#[tokio::test]
async fn a_crowd_before_a_frozen_server() {
    let Some(server) = require_or_skip(Kind::Redis) else { return };
    let quick = options(&server.url()).connect_timeout(Duration::from_millis(300));
    let store = std::sync::Arc::new(RedisStore::open(quick, Clock::system()).unwrap());
    server.freeze();
    let start = Instant::now();
    let crowd: Vec<_> = (0..200)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.load(&key()).await.expect_err("nobody answers").kind() })
        })
        .collect();
    for one in crowd {
        assert_eq!(one.await.expect("no panic"), ErrorKind::Unavailable);
    }
    assert!(start.elapsed() < BOUND, "{:?}: one after another", start.elapsed());
    server.thaw();
    assert_eq!(payload(&store, &key()).await, None);
}

/// A connection that the server ends for its own reasons, such as its setting `timeout`.
#[tokio::test]
async fn a_connection_that_the_server_ends() {
    for kind in BOTH {
        let Some(server) = require_or_skip(kind) else { continue };
        let (store, key) = (store(&server.url()), key());
        let mut wire = Wire::to(&server.url()).await;
        let mut version = create(&store, &key, "0").await;
        for round in 1..20 {
            let _: i64 = wire.ask(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
            let replaced = store.replace(&key, &version, round.to_string().into(), later()).await.expect("replace");
            let Replaced::Replaced(next) = replaced else { panic!("{replaced:?}") };
            version = next;
        }
        assert_eq!(payload(&store, &key).await.as_deref(), Some("19"));
    }
}

/// A value of another type under a session's key belongs to somebody else.
#[tokio::test]
async fn a_value_that_is_no_session() {
    for kind in BOTH {
        let Some(server) = require_or_skip(kind) else { continue };
        let (store, key) = (store(&server.url()), key());
        let mut wire = Wire::to(&server.url()).await;
        let name = format!(":1:django.contrib.sessions.cache{}", key.as_str());
        let _: i64 = wire.ask(&["RPUSH", &name, "a", "b"]).await;
        let version = cloakroom_core::store::Version::payload("x".into());
        for error in [
            store.load(&key).await.expect_err("load"),
            store.replace(&key, &version, "y".into(), later()).await.expect_err("replace"),
            store.delete(&key, Some(&version)).await.expect_err("delete"),
        ] {
            assert_eq!(error.kind(), ErrorKind::Corrupted, "{error}");
            assert!(error.to_string().contains("KEY_PREFIX"), "{error}");
            assert!(!error.to_string().contains(key.as_str()), "{error}");
        }
        assert_eq!(store.create(&key, "z".into(), later()).await.unwrap(), Created::Taken);
        let left: Vec<String> = wire.ask(&["LRANGE", &name, "0", "-1"]).await;
        assert_eq!(left, ["a", "b"]);
    }
}

/// A way to the server that breaks when it is told to: before the command gets there, or before its answer comes back.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    plan: std::sync::Arc<std::sync::Mutex<Break>>,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Break {
    Nothing,
    BeforeTheCommand,
    BeforeTheAnswer,
    /// The same, and the server forgets its scripts, as another one that takes its place has never known them.
    BeforeTheAnswerAndForgotten,
    /// What the server says gets no further, and the connection stands.
    Silence,
    /// What the server says waits until the plan is another one, and then comes in one piece.
    Pause,
}

impl Proxy {
    pub(crate) async fn before(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let plan = std::sync::Arc::new(std::sync::Mutex::new(Break::Nothing));
        let shared = plan.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(Self::carry(client, server, shared.clone()));
            }
        });
        Self { port, plan }
    }

    /// Carries commands one way and answers the other, until the plan says to break off; then the plan is done.
    async fn carry(mut client: TcpStream, server: u16, plan: std::sync::Arc<std::sync::Mutex<Break>>) {
        let mut server = TcpStream::connect(("127.0.0.1", server)).await.expect("the server");
        let (mut command, mut answer) = (vec![0; 65_536], vec![0; 65_536]);
        loop {
            tokio::select! {
                read = client.read(&mut command) => match read {
                    Ok(0) | Err(_) => return,
                    Ok(length) => {
                        if *plan.lock().unwrap() == Break::BeforeTheCommand {
                            *plan.lock().unwrap() = Break::Nothing;
                            return;
                        }
                        server.write_all(&command[..length]).await.expect("the server takes it");
                    }
                },
                read = server.read(&mut answer) => match read {
                    Ok(0) | Err(_) => return,
                    Ok(length) => {
                        let now = *plan.lock().unwrap();
                        match now {
                            Break::BeforeTheAnswer => {
                                *plan.lock().unwrap() = Break::Nothing;
                                return;
                            }
                            Break::BeforeTheAnswerAndForgotten => {
                                *plan.lock().unwrap() = Break::Nothing;
                                server.write_all(b"SCRIPT FLUSH\r\n").await.expect("the server takes it");
                                let read = server.read(&mut answer).await.expect("an answer");
                                assert_eq!(&answer[..read], b"+OK\r\n");
                                return;
                            }
                            Break::Silence => continue,
                            Break::Pause => {
                                while *plan.lock().unwrap() == Break::Pause {
                                    tokio::time::sleep(Duration::from_millis(5)).await;
                                }
                                let more = server.try_read(&mut answer[length..]).unwrap_or(0);
                                client.write_all(&answer[..length + more]).await.expect("the client takes it");
                                continue;
                            }
                            Break::BeforeTheCommand | Break::Nothing => {}
                        }
                        client.write_all(&answer[..length]).await.expect("the client takes it");
                    }
                },
            }
        }
    }

    pub(crate) fn plan(&self, plan: Break) {
        *self.plan.lock().unwrap() = plan;
    }
}

/// A break that leaves it open whether the server has carried out the command: nothing is done twice, and nothing is
/// taken for done that is not.
#[tokio::test]
async fn a_break_in_the_middle() {
    for kind in BOTH {
        let Some(server) = require_or_skip(kind) else { continue };
        let proxy = Proxy::before(server.port()).await;
        let (here, there) = (store(&format!("redis://127.0.0.1:{}", proxy.port)), store(&server.url()));
        for plan in [Break::BeforeTheCommand, Break::BeforeTheAnswer] {
            // The scripts are known, and the connection stands.
            let key = key();
            let version = create(&here, &key, "0").await;
            here.replace(&key, &version, "0".into(), later()).await.unwrap();
            here.delete(&key, Some(&version)).await.unwrap();

            proxy.plan(plan);
            let created =
                here.create(&key, "1".into(), later()).await.unwrap_or_else(|error| panic!("{plan:?}: {error}"));
            let Created::Created(one) = created else {
                panic!("{plan:?}: our own record was taken for somebody else's")
            };
            assert_eq!(proxy.plan.lock().unwrap().clone(), Break::Nothing, "the plan was carried out");

            proxy.plan(plan);
            assert_eq!(payload(&here, &key).await.as_deref(), Some("1"), "{plan:?}");
            proxy.plan(plan);
            assert_eq!(here.touch(&key, later()).await.expect("touch"), Touched::Touched, "{plan:?}");

            // On the new connection the server has said whether it compares.
            here.replace(&crate::key(), &one, "no such session".into(), later()).await.expect("replace");
            proxy.plan(plan);
            let replaced = here.replace(&key, &one, "2".into(), later()).await;
            match (plan, replaced) {
                (Break::BeforeTheCommand, Ok(Replaced::Replaced(_))) => {}
                (Break::BeforeTheAnswer, Err(error)) => {
                    assert_eq!(error.kind(), ErrorKind::Unavailable);
                    assert!(error.to_string().contains("nobody can tell"), "{error}");
                }
                (plan, other) => panic!("{plan:?}: {other:?}"),
            }
            assert_eq!(payload(&there, &key).await.as_deref(), Some("2"), "{plan:?}");

            let two = there.load(&key).await.unwrap().expect("it stands").version;
            proxy.plan(plan);
            let deleted = here.delete(&key, Some(&two)).await;
            match (plan, deleted) {
                (Break::BeforeTheCommand, Ok(Deleted::Deleted)) => {}
                // Whether we deleted it, or the visitor was signed out meanwhile, makes a difference to a rotation.
                (Break::BeforeTheAnswer, Err(error)) => {
                    assert!(error.to_string().contains("nobody can tell"), "{error}")
                }
                (plan, other) => panic!("{plan:?}: {other:?}"),
            }
            assert_eq!(payload(&there, &key).await, None, "{plan:?}");
            proxy.plan(plan);
            here.delete(&key, None).await.unwrap_or_else(|error| panic!("{plan:?}: {error}"));

            // Nobody else knows the new key: what stands there is ours.
            let (old, new) = (crate::key(), crate::key());
            let version = create(&there, &old, "1").await;
            here.rotate(&new, &version, &old, "no such session".into(), later()).await.expect("the script is known");
            proxy.plan(plan);
            let rotated = here.rotate(&old, &version, &new, "2".into(), later()).await.expect("rotate");
            assert!(matches!(rotated, Rotated::Rotated(_)), "{plan:?}: {rotated:?}");
            assert_eq!(
                (payload(&there, &old).await, payload(&there, &new).await.as_deref()),
                (None, Some("2")),
                "{plan:?}"
            );
        }
    }
}

/// The server that answers the second attempt does not know the script, and is told it: that the first attempt may have
/// been carried out is remembered.
#[tokio::test]
async fn a_break_before_a_server_that_takes_the_place_of_another() {
    let Some(server) = require_or_skip(Kind::Redis) else { return };
    let proxy = Proxy::before(server.port()).await;
    let (here, there) = (store(&format!("redis://127.0.0.1:{}", proxy.port)), store(&server.url()));
    let key = key();
    let version = create(&here, &key, "0").await;
    here.replace(&key, &version, "0".into(), later()).await.expect("the script is known");
    proxy.plan(Break::BeforeTheAnswerAndForgotten);
    let error = here.replace(&key, &version, "1".into(), later()).await.expect_err("what stands is ours");
    assert!(error.to_string().contains("nobody can tell"), "{error}");
    assert_eq!(payload(&there, &key).await.as_deref(), Some("1"));

    let version = there.load(&key).await.unwrap().expect("it stands").version;
    here.delete(&crate::key(), Some(&version)).await.expect("the script is known");
    proxy.plan(Break::BeforeTheAnswerAndForgotten);
    let error = here.delete(&key, Some(&version)).await.expect_err("it is gone by us, or by somebody else");
    assert!(error.to_string().contains("nobody can tell"), "{error}");
}

/// A create that broke, under a key that somebody else holds: not ours.
#[tokio::test]
async fn a_break_does_not_make_anothers_record_ours() {
    let Some(server) = require_or_skip(Kind::Redis) else { return };
    let proxy = Proxy::before(server.port()).await;
    let (here, there) = (store(&format!("redis://127.0.0.1:{}", proxy.port)), store(&server.url()));
    let key = key();
    create(&there, &key, "theirs").await;
    here.ping().await.expect("a connection");
    proxy.plan(Break::BeforeTheAnswer);
    assert_eq!(here.create(&key, "ours".into(), later()).await.unwrap(), Created::Taken);
    assert_eq!(payload(&there, &key).await.as_deref(), Some("theirs"));
}

/// Something else than Redis listens there.
#[tokio::test]
async fn a_stranger_on_the_port() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let _ = client.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let store = store(&format!("redis://127.0.0.1:{port}"));
    for error in failures(&store).await {
        assert_eq!(error.kind(), ErrorKind::Configuration, "{error}");
        assert!(error.to_string().contains("does not speak Redis' protocol"), "{error}");
    }
}
