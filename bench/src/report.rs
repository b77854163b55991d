//! What is printed: tables for people, JSON for programs, and which targets were missed.

use std::fmt::Write;

use comfy_table::{Table, presets};
use serde::Serialize;

use crate::phases::{Rotations, SignOuts, Storm, Writers};
use crate::tally::{Answers, answered};

/// How many of a hundred writers of one key may be told that the session is contended.
const CONTENDED_PERCENT: f64 = 1.0;

/// The outcome of a run. A part that was left out is `None`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// The engine.
    pub engine: String,
    /// The library, if it is not ours.
    pub peer: Option<String>,
    /// What the schedule was drawn from.
    pub seed: u64,
    /// How many processes the site had.
    pub sites: usize,
    /// Processors of the machine.
    pub processors: usize,
    /// What else the machine had to do: its load over the last minute before the run.
    pub load_before: Option<f64>,
    /// Writers of different keys of one session.
    pub different_keys: Option<Writers>,
    /// Writers of one key.
    pub one_key: Option<Writers>,
    /// Increments of one counter.
    pub increments: Option<Writers>,
    /// Sign-outs during requests in flight.
    pub sign_outs: Option<SignOuts>,
    /// Rotations during requests in flight.
    pub rotations: Option<Rotations>,
    /// Mixed load under faults.
    pub storm: Option<Storm>,
    /// The targets that were missed.
    pub missed: Vec<String>,
}

impl Report {
    /// Compares what was found with the targets.
    pub fn judge(&mut self) {
        let mut missed = Vec::new();
        let mut none = |number: u64, what: &str| {
            if number > 0 {
                missed.push(format!("{what}: {number}, not 0"));
            }
        };
        let writers = [
            ("different keys", &self.different_keys, 0.0),
            ("one key", &self.one_key, CONTENDED_PERCENT),
            ("increments", &self.increments, CONTENDED_PERCENT),
        ];
        for (name, part, _) in &writers {
            let Some(part) = part else { continue };
            none(part.count.lost, &format!("{name}: lost"));
            none(part.count.unanswered, &format!("{name}: not to be looked for"));
            none(part.count.twice, &format!("{name}: invented"));
            none(part.failed as u64, &format!("{name}: answered with neither 200 nor 503"));
        }
        if let Some(part) = &self.sign_outs {
            none(part.revived as u64, "sign-out: revived");
            none(part.signed_in_again as u64, "sign-out: signed in again by a late request");
        }
        if let Some(part) = &self.rotations {
            none(part.count.lost, "rotation: lost");
            none(part.count.old_key, "rotation: reachable by the old key");
        }
        if let Some(part) = &self.storm {
            none(part.count.lost, "faults: lost");
            none(part.count.unanswered, "faults: not to be looked for, since the site did not answer any more");
            none(part.count.twice, "faults: invented");
            none(part.count.revived, "faults: revived");
            none(part.count.old_key, "faults: reachable by an old key");
            none(part.stale, "faults: stale reads");
            none(part.count.late, "faults: found late");
        }
        for (name, part, percent) in writers {
            let Some(part) = part else { continue };
            let share = 100.0 * part.refused as f64 / part.requests.max(1) as f64;
            let is_met = if percent == 0.0 { part.refused == 0 } else { share < percent };
            if !is_met {
                missed.push(format!("{name}: {share:.1} % answered with 503, and fewer than {percent} % were wanted"));
            }
        }
        self.missed = missed;
    }

    /// The report for people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let site = self.peer.as_deref().unwrap_or("cloakroom");
        let load = self.load_before.map(|load| format!(", load before the run {load:.1}")).unwrap_or_default();
        let several = if self.sites > 1 { format!(" in {} processes", self.sites) } else { String::new() };
        let _ = writeln!(
            text,
            "{site}{several} on {}, seed {}, {} processors{load}\n",
            self.engine, self.seed, self.processors
        );
        if let Some(table) = self.writers() {
            let _ = writeln!(text, "Writers of one session, all at once\n{table}\n");
        }
        if let Some(part) = &self.sign_outs {
            let mut table =
                table(["sign-outs", "requests", "revived", "signed in again", "old cookie set", "new cookie set"]);
            let requests = total(&part.answers);
            table.add_row(
                [part.sign_outs, requests, part.revived, part.signed_in_again, part.old_cookies, part.new_cookies]
                    .map(|number| number.to_string()),
            );
            let _ = writeln!(text, "Sign-out during 100 requests in flight\n{table}\n{}\n", answers(&part.answers));
        }
        if let Some(part) = &self.rotations {
            let mut table = table([
                "rotations",
                "requests",
                "acknowledged",
                "found",
                "lost",
                "in a new session",
                "old key readable",
            ]);
            table.add_row(
                [
                    part.rotations as u64,
                    total(&part.answers) as u64,
                    part.count.acknowledged,
                    part.count.found,
                    part.count.lost,
                    part.elsewhere,
                    part.count.old_key,
                ]
                .map(|number| number.to_string()),
            );
            let _ = writeln!(text, "Rotation during 100 requests in flight\n{table}\n{}\n", answers(&part.answers));
        }
        if let Some(part) = &self.storm {
            let _ = writeln!(text, "{}", storm(part));
        }
        match self.missed.as_slice() {
            [] => text.push_str("All targets are met.\n"),
            missed => {
                text.push_str("Targets that are missed:\n");
                for miss in missed {
                    let _ = writeln!(text, "  {miss}");
                }
                for loss in self.storm.iter().flat_map(|storm| &storm.losses) {
                    let _ = writeln!(text, "lost: {loss}");
                }
            }
        }
        text
    }

    fn writers(&self) -> Option<Table> {
        let parts = [
            ("200 different keys", &self.different_keys),
            ("200 times one key", &self.one_key),
            ("1,000 increments", &self.increments),
        ];
        let mut table =
            table(["", "requests", "acknowledged", "lost", "invented", "503", "failed", "p50", "p99", "max (ms)"]);
        for (name, part) in parts {
            let Some(part) = part else { continue };
            let times = part.answers.get("200").copied().unwrap_or_default();
            table.add_row([
                name.to_owned(),
                part.requests.to_string(),
                part.count.acknowledged.to_string(),
                part.count.lost.to_string(),
                part.count.twice.to_string(),
                part.refused.to_string(),
                part.failed.to_string(),
                format!("{:.1}", times.p50),
                format!("{:.1}", times.p99),
                format!("{:.1}", times.max),
            ]);
        }
        (table.row_count() > 0).then_some(table)
    }
}

