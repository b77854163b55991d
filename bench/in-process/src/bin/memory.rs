//! The memory of a session: bytes that are allocated for each, by a counting allocator.
//!
//! ```sh
//! memory [SITE] [SESSIONS]    # default: Cloakroom in memory, a million sessions
//! ```

use std::alloc::System;

use anyhow::ensure;
use axum::http::StatusCode;
use cloakroom_bench_in_process::sites::Site;
use cloakroom_bench_in_process::visitor::Visitor;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let site = args.next().unwrap_or_else(|| "memory".to_owned());
    let sessions: usize = args.next().map_or(Ok(1_000_000), |count| count.parse())?;
    let payload = serde_json::to_vec(&cloakroom_bench_in_process::items_as_object())?.len();
    tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
        let mut stranger = Visitor::stranger(Site::open(&site).await?);
        let counted = Region::new(ALLOCATOR);
        for _ in 0..sessions {
            ensure!(stranger.get("/login").await.status() == StatusCode::OK, "a login failed");
        }
        let change = counted.change();
        let bytes = change.bytes_allocated.saturating_sub(change.bytes_deallocated) / sessions;
        println!("{site}: {bytes} bytes a session of {payload} bytes of JSON, {sessions} sessions");
        Ok(())
    })
}
