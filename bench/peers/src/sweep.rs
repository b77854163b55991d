//! What the measuring of a sweep needs, on tower-sessions: a process that sweeps, and one that goes on writing.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use time::OffsetDateTime;
use tokio::io::AsyncReadExt;
use tower_sessions_14::session::{Id, Record};
use tower_sessions_14::{ExpiredDeletion, SessionStore};

use crate::{Args, Store, tower_sessions};

/// One of the two.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Job {
    /// Makes the table, removes what has expired, and tells how long that took, in seconds.
    Sweep,
    /// Saves a session of its own every 5 ms until its input ends, and tells how long each save took, in microseconds,
    /// with a minus if it failed.
    Write,
}

pub(crate) async fn run(job: Job, args: &Args) -> anyhow::Result<()> {
    match args.store {
        Store::Sqlite => work(job, tower_sessions::sqlite(args).await?).await,
        Store::Postgres => work(job, tower_sessions::postgres(args).await?).await,
        other => bail!("there is nothing to sweep in {other:?}"),
    }
}

async fn work<S: SessionStore + ExpiredDeletion>(job: Job, store: S) -> anyhow::Result<()> {
    match job {
        Job::Sweep => {
            let begin = Instant::now();
            store.delete_expired().await?;
            let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
            let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let peak = peak.and_then(|line| line.split_whitespace().next()).context("no memory of ours")?;
            println!("{} {peak}", begin.elapsed().as_secs_f64());
        }
        Job::Write => {
            let mut waits = Vec::new();
            let mut records = Vec::new();
            for _ in 0..100 {
                let mut record = record();
                store.create(&mut record).await?;
                records.push(record);
            }
            let mut end = tokio::spawn(async { tokio::io::stdin().read_to_end(&mut Vec::new()).await });
            let mut next = tokio::time::interval(Duration::from_millis(5));
            next.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            println!("ready");
            while !end.is_finished() {
                next.tick().await;
                let place = waits.len() % records.len();
                records[place].data.insert("count".to_owned(), waits.len().into());
                let begin = Instant::now();
                let saved = store.save(&records[place]).await;
                let wait = i64::try_from(begin.elapsed().as_micros())?.max(1);
                waits.push(if saved.is_ok() { wait } else { -wait });
            }
            let _ = (&mut end).await;
            let waits: Vec<String> = waits.iter().map(i64::to_string).collect();
            println!("{}", waits.join(" "));
        }
    }
    Ok(())
}

fn record() -> Record {
    let data = HashMap::from([("text".to_owned(), "x".repeat(400).into())]);
    Record { id: Id::default(), data, expiry_date: OffsetDateTime::now_utc() + time::Duration::days(14) }
}