fn storm(part: &Storm) -> String {
    let mut head = format!("Mixed load for {:.0} seconds", part.seconds);
    let faults = &part.faults;
    if !part.victims.is_empty() {
        let _ = write!(
            head,
            "; {} killed {}, frozen {}, restarted {} times",
            part.victims.join(" and "),
            faults.killed,
            faults.frozen,
            faults.restarted
        );
    }
    let count = &part.count;
    let mut table = table(["what was acknowledged", ""]);
    for (name, number) in [
        ("changes acknowledged", count.acknowledged),
        ("found", count.found),
        ("  of these, missing at a first look", count.late),
        ("lost", count.lost),
        ("forgotten by what was restarted", count.forgotten),
        ("  of these, found before", count.forgotten_after_found),
        ("ended by a sign-out", count.signed_out),
        ("unreachable after an unanswered rotation", count.unreachable),
        ("not to be looked for: no answer any more", count.unanswered),
        ("increments invented", count.twice),
        ("sessions", part.sessions as u64),
        ("revived", count.revived),
        ("readable by an old key", count.old_key),
        ("stale reads", part.stale),
    ] {
        table.add_row([name.to_owned(), number.to_string()]);
    }
    let recovery = part.longest_recovery;
    format!(
        "{head}\n{table}\n{}\nlongest time from a repair to the next 200: {recovery:.0} ms\n",
        answers(&part.answers)
    )
}

fn total(answers: &Answers) -> usize {
    answers.values().map(|times| times.count).sum()
}

fn answers(answers: &Answers) -> Table {
    let mut table = table(["answer", "requests", "p50", "p99", "max (ms)"]);
    for (answer, times) in answers {
        let count = answered(answers, answer).to_string();
        table.add_row([
            answer.clone(),
            count,
            format!("{:.1}", times.p50),
            format!("{:.1}", times.p99),
            format!("{:.1}", times.max),
        ]);
    }
    table
}

fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header(header);
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::count::Count;
    use crate::tally::Times;

    fn writers(requests: usize, refused: usize) -> Option<Writers> {
        Some(Writers { requests, refused, ..Writers::default() })
    }

    #[test]
    fn a_clean_run_meets_the_targets() {
        let mut report = Report {
            different_keys: writers(200, 0),
            one_key: writers(1000, 9),
            storm: Some(Storm {
                count: Count { acknowledged: 9, forgotten: 9, ..Count::default() },
                ..Storm::default()
            }),
            ..Report::default()
        };
        report.judge();
        assert_eq!(report.missed, Vec::<String>::new());
        assert!(report.text().ends_with("All targets are met.\n"));
    }

    #[test]
    fn each_miss_is_told() {
        let lost = Count { lost: 1, ..Count::default() };
        let reports = [
            Report { different_keys: writers(200, 1), ..Report::default() },
            Report { different_keys: Some(Writers { count: lost, ..Writers::default() }), ..Report::default() },
            Report { one_key: writers(1000, 10), ..Report::default() },
            Report { increments: Some(Writers { failed: 1, ..Writers::default() }), ..Report::default() },
            Report { sign_outs: Some(SignOuts { revived: 1, ..SignOuts::default() }), ..Report::default() },
            Report { sign_outs: Some(SignOuts { signed_in_again: 1, ..SignOuts::default() }), ..Report::default() },
            Report { rotations: Some(Rotations { count: lost, ..Rotations::default() }), ..Report::default() },
            Report { storm: Some(Storm { count: lost, ..Storm::default() }), ..Report::default() },
            Report { storm: Some(Storm { stale: 1, ..Storm::default() }), ..Report::default() },
        ];
        for mut report in reports {
            report.judge();
            assert_eq!(report.missed.len(), 1, "{report:?}");
            assert!(report.text().contains(&report.missed[0]));
        }
    }

    #[test]
    fn the_tables_show_what_was_counted() {
        let times = Times { count: 7, p50: 1.0, p99: 2.0, max: 12_345.6 };
        let report = Report {
            storm: Some(Storm { answers: [("503".to_owned(), times)].into(), ..Storm::default() }),
            ..Report::default()
        };
        assert!(report.text().contains("12345.6"));
    }
}
