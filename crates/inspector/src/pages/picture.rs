//! A histogram as a picture that is a part of the page.

use maud::{Markup, html};

use super::count;
use crate::Bar;

/// The height of a bar with its caption, in pixels.
const ROW: usize = 44;

/// Bars below each other, so that captions fit on a phone. Widths are in percent: text keeps its size.
pub(super) fn bars(title: &str, bars: &[Bar], in_all: impl Fn(u64) -> u64) -> Markup {
    let most = bars.iter().map(|bar| bar.count).max().unwrap_or_default().max(1);
    html! {
        svg.bars role="img" aria-label=(title) width="100%" height=(bars.len() * ROW) {
            title { (title) }
            @for (place, bar) in bars.iter().enumerate() {
                @let top = place * ROW;
                text x="0" y=(top + 15) { (bar.name) }
                text.number x="100%" y=(top + 15) text-anchor="end" { (count(in_all(bar.count))) }
                rect.ground x="0" y=(top + 22) width="100%" height="12" rx="4" {}
                @if bar.count > 0 {
                    rect.bar x="0" y=(top + 22) width={ (format!("{:.2}", bar.count as f64 * 100.0 / most as f64)) "%" }
                        height="12" rx="4" {}
                }
            }
        }
    }
}
