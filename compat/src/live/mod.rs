//! Support for the tests that hold Cloakroom against Django: sites that run for the length of a test, visitors with a
//! cookie jar, and readers of what lies in the stores that share no code with what is tested.

pub mod database;
pub mod engine;
pub mod http;
pub mod json;
pub mod memcached;
pub mod process;
pub mod python;
pub mod random;
pub mod redis;
pub mod site;

use std::io::Write;

/// Says something that a test runner shows even when the test passes: `println!` would be captured.
pub fn tell(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
