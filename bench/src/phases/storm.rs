//! Mixed load while servers, or the site, are killed, frozen and restarted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::task::JoinSet;

use crate::breaker::{Breaker, Done};
use crate::client::Client;
use crate::count::Count;
use crate::course::Course;
use crate::schedule::{Act, HANDS, Step, life};
use crate::tally::{Answers, Tally};
use crate::visitor::{Visitor, Written};

/// How many visitors there are, with several requests each under way.
const VISITORS: u64 = 24;
/// What somebody waits who was not answered with 200.
const PAUSE: Duration = Duration::from_millis(20);

/// What became of everything that was acknowledged.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Storm {
    /// How long it took, in seconds.
    pub seconds: f64,
    /// What was broken.
    pub victims: Vec<&'static str>,
    /// How often.
    pub faults: Done,
    /// Sessions.
    pub sessions: usize,
    /// What became of what was acknowledged.
    pub count: Count,
    /// The first losses, in words.
    pub losses: Vec<String>,
    /// Answers that did not show what had been acknowledged before they were asked for.
    pub stale: u64,
    /// The longest time from a repair until a request that was sent after it was answered with 200, in milliseconds.
    pub longest_recovery: f64,
    /// All answers.
    pub answers: Answers,
}

/// How long nothing happens before the last look. What was still on its way has arrived by then: statements that a
/// server carries out after it was frozen, and what a site owes its cache.
const CALM: Duration = Duration::from_secs(5);
/// How many losses are told one by one.
const TOLD: usize = 20;

/// What the visitors share.
struct Weather {
    course: Arc<Course>,
    breaker: Arc<Breaker>,
    tally: Tally,
    stale: AtomicU64,
    deadline: Instant,
}

impl Weather {
    fn is_over(&self) -> bool {
        Instant::now() >= self.deadline
    }
}

/// Breaks things for so long under the load of many visitors, then looks at everything that was acknowledged.
pub async fn storm(
    course: &Arc<Course>,
    breaker: Breaker,
    length: Duration,
    tell: impl Fn(String),
) -> anyhow::Result<Storm> {
    let (breaker, begin) = (Arc::new(breaker), Instant::now());
    let weather = Arc::new(Weather {
        course: Arc::clone(course),
        breaker: Arc::clone(&breaker),
        tally: Tally::default(),
        stale: AtomicU64::new(0),
        deadline: begin + length,
    });
    let mut visitors = JoinSet::new();
    for visitor in 0..VISITORS {
        visitors.spawn(lives(Arc::clone(&weather), visitor));
    }
    let faults = Arc::clone(&breaker).run(Arc::clone(course), weather.deadline, tell).await?;
    let mut all = Vec::new();
    while let Some(lived) = visitors.join_next().await {
        all.extend(lived??);
    }
    let seconds = begin.elapsed().as_secs_f64();
    if !breaker.victims().is_empty() {
        tokio::time::sleep(CALM).await;
    }

    let (mut count, mut losses, mut sessions, mut client) = (Count::default(), Vec::new(), 0, course.client());
    for visitor in &all {
        for (_, verdict) in course.check(&mut client, &visitor.ledger).await? {
            sessions += 1;
            count += verdict.count;
            losses.extend(verdict.losses);
        }
    }
    losses.truncate(TOLD);
    Ok(Storm {
        seconds,
        victims: breaker.victims(),
        faults,
        sessions,
        count,
        losses,
        stale: weather.stale.load(Ordering::Relaxed),
        longest_recovery: breaker.longest_recovery(),
        answers: weather.tally.answers(),
    })
}

/// The sessions of one visitor, one after the other.
async fn lives(weather: Arc<Weather>, number: u64) -> anyhow::Result<Vec<Arc<Visitor>>> {
    let mut lived = Vec::new();
    let mut hands: Vec<Client> = (0..HANDS).map(|_| weather.course.client()).collect();
    while !weather.is_over() {
        let visitor = Arc::new(Visitor::new(&weather.course));
        let plan = life(weather.course.seed, number, lived.len() as u64);
        lived.push(Arc::clone(&visitor));
        open(&weather, &visitor, &mut hands[0]).await;
        let mut tasks = JoinSet::new();
        for (client, steps) in hands.drain(..).zip(plan.hands) {
            tasks.spawn(hand(Arc::clone(&weather), Arc::clone(&visitor), client, steps));
        }
        hands = tasks.join_all().await;
        let course = &weather.course;
        for (name, verdict) in course.check(&mut hands[0], &visitor.ledger).await? {
            if !verdict.is_clean() {
                visitor.ledger.accused(&name, verdict);
            } else if verdict.count.found == verdict.count.acknowledged {
                visitor.ledger.found(&name);
            }
        }
    }
    Ok(lived)
}

/// Begins a session, however long that takes.
async fn open(weather: &Weather, visitor: &Visitor, client: &mut Client) {
    while !weather.is_over() {
        if let Some(written) = visitor.set(&weather.course, client, &weather.tally, Duration::ZERO).await {
            return weather.breaker.answered(written.sent);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The requests of one hand, one after the other.
async fn hand(weather: Arc<Weather>, visitor: Arc<Visitor>, mut client: Client, steps: Vec<Step>) -> Client {
    let (course, tally) = (&weather.course, &weather.tally);
    let mut last: Option<Written> = None;
    for Step { act, hold } in steps {
        if weather.is_over() {
            break;
        }
        let sent = Instant::now();
        let is_well = match act {
            Act::Set => {
                let written = visitor.set(course, &mut client, tally, hold).await;
                let is_well = written.is_some();
                last = written.or(last);
                is_well
            }
            Act::Count => visitor.count(&mut client, tally, hold).await,
            Act::Read => match &last {
                None => continue,
                Some(written) => match visitor.read(course, &mut client, tally, written, hold).await {
                    Some(is_right) => {
                        weather.stale.fetch_add(u64::from(!is_right), Ordering::Relaxed);
                        true
                    }
                    None => false,
                },
            },
            Act::Rotate => visitor.rotate(&mut client, tally).await,
            Act::SignOut => visitor.sign_out(&mut client, tally).await.is_some(),
        };
        match is_well {
            true => weather.breaker.answered(sent),
            false => tokio::time::sleep(PAUSE).await,
        }
    }
    client
}
