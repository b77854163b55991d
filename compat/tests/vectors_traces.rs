//! `traces_ENGINE.json`: scripts on one session object, with its state after every step.

mod support;

use cloakroom_compat::{Vectors, expiry_argument, moment, python_json};
use cloakroom_core::{Error, ErrorKind, SessionKey, SessionSlot};

use serde_json::Value;
use support::{Options, Site};

/// One session object under test, as a script sees it.
struct Script {
    site: Site,
    slot: SessionSlot,
    /// The key before the last reopening, opening, flush, rotation or deletion.
    presented: Option<String>,
}

/// What a step came to: a value in Python's JSON, nothing, or the name of the exception.
type Outcome = Result<Option<String>, &'static str>;

fn exception(error: &Error) -> &'static str {
    match error.kind() {
        ErrorKind::Missing => "KeyError",
        ErrorKind::Interrupted => "UpdateError",
        kind => panic!("{kind:?}: {error}"),
    }
}

impl Script {
    fn key(&self) -> Option<String> {
        self.slot.key().map(|key| key.as_str().to_owned())
    }

    fn open(&mut self, key: Option<&str>) {
        self.slot = self.site.request(key);
    }

    async fn step(&mut self, op: &[Value]) -> Outcome {
        let name = op[0].as_str().unwrap();
        let text = |at: usize| op[at].as_str().unwrap();
        let json = |at: usize| cloakroom_core::RawJson::parse(&python_json(&op[at])).unwrap();
        // What needs no data comes first: it must not load.
        match name {
            "noop" => return Ok(None),
            "reset_flags" => {
                self.slot.reset_flags();
                return Ok(None);
            }
            "is_empty" => return Ok(Some(self.slot.is_empty().to_string())),
            "is_loaded" => return Ok(Some(self.slot.is_loaded().to_string())),
            "session_key" => return Ok(Some(self.key().map_or("null".into(), |key| format!("\"{key}\"")))),
            "session_key_is_presented" => return Ok(Some((self.key() == self.presented).to_string())),
            "exists_self" => return Ok(Some(self.site.exists(self.key().as_deref()).await.to_string())),
            "exists_presented" => return Ok(Some(self.site.exists(self.presented.as_deref()).await.to_string())),
            "record_count" => {
                return Ok(Some(match self.site.store() {
                    Some(_) => self.site.keys().await.len().to_string(),
                    None => "null".to_owned(),
                }));
            }
            "advance" => {
                let seconds: f64 = python_json(&op[1]).parse().unwrap();
                self.site.clock.advance(std::time::Duration::from_secs_f64(seconds));
                return Ok(None);
            }
            "clear_expired" => {
                self.site.clear_expired().await;
                return Ok(None);
            }
            "reopen" => {
                self.presented = self.key();
                let key = self.key();
                self.open(key.as_deref());
                return Ok(None);
            }
            "create" => {
                self.slot.create().await.map_err(|e| exception(&e))?;
                return Ok(None);
            }
            "save" => {
                self.slot.save().await.map_err(|e| exception(&e))?;
                return Ok(None);
            }
            "load" => return Ok(Some(self.slot.reload().await.unwrap().to_json())),
            "flush" => {
                self.presented = self.key();
                self.slot.flush();
                self.end_flushed().await;
                return Ok(None);
            }
            "delete" => {
                self.presented = self.key();
                self.delete().await;
                return Ok(None);
            }
            "delete_elsewhere" => {
                if let (Some(store), Some(key)) = (self.site.store(), self.slot.key()) {
                    store.delete(&key, None).await.unwrap();
                }
                return Ok(None);
            }
            "elsewhere_set_save" => {
                let other = self.site.request(self.key().as_deref());
                other.load().await.unwrap().insert_raw(text(1), json(2));
                other.save().await.unwrap();
                return Ok(None);
            }
            "save_must_create" => {
                let session = self.slot.load().await.unwrap();
                let (Some(store), Some(codec)) = (self.site.store(), self.site.codec()) else {
                    self.slot.save().await.unwrap();
                    return Ok(None);
                };
                let now = self.site.clock.now();
                let payload = codec.encode(&(&session).into(), now).unwrap();
                let key = self.slot.key().unwrap();
                return match store.create(&key, payload, now).await.unwrap() {
                    cloakroom_core::store::Created::Taken => Err("CreateError"),
                    cloakroom_core::store::Created::Created(_) => Ok(None),
                };
            }
            _ => {}
        }
        let session = self.slot.load().await.unwrap();
        let found = |value: Option<cloakroom_core::RawJson>| value.map(|raw| raw.as_str().to_owned());
        Ok(match name {
            "get" => Some(found(session.get_raw(text(1))).unwrap_or("null".into())),
            "get_default" => Some(found(session.get_raw(text(1))).unwrap_or_else(|| python_json(&op[2]))),
            "getitem" => Some(found(session.get_raw(text(1))).ok_or("KeyError")?),
            "contains" | "has_key" => Some(session.contains_key(text(1)).to_string()),
            "keys" => Some(cloakroom_core::json::to_string(&session.keys()).unwrap()),
            "values" => {
                let values: Vec<_> = session.iter().map(|(_, raw)| raw.as_str().to_owned()).collect();
                Some(format!("[{}]", values.join(",")))
            }
            "items" => Some(session.to_json()),
            "set" => {
                session.insert_raw(text(1), json(2));
                None
            }
            "del" => {
                session.remove_raw(text(1)).ok_or("KeyError")?;
                None
            }
            "pop" => Some(found(session.remove_raw(text(1))).ok_or("KeyError")?),
            "pop_default" => Some(found(session.remove_raw(text(1))).unwrap_or_else(|| python_json(&op[2]))),
            "setdefault" => {
                let value = session.get_or_insert_raw(text(1), || json(2));
                Some(value.as_str().to_owned())
            }
            "update" => {
                let pairs = op[1]["d"].as_array().unwrap().iter();
                session.extend_raw(pairs.map(|pair| {
                    let raw = cloakroom_core::RawJson::parse(&python_json(&pair[1])).unwrap();
                    (pair[0].as_str().unwrap(), raw)
                }));
                None
            }
            "append_in_place" => {
                let mut list: Vec<i64> = session.get(text(1)).unwrap().unwrap();
                list.push(json(2).deserialize().unwrap());
                None
            }
            "clear" => {
                session.clear();
                None
            }
            "cycle_key" => {
                self.presented = self.key();
                session.cycle_key().unwrap();
                // Django rotates at once, we when the request ends.
                if self.site.store().is_some() {
                    self.slot.save().await.map_err(|e| exception(&e))?;
                }
                None
            }
            "set_expiry" => {
                session.set_expiry(expiry_argument(&op[1])).unwrap();
                None
            }
            "get_expiry_age" => Some(session.expiry_age().unwrap().to_string()),
            "browser_close" => Some(session.expires_at_browser_close().unwrap().to_string()),
            "set_test_cookie" => {
                session.set_test_cookie();
                None
            }
            "test_cookie_worked" => Some(session.test_cookie_worked().to_string()),
            "delete_test_cookie" => {
                session.delete_test_cookie().map_err(|e| exception(&e))?;
                None
            }
            other => panic!("no operation {other}"),
        })
    }

