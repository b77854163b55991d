//! The suite that every store has to pass.
//!
//! # For the author of a store
//! Say how an empty store is opened, and let [`store_conformance!`](crate::store_conformance) write one `#[test]` for
//! each check:
//!
//! ```
//! # // The tests of a doc test are not run; that they compile is what counts here.
//! mod conformance {
//!     use cloakroom_core::conformance::store::{Harness, Subject};
//!     use cloakroom_core::engine::memory::MemoryStore;
//!
//!     fn harness() -> Harness {
//!         Harness::new(async |clock| Subject::new(MemoryStore::new(clock)))
//!     }
//!
//!     cloakroom_core::store_conformance!(harness());
//! }
//! ```
//!
//! A store on a server that keeps its own time, and so cannot follow a [manual clock](Clock::manual), is tested with
//! [`Harness::in_real_time`]. A store that several processes can share is tested through two handles, see
//! [`Subject::with_second`]. Every check opens a store anew; it must be empty, and nothing else may use it.
//!
//! The checks can also be called by themselves: each function of [`checks`] panics if the store fails it, and [`run`]
//! runs them all and reports every failure.

mod basics;
mod expiry;
mod races;
mod sweeps;
mod through;

use std::any::Any;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::clock::{Clock, Timestamp};
use crate::key::{KeySource, SessionKey};
use crate::store::{Created, Store, Stored, Version};

pub use through::ThroughCodec;

/// The checks, one function each. Each panics if the store fails it.
pub mod checks {
    pub use super::basics::*;
    pub use super::expiry::*;
    pub use super::races::*;
    pub use super::sweeps::*;
}

type Opening = Pin<Box<dyn Future<Output = Subject> + Send>>;

/// How the suite comes by a store to try.
pub struct Harness {
    open: Box<dyn Fn(Clock) -> Opening + Send + Sync>,
    real_time: bool,
    tells_expiry: bool,
    max_payload: usize,
}

impl Harness {
    /// A harness for stores that follow the clock they are given. `open` makes an empty store.
    pub fn new<F>(open: impl Fn(Clock) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Subject> + Send + 'static,
    {
        Self {
            open: Box::new(move |clock| Box::pin(open(clock))),
            real_time: false,
            tells_expiry: true,
            max_payload: 1 << 20,
        }
    }

    /// For a store that keeps its own time: the clock is the system's, and the checks of expiry wait some seconds.
    #[must_use]
    pub fn in_real_time(mut self) -> Self {
        self.real_time = true;
        self
    }

    /// For a store that cannot tell when a record expires, and says [`Timestamp::MAX`] instead.
    #[must_use]
    pub fn without_expiry(mut self) -> Self {
        self.tells_expiry = false;
        self
    }

    /// The largest payload that the store must carry, in bytes; 1 MiB unless this says otherwise.
    #[must_use]
    pub fn with_max_payload(mut self, bytes: usize) -> Self {
        self.max_payload = bytes;
        self
    }

    async fn bench(&self) -> Bench {
        // A moment with a fraction, so that a store which cuts it off shows.
        let clock = match self.real_time {
            true => Clock::system(),
            false => Clock::manual(Timestamp::from_micros(1_800_000_000_250_000)),
        };
        let subject = (self.open)(clock.clone()).await;
        let unit = if self.real_time { 2 } else { 100 };
        Bench {
            store: subject.store,
            other: subject.other,
            clock,
            unit,
            real_time: self.real_time,
            tells_expiry: self.tells_expiry,
            _keep: subject.keep,
        }
    }
}

/// A store to try, and what has to live as long as it.
pub struct Subject {
    store: Arc<dyn Store>,
    other: Arc<dyn Store>,
    keep: Vec<Box<dyn Any + Send + Sync>>,
}

impl Subject {
    /// A store.
    pub fn new(store: impl Store) -> Self {
        Self::shared(Arc::new(store))
    }

    /// A store that is shared already.
    pub fn shared(store: Arc<dyn Store>) -> Self {
        Self { other: Arc::clone(&store), store, keep: Vec::new() }
    }

    /// A second handle on the same records, as another process would have it. The checks of what happens at the same
    /// time then work through both.
    #[must_use]
    pub fn with_second(mut self, other: impl Store) -> Self {
        self.other = Arc::new(other);
        self
    }

