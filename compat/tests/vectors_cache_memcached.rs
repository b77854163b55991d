//! What the cache and cached_db engines send to Memcached, operation by operation.
//!
//! Django's commands were recorded. They are run again on one private server; our sessions do the same on another,
//! while a recorder listens. After each operation both servers have to hold the same values with the same flags under
//! the same keys, for as long.

#[path = "support/operations.rs"]
mod operations;

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cloakroom_compat::live::memcached::{Memcached, Recorder, Sent};
use cloakroom_compat::{Report, Vectors, text};
use cloakroom_core::settings::{CacheBackend, CacheConfig};
use cloakroom_core::wire::cache_key::{CACHE_ENGINE, CACHED_DB_ENGINE, CacheKeys};
use cloakroom_core::wire::session_data::Codec;
use cloakroom_core::{Clock, Timestamp};
use cloakroom_memcached::{MemcachedOptions, MemcachedStore};
use cloakroom_test_servers::{Kind, require_or_skip};
use operations::{Operation, Script};
use serde_json::Value;

const DEPARTURE: &str = "CACHE-ONE-COMMAND";
const THIRTY_DAYS: i64 = 2_592_000;

/// One command: name, key, and of those that store flags, expiry time and value.
#[derive(Clone, PartialEq, Eq)]
struct Command {
    name: String,
    key: String,
    stored: Option<(u64, i64, Vec<u8>)>,
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.name, self.key)?;
        match &self.stored {
            Some((flags, exptime, value)) => write!(f, " flags {flags} exptime {exptime} {}", value.escape_ascii()),
            None => Ok(()),
        }
    }
}

/// An expiry time as the server reads it: libmemcached writes negative ones as large ones.
fn exptime(number: i64) -> i64 {
    i64::from(number as u32 as i32)
}

fn recorded(case: &Value) -> Vec<Command> {
    let command = |command: &Value| Command {
        name: text(command, "cmd").into(),
        key: text(command, "key").into(),
        stored: command["value_b64"].as_str().map(|value| {
            let value = STANDARD.decode(value).unwrap_or_else(|problem| panic!("{value}: {problem}"));
            let number = |name: &str| command[name].as_i64().unwrap_or_else(|| panic!("no {name}: {command}"));
            (number("flags") as u64, exptime(number("exptime")), value)
        }),
    };
    case["commands"].as_array().into_iter().flatten().map(command).collect()
}

/// What was sent, under the names that Django's clients use for the same.
fn sent(sent: Sent) -> Command {
    let number = |at: usize| sent.words[at].parse::<i64>().expect("a number");
    let name = match sent.words[0].as_str() {
        "mg" if sent.words[2].starts_with('T') => "touch",
        "mg" => "get",
        "md" => "delete",
        "cas" => "set",
        other => other,
    };
    let stored = sent.value.as_ref().map(|value| (number(2) as u64, exptime(number(3)), value.clone()));
    Command { name: name.to_owned(), key: sent.words[1].clone(), stored }
}

/// Runs a recorded command again.
fn replay(server: &Memcached, command: &Command) {
    let Command { name, key, stored } = command;
    let answer = match stored {
        Some((flags, exptime, value)) => {
            server.send(&format!("{name} {key} {flags} {exptime} {}", value.len()), Some(value))
        }
        None => server.send(&format!("{name} {key}"), None),
    };
    assert!(!answer.contains("ERROR"), "{command:?}: {answer}");
}

/// What lies on a server, with the seconds that are left to it, rounded: both sides wrote it just now.
fn content(server: &Memcached, codec: &Codec) -> Vec<(String, u32, String, i64)> {
    // The marker of a deleted session is Django's `None`: no session for either side.
    let sessions = server.items("").into_iter().filter(|(_, item)| !codec.is_nothing(&item.value));
    sessions
        .map(|(key, item)| (key, item.flags, item.value.escape_ascii().to_string(), (item.ttl + 50) / 100 * 100))
        .collect()
}

