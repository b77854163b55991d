//! Suites that prove an implementation: one for stores, one for framework adapters.

pub mod exchange;
pub mod probe;
pub mod store;
