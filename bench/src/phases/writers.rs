//! Many requests that write into one session at the same time.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::client::Client;
use crate::count::Count;
use crate::course::Course;

use crate::tally::{Answers, Tally, answered};
use crate::visitor::Visitor;

/// How many requests set keys of one session at the same time.
const WRITERS: usize = 200;
/// How many requests add one at the same time.
const INCREMENTS: usize = 1_000;
/// How long each handler works between loading the session and its end.
const HOLD: Duration = Duration::from_millis(5);

/// What became of the writers.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Writers {
    /// Requests in all rounds.
    pub requests: usize,
    /// What became of what was acknowledged.
    pub count: Count,
    /// Requests that were answered with 503: contended, or the store did not answer.
    pub refused: usize,
    /// Requests that were answered with neither 200 nor 503.
    pub failed: usize,
    /// All answers.
    pub answers: Answers,
}

impl Writers {
    fn new(count: Count, answers: Answers) -> Self {
        let requests = answers.values().map(|times| times.count).sum();
        let refused = answered(&answers, "503");
        Self { requests, count, refused, failed: requests - refused - answered(&answers, "200"), answers }
    }
}

/// Lets a crowd of requests loose all at once, and waits for all answers.
async fn at_once<F>(clients: Vec<Client>, request: impl Fn(Client) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let barrier = Arc::new(Barrier::new(clients.len()));
    let mut tasks = JoinSet::new();
    for client in clients {
        let (barrier, request) = (Arc::clone(&barrier), request(client));
        tasks.spawn(async move {
            barrier.wait().await;
            request.await;
        });
    }
    tasks.join_all().await;
}

/// A visitor who has a session.
pub(super) async fn somebody(course: &Course) -> anyhow::Result<Arc<Visitor>> {
    let visitor = Visitor::new(course);
    let exchange = course.client().get("/set?k=somebody&v=1", None).await;
    let session = exchange.ok().and_then(|response| visitor.jar.take(None, response));
    ensure!(session.is_some(), "the site makes no session, although nothing was broken yet");
    Ok(Arc::new(visitor))
}

/// Each request sets a key of its own.
pub async fn different_keys(course: &Arc<Course>, rounds: u64) -> anyhow::Result<Writers> {
    let (mut count, tally) = (Count::default(), Arc::new(Tally::default()));
    for _ in 0..rounds {
        let visitor = somebody(course).await?;
        let clients = course.crowd(WRITERS).await?;
        at_once(clients, |mut client| {
            let (course, visitor, tally) = (Arc::clone(course), Arc::clone(&visitor), Arc::clone(&tally));
            async move {
                visitor.set(&course, &mut client, &tally, HOLD).await;
            }
        })
        .await;
        for (_, verdict) in course.check(&mut course.client(), &visitor.ledger).await? {
            count += verdict.count;
        }
    }
    Ok(Writers::new(count, tally.answers()))
}

/// Each request adds one to the same counter.
pub async fn increments(course: &Arc<Course>, rounds: u64) -> anyhow::Result<Writers> {
    let (mut count, tally) = (Count::default(), Arc::new(Tally::default()));
    for _ in 0..rounds {
        let visitor = somebody(course).await?;
        let clients = course.crowd(INCREMENTS).await?;
        at_once(clients, |mut client| {
            let (visitor, tally) = (Arc::clone(&visitor), Arc::clone(&tally));
            async move {
                visitor.count(&mut client, &tally, HOLD).await;
            }
        })
        .await;
        for (_, verdict) in course.check(&mut course.client(), &visitor.ledger).await? {
            count += verdict.count;
        }
    }
    Ok(Writers::new(count, tally.answers()))
}

/// All requests set one key, to a value of their own each. Whichever is the last may win, but one that was acknowledged:
/// anything else is lost.
pub async fn one_key(course: &Arc<Course>, rounds: u64) -> anyhow::Result<Writers> {
    let (mut count, tally) = (Count::default(), Arc::new(Tally::default()));
    for _ in 0..rounds {
        let visitor = somebody(course).await?;
        let acknowledged = Arc::new(std::sync::Mutex::new(HashSet::new()));
        let clients = course.crowd(WRITERS).await?;
        at_once(clients, |mut client| {
            let (visitor, tally, acknowledged) = (Arc::clone(&visitor), Arc::clone(&tally), Arc::clone(&acknowledged));
            let number = course.number();
            async move {
                let sent = visitor.jar.cookie();
                let path = format!("/set?k=one&v={number}&sleep={}", HOLD.as_secs_f64());
                let exchange = client.get(&path, sent.as_deref()).await;
                tally.note(&exchange);
                if let Some(response) = exchange.ok() {
                    visitor.jar.take(sent.as_deref(), response);
                    acknowledged.lock().expect("nobody panics").insert(number);
                }
            }
        })
        .await;
        let acknowledged = std::mem::take(&mut *acknowledged.lock().expect("nobody panics"));
        let cookie = visitor.jar.cookie().unwrap_or_default();
        let data = course.look(&mut course.client(), &cookie).await?.unwrap_or_default();
        let won = data.get("one").and_then(Value::as_u64).is_some_and(|value| acknowledged.contains(&value));
        count += Count {
            acknowledged: acknowledged.len() as u64,
            found: u64::from(won),
            lost: u64::from(!won && !acknowledged.is_empty()),
            ..Count::default()
        };
    }
    Ok(Writers::new(count, tally.answers()))
}