/// The clock of the recording, as far as it shows: an expiry beyond thirty days is sent as a date.
fn recorded_at(commands: &[Vec<Command>]) -> Timestamp {
    let dates = commands.iter().flatten().filter_map(|command| command.stored.as_ref().map(|(_, exptime, _)| *exptime));
    let date = dates.filter(|exptime| *exptime > THIRTY_DAYS).min();
    Timestamp::from_secs(date.map_or(1_900_000_000, |date| date - THIRTY_DAYS - 1))
}

/// Lets one engine's sessions do what Django's did.
async fn check(cache: &CacheConfig, engine: &str, cases: &[&Value], report: &mut Report) -> Option<()> {
    let servers = [require_or_skip(Kind::Memcached)?, require_or_skip(Kind::Memcached)?];
    let [theirs, ours] = servers.each_ref().map(|server| Memcached::at(server.address()));
    let recorder = Recorder::before(&servers[1].address());
    let commands: Vec<Vec<Command>> = cases.iter().map(|case| recorded(case)).collect();
    let steps: Vec<Operation> = std::iter::zip(cases, &commands)
        .map(|(case, commands)| Operation {
            name: text(case, "op").to_owned(),
            keys: commands
                .iter()
                .map(|command| (command.key.clone(), command.stored.as_ref().map(|(_, _, value)| value.clone())))
                .collect(),
        })
        .collect();

    let mut cache = cache.clone();
    cache.locations = vec![recorder.address().to_owned()];
    let options = MemcachedOptions::from_cache(&cache).expect("options");
    let (codec, clock) = (options.codec(), Clock::manual(recorded_at(&commands)));
    let prefix = if engine == "cache" { CACHE_ENGINE } else { CACHED_DB_ENGINE };
    let keys = CacheKeys::new(&cache.key_prefix, cache.version, prefix);
    let store = Arc::new(MemcachedStore::new(options, keys, clock.clone()).expect("a store"));
    let mut script = Script::new(engine, store, codec.clone(), clock, &steps).await;

    for ((case, step), commands) in cases.iter().zip(&steps).zip(&commands) {
        if let Some(made) = script.prepare(step).await {
            let (_, item) = ours.items("").into_iter().find(|(key, _)| *key == made).expect("what was just made");
            theirs.send(&format!("set {made} {} {} {}", item.flags, item.ttl, item.value.len()), Some(&item.value));
        }
        recorder.sent();
        commands.iter().for_each(|command| replay(&theirs, command));
        let outcome = script.run(step).await;
        let found: Vec<Command> = recorder.sent().into_iter().map(sent).collect();
        let (expected, standing) = (content(&theirs, &codec), content(&ours, &codec));
        let name = format!("{engine}: {}", step.name);
        if outcome != case["error"].as_str() {
            report.fail(&name, format!("ended as {outcome:?}, and Django's as {}", case["error"]));
        } else if expected != standing {
            report.fail(&name, format!("holds {standing:?}, and Django's {expected:?}"));
        } else if found == *commands {
            report.checked();
        } else if engine == "cache" && found.len() > commands.len() {
            report.fail(&name, format!("{found:?}\ninstead of {commands:?}"));
        } else {
            println!("  {name}: {found:?}\n    instead of {commands:?}");
            report.departure(DEPARTURE);
        }
    }
    Some(())
}

fn run(file: &str, backend: CacheBackend) {
    let vectors = Vectors::load(file);
    let mut report = vectors.report(&["operations"]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut engines: Vec<&str> = vectors.section("operations").iter().map(|case| text(case, "engine")).collect();
    engines.dedup();
    for engine in engines {
        let cases: Vec<&Value> =
            vectors.section("operations").iter().filter(|case| text(case, "engine") == engine).collect();
        let cache = CacheConfig::new(backend.clone());
        if runtime.block_on(check(&cache, engine, &cases, &mut report)).is_none() {
            return;
        }
    }
    report.finish();
}

#[test]
fn vectors_cache_pymemcache_operations() {
    run("cache_pymemcache", CacheBackend::PyMemcache);
}

#[test]
fn vectors_cache_pylibmc_operations() {
    run("cache_pylibmc", CacheBackend::PyLibMc);
}
