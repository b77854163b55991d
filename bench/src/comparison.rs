//! A comparison: what was measured in several rounds, summed up and told.

use std::fmt::Write;

use serde::Serialize;

use crate::contest::{COOKIE, Contestant};
use crate::load::Measured;
use crate::picture::{Bar, Bars, Group};
use crate::results::{Circumstances, thousands};
use crate::stats::Spread;

/// The routes that are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Route {
    /// A handler that does not look at its session.
    None,
    /// One that reads an item.
    Read,
    /// One that adds one to a counter.
    Write,
    /// One that changes the session's key and writes who has signed in.
    Login,
}

impl Route {
    /// Its path.
    pub fn path(self) -> &'static str {
        match self {
            Self::None => "/none",
            Self::Read => "/read",
            Self::Write => "/write",
            Self::Login => "/login",
        }
    }
}

/// A measurement, and how many requests a second bare axum answered just before and after it.
#[derive(Clone, Debug)]
pub struct Sample {
    /// What was measured.
    pub measured: Measured,
    /// Bare axum's requests a second.
    pub bare: f64,
}

/// A row on a route, over all rounds.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Cell {
    /// Requests a second.
    pub rate: Spread,
    /// The same as a share of bare axum's in the same round.
    pub share: Spread,
    /// Half of the answers took so long, in milliseconds.
    pub p50: Spread,
    /// Of a hundred answers, one took longer, in milliseconds.
    pub p99: Spread,
    /// Processor time of a request in the generator of load, in microseconds.
    pub client: Spread,
    /// The same in the site.
    pub site: Spread,
    /// The same in its servers.
    pub servers: Spread,
    /// Answers in all rounds.
    pub requests: usize,
    /// Of these, those that were not 200.
    pub failed: usize,
    /// Of the others, those that were not what had to be answered.
    pub wrong: usize,
}

impl Cell {
    /// Sums up what was measured in several rounds.
    pub fn of(samples: &[Sample]) -> Self {
        let each = |value: &dyn Fn(&Sample) -> f64| Spread::of(samples.iter().map(value));
        let rate = |sample: &Sample| sample.measured.requests as f64 / sample.measured.seconds;
        let per_request = |seconds: f64, sample: &Sample| seconds * 1e6 / sample.measured.requests.max(1) as f64;
        let servers = |sample: &Sample| sample.measured.others.iter().skip(1).fold(0.0, |sum, seconds| sum + seconds);
        let sum = |value: &dyn Fn(&Measured) -> usize| samples.iter().map(|sample| value(&sample.measured)).sum();
        Self {
            rate: each(&rate),
            share: each(&|sample| rate(sample) / sample.bare),
            p50: each(&|sample| sample.measured.p50),
            p99: each(&|sample| sample.measured.p99),
            client: each(&|sample| per_request(sample.measured.client, sample)),
            site: each(&|sample| per_request(sample.measured.others.first().copied().unwrap_or(0.0), sample)),
            servers: each(&|sample| per_request(servers(sample), sample)),
            requests: sum(&|measured| measured.requests),
            failed: sum(&|measured| measured.failed),
            wrong: sum(&|measured| measured.wrong),
        }
    }
}

/// A row.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Who.
    #[serde(flatten)]
    pub who: Contestant,
    /// What was measured on each route.
    pub routes: Vec<(Route, Cell)>,
}

impl Row {
    fn cell(&self, route: Route) -> Option<&Cell> {
        self.routes.iter().find(|(known, _)| *known == route).map(|(_, cell)| cell)
    }
}

/// The memory of a site with many sessions.
#[derive(Clone, Debug, Serialize)]
pub struct Memory {
    /// Who.
    #[serde(flatten)]
    pub who: Contestant,
    /// How many sessions were added.
    pub sessions: usize,
    /// By how much the site's memory grew for each, in bytes.
    pub per_session: f64,
    /// The size of a session's data as JSON, in bytes.
    pub payload: usize,
}

/// All of it.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// On what, with what.
    pub circumstances: Circumstances,
    /// How often each was measured.
    pub rounds: usize,
    /// For how long each time, in seconds.
    pub seconds: f64,
    /// How many visitors ask at the same time.
    pub visitors: usize,
    /// The size of a session's data as JSON, in bytes.
    pub payload: usize,
    /// The rows, bare axum first.
    pub rows: Vec<Row>,
    /// Memory, of sites that keep sessions in their own.
    pub memory: Vec<Memory>,
}

fn name(who: &Contestant) -> String {
    let text = if who.store.is_empty() { who.library.clone() } else { format!("{}, {}", who.library, who.store) };
    if who.is_ours() { format!("**{text}**") } else { text }
}

fn millis(value: f64) -> String {
    if value < 10.0 { format!("{value:.2}") } else { format!("{value:.0}") }
}

