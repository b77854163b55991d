//! The suite that every store has to pass, on a real Memcached.

mod common;

use cloakroom_core::conformance::store::{Harness, Subject};
use cloakroom_memcached::MemcachedStore;
use cloakroom_test_servers::{Kind, Server, shared};

fn harness(server: &Server) -> Harness {
    let location = server.address();
    let open = move |clock: cloakroom_core::Clock| {
        let location = location.clone();
        async move {
            let keys = common::keys();
            let open = || MemcachedStore::new(common::options(&location), keys.clone(), clock.clone()).unwrap();
            Subject::new(open()).with_second(open())
        }
    };
    // A megabyte is the server's limit for an item with its key and its head.
    Harness::new(open).in_real_time().with_max_payload(1_000_000)
}

cloakroom_core::store_conformance!(match shared(Kind::Memcached) {
    Some(server) => harness(server),
    None => return,
});
