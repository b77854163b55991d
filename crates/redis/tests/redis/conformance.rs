//! The suite for stores, with times in seconds as Django has them, and in milliseconds as django-redis has them.

use cloakroom_core::conformance::store::{Harness, Subject};
use cloakroom_redis::{RedisStore, TimeUnit};
use cloakroom_test_servers::{Kind, shared};

/// A harness on the shared server, each check in a database of its own; nothing if there is no server.
fn harness(unit: TimeUnit) -> Option<Harness> {
    let server = shared(Kind::Redis)?;
    let open = move |clock: cloakroom_core::Clock| async move {
        let url = server.database();
        let open = || RedisStore::open(crate::options(&url).time_unit(unit), clock.clone()).expect("a store");
        Subject::new(open()).with_second(open())
    };
    Some(Harness::new(open).in_real_time().without_expiry())
}

mod in_seconds {
    use super::*;
    cloakroom_core::store_conformance!(match harness(TimeUnit::Seconds) {
        Some(harness) => harness,
        None => return,
    });
}

mod in_milliseconds {
    use super::*;
    cloakroom_core::store_conformance!(match harness(TimeUnit::Milliseconds) {
        Some(harness) => harness,
        None => return,
    });
}
