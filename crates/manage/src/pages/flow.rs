//! The way of a session, drawn: what is done, what failed, and where the visitor stands.

use maud::{Markup, html};

use super::course::{Course, Row, Step};

/// Each station: its name, what it is about, and the rows of the table that belong to it.
const STATIONS: &[(&str, &str, &[usize])] = &[
    ("Start", "", &[]),
    ("Switch sessions on", "INSTALLED_APPS", &[1]),
    ("Configure the engine", "SESSION_ENGINE", &[2]),
    ("Run migrations", "cloakroom migrate", &[3]),
    ("Use the session in views", "session['key']", &[4, 5]),
    ("Saved and retrieved per user", "a record, a cookie", &[6]),
    ("End", "expired or cleared", &[7]),
];

/// Where the visitor stands.
fn present(course: Option<&Course>) -> usize {
    let step = course.and_then(|course| course.present);
    let of_step = |step: Step| STATIONS.iter().position(|(_, _, rows)| rows.contains(&step.number()));
    step.and_then(of_step).unwrap_or(0)
}

/// Whether a station's rows are all done, and whether one of them failed.
fn state(course: Option<&Course>, rows: &[usize]) -> (bool, bool) {
    let row = |number: &usize| course.and_then(|course| course.row(*number));
    let done = rows.iter().all(|number| row(number).is_some_and(Row::succeeded));
    (done, rows.iter().filter_map(row).any(|row| !row.succeeded()))
}

/// The same in one line, for the bar that stays in sight. It tells nothing new to who does not see it.
pub(crate) fn strip(course: Option<&Course>) -> Markup {
    let present = present(course);
    html! {
        p.strip aria-hidden="true" {
            @for (place, (_, _, rows)) in STATIONS.iter().enumerate() {
                @let (done, failed) = state(course, rows);
                i.here[place == present].done[done].failed[failed] {}
            }
            span { (STATIONS[present].0) }
        }
    }
}

pub(crate) fn flow(course: Option<&Course>) -> Markup {
    let present = present(course);
    html! {
        ol.flow aria-label="The way of a session" {
            @for (place, (name, about, rows)) in STATIONS.iter().enumerate() {
                @let (done, failed) = state(course, rows);
                li.failed[failed].done[done] aria-current=[(place == present).then_some("step")] {
                    span.mark aria-hidden="true" {
                        @if failed { (cross()) } @else if done { (tick()) } @else { (numbers(rows)) }
                    }
                    span.station {
                        (name)
                        @if failed { span.said { " (failed)" } } @else if done && place > 0 { span.said { " (done)" } }
                        @if !about.is_empty() { small { (about) } }
                    }
                }
            }
        }
    }
}

fn numbers(rows: &[usize]) -> String {
    rows.iter().map(usize::to_string).collect::<Vec<_>>().join("–")
}

pub(crate) fn tick() -> Markup {
    drawing("M5 12.5l4.5 4.5L19 7.5")
}

pub(crate) fn cross() -> Markup {
    drawing("M7 7l10 10M17 7L7 17")
}

fn drawing(path: &str) -> Markup {
    html! {
        svg viewBox="0 0 24 24" width="18" height="18" aria-hidden="true" fill="none" stroke="currentColor"
            stroke-width="3" stroke-linecap="round" stroke-linejoin="round" { path d=(path) {} }
    }
}
