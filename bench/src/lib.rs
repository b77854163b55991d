//! A torture program for sessions over HTTP: it starts a real site, breaks it, and keeps a ledger of what the site
//! acknowledged, against which everything that can be read afterwards is checked.
//!
//! A file imports only from those above it.

pub mod client;
pub mod count;
pub mod jar;
pub mod ledger;
pub mod schedule;
pub mod tally;

pub mod course;
pub mod visitor;

pub mod build;
pub mod site;

pub mod engine;

pub mod breaker;

pub mod phases;

pub mod report;
