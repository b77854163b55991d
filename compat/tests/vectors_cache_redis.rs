//! What the cache and cached_db engines send to Redis, operation by operation.
//!
//! Django's commands were recorded. They are run again in one database of a private server; our sessions do the same in
//! another, while the server reports what it carries out. After each operation both databases have to hold the same
//! values under the same keys, for as long.

#[path = "support/operations.rs"]
mod operations;

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cloakroom_compat::live::redis::{Answer, Carried, Monitor, Redis};
use cloakroom_compat::{Report, Vectors, text};
use cloakroom_core::settings::{CacheBackend, CacheConfig};
use cloakroom_core::wire::cache_key::{CACHE_ENGINE, CACHED_DB_ENGINE};
use cloakroom_core::wire::session_data::Codec;
use cloakroom_core::{Clock, Timestamp};
use cloakroom_redis::{RedisOptions, RedisStore};
use cloakroom_test_servers::{Kind, Server, shared};
use operations::{Operation, Script};
use serde_json::Value;

const DEPARTURE: &str = "CACHE-ONE-COMMAND";

/// One command as recorded, or as carried out: name, key, value, options in order of their names.
#[derive(Clone, PartialEq, Eq)]
struct Command {
    name: String,
    key: String,
    value: Vec<u8>,
    options: Vec<String>,
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {} {:?}", self.name, self.key, self.value.escape_ascii(), self.options)
    }
}

fn recorded(case: &Value) -> Vec<Command> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let command = |command: &Value| {
        let mut options: Vec<String> =
            list(&command["options"]).iter().map(|option| option.as_str().expect("text").to_owned()).collect();
        options.sort();
        let value = command["value_b64"].as_str().unwrap_or_default();
        let value = STANDARD.decode(value).unwrap_or_else(|problem| panic!("{value}: {problem}"));
        Command { name: text(command, "cmd").into(), key: text(command, "key").into(), value, options }
    };
    list(&case["commands"]).iter().map(command).collect()
}

/// A command that was carried out; nothing for those that only carry others.
fn command(carried: &Carried) -> Option<Command> {
    let word = |at: usize| String::from_utf8_lossy(&carried.words[at]).into_owned();
    let name = word(0).to_uppercase();
    if matches!(name.as_str(), "EVALSHA" | "EVAL" | "SELECT" | "CLIENT") {
        return None;
    }
    let value = carried.words.get(2).filter(|_| name == "SET").cloned().unwrap_or_default();
    let mut options: Vec<String> = (3..carried.words.len()).map(word).collect();
    options.sort();
    Some(Command { name, key: word(1), value, options })
}

/// What was carried out since the last look, and how many exchanges that took.
fn carried(monitor: &mut Monitor) -> (Vec<Command>, usize) {
    let carried = monitor.carried();
    let connecting = |carried: &&Carried| matches!(&carried.words[0][..], b"SELECT" | b"CLIENT" | b"client");
    let exchanges = carried.iter().filter(|carried| !carried.by_script && !connecting(carried)).count();
    (carried.iter().filter_map(command).collect(), exchanges)
}

/// What lies in a database, with the seconds that are left to it, rounded: both sides wrote it just now.
fn content(database: &mut Redis, codec: &Codec) -> Vec<(String, String, i64)> {
    let items = database.items("").into_iter();
    // The marker of a deleted session is Django's `None`: no session for either side.
    let sessions: Vec<_> = items.filter(|(_, value)| !codec.is_nothing(value)).collect();
    let round = |left: i64| (left + 50_000) / 100_000 * 100;
    sessions
        .into_iter()
        .map(|(key, value)| {
            let left = round(database.lifetime(&key));
            (key, value.escape_ascii().to_string(), left)
        })
        .collect()
}

/// Runs a recorded command again.
fn replay(database: &mut Redis, command: &Command) {
    let mut words = vec![command.name.clone().into_bytes(), command.key.clone().into_bytes()];
    if command.name == "SET" {
        words.push(command.value.clone());
        // Sorted by name, an option's number stands before it.
        let number = command.options.iter().find(|option| option.parse::<i64>().is_ok());
        for option in command.options.iter().filter(|option| option.parse::<i64>().is_err()) {
            words.push(option.clone().into_bytes());
            if option != "NX" {
                words.push(number.expect("a number for the unit").clone().into_bytes());
            }
        }
    }
    let answer = database.ask(&words);
    assert!(!matches!(answer, Answer::Error(_)), "{command:?}: {answer:?}");
}

