//! What stands around each page.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, LazyLock};

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use maud::{DOCTYPE, Markup, html};

use super::Site;

pub(super) const STYLE_PATH: &str = "/style.css";
/// The look of documents of our own.
const FRAME: &str = include_str!("frame.css");
/// The look of what only these pages have.
const PARTS: &str = include_str!("parts.css");

/// The stylesheets' address changes with them, so that a browser can keep them.
static STYLE_VERSION: LazyLock<String> = LazyLock::new(|| {
    let mut hasher = DefaultHasher::new();
    (FRAME, PARTS).hash(&mut hasher);
    format!("{:x}", hasher.finish())
});

/// Makes a whole document of a page.
pub(super) type Frame = Arc<dyn Fn(&Page) -> String + Send + Sync>;

/// A page for the frame of a site, see [`Pages::in_frame`](crate::Pages::in_frame).
#[derive(Clone, Debug)]
pub struct Page {
    /// Its title, as text.
    pub title: String,
    /// What it shows, as HTML.
    pub content: String,
    /// The address of the stylesheet that it needs beside the site's own, which gives colours by the variables `--paper`,
    /// `--card`, `--ink`, `--quiet`, `--line`, `--code`, `--accent`, `--on-accent`, `--tint`, `--good`, `--bad` and
    /// `--bad-tint`.
    pub stylesheet: String,
}

pub(super) fn document(frame: Option<&Frame>, base: &str, title: &str, content: Markup) -> String {
    let stylesheet = format!("{base}{STYLE_PATH}?{}", *STYLE_VERSION);
    if let Some(frame) = frame {
        return frame(&Page { title: title.to_owned(), content: content.into_string(), stylesheet });
    }
    let document = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · Cloakroom" }
                link rel="icon" href="data:,";
                link rel="stylesheet" href=(stylesheet);
            }
            body {
                a.skip href="#content" { "Skip to the content" }
                header.top { a.brand href=(if base.is_empty() { "/" } else { base }) { "Cloakroom inspector" } }
                main id="content" { (content) }
            }
        }
    };
    document.into_string()
}

pub(super) async fn style(State(site): State<Arc<Site>>) -> impl IntoResponse {
    let sheet = if site.frame.is_some() { PARTS.to_owned() } else { format!("{FRAME}{PARTS}") };
    let headers =
        [(header::CONTENT_TYPE, "text/css; charset=utf-8"), (header::CACHE_CONTROL, "public, max-age=31536000")];
    (headers, sheet)
}
