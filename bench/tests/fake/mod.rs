//! A small site in this process, with its sessions in a map and one habit.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use cloakroom_bench::client::COOKIE_NAME;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{COOKIE, SET_COOKIE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;

/// What a fake does with changes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Habit {
    /// Makes them on what stands when the request ends, and answers 400 if nothing does.
    Merges,
    /// Saves the session as it was when the request began, with its change, whatever stands there by then.
    SavesWhole,
    /// As `Merges`, but every tenth change is acknowledged and not made.
    DropsEveryTenth,
    /// As `Merges`, but every increment is made twice.
    CountsTwice,
    /// As `Merges`, but every tenth change is answered with 503 and not made.
    RefusesEveryTenth,
}

type Data = Map<String, Value>;

struct Fake {
    habit: Habit,
    sessions: Mutex<HashMap<String, Data>>,
    keys: AtomicU64,
    changes: AtomicU64,
}

/// Serves until the test ends.
pub(crate) async fn serve(habit: Habit) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sessions, keys, changes) = Default::default();
    let fake = Arc::new(Fake { habit, sessions, keys, changes });
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let fake = Arc::clone(&fake);
            let service = service_fn(move |request| answer(Arc::clone(&fake), request));
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    address
}

/// What a request does to its session.
enum Change {
    Set(String, u64),
    Count(String),
}

async fn answer(fake: Arc<Fake>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let query: HashMap<&str, &str> =
        request.uri().query().unwrap_or("").split('&').filter_map(|pair| pair.split_once('=')).collect();
    let cookie = request.headers().get(COOKIE).and_then(|value| value.to_str().ok());
    let key = cookie.and_then(|text| text.strip_prefix(COOKIE_NAME)?.strip_prefix('=')).map(str::to_owned);
    let loaded = key.as_ref().and_then(|key| fake.sessions.lock().unwrap().get(key).cloned());
    // A key under which nothing stands is nobody's.
    let key = key.filter(|_| loaded.is_some());
    let data = loaded.unwrap_or_default();
    if let Some(seconds) = query.get("sleep").and_then(|text| text.parse().ok()) {
        tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    }
    let name = || query["k"].to_owned();
    Ok(match request.uri().path() {
        "/all" => respond(200, None, json!({"data": data})),
        "/get" => respond(200, None, json!({"value": data.get(&name())})),
        "/set" => fake.change(key, data, Change::Set(name(), query["v"].parse().unwrap())),
        "/incr" => fake.change(key, data, Change::Count(name())),
        "/cycle" => fake.rotate(key),
        "/logout" => {
            key.map(|key| fake.sessions.lock().unwrap().remove(&key));
            respond(200, Some("; Max-Age=0"), json!({}))
        }
        other => panic!("the torture asked for {other}"),
    })
}

impl Fake {
    fn change(&self, key: Option<String>, loaded: Data, change: Change) -> Response<Full<Bytes>> {
        let tenth = self.changes.fetch_add(1, Ordering::SeqCst) % 10 == 9;
        if tenth && self.habit == Habit::RefusesEveryTenth {
            return respond(503, None, json!({}));
        }
        let mut sessions = self.sessions.lock().unwrap();
        let (key, mut data) = match key {
            None => (self.new_key(), loaded),
            Some(key) if self.habit == Habit::SavesWhole => (key, loaded),
            Some(key) => match sessions.get(&key).cloned() {
                Some(data) => (key, data),
                None => return respond(400, None, json!({})),
            },
        };
        if !(tenth && self.habit == Habit::DropsEveryTenth) {
            match change {
                Change::Set(name, value) => drop(data.insert(name, value.into())),
                Change::Count(name) => {
                    let more = if self.habit == Habit::CountsTwice { 2 } else { 1 };
                    let value = data.get(&name).and_then(Value::as_u64).unwrap_or(0) + more;
                    data.insert(name, value.into());
                }
            }
        }
        sessions.insert(key.clone(), data);
        respond(200, Some(&key), json!({}))
    }

    fn rotate(&self, key: Option<String>) -> Response<Full<Bytes>> {
        let mut sessions = self.sessions.lock().unwrap();
        let before = key.and_then(|key| Some((sessions.remove(&key)?, key)));
        let (data, before) = before.unzip();
        let new = self.new_key();
        sessions.insert(new.clone(), data.unwrap_or_default());
        respond(200, Some(&new), json!({"before": before}))
    }

    fn new_key(&self) -> String {
        format!("key{}", self.keys.fetch_add(1, Ordering::SeqCst))
    }
}

fn respond(status: u16, cookie: Option<&str>, body: Value) -> Response<Full<Bytes>> {
    let mut response = Response::builder().status(status);
    if let Some(cookie) = cookie {
        response = response.header(SET_COOKIE, format!("{COOKIE_NAME}={cookie}"));
    }
    response.body(Full::new(body.to_string().into())).unwrap()
}
