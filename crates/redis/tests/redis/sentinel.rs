//! Redis Sentinel names the primary, and a change of the primary is followed.

use std::io::Write;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cloakroom_core::store::{Replaced, Store};
use cloakroom_core::{Clock, ErrorKind};
use cloakroom_redis::{RedisOptions, RedisStore};
use cloakroom_test_servers::{Kind, Options, Server, require_or_skip};

use crate::{Wire, create, key, later, payload};

/// How long a change of the primary may take; only one that never comes gets this far.
const PATIENCE: Duration = Duration::from_secs(30);

/// A sentinel that watches one primary, until it is dropped.
struct Sentinel {
    process: Child,
    port: u16,
    _directory: tempfile::TempDir,
}

impl Sentinel {
    /// `None` if no program of this machine can be one.
    fn watching(primary: &Server) -> Option<Self> {
        let directory = tempfile::tempdir().expect("a directory");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|port| port.local_addr()).expect("a port").port();
        let path = directory.path().join("sentinel.conf");
        let mut file = std::fs::File::create(&path).expect("a file");
        let (watched, home) = (primary.port(), directory.path().display());
        writeln!(
            file,
            "port {port}\nbind 127.0.0.1\ndir {home}\nsentinel monitor theatre 127.0.0.1 {watched} 1\n\
             sentinel down-after-milliseconds theatre 500\nsentinel failover-timeout theatre 3000"
        )
        .expect("written");
        let start = |program| {
            let mut command = Command::new(program);
            command.arg(&path).arg("--sentinel").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            command.spawn().ok()
        };
        let process = start("redis-server").or_else(|| start("valkey-server"))?;
        Some(Self { process, port, _directory: directory })
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn store(sentinels: &[u16], service: &str) -> RedisStore {
    let sentinels = sentinels.iter().map(|port| format!("127.0.0.1:{port}"));
    let options = RedisOptions::from_url(&format!("redis://{service}/2")).expect("a URL").sentinels(sentinels);
    RedisStore::open(options.expect("sentinels"), Clock::system()).expect("a store")
}

/// A port on which nobody listens.
fn nobody() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|port| port.local_addr()).expect("a port").port()
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < PATIENCE, "{what} did not come");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A replica that has everything that its primary has.
async fn follow(replica: &Server, primary: &Server) {
    let port = primary.port().to_string();
    until("the replica", async || {
        // A sentinel that has a word to say about it breaks connections.
        let Ok(mut wire) = Wire::try_to(&replica.url()).await else { return false };
        let replication = wire.try_ask(&["INFO", "replication"]).await;
        let text: String = replication.and_then(|text| Ok(redis::from_redis_value(text)?)).unwrap_or_default();
        if text.contains("role:master") {
            let _ = wire.try_ask(&["REPLICAOF", "127.0.0.1", &port]).await;
        }
        text.contains("master_link_status:up")
    })
    .await;
}

#[tokio::test]
async fn a_change_of_the_primary_is_followed() {
    let prompt = || Options::new(Kind::Redis).args(["--repl-diskless-sync-delay", "0"]).require_or_skip();
    let (Some(first), Some(second)) = (prompt(), prompt()) else { return };
    follow(&second, &first).await;
    let Some(sentinel) = Sentinel::watching(&first) else { return };
    // One of the two sentinels is not there.
    let store = store(&[nobody(), sentinel.port], "theatre");
    until("the sentinel", async || store.ping().await.is_ok()).await;
    let key = key();
    let version = create(&store, &key, "one").await;
    let mut wire = Wire::to(&first.url()).await;
    // The server waits for what this connection has written, and for what came before it.
    let _: () = wire.ask(&["SET", "mark", "here"]).await;
    until("the copy on the replica", async || wire.ask::<i64>(&["WAIT", "1", "100"]).await == 1).await;
    until("the sentinel's knowledge of the replica", async || {
        let replicas = Wire::to(&format!("redis://127.0.0.1:{}", sentinel.port)).await;
        let replicas: Vec<redis::Value> = { replicas }.ask(&["SENTINEL", "REPLICAS", "theatre"]).await;
        !replicas.is_empty()
    })
    .await;

    // The primary dies, and the replica takes over.
    first.kill();
    let error = store.load(&key).await.expect_err("the primary is dead");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    until("the new primary", async || store.load(&key).await.is_ok()).await;
    assert_eq!(payload(&store, &key).await.as_deref(), Some("one"));
    let replaced = store.replace(&key, &version, "two".into(), later()).await.expect("replace");
    assert!(matches!(replaced, Replaced::Replaced(_)), "{replaced:?}");

    // It steps back while our connection to it stands.
    first.restart();
    follow(&first, &second).await;
    let mut ask = Wire::to(&format!("redis://127.0.0.1:{}", sentinel.port)).await;
    until("a change by hand", async || ask.try_ask(&["SENTINEL", "FAILOVER", "theatre"]).await.is_ok()).await;
    until("a write to the first one again", async || {
        let Ok(mut wire) = Wire::try_to(&first.url()).await else { return false };
        let Ok(redis::Value::Array(role)) = wire.try_ask(&["ROLE"]).await else { return false };
        role[0] == redis::Value::BulkString(b"master".to_vec()) && store.touch(&key, later()).await.is_ok()
    })
    .await;
    assert_eq!(payload(&store, &key).await.as_deref(), Some("two"));
}

#[tokio::test]
async fn sentinels_that_do_not_help() {
    let Some(server) = require_or_skip(Kind::Redis) else { return };
    let Some(sentinel) = Sentinel::watching(&server) else { return };
    let right = store(&[sentinel.port], "theatre");
    until("the sentinel", async || right.ping().await.is_ok()).await;

    let error = store(&[sentinel.port], "opera").ping().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert!(error.to_string().contains("\"opera\""), "{error}");

    let error = store(&[nobody(), nobody()], "theatre").ping().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("a sentinel of theatre"), "{error}");

    // A server that is no sentinel does not know the question.
    let error = store(&[server.port()], "theatre").ping().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);

    server.stop();
    let error = store(&[sentinel.port], "theatre").ping().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);

    let options = RedisOptions::from_url("unix:///run/redis.sock").unwrap().sentinels(["h:1"]).unwrap();
    let error = RedisStore::open(options, Clock::system()).unwrap_err();
    assert!(error.to_string().contains("the name of the service"), "{error}");
}
