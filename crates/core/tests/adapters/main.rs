//! The suite for framework adapters passes one that holds to the contract, and finds the fault of each that does not.

mod broken;

use broken::{Fault, Toy};

mod good {
    use super::*;
    cloakroom_core::exchange_conformance!(Toy::with(Fault::None));
}
