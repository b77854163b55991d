//! Sessions in memory, looked into.

mod lists;
mod pages;
mod support;
