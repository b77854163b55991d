//! The two measures.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context, ensure};
use cloakroom_bench_in_process::sites::{ALL, ROUTES, Site};
use cloakroom_bench_in_process::visitor::Visitor;

/// Instructions per request: the difference of two runs, in which everything but the requests is the same.
pub(crate) fn instructions(site: &str, route: &str) -> anyhow::Result<i64> {
    const REQUESTS: i64 = 1_000;
    let (once, twice) = (counted(site, route, REQUESTS)?, counted(site, route, 2 * REQUESTS)?);
    Ok((twice - once) / REQUESTS)
}

fn counted(site: &str, route: &str, requests: i64) -> anyhow::Result<i64> {
    let output = Command::new("valgrind")
        .args(["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args(["run", site, route, &requests.to_string()])
        // The log would be counted along.
        .env_remove("RUST_LOG")
        .output()
        .context("valgrind, which counts the instructions, could not be started")?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{site} {route} under valgrind: {told}");
    let count = told.lines().find_map(|line| line.split_once("refs:"));
    let (_, count) = count.with_context(|| format!("valgrind has counted nothing: {told}"))?;
    Ok(count.trim().replace(',', "").parse()?)
}

/// Nanoseconds per request of each site and route: medians of rounds in which all take turns.
pub(crate) async fn nanoseconds() -> anyhow::Result<Vec<[i64; 3]>> {
    const ROUNDS: usize = 21;
    const REQUESTS: u64 = 2_000;
    let mut visitors = Vec::new();
    for (site, _) in ALL {
        visitors.push(Visitor::login(Site::open(site).await?).await?);
    }
    let mut times = vec![[const { Vec::new() }; 3]; ALL.len()];
    for _ in 0..ROUNDS {
        for (visitor, times) in visitors.iter_mut().zip(&mut times) {
            for (path, times) in ROUTES.into_iter().zip(times) {
                let start = Instant::now();
                visitor.repeat(path, REQUESTS).await;
                times.push(start.elapsed().as_nanos() as i64 / REQUESTS as i64);
            }
        }
    }
    let median = |mut times: Vec<i64>| {
        times.sort_unstable();
        times[times.len() / 2]
    };
    Ok(times.into_iter().map(|routes| routes.map(median)).collect())
}
