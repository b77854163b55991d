//! Breaks servers, or the site, as the schedule says, and puts them right again.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cloakroom_test_servers::Server;
use serde::Serialize;

use crate::course::Course;
use crate::schedule::{Event, Fault, faults};
use crate::site::Site;

/// What can be broken.
#[derive(Clone, Debug)]
pub enum Victim {
    /// A database or a cache.
    Server(Arc<Server>),
    /// The site itself.
    Site(Arc<Site>),
}

impl Victim {
    /// What people call it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Server(server) => server.kind().name(),
            Self::Site(_) => "the site",
        }
    }

    fn kill(&self) {
        match self {
            Self::Server(server) => server.kill(),
            Self::Site(site) => site.kill(),
        }
    }

    fn freeze(&self) {
        match self {
            Self::Server(server) => server.freeze(),
            Self::Site(site) => site.freeze(),
        }
    }

    fn thaw(&self) {
        match self {
            Self::Server(server) => server.thaw(),
            Self::Site(site) => site.thaw(),
        }
    }

    fn restart(&self) -> anyhow::Result<()> {
        match self {
            Self::Server(server) => {
                server.restart();
                Ok(())
            }
            Self::Site(site) => site.restart(),
        }
    }
}

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Done {
    /// SIGKILLs.
    pub killed: u32,
    /// SIGSTOPs.
    pub frozen: u32,
    /// Orderly restarts.
    pub restarted: u32,
}

/// Breaks one victim after the other.
#[derive(Debug)]
pub struct Breaker {
    victims: Vec<Victim>,
    /// The victim that forgets the sessions when it is restarted, if one does.
    forgetful: Option<usize>,
    /// How long a victim is frozen.
    freeze: Duration,
    /// Since when all is well, until somebody has noticed.
    well: Mutex<Option<Instant>>,
    /// How long it took, after each fault, until a request that was sent after it was answered with 200.
    recoveries: Mutex<Vec<Duration>>,
}

impl Breaker {
    /// A breaker of these victims, of which one may forget the sessions when it is restarted.
    pub fn new(victims: Vec<Victim>, forgetful: Option<usize>, freeze: Duration) -> Self {
        Self { victims, forgetful, freeze, well: Mutex::default(), recoveries: Mutex::default() }
    }

    /// The names of the victims.
    pub fn victims(&self) -> Vec<&'static str> {
        let mut names: Vec<_> = self.victims.iter().map(Victim::name).collect();
        names.dedup();
        names
    }

    /// Breaks and repairs until the deadline; `tell` hears of each fault.
    pub async fn run(
        self: Arc<Self>,
        course: Arc<Course>,
        deadline: Instant,
        tell: impl Fn(String),
    ) -> anyhow::Result<Done> {
        let mut done = Done::default();
        if self.victims.is_empty() {
            return Ok(done);
        }
        let begin = Instant::now();
        for event in faults(course.seed, self.victims.len(), self.freeze) {
            tokio::time::sleep(event.pause).await;
            if Instant::now() >= deadline {
                break;
            }
            let what = match event.fault {
                Fault::Kill(down) => format!("is killed for {down:.1?}"),
                Fault::Freeze(time) => format!("is frozen for {time:.0?}"),
                Fault::Restart => "is restarted".to_owned(),
            };
            tell(format!("{:5.1} s  {} {what}", begin.elapsed().as_secs_f64(), self.victims[event.victim].name()));
            let (breaker, course) = (Arc::clone(&self), Arc::clone(&course));
            tokio::task::spawn_blocking(move || breaker.carry_out(&course, event)).await??;
            *self.well.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
            match event.fault {
                Fault::Kill(_) => done.killed += 1,
                Fault::Freeze(_) => done.frozen += 1,
                Fault::Restart => done.restarted += 1,
            }
        }
        Ok(done)
    }

    fn carry_out(&self, course: &Course, event: Event) -> anyhow::Result<()> {
        let victim = &self.victims[event.victim];
        if let Fault::Freeze(time) = event.fault {
            victim.freeze();
            std::thread::sleep(time);
            victim.thaw();
            return Ok(());
        }
        let forgets = self.forgetful == Some(event.victim);
        if forgets {
            course.is_forgetting();
        }
        if let Fault::Kill(down) = event.fault {
            victim.kill();
            if forgets {
                course.has_forgotten();
            }
            std::thread::sleep(down);
        }
        victim.restart()?;
        if forgets && event.fault == Fault::Restart {
            course.has_forgotten();
        }
        Ok(())
    }

    /// A request that was sent at this time was answered with 200.
    pub fn answered(&self, sent: Instant) {
        let mut well = self.well.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(since) = well.take_if(|since| sent >= *since) {
            self.recoveries.lock().unwrap_or_else(PoisonError::into_inner).push(since.elapsed());
        }
    }

    /// The longest time from a repair to the answer that all is well, in milliseconds.
    pub fn longest_recovery(&self) -> f64 {
        let recoveries = self.recoveries.lock().unwrap_or_else(PoisonError::into_inner);
        recoveries.iter().max().map_or(0.0, |time| time.as_micros() as f64 / 1e3)
    }
}
