//! Programs that measure session libraries.
//!
//! The torture starts a real site, breaks it, and keeps a ledger of what the site acknowledged, against which everything
//! that can be read afterwards is checked. The comparison asks many sites for the same pages, side by side. The programs
//! about scale fill tables with millions of sessions, work on them, and sweep them.
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

pub mod cpu;
pub mod http;
pub mod results;
pub mod stats;

pub mod load;
pub mod picture;
pub mod routes;

pub mod contest;
pub mod table;

pub mod comparison;