/// Lets one engine's sessions do what Django's did.
async fn check(server: &Server, cache: &mut CacheConfig, engine: &str, cases: &[&Value], report: &mut Report) {
    let steps: Vec<Operation> = cases
        .iter()
        .map(|case| {
            let value = |command: &Command| (command.name == "SET").then(|| command.value.clone());
            let keys = recorded(case).iter().map(|command| (command.key.clone(), value(command))).collect();
            Operation { name: text(case, "op").to_owned(), keys }
        })
        .collect();
    let url = server.database();
    cache.locations = vec![url.clone()];
    let prefix = if engine == "cache" { CACHE_ENGINE } else { CACHED_DB_ENGINE };
    let options = RedisOptions::from_cache(cache, prefix).expect("options");
    let codec = cloakroom_redis::codec(cache).expect("a codec");
    let clock = Clock::manual(Timestamp::from_secs(1_900_000_000));
    let store = Arc::new(RedisStore::open(options, clock.clone()).expect("a store"));
    let mut script = Script::new(engine, store, codec.clone(), clock, &steps).await;
    let (mut monitor, mut ours) = (Redis::at(&url).monitor(), Redis::at(&url));
    let mut theirs = Redis::at(&server.database());
    let mut before = Vec::new();
    for (case, step) in cases.iter().zip(&steps) {
        let (operation, commands) = (step.name.as_str(), recorded(case));
        if let Some(made) = script.prepare(step).await {
            let (_, value) = ours.items("").into_iter().find(|(key, _)| *key == made).expect("what was just made");
            theirs.ask(&[&b"SET"[..], made.as_bytes(), &value]);
            carried(&mut monitor);
        }
        commands.iter().for_each(|command| replay(&mut theirs, command));
        let outcome = script.run(step).await;
        let (carried_out, exchanges) = carried(&mut monitor);
        let (expected, found) = (content(&mut theirs, &codec), content(&mut ours, &codec));
        // What was looked at just now is none of it.
        carried(&mut monitor);
        let name = format!("{engine}: {operation}");
        if outcome != case["error"].as_str() {
            report.fail(&name, format!("ended as {outcome:?}, and Django's as {}", case["error"]));
        } else if expected != found {
            report.fail(&name, format!("holds {found:?}, and Django's {expected:?}\nbefore: {before:?}"));
        } else if carried_out == commands {
            report.checked();
        } else if engine == "cache" && exchanges > commands.len() {
            report.fail(&name, format!("{exchanges} exchanges: {carried_out:?}\ninstead of {commands:?}"));
        } else {
            println!("  {name}: {carried_out:?}\n    instead of {commands:?}");
            report.departure(DEPARTURE);
        }
        before = found;
    }
}

fn run(file: &str, mut cache: CacheConfig) {
    let vectors = Vectors::load(file);
    let Some(server) = shared(Kind::Redis) else { return };
    let mut report = vectors.report(&["operations"]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut engines: Vec<&str> = vectors.section("operations").iter().map(|case| text(case, "engine")).collect();
    engines.dedup();
    for engine in engines {
        let cases: Vec<&Value> =
            vectors.section("operations").iter().filter(|case| text(case, "engine") == engine).collect();
        runtime.block_on(check(server, &mut cache, engine, &cases, &mut report));
    }
    report.finish();
}

#[test]
fn vectors_cache_redis_operations() {
    run("cache_redis", CacheConfig::new(CacheBackend::Redis));
}

#[test]
fn vectors_cache_django_redis_operations() {
    run("cache_django_redis", CacheConfig::new(CacheBackend::DjangoRedis));
}

#[test]
fn vectors_cache_django_redis_json_operations() {
    let mut cache = CacheConfig::new(CacheBackend::DjangoRedis);
    let json = "django_redis.serializers.json.JSONSerializer";
    cache.options = vec![("SERIALIZER".into(), json.into())];
    run("cache_django_redis_json", cache);
}
