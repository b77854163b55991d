//! The stores of this crate pass the suite, and stores that are broken on purpose do not.

use std::sync::Arc;

use cloakroom_core::conformance::store::{Harness, Subject, run};
use cloakroom_core::engine::file::FileStore;
use cloakroom_core::engine::memory::MemoryStore;
use cloakroom_core::wire::expiry::Lifetime;
use cloakroom_core::{Clock, store_conformance};

mod broken;
mod cached;

fn file_store(directory: &std::path::Path, clock: Clock, lifetime: Lifetime) -> FileStore {
    FileStore::new(directory, "sessionid", clock, Arc::new(move |_: &_| lifetime)).unwrap()
}

/// Two handles on one directory, as two processes have them.
fn files(sync: bool) -> Harness {
    Harness::new(move |clock| async move {
        let directory = tempfile::tempdir().unwrap();
        let open = || file_store(directory.path(), clock.clone(), Lifetime::Sliding(1_209_600)).with_sync(sync);
        Subject::new(open()).with_second(open()).keeping(directory)
    })
}

mod memory {
    use super::*;
    store_conformance!(Harness::new(async |clock| Subject::new(MemoryStore::new(clock))));
}

mod small_memory {
    use super::*;
    store_conformance!(Harness::new(async |clock| Subject::new(MemoryStore::with_max_entries(clock, 100))));
}

mod file {
    use super::*;
    store_conformance!(files(false));
}

#[tokio::test(flavor = "multi_thread")]
async fn files_with_sync() {
    run(files(true)).await;
}