impl Comparison {
    /// The section of the results.
    pub fn markdown(&self) -> String {
        let mut text = format!("## Side by side over HTTP\n\n{}", self.circumstances.markdown());
        let _ = write!(
            text,
            "{} connections, each with a session of {} bytes of JSON, ask for one route as soon as they are answered, for \
             {} s; client, site and servers share the machine. Each site is a process with two threads. {} rounds, in each \
             of which all take their turn, with bare axum before and after every few; told are the median and, in brackets, \
             the lowest and the highest. *Share* is requests a second over bare axum's at the same time. Databases write \
             to the disk as in production (SQLite FULL: `synchronous=FULL`, in WAL mode, for all libraries); Redis keeps \
             nothing on the disk. *With a copy*: reads come from the site's process, where sessions live on that were deleted \
             from the store. *Near cache*: such a copy, but one that the server tells of every change. actix-session runs on actix-web only, which carries another load than axum by itself: beside it \
             stand bare actix-web, and Cloakroom on actix-web.\n\n",
            self.visitors, self.payload, self.seconds, self.rounds
        );
        text += &self.overview();
        for route in [Route::None, Route::Read, Route::Write, Route::Login] {
            text += &self.details(route);
        }
        if !self.memory.is_empty() {
            text += &self.memory_markdown();
        }
        text
    }

