//! A cache in front of a database passes the suite in both forms, through two handles as two processes have them.

use std::sync::Arc;
use std::time::Duration;

use cloakroom_core::conformance::store::{Harness, Subject, ThroughCodec};
use cloakroom_core::engine::cached::{CacheForm, CachedStore};
use cloakroom_core::engine::memory::MemoryStore;
use cloakroom_core::wire::session_data::Codec;
use cloakroom_core::wire::signing::Secrets;
use cloakroom_core::{Clock, store_conformance};

/// Two handles on one cache and one database.
fn two(form: CacheForm) -> impl Fn(Clock) -> (CachedStore, CachedStore) {
    move |clock| {
        let (cache, database) = (Arc::new(MemoryStore::new(clock.clone())), Arc::new(MemoryStore::new(clock.clone())));
        let open = || {
            let codec = Codec::signed_json(&Secrets::new("conformance"));
            CachedStore::new("default", cache.clone(), form.clone(), database.clone(), codec, clock.clone())
        };
        (open(), open())
    }
}

fn through(store: CachedStore, clock: &Clock) -> ThroughCodec {
    let codec = store.codec();
    ThroughCodec::new(Arc::new(store), codec, clock.clone())
}

fn private(max_age: Duration) -> Harness {
    let open = two(CacheForm::Private { max_age });
    Harness::new(move |clock| {
        let (one, other) = open(clock);
        async { Subject::new(one).with_second(other) }
    })
}

mod private_form {
    use super::*;
    store_conformance!(private(Duration::MAX));
}

mod private_form_of_no_age {
    use super::*;
    store_conformance!(private(Duration::ZERO));
}

mod django_form {
    use super::*;
    fn harness() -> Harness {
        let open = two(CacheForm::Django(Codec::json()));
        Harness::new(move |clock| {
            let (one, other) = open(clock.clone());
            async move { Subject::new(through(one, &clock)).with_second(through(other, &clock)) }
        })
    }
    store_conformance!(harness());
}