    /// Django deletes at once, we when the request ends; with status 500 nothing else happens then.
    async fn end_flushed(&self) {
        self.site.exchange.commit(&self.slot, 500).await.unwrap();
    }

    /// Django's `delete` without a key. Here a session ends by `flush`, and a record is deleted in its store.
    async fn delete(&mut self) {
        match (self.site.store(), self.slot.key()) {
            (Some(store), Some(key)) => {
                store.delete(&key, None).await.unwrap();
            }
            (Some(_), None) => {}
            (None, _) => {
                let accessed = self.slot.accessed();
                self.slot.flush();
                self.slot.reset_flags();
                self.slot.set_modified(true);
                if accessed {
                    self.slot.load().await.unwrap().len();
                }
            }
        }
    }
}

/// The rows of `docs/django.md` that explain why a case differs, by its name and engine.
fn expected_departure(engine: &str, name: &str) -> Option<&'static str> {
    Some(match (engine, name) {
        (_, "mutate_nested") => "VALUES-ARE-COPIES",
        (_, "lost_update") if engine != "signed_cookies" => "NO-LOST-UPDATES",
        (_, "unknown_key_save_without_load") if engine != "signed_cookies" => "UNKNOWN-KEY-SAVE",
        ("file", "expiry_int" | "clear_expired") => "FILE-INT-EXPIRY",
        ("file", "expiry_negative" | "default_age_passes") => "FILE-EXPIRED-READ",
        ("signed_cookies", "expiry_int" | "expiry_negative") => "SIGNED-COOKIES-EXPIRY",
        _ => return None,
    })
}

