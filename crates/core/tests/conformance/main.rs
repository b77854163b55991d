//! The stores of this crate pass the suite, and stores that are broken on purpose do not.

use std::path::PathBuf;
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

/// Two handles on one directory, as two processes have them, in the directory for temporary files or another.
fn files(sync: bool, parent: Option<&'static str>) -> Harness {
    let parent = parent.map(PathBuf::from).filter(|parent| parent.is_dir()).unwrap_or_else(std::env::temp_dir);
    Harness::new(move |clock| {
        let parent = parent.clone();
        async move {
            let directory = tempfile::tempdir_in(parent).unwrap();
            let open = || file_store(directory.path(), clock.clone(), Lifetime::Sliding(1_209_600)).with_sync(sync);
            Subject::new(open()).with_second(open()).keeping(directory)
        }
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
    store_conformance!(files(false, None));
}

/// A tmpfs on nearly every Linux, where saves do not leave the thread that asks.
mod file_in_memory {
    use super::*;
    store_conformance!(files(false, Some("/dev/shm")));
}

#[tokio::test(flavor = "multi_thread")]
async fn files_with_sync() {
    run(files(true, None)).await;
}