    fn overview(&self) -> String {
        let mut text = "| | share /none | /read | /write | /login | p99 ms /read | /write | not 200 |\n\
                        |---|---|---|---|---|---|---|---|\n"
            .to_owned();
        for row in &self.rows {
            let cell = |route, value: &dyn Fn(&Cell) -> String| row.cell(route).map_or("".to_owned(), value);
            let share = |route| cell(route, &|cell| format!("{:.3}", cell.share.median));
            let p99 = |route| cell(route, &|cell| millis(cell.p99.median));
            let failed: usize = row.routes.iter().map(|(_, cell)| cell.failed).sum();
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {} | {} | {} | {} |",
                name(&row.who),
                share(Route::None),
                share(Route::Read),
                share(Route::Write),
                share(Route::Login),
                p99(Route::Read),
                p99(Route::Write),
                failed
            );
        }
        text
    }

    fn details(&self, route: Route) -> String {
        let rows: Vec<_> = self.rows.iter().filter_map(|row| Some((row, row.cell(route)?))).collect();
        if rows.is_empty() {
            return String::new();
        }
        let mut text = format!(
            "\n### {}\n\n| | requests/s | share | p50 ms | p99 ms | CPU µs: client | site | servers | not 200 | wrong |\n\
             |---|---|---|---|---|---|---|---|---|---|\n",
            route.path()
        );
        for (row, cell) in rows {
            let rate = cell.rate;
            let _ = writeln!(
                text,
                "| {} | {} ({}-{}) | {:.3} ({:.3}-{:.3}) | {} | {} ({}-{}) | {:.1} | {:.1} | {:.1} | {} | {} |",
                name(&row.who),
                thousands(rate.median),
                thousands(rate.low),
                thousands(rate.high),
                cell.share.median,
                cell.share.low,
                cell.share.high,
                millis(cell.p50.median),
                millis(cell.p99.median),
                millis(cell.p99.low),
                millis(cell.p99.high),
                cell.client.median,
                cell.site.median,
                cell.servers.median,
                cell.failed,
                cell.wrong
            );
        }
        text
    }

    fn memory_markdown(&self) -> String {
        let mut text =
            "\n### Memory\n\nBy how much the resident memory of a site grows for each session, once it holds \
                        some thousands, all made over HTTP.\n\n| | sessions | bytes a session | beside its JSON |\n\
                        |---|---|---|---|\n"
                .to_owned();
        for memory in &self.memory {
            let (whole, payload) = (memory.per_session, memory.payload as f64);
            let [sessions, whole, beside] = [memory.sessions as f64, whole, whole - payload].map(thousands);
            let _ = writeln!(text, "| {} | {sessions} | {whole} | {beside} |", name(&memory.who));
        }
        text
    }

    /// The targets of correctness that were missed: answers that were not 200, or not what had to be answered.
    pub fn complaints(&self) -> Vec<String> {
        let cells = self.rows.iter().flat_map(|row| row.routes.iter().map(move |(route, cell)| (row, route, cell)));
        let bad = cells.filter(|(_, _, cell)| cell.failed + cell.wrong > 0);
        bad.map(|(row, route, cell)| {
            let (id, path) = (row.who.id(), route.path());
            format!("{id} {path}: of {} answers {} were not 200, and {} wrong", cell.requests, cell.failed, cell.wrong)
        })
        .collect()
    }

    /// The picture of the shares.
    pub fn picture(&self) -> Bars {
        let mut groups: Vec<Group> = Vec::new();
        for row in self.rows.iter().filter(|row| row.who.has_sessions()) {
            let values = [Route::None, Route::Read, Route::Write].map(|route| {
                row.cell(route).map(|cell| (cell.share.median, format!("{:.0} %", cell.share.median * 100.0)))
            });
            let label = match row.who.store.split_once(", ") {
                // The title of the group says the rest.
                Some((_, more)) if row.who.group.starts_with("SQLite") || row.who.group == COOKIE => {
                    format!("{}, {more}", row.who.library)
                }
                _ => format!("{}, {}", row.who.library, row.who.store),
            };
            let bar = Bar { label, emphasised: row.who.is_ours(), values: values.to_vec() };
            match groups.last_mut() {
                Some(group) if group.title == row.who.group => group.bars.push(bar),
                _ => groups.push(Group { title: row.who.group.to_owned(), bars: vec![bar] }),
            }
        }
        Bars {
            title: "Requests a second, as a share of axum without sessions".to_owned(),
            panels: ["does not use its session", "reads its session", "writes its session"].map(str::to_owned).to_vec(),
            full: 1.0,
            groups,
        }
    }

    /// The picture of the memory that sessions take.
    pub fn memory_picture(&self) -> Bars {
        let bars = self.memory.iter().map(|memory| Bar {
            label: format!("{}, {}", memory.who.library, memory.who.store),
            emphasised: memory.who.is_ours(),
            values: vec![Some((memory.per_session, thousands(memory.per_session)))],
        });
        let payload = self.memory.first().map_or(0, |memory| memory.payload);
        Bars {
            title: format!("Bytes of memory for a session of {payload} bytes of JSON"),
            panels: vec![String::new()],
            full: self.memory.iter().map(|memory| memory.per_session).fold(1.0, f64::max) * 1.15,
            groups: vec![Group { title: String::new(), bars: bars.collect() }],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contest;

    fn sample(requests: usize, seconds: f64, bare: f64, failed: usize) -> Sample {
        let others = vec![0.4, 0.1, 0.1];
        let measured = Measured { requests, failed, seconds, p50: 0.3, p99: 12.0, client: 0.2, others, wrong: 0 };
        Sample { measured, bare }
    }

    fn comparison() -> Comparison {
        let rows = contest::choose(contest::all(), &["memory".to_owned()]).unwrap();
        let cells = [
            Cell::of(&[sample(100_000, 1.0, 100_000.0, 0)]),
            Cell::of(&[sample(90_000, 1.0, 100_000.0, 0), sample(40_000, 0.5, 80_000.0, 0)]),
            Cell::of(&[sample(50_000, 1.0, 100_000.0, 3)]),
        ];
        let rows = rows.into_iter().zip(cells).map(|(who, cell)| Row { who, routes: vec![(Route::Read, cell)] });
        let rows: Vec<Row> = rows.collect();
        let memory = Memory { who: rows[1].who.clone(), sessions: 1_000_000, per_session: 640.2, payload: 486 };
        let circumstances = Circumstances { command: "compare".to_owned(), ..Circumstances::default() };
        Comparison { circumstances, rounds: 2, seconds: 1.0, visitors: 32, payload: 486, rows, memory: vec![memory] }
    }

    #[test]
    fn shares_are_ratios_of_the_same_round() {
        let cell = Cell::of(&[sample(90_000, 1.0, 100_000.0, 1), sample(40_000, 0.5, 80_000.0, 2)]);
        assert_eq!(cell.share, Spread { median: 0.95, low: 0.9, high: 1.0 });
        assert_eq!(cell.rate, Spread { median: 85_000.0, low: 80_000.0, high: 90_000.0 });
        assert_eq!((cell.requests, cell.failed), (130_000, 3));
        assert!((cell.site.low - 4.444).abs() < 0.001 && (cell.servers.high - 5.0).abs() < 0.001, "{cell:?}");
    }

    #[test]
    fn results_are_told() {
        let comparison = comparison();
        let text = comparison.markdown();
        for line in [
            "| **Cloakroom, memory** |  | 0.950 |  |  | 12 |  | 0 |",
            "| **Cloakroom, memory** | 85,000 (80,000-90,000) | 0.950 (0.900-1.000) | 0.30 | 12 (12-12) | 3.6 | 7.2 | 3.6 | 0 | 0 |",
            "| **Cloakroom, memory** | 1,000,000 | 640 | 154 |",
            "| tower-sessions, memory |  | 0.500 |  |  | 12 |  | 3 |",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        assert!(!text.contains("### /write"));
        assert_eq!(
            comparison.complaints(),
            ["tower-sessions-memory /read: of 50000 answers 3 were not 200, and 0 wrong"]
        );
    }

    #[test]
    fn pictures_hold_what_was_measured() {
        let comparison = comparison();
        let bars = comparison.picture();
        assert_eq!((bars.groups.len(), bars.groups[0].bars.len()), (1, 2));
        assert_eq!(bars.groups[0].bars[0].values, [None, Some((0.95, "95 %".to_owned())), None]);
        assert!(comparison.memory_picture().svg().contains(">640<"));
    }
}
