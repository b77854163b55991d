//! What happened, shown: requests and responses, the trace, the stored records.

use maud::{Markup, html};

use super::layout::short;
use super::records::Shelf;
use super::sandbox::Happening;
use crate::trace::Event;

/// The longest that one text is shown, in characters.
const LONG: usize = 900;
const MEDIUM: usize = 300;

/// What a happening came to, in a few lines: for the cell of a table.
pub(crate) fn effect(happening: &Happening) -> Markup {
    html! {
        p.what {
            (short(&happening.what, MEDIUM))
            @if let Some(exchange) = &happening.exchange {
                " → " b { (exchange.response.lines().next().unwrap_or_default().trim_start_matches("HTTP/1.1 ")) }
            }
        }
        @if let Some(exchange) = happening.exchange.as_ref().filter(|_| happening.failure.is_none()) {
            p.answer { (short(exchange.body.trim_end(), MEDIUM)) }
        }
        // The error itself stands below.
        (trace(&happening.events, &["error", "source", "kind"]))
        (notes(happening))
    }
}

/// All that is known of a happening.
pub(crate) fn details(happening: &Happening) -> Markup {
    html! {
        article.happening {
            h4 { (short(&happening.what, MEDIUM)) }
            @if let Some(file) = &happening.file { pre.panel { (file.trim_end()) } }
            @if let Some(exchange) = &happening.exchange {
                div.wire {
                    figure { figcaption { "Request" } pre { (short(&exchange.request, LONG)) } }
                    figure {
                        figcaption { "Response" }
                        pre {
                            (short(&exchange.response, LONG))
                            @if !exchange.body.is_empty() { "\n\n" (short(exchange.body.trim_end(), MEDIUM)) }
                        }
                    }
                }
            }
            (trace(&happening.events, &[]))
            (notes(happening))
        }
    }
}

fn notes(happening: &Happening) -> Markup {
    html! {
        @for note in &happening.notes { p.note { (short(note, LONG)) } }
        @if let Some(failure) = &happening.failure { p.failure { strong { "Failed: " } (short(failure, LONG)) } }
    }
}

/// The library's own account, without the fields that are left out.
fn trace(events: &[Event], left_out: &[&str]) -> Markup {
    html! {
        @if !events.is_empty() {
            ul.trace {
                @for event in events {
                    li.bad[event.is_failure()] {
                        span.said { (event.message) }
                        @for (name, value) in event.fields.iter().filter(|(name, _)| !left_out.contains(name)) {
                            " " span.field { (name) "=" b { (short(if value.is_empty() { "–" } else { value }, MEDIUM)) } }
                        }
                    }
                }
            }
        }
    }
}

/// What is stored, place by place.
pub(crate) fn shelves(shelves: &[Shelf]) -> Markup {
    html! {
        @for shelf in shelves {
            section.shelf {
                h4 { (shelf.name) }
                @if let Some(note) = &shelf.note { pre { (short(note, LONG)) } }
                @for record in &shelf.records {
                    dl.record {
                        dt { "Key" } dd { code { (record.key) } " " span.cut { (record.when) } }
                        dt { "Raw" } dd { pre { (short(&record.raw, LONG)) } }
                        dt { "Decoded" }
                        dd {
                            @match &record.decoded {
                                Ok(data) => pre.data { (short(data, LONG)) },
                                Err(why) => (short(why, MEDIUM)),
                            }
                        }
                    }
                }
            }
        }
    }
}