    /// Something that must live as long as the store, such as a temporary directory or a server.
    #[must_use]
    pub fn keeping(mut self, thing: impl Any + Send + Sync) -> Self {
        self.keep.push(Box::new(thing));
        self
    }
}

/// Runs all checks, one after another, and then panics with a list of those that failed, if any did.
///
/// It wants a runtime with more than one thread, or the races are none; [`store_conformance!`](crate::store_conformance)
/// makes such a one.
pub async fn run(harness: Harness) {
    let harness = Arc::new(harness);
    let mut failures = Vec::new();
    for (name, check) in CHECKS {
        let harness = Arc::clone(&harness);
        // A task of its own, so that a panic ends this check alone.
        if let Err(failure) = tokio::spawn(async move { check(&harness).await }).await {
            failures.push(format!("{name}: {failure}"));
        }
    }
    assert!(failures.is_empty(), "{} of {} checks failed\n{}", failures.len(), CHECKS.len(), failures.join("\n"));
}

/// Runs one check on a runtime of its own. For [`store_conformance!`](crate::store_conformance).
#[doc(hidden)]
pub fn block_on<F: Future>(check: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build();
    runtime.expect("a runtime for the check").block_on(check)
}

/// A check by its name.
pub type Check = for<'a> fn(&'a Harness) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// The list of all checks, handed to another macro.
#[doc(hidden)]
#[macro_export]
macro_rules! __each_store_check {
    ($then:ident $($argument:tt)*) => {
        $crate::$then! {
            [$($argument)*]
            round_trip_keeps_every_byte unknown_keys_have_no_record keys_do_not_mix create_never_overwrites
            replace_compares_and_hands_over_what_stands replace_never_inserts delete_is_idempotent
            guarded_delete_compares rotation_meets_a_concurrent_write rotate_compares_and_moves
            a_new_record_is_another_version touch_keeps_the_payload
            expired_is_gone replace_moves_the_expiry touch_moves_the_expiry touch_never_resurrects
            the_last_moment_of_the_calendar_will_do expired_keys_can_be_used_again
            a_clock_that_jumps_neither_ends_nor_revives
            clear_expired_removes_only_what_expired clear_expired_works_in_batches two_sweepers_do_not_collide
            list_pages_in_order
            race_increments_are_not_lost race_one_create_wins race_one_replace_wins race_delete_is_final
            race_guarded_delete_or_replace race_rotate_or_replace
        }
    };
}

/// Writes one `#[test]` for each check of a store. The argument is an expression that makes a
/// [`Harness`](crate::conformance::store::Harness); use it in a module of its own.
#[macro_export]
macro_rules! store_conformance {
    ($harness:expr $(,)?) => {
        $crate::__each_store_check! { __store_tests $harness }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __store_tests {
    ([$harness:expr] $($check:ident)*) => {
        $(
            #[test]
            fn $check() {
                let harness: $crate::conformance::store::Harness = $harness;
                $crate::conformance::store::block_on($crate::conformance::store::checks::$check(&harness));
            }
        )*
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __store_check_table {
    ([] $($check:ident)*) => {
        /// All checks with their names, in the order in which [`run`] runs them.
        pub const CHECKS: &[(&str, Check)] = &[$((stringify!($check), |harness| Box::pin(checks::$check(harness)))),*];
    };
}

crate::__each_store_check! { __store_check_table }

/// A store on the bench of one check.
struct Bench {
    store: Arc<dyn Store>,
    other: Arc<dyn Store>,
    clock: Clock,
    /// Seconds after which what a check calls short has passed.
    unit: i64,
    real_time: bool,
    tells_expiry: bool,
    _keep: Vec<Box<dyn Any + Send + Sync>>,
}

impl Bench {
    fn key(&self) -> SessionKey {
        KeySource::system().draw().expect("a random key")
    }

    /// So many units from now.
    fn after(&self, units: i64) -> Timestamp {
        self.clock.now().checked_add_micros(units * self.unit * 1_000_000).expect("a moment within the calendar")
    }

    /// A moment that no check reaches.
    fn later(&self) -> Timestamp {
        self.after(10_000)
    }

    /// Lets so many units pass, and in real time a little more: servers count in whole seconds.
    async fn pass(&self, units: i64) {
        let time = Duration::from_secs((units * self.unit).unsigned_abs());
        match self.real_time {
            true => tokio::time::sleep(time + Duration::from_millis(1_200)).await,
            false => self.clock.advance(time),
        }
    }

    async fn create(&self, key: &SessionKey, payload: &str, expiry: Timestamp) -> Version {
        match self.store.create(key, Bytes::copy_from_slice(payload.as_bytes()), expiry).await {
            Ok(Created::Created(version)) => version,
            other => panic!("a record under an unused key could not be made: {other:?}"),
        }
    }

    async fn load(&self, key: &SessionKey) -> Option<Stored> {
        self.store.load(key).await.expect("load")
    }

    async fn payload(&self, key: &SessionKey) -> Option<String> {
        self.load(key).await.map(|stored| text(&stored))
    }

    /// A record's expiry is the one that was set, to the second, or the store says that it does not know it.
    fn assert_expiry(&self, stored: &Stored, wanted: Timestamp) {
        if self.tells_expiry {
            let off = stored.expiry.micros_since(wanted).abs();
            assert!(off <= 1_000_000, "the expiry came back {off} µs off");
        } else {
            assert_eq!(stored.expiry, Timestamp::MAX, "an expiry that the store cannot tell");
        }
    }

    /// The two handles in turn, as if by workers in two processes.
    fn handle(&self, worker: usize) -> Arc<dyn Store> {
        Arc::clone(if worker.is_multiple_of(2) { &self.store } else { &self.other })
    }
}

fn text(stored: &Stored) -> String {
    String::from_utf8(stored.payload.to_vec()).expect("the text that was stored")
}

/// ASCII, as all payloads are that Django reads.
fn payload(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}
