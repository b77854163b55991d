//! One file for each subcommand.

pub(crate) mod check;
pub(crate) mod clearsessions;
pub(crate) mod migrate;
pub(crate) mod serve;
pub(crate) mod settings;
