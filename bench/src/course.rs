//! What every phase works on: a site, in one process or in several on one store.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::{Map, Value};

use crate::client::Client;
use crate::count::Verdict;
use crate::jar::CookieKind;
use crate::ledger::{Family, Ledger};

/// How long a site that nobody breaks any more may take until it answers.
const RECOVERY: Duration = Duration::from_secs(60);

/// The site under test.
#[derive(Debug)]
pub struct Course {
    /// Where it listens; visitors are spread over several places that share one store.
    sites: Vec<SocketAddr>,
    /// What its session cookie is.
    pub cookie: CookieKind,
    /// What the schedule is drawn from.
    pub seed: u64,
    next_site: AtomicUsize,
    next_number: AtomicU64,
    /// Times at which something forgot all that it had been sent; the last one may still be going on.
    forgot: Mutex<Option<Instant>>,
    begin: Instant,
    /// The site did not answer for so long that nobody waits for it any more.
    gave_up: AtomicBool,
}

impl Course {
    /// A course over a site at these addresses.
    pub fn new(sites: Vec<SocketAddr>, cookie: CookieKind, seed: u64) -> Self {
        assert!(!sites.is_empty(), "a course has a site");
        let (next_site, next_number, forgot, gave_up) = Default::default();
        Self { sites, cookie, seed, next_site, next_number, forgot, begin: Instant::now(), gave_up }
    }

    /// A connection, to the next of the addresses.
    pub fn client(&self) -> Client {
        Client::new(self.sites[self.next_site.fetch_add(1, Ordering::Relaxed) % self.sites.len()])
    }

    /// Connections that are open already, for a crowd that sets out all at once.
    pub async fn crowd(&self, size: usize) -> anyhow::Result<Vec<Client>> {
        let mut clients: Vec<Client> = (0..size).map(|_| self.client()).collect();
        for client in &mut clients {
            client.connect().await.context("the site takes no more connections")?;
        }
        Ok(clients)
    }

    /// A number that nobody else has.
    pub fn number(&self) -> u64 {
        self.next_number.fetch_add(1, Ordering::Relaxed)
    }

    /// Something is about to forget all that it has.
    pub fn is_forgetting(&self) {
        // As long as it is at it, it may forget what is sent now.
        self.set_forgot(Instant::now() + Duration::from_secs(3600));
    }

    /// It has forgotten; what is sent from now on it has to keep.
    pub fn has_forgotten(&self) {
        self.set_forgot(Instant::now());
    }

    fn set_forgot(&self, time: Instant) {
        *self.forgot.lock().unwrap_or_else(PoisonError::into_inner) = Some(time);
    }

    /// Whether what was sent at this time may be forgotten by now.
    pub fn forgets(&self, sent: Instant) -> bool {
        self.forgot.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|forgot| sent <= forgot)
    }

    /// What can be read with a cookie; asked until there is an answer. `None` if none comes: then the site has given up,
    /// and so do we for everything else.
    pub async fn look(&self, client: &mut Client, cookie: &str) -> anyhow::Result<Option<Map<String, Value>>> {
        let begin = Instant::now();
        while !self.gave_up.load(Ordering::Relaxed) {
            if let Some(response) = client.get("/all", Some(cookie)).await.ok() {
                return data(&response.body).map(Some);
            }
            if begin.elapsed() > RECOVERY {
                self.gave_up.store(true, Ordering::Relaxed);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(None)
    }

    /// Looks at every session of a visitor, and says what became of what was acknowledged in each.
    pub async fn check(&self, client: &mut Client, ledger: &Ledger) -> anyhow::Result<Vec<(String, Verdict)>> {
        let mut verdicts = Vec::new();
        for family in ledger.families().into_values() {
            let verdict = self.judge(client, &family).await?;
            let verdict = match family.verdict() {
                Some(first) => first.clone().revised(verdict),
                None => verdict.unwrap_or_else(|| Verdict { count: family.unanswered(), losses: Vec::new() }),
            };
            verdicts.push((family.name, verdict));
        }
        Ok(verdicts)
    }

    async fn judge(&self, client: &mut Client, family: &Family) -> anyhow::Result<Option<Verdict>> {
        let Some(data) = self.look(client, &family.cookie).await? else { return Ok(None) };
        let mut count = family.judge(&data, |sent| self.forgets(sent));
        let losses = if count.lost > 0 { family.losses(&data, self.begin) } else { Vec::new() };
        for key in &family.former {
            let Some(data) = self.look(client, key).await? else { return Ok(None) };
            count.old_key += u64::from(!data.is_empty());
        }
        Ok(Some(Verdict { count, losses }))
    }
}

/// The session in an answer to `/all`.
fn data(body: &[u8]) -> anyhow::Result<Map<String, Value>> {
    let text = || format!("the site answered {:?} to /all", String::from_utf8_lossy(body));
    let mut answer: Map<String, Value> = serde_json::from_slice(body).with_context(text)?;
    match answer.remove("data") {
        Some(Value::Object(data)) => Ok(data),
        _ => bail!(text()),
    }
}
