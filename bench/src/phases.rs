//! The five parts of the torture.

mod endings;
mod storm;
mod writers;

pub use endings::{Rotations, SignOuts, rotations, sign_outs};
pub use storm::{Storm, storm};
pub use writers::{Writers, different_keys, increments, one_key};