async fn run(engine: &'static str) {
    let file = format!("traces_{engine}");
    let recorded = Vectors::load(&file);
    let mut report = recorded.report(&["cases"]);
    let vectors = recorded.root();
    for case in recorded.section("cases") {
        let name = case["name"].as_str().unwrap();
        let options = Options {
            secret: vectors["secret"].as_str().unwrap(),
            fallbacks: Vec::new(),
            cookie_age: vectors["session_cookie_age"].as_i64().unwrap(),
            save_every_request: false,
            now: moment(case, "start"),
            keys: case["keys_generated"].as_array().unwrap().iter().map(|key| key.as_str().unwrap()).collect(),
        };
        let site = Site::open(engine, options).await;
        let slot = site.request(None);
        let mut script = Script { site, slot, presented: None };
        let mut differences = Vec::new();
        for (number, step) in case["steps"].as_array().unwrap().iter().enumerate() {
            if let Some(opened) = step.get("opened_key") {
                let opened = opened.as_str();
                script.presented = opened.map(str::to_owned);
                script.open(opened);
            }
            let op = step["op"].as_array().unwrap();
            let outcome = if op[0] == "open" { Ok(None) } else { script.step(op).await };
            let expected = match step.get("error") {
                Some(error) => Err(error.as_str().unwrap()),
                None => Ok(step.get("result").map(python_json)),
            };
            let state = (
                script.slot.accessed(),
                script.slot.modified(),
                script.slot.is_empty(),
                script.slot.is_loaded(),
                script.slot.key(),
            );
            let expected_state = (
                step["accessed"].as_bool().unwrap(),
                step["modified"].as_bool().unwrap(),
                step["empty"].as_bool().unwrap(),
                step["loaded"].as_bool().unwrap(),
                step["key"].as_str().and_then(SessionKey::presented),
            );
            let same_key = same_key(&state.4, &expected_state.4);
            let same = outcome == expected
                && (state.0, state.1, state.2, state.3)
                    == (expected_state.0, expected_state.1, expected_state.2, expected_state.3)
                && same_key;
            if !same {
                differences.push(format!(
                    "{name}, step {number} {op:?}: {outcome:?} {state:?}, Django {expected:?} {expected_state:?}"
                ));
            }
        }
        support::account(&mut report, expected_departure(engine, name), &differences);
    }
    report.finish();
}

/// Keys are drawn as recorded; a signed cookie's text is the same but for the bytes of a compressor.
fn same_key(ours: &Option<SessionKey>, django: &Option<SessionKey>) -> bool {
    let compressed = |key: &Option<SessionKey>| key.as_ref().is_some_and(|key| key.as_str().starts_with('.'));
    ours == django || (compressed(ours) && compressed(django))
}

#[tokio::test]
async fn vectors_traces_db() {
    run("db").await;
}

#[tokio::test]
async fn vectors_traces_cache() {
    run("cache").await;
}

#[tokio::test]
async fn vectors_traces_cached_db() {
    run("cached_db").await;
}

#[tokio::test]
async fn vectors_traces_file() {
    run("file").await;
}

#[tokio::test]
async fn vectors_traces_signed_cookies() {
    run("signed_cookies").await;
}
