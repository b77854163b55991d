//! An account of cases: none may be left out without a word.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use crate::live::tell;

/// Counts the cases of a file: checked, departed from on purpose, failed.
///
/// [`finish`](Self::finish) prints `FILE: checked N of M, departures D`, and panics with all failures together.
#[must_use = "an account that is not finished checks nothing"]
pub struct Report {
    name: String,
    total: usize,
    checked: usize,
    departures: BTreeMap<String, usize>,
    failures: Vec<String>,
}

impl Report {
    /// An account of so many cases.
    pub fn new(name: &str, total: usize) -> Self {
        Self { name: name.to_owned(), total, checked: 0, departures: BTreeMap::new(), failures: Vec::new() }
    }

    /// One case came out as recorded.
    pub fn checked(&mut self) {
        self.checked += 1;
    }

    /// One case comes out otherwise, on purpose: the table in `docs/django.md` has a row for it.
    pub fn departure(&mut self, row: &str) {
        if !has_row(row) {
            self.fail(row, "docs/django.md has no row for this departure");
            return;
        }
        *self.departures.entry(row.to_owned()).or_default() += 1;
    }

    /// One case came out otherwise, not on purpose.
    pub fn fail(&mut self, case: &str, why: impl std::fmt::Display) {
        self.failures.push(format!("{case}: {why}"));
    }

    /// One case with its outcome.
    pub fn outcome(&mut self, case: &str, outcome: Result<(), String>) {
        match outcome {
            Ok(()) => self.checked(),
            Err(why) => self.fail(case, why),
        }
    }

    /// Runs the assertions of one case; a panic in them is a failure of this case alone.
    pub fn case(&mut self, case: &str, assertions: impl FnOnce()) {
        let outcome = catch_unwind(AssertUnwindSafe(assertions)).map_err(|panic| said(&*panic));
        self.outcome(case, outcome);
    }

    /// Prints the account.
    ///
    /// # Panics
    /// If a case failed, or was neither checked nor departed from.
    pub fn finish(self) {
        let departures: usize = self.departures.values().sum();
        tell(&format!("{}: checked {} of {}, departures {departures}", self.name, self.checked, self.total));
        for (row, count) in &self.departures {
            tell(&format!("  {row}: {count}"));
        }
        assert!(
            self.failures.is_empty() && self.checked + departures == self.total,
            "{}: checked {} of {}, departures {departures}, failures {}\n{}",
            self.name,
            self.checked,
            self.total,
            self.failures.len(),
            self.failures.join("\n")
        );
    }
}

/// What a panic said.
fn said(panic: &(dyn Any + Send)) -> String {
    match (panic.downcast_ref::<String>(), panic.downcast_ref::<&str>()) {
        (Some(text), _) => text.clone(),
        (_, Some(text)) => (*text).to_owned(),
        _ => "it panicked".to_owned(),
    }
}

fn has_row(row: &str) -> bool {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/django.md");
    let page = std::fs::read_to_string(page).unwrap_or_default();
    page.lines().any(|line| line.starts_with(&format!("| {row} |")))
}
