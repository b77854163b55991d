//! A session ends, or gets another key, while a hundred requests of it are in flight.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::task::JoinSet;
use tokio::time::{Instant as TokioInstant, sleep_until};

use super::writers::somebody;
use crate::client::{Client, Exchange, SetCookie};
use crate::count::Count;
use crate::course::Course;
use crate::schedule::burst;
use crate::tally::{Answers, Tally};
use crate::visitor::Visitor;

/// How many requests are in flight.
const IN_FLIGHT: usize = 100;
/// What a session holds whose visitor is signed in.
const USER: &str = "user";

/// What became of sessions that were signed out while requests of theirs were in flight.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SignOuts {
    /// Sign-outs that were answered with 200.
    pub sign_outs: usize,
    /// Sessions that the old cookie could read afterwards.
    pub revived: usize,
    /// Other cookies that late requests were given, and that were signed in.
    pub signed_in_again: usize,
    /// Answers after the sign-out's that set the old cookie again.
    pub old_cookies: usize,
    /// Answers after the sign-out's that set the cookie of a new session.
    pub new_cookies: usize,
    /// All answers to the requests in flight.
    pub answers: Answers,
}

/// Signs out in the middle of a burst, so many times.
pub async fn sign_outs(course: &Arc<Course>, rounds: u64) -> anyhow::Result<SignOuts> {
    let (mut sum, tally) = (SignOuts::default(), Arc::new(Tally::default()));
    for round in 0..rounds {
        let mut client = course.client();
        let signed_in = client.get(&format!("/set?k={USER}&v=1"), None).await;
        let Some(SetCookie::Value(key)) = signed_in.ok().map(|response| response.cookie.clone()) else {
            anyhow::bail!("the site makes no session, although nothing was broken yet");
        };
        let plan = burst(course.seed, round, IN_FLIGHT);
        let clients = course.crowd(IN_FLIGHT).await?;
        let begin = TokioInstant::now();
        let mut tasks = JoinSet::new();
        for (mut client, (start, hold)) in clients.into_iter().zip(plan.requests) {
            let (tally, key) = (Arc::clone(&tally), key.clone());
            let path = format!("/set?k=late&v={}&sleep={}", course.number(), hold.as_secs_f64());
            tasks.spawn(async move {
                sleep_until(begin + start).await;
                let exchange = client.get(&path, Some(&key)).await;
                tally.note(&exchange);
                exchange
            });
        }
        sleep_until(begin + plan.blow).await;
        let sign_out = client.get("/logout", Some(&key)).await;
        let exchanges = tasks.join_all().await;
        if sign_out.ok().is_none() {
            continue;
        }
        sum.sign_outs += 1;
        sum.revived += usize::from(!look(course, &mut client, &key).await?.is_empty());
        let answered = sign_out.sent + sign_out.took;
        for cookie in late_cookies(&exchanges, answered) {
            if *cookie == key {
                sum.old_cookies += 1;
                continue;
            }
            sum.new_cookies += 1;
            sum.signed_in_again += usize::from(look(course, &mut client, cookie).await?.contains_key(USER));
        }
    }
    sum.answers = tally.answers();
    Ok(sum)
}

/// What can be read with a cookie, while nothing is broken.
async fn look(course: &Course, client: &mut Client, cookie: &str) -> anyhow::Result<Map<String, Value>> {
    course.look(client, cookie).await?.context("the site does not answer, although nothing was broken yet")
}

/// The cookies that were given after a time.
fn late_cookies(exchanges: &[Exchange], after: Instant) -> impl Iterator<Item = &String> {
    let late = exchanges.iter().filter(move |exchange| exchange.sent + exchange.took > after);
    late.filter_map(|exchange| match &exchange.response()?.cookie {
        SetCookie::Value(value) => Some(value),
        SetCookie::No | SetCookie::Removed => None,
    })
}

/// What became of sessions that got a new key while requests with the old one were in flight.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Rotations {
    /// Rotations that were answered with 200.
    pub rotations: usize,
    /// What became of what was acknowledged.
    pub count: Count,
    /// Changes that were acknowledged with a new session of their own, since they came with a key that was no session's
    /// any more.
    pub elsewhere: u64,
    /// All answers to the requests in flight.
    pub answers: Answers,
}

/// Rotates in the middle of a burst, so many times.
pub async fn rotations(course: &Arc<Course>, rounds: u64) -> anyhow::Result<Rotations> {
    let (mut sum, tally) = (Rotations::default(), Arc::new(Tally::default()));
    for round in 0..rounds {
        let visitor: Arc<Visitor> = somebody(course).await?;
        // Another burst than that of the sign-out.
        let plan = burst(!course.seed, round, IN_FLIGHT);
        let clients = course.crowd(IN_FLIGHT).await?;
        let begin = TokioInstant::now();
        let mut tasks = JoinSet::new();
        for (mut client, (start, hold)) in clients.into_iter().zip(plan.requests) {
            let (course, visitor, tally) = (Arc::clone(course), Arc::clone(&visitor), Arc::clone(&tally));
            tasks.spawn(async move {
                sleep_until(begin + start).await;
                visitor.set(&course, &mut client, &tally, hold).await;
            });
        }
        sleep_until(begin + plan.blow).await;
        let former = visitor.jar.session(visitor.jar.cookie().as_deref());
        let rotated = visitor.rotate(&mut course.client(), &Tally::default()).await;
        tasks.join_all().await;
        sum.rotations += usize::from(rotated);
        let families = visitor.ledger.families();
        for (name, verdict) in course.check(&mut course.client(), &visitor.ledger).await? {
            sum.count += verdict.count;
            let is_own = former.as_ref().is_some_and(|key| *key == name || families[&name].former.contains(key));
            sum.elsewhere += if is_own { 0 } else { verdict.count.acknowledged };
        }
    }
    sum.answers = tally.answers();
    Ok(sum)
}
