//! Every way in which a few requests can overtake each other, as far as chance finds it, in the real code.
//!
//! Not only where a store answers: the locks and the flags are those of a model checker too, so that a task may stop at
//! each of them while others go on. What fails is told with its schedule; the seeds are fixed, so that a run is like
//! the one before, but for the keys of sessions and of hashes.

mod cached;
#[path = "../common/mod.rs"]
mod common;
mod given_up;
mod handles;
mod overtaking;
mod site;
