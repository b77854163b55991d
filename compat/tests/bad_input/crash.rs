//! A process that is killed while it writes, under as many saves as it can take.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cloakroom_compat::live::http::Visitor;
use cloakroom_compat::live::site::{Deployment, Engine, SECRET, Site};
use cloakroom_compat::live::tell;
use cloakroom_core::wire::session_data::Codec;
use cloakroom_core::wire::signing::Secrets;

/// Those who save again and again in a session of their own, and those who begin a new one each time.
const UPDATING: usize = 16;
const CREATING: usize = 16;
/// So many saves are acknowledged before the process is killed.
const ENOUGH: usize = 2_000;

/// A connection that stays open, and costs next to nothing.
struct Client(BufReader<TcpStream>);

impl Client {
    fn of(site: &Site) -> Self {
        let address = site.address().trim_start_matches("http://");
        Self(BufReader::new(TcpStream::connect(address).expect("a site that listens")))
    }

    /// Sets `n` in the session of a key, or in a new one. The session's key, once the site has acknowledged it; nothing
    /// if the site was killed before.
    fn set(&mut self, key: Option<&str>, n: usize) -> Option<String> {
        let cookie = key.map(|key| format!("Cookie: sessionid={key}\r\n")).unwrap_or_default();
        let request = format!("GET /set?k=n&v={n} HTTP/1.1\r\nHost: site\r\n{cookie}\r\n");
        self.0.get_mut().write_all(request.as_bytes()).ok()?;
        let (mut line, mut sent, mut length) = (String::new(), None, None);
        self.0.read_line(&mut line).ok().filter(|read| *read > 0)?;
        assert!(line.starts_with("HTTP/1.1 200 "), "{line}");
        loop {
            line.clear();
            self.0.read_line(&mut line).ok().filter(|read| *read > 0)?;
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            match name {
                "set-cookie" => sent = value.strip_prefix("sessionid=")?.split(';').next().map(str::to_owned),
                "content-length" => length = value.parse().ok(),
                _ => {}
            }
        }
        let mut body = vec![0; length.expect("a length")];
        self.0.read_exact(&mut body).ok()?;
        Some(sent.expect("what is saved comes with a cookie"))
    }
}

fn every_acknowledged_save_is_there(deployment: Deployment) {
    let engine = deployment.engine();
    let mut updating: Vec<(String, usize)> = Vec::new();
    let mut created: Vec<(String, usize)> = Vec::new();
    for round in 0..3 {
        let site = deployment.cloakroom();
        let (begin, acknowledged) = (Instant::now(), AtomicUsize::new(0));
        if updating.is_empty() {
            updating = (0..UPDATING).map(|_| (Client::of(&site).set(None, 0).expect("a session"), 0)).collect();
        }
        thread::scope(|scope| {
            for (key, saved) in &mut updating {
                let (site, acknowledged) = (&site, &acknowledged);
                scope.spawn(move || {
                    let mut client = Client::of(site);
                    while client.set(Some(key), *saved + 1).is_some() {
                        *saved += 1;
                        acknowledged.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            let creating: Vec<_> = (0..CREATING)
                .map(|_| {
                    let (site, acknowledged) = (&site, &acknowledged);
                    scope.spawn(move || {
                        let (mut client, mut keys) = (Client::of(site), Vec::new());
                        while let Some(key) = client.set(None, keys.len()) {
                            keys.push((key, keys.len()));
                            acknowledged.fetch_add(1, Ordering::Relaxed);
                        }
                        keys
                    })
                })
                .collect();
            while acknowledged.load(Ordering::Relaxed) < ENOUGH && site.is_running() {
                thread::sleep(Duration::from_millis(1));
            }
            site.kill();
            let rate = acknowledged.load(Ordering::Relaxed) as f64 / begin.elapsed().as_secs_f64();
            tell(&format!("{engine:?}: killed at {rate:.0} acknowledged saves per second"));
            created.extend(creating.into_iter().flat_map(|creating| creating.join().expect("what was created")));
        });
        assert!(acknowledged.into_inner() >= ENOUGH, "the site died by itself: {}", site.log());
        let site = deployment.cloakroom();
        let n = |key: &str| {
            let mut visitor = Visitor::new();
            visitor.put("sessionid", key);
            visitor.get(&site, "get", &[("k", "n")]).ok().member("value").as_i64()
        };
        for (key, saved) in &mut updating {
            // The save under way when the process died may be in the store, and counts from now on.
            let found = n(key).and_then(|found| usize::try_from(found).ok());
            assert!(found == Some(*saved) || found == Some(*saved + 1), "{engine:?}, {round}: {saved}, {found:?}");
            *saved = found.unwrap_or_default();
        }
        nothing_is_half_written(&deployment, &created, UPDATING + created.len(), CREATING * (round + 1));
    }
}

/// Each record is whole: it bears its signature. Those that were acknowledged are there, and of others no more than one
/// for each save that was under way.
fn nothing_is_half_written(deployment: &Deployment, created: &[(String, usize)], known: usize, more: usize) {
    let codec = Codec::signed_json(&Secrets::new(SECRET));
    let mut stored = std::collections::HashMap::new();
    for (key, text) in deployment.stored() {
        // What a process that died leaves of a save is no session: it has another name.
        if !key.contains("_out_") {
            let values = codec.decode(text.as_bytes()).unwrap_or_else(|error| panic!("{key}: {error}: {text:?}"));
            stored.insert(key, values.get::<usize>("n").expect("a number"));
        }
    }
    for (key, n) in created {
        assert_eq!(stored.get(key), Some(&Some(*n)), "{key}");
    }
    assert!((known..=known + more).contains(&stored.len()), "{known} are known, and {} stored", stored.len());
    if deployment.engine() == Engine::Db {
        assert_eq!(deployment.database().column("PRAGMA integrity_check"), ["ok"]);
    }
}

#[test]
fn bad_end_of_the_process_loses_nothing_on_db() {
    every_acknowledged_save_is_there(Deployment::migrated(Engine::Db));
}

/// Several times as many saves: the disk is not waited for, which a killed process does not need.
#[test]
fn bad_end_of_the_process_loses_nothing_on_db_in_a_hurry() {
    let deployment = Deployment::migrated(Engine::Db);
    let url = format!("sqlite://{}/sessions.sqlite3?synchronous=normal", deployment.directory().display());
    every_acknowledged_save_is_there(deployment.with("DATABASE_URL", &url));
}

#[test]
fn bad_end_of_the_process_loses_nothing_on_file() {
    every_acknowledged_save_is_there(Deployment::migrated(Engine::File));
}
