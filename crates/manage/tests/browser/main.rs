//! The site in a real Chromium, through WebDriver: the steps on every engine, the practice, closing and reopening the
//! browser, the live trace, what is typed as markup, a switched-off script, a phone, the dark.
//!
//! `./test` installs the browser; without it, a plain `cargo test` says which tests it left out. Pictures are kept in
//! `target/screenshots`.

mod chromium;
mod inspector;
mod looks;
mod practice;
mod process;
mod reopen;
mod site;
mod steps;
mod trace;
