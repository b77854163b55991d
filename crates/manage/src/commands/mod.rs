//! One file for each subcommand.

pub(crate) mod check;
pub(crate) mod clearsessions;
pub(crate) mod list;
pub(crate) mod look;
pub(crate) mod migrate;
pub(crate) mod revoke;
pub(crate) mod serve;
pub(crate) mod settings;
pub(crate) mod show;
pub(crate) mod stats;
