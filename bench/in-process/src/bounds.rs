//! The guard against sliding back: counts of instructions against recorded bounds.

use anyhow::{Context, bail};

use crate::measure::instructions;

/// Counts what each line of `text` names, and compares: `SITE ROUTE BOUND TARGET`, in instructions per request over
/// bare axum.
pub(crate) fn check(text: &str) -> anyhow::Result<()> {
    let mut exceeded = Vec::new();
    println!("Instructions per request over bare axum:");
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let [site, route, bound, target] = line.split_whitespace().collect::<Vec<_>>()[..] else {
            bail!("a line of the bounds is no `SITE ROUTE BOUND TARGET`: {line:?}");
        };
        let bound: i64 = bound.parse().with_context(|| format!("the bound in {line:?}"))?;
        let over = instructions(site, route)? - instructions("bare", route)?;
        println!("{site:>16} {route:6} {over:7}  bound {bound:7}  target {target:>7}");
        if over > bound {
            exceeded.push(format!("{site} {route}: {over}, more than {bound}"));
        }
    }
    if !exceeded.is_empty() {
        bail!(
            "a request costs more instructions than is recorded:\n  {}\nFind out why with `valgrind --tool=callgrind` on \
             `in-process run SITE ROUTE 1000`; if the price is worth paying, say so where the bounds are recorded.",
            exceeded.join("\n  ")
        );
    }
    Ok(())
}
