//! What a request costs in process, without a network: instructions under valgrind, and nanoseconds.
//!
//! ```sh
//! in-process                  # a table: instructions and nanoseconds of each site and route
//! in-process check FILE       # instructions over bare axum against the bounds in FILE; fails if one is exceeded
//! in-process run SITE ROUTE N # what valgrind is run on
//! ```

mod bounds;
mod measure;

use anyhow::{bail, ensure};
use cloakroom_bench_in_process::sites::{ALL, ROUTES, Site};
use cloakroom_bench_in_process::visitor::Visitor;
use measure::{instructions, nanoseconds};

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        [] => table(),
        ["check", file] => bounds::check(&std::fs::read_to_string(file)?),
        ["run", site, route, requests] => runtime()?.block_on(run(site, route, requests.parse()?)),
        _ => bail!("usage: in-process [check FILE | run SITE ROUTE REQUESTS]"),
    }
}

/// One thread, on which nothing else runs.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().build()
}

async fn run(site: &str, route: &str, requests: u64) -> anyhow::Result<()> {
    let Some(path) = ROUTES.into_iter().find(|path| *path == route) else { bail!("there is no route {route:?}") };
    let mut visitor = Visitor::login(Site::open(site).await?).await?;
    visitor.repeat(path, requests).await;
    // What was counted has to have worked.
    let answer = visitor.text(path).await?;
    let expected = match (path, site) {
        ("/read", _) => "Ada Lovelace".to_owned(),
        // This visitor always presents the first cookie.
        ("/write", "signed_cookies") => "visit 2".to_owned(),
        ("/write", _) => format!("visit {}", requests + 2),
        _ => answer.clone(),
    };
    ensure!(answer == expected, "{site} answered {answer:?} to {path}, not {expected:?}");
    Ok(())
}

fn table() -> anyhow::Result<()> {
    println!("Per request, and over bare axum, without a network; a session of about 500 bytes.\n");
    println!("| site | instructions {} | ns {} |", ROUTES.join(" "), ROUTES.join(" "));
    println!("|---|---|---|");
    let times = runtime()?.block_on(nanoseconds())?;
    let mut bare = None;
    for ((site, what), times) in ALL.iter().zip(&times) {
        let mut counts = [0; 3];
        for (count, route) in counts.iter_mut().zip(ROUTES) {
            *count = instructions(site, route)?;
        }
        let (bare_counts, bare_times) = *bare.get_or_insert((counts, *times));
        let row = |own: [i64; 3], bare: [i64; 3]| {
            let cells = own.iter().zip(bare).map(|(own, bare)| match own - bare {
                0 => own.to_string(),
                over => format!("{own} ({over:+})"),
            });
            cells.collect::<Vec<_>>().join(" / ")
        };
        println!("| {what} | {} | {} |", row(counts, bare_counts), row(*times, bare_times));
    }
    Ok(())
}
