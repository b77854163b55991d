//! What all pages have in common.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::LazyLock;

use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use maud::{DOCTYPE, Markup, PreEscaped, Render, html};

/// The pages, as the navigation lists them: where, and what they are called.
const PAGES: &[(&str, &str)] = &[
    ("/", "Step by step"),
    ("/practice", "Practice"),
    ("/inspector", "Inspector"),
    ("/trace", "Live trace"),
    ("/routes", "Routes"),
];

pub(crate) const STYLE_PATH: &str = "/style.css";
pub(crate) const STYLE: &str = include_str!("style.css");

/// The stylesheet's address changes with it, so that a browser can keep it.
static STYLE_ADDRESS: LazyLock<String> = LazyLock::new(|| {
    let mut hasher = DefaultHasher::new();
    STYLE.hash(&mut hasher);
    format!("{STYLE_PATH}?{:x}", hasher.finish())
});

pub(crate) async fn style() -> impl IntoResponse {
    let headers =
        [(header::CONTENT_TYPE, "text/css; charset=utf-8"), (header::CACHE_CONTROL, "public, max-age=31536000")];
    (headers, STYLE)
}

/// A coat hanger.
const ICON: &str = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 32' fill='none' \
                    stroke='%23a8481f' stroke-width='2.5' stroke-linecap='round' stroke-linejoin='round'%3E%3Cpath \
                    d='M13 8a3 3 0 1 1 3 3v3L4 23q-2 2 1 2h22q3 0 1-2L16 14'/%3E%3C/svg%3E";

/// A page; `here` is its address.
pub(crate) fn page(here: &str, title: &str, content: Markup) -> Response {
    Html(document(here, title, None, content).into_string()).into_response()
}

/// A page of the inspector, which brings a stylesheet of its own.
pub(crate) fn framed(here: &str, title: &str, stylesheet: &str, content: &str) -> String {
    document(here, title, Some(stylesheet), PreEscaped(content).render()).into_string()
}

/// A page that says why there is no other.
pub(crate) fn failure(status: StatusCode, message: Markup) -> Response {
    let title = status.canonical_reason().unwrap_or("Failure");
    let content = html! { h1 { (title) } div.notice.bad role="alert" { (message) } };
    (status, Html(document("", title, None, content).into_string())).into_response()
}

fn document(here: &str, title: &str, stylesheet: Option<&str>, content: Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · Cloakroom" }
                link rel="icon" href=(PreEscaped(ICON));
                link rel="stylesheet" href=(*STYLE_ADDRESS);
                @if let Some(stylesheet) = stylesheet { link rel="stylesheet" href=(stylesheet); }
            }
            body {
                a.skip href="#content" { "Skip to the content" }
                header.top {
                    a.brand href="/" { (hanger()) "Cloakroom" }
                    nav aria-label="Pages" {
                        @for (address, name) in PAGES {
                            a href=(address) aria-current=[(*address == here).then_some("page")] { (name) }
                        }
                    }
                }
                main id="content" { (content) }
                footer { p { "Cloakroom: Django's session framework for Rust. You leave your data, you get a cookie, "
                    "and you get back exactly what you left." } }
            }
        }
    }
}

fn hanger() -> Markup {
    html! {
        svg viewBox="0 0 32 32" width="28" height="28" aria-hidden="true" fill="none" stroke="currentColor"
            stroke-width="2.5" stroke-linecap="round" stroke-linejoin="round" {
            path d="M13 8a3 3 0 1 1 3 3v3L4 23q-2 2 1 2h22q3 0 1-2L16 14" {}
        }
    }
}

/// A text, cut where it becomes too long for a page.
pub(crate) fn short(text: &str, length: usize) -> Markup {
    match text.char_indices().nth(length) {
        None => html! { (text) },
        Some((end, _)) => html! { (text[..end]) "…" span.cut { " (" (text.chars().count()) " characters)" } },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    /// How bright the colours of a block are, by name.
    fn brightness(block: &str) -> HashMap<&str, f64> {
        let colours =
            block.split(';').filter_map(|declaration| declaration.trim().strip_prefix("--")?.split_once(": #"));
        colours
            .map(|(name, colour)| {
                let channel = |at: usize| {
                    let value = f64::from(u8::from_str_radix(&colour[at..at + 2], 16).unwrap()) / 255.0;
                    if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
                };
                (name, 0.2126 * channel(0) + 0.7152 * channel(2) + 0.0722 * channel(4))
            })
            .collect()
    }

    /// What is written can be read: WCAG's 4.5 to 1, in both schemes.
    #[test]
    fn colours_have_contrast() {
        let blocks: Vec<&str> = STYLE.split(":root {").skip(1).map(|rest| rest.split('}').next().unwrap()).collect();
        assert_eq!(blocks.len(), 2, "light and dark");
        for block in blocks {
            let of = brightness(block);
            for (text, grounds) in [
                ("ink", &["paper", "card", "code", "tint", "bad-tint"][..]),
                ("quiet", &["paper", "card", "code", "tint", "bad-tint"]),
                ("accent", &["paper", "card", "tint"]),
                ("on-accent", &["accent"]),
                ("good", &["card", "tint", "code"]),
                ("card", &["good"]),
                ("bad", &["card", "bad-tint"]),
            ] {
                for ground in grounds {
                    let contrast = (of[text].max(of[ground]) + 0.05) / (of[text].min(of[ground]) + 0.05);
                    assert!(contrast >= 4.5, "{text} on {ground}: {contrast:.2}");
                }
            }
        }
    }
}
