//! Sweeps: batches that fit the store, pauses for others, and a task in the background that holds nobody up.

#[path = "cached_engine/stand_in.rs"]
#[allow(dead_code, reason = "shared with the tests of cached_db")]
mod stand_in;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cloakroom_core::store::{Cleared, Created, Deleted, Replaced, Store, Stored, Touched, Version};
use cloakroom_core::sweep::{DEFAULT_BATCH, Sweep, Turn, Turns, in_background, turn_in};
use cloakroom_core::{Clock, Error, ErrorKind, Result, SessionKey, Timestamp};
use stand_in::StandIn;
use tokio::time::{Instant, sleep};

const NOW: Timestamp = Timestamp::from_secs(1_900_000_000);
const HOUR: Duration = Duration::from_secs(3_600);

/// A store with so many expired records, each of which takes so long to remove.
struct Slow {
    left: AtomicUsize,
    each: Duration,
    batches: Mutex<Vec<usize>>,
}

impl Slow {
    fn new(expired: usize, each: Duration) -> Self {
        Self { left: AtomicUsize::new(expired), each, batches: Mutex::default() }
    }
}

#[async_trait]
impl Store for Slow {
    async fn clear_expired(&self, batch: usize) -> Result<Cleared> {
        let removed = batch.min(self.left.load(Ordering::SeqCst));
        sleep(self.each * removed as u32).await;
        self.left.fetch_sub(removed, Ordering::SeqCst);
        self.batches.lock().unwrap().push(batch);
        Ok(Cleared { removed: removed as u64, more: removed == batch })
    }

    async fn load(&self, _: &SessionKey) -> Result<Option<Stored>> {
        unused()
    }
    async fn create(&self, _: &SessionKey, _: Bytes, _: Timestamp) -> Result<Created> {
        unused()
    }
    async fn replace(&self, _: &SessionKey, _: &Version, _: Bytes, _: Timestamp) -> Result<Replaced> {
        unused()
    }
    async fn touch(&self, _: &SessionKey, _: Timestamp) -> Result<Touched> {
        unused()
    }
    async fn delete(&self, _: &SessionKey, _: Option<&Version>) -> Result<Deleted> {
        unused()
    }
    async fn list(&self, _: Option<&SessionKey>, _: usize) -> Result<Vec<SessionKey>> {
        unused()
    }
}

fn unused<T>() -> Result<T> {
    Err(Error::new(ErrorKind::Unsupported, "a sweep asks for nothing else"))
}

async fn sweep(mut sweep: Sweep, store: &dyn Store) -> u64 {
    let mut removed = 0;
    while let Some(batch) = sweep.next(store).await.unwrap() {
        removed += batch;
    }
    assert_eq!(sweep.next(store).await.unwrap(), None, "the end is the end");
    removed
}

#[tokio::test(start_paused = true)]
async fn batches_are_as_large_as_the_store_is_fast() {
    // A thousand in a millisecond: as many at once as are allowed.
    for most in [1, 7, 100, DEFAULT_BATCH, 5_000] {
        let store = Slow::new(100_000.min(most * 100), Duration::from_micros(1));
        let expired = store.left.load(Ordering::SeqCst) as u64;
        assert_eq!(sweep(Sweep::in_batches(most), &store).await, expired);
        let batches = store.batches.into_inner().unwrap();
        assert!(batches[0] <= 100 && batches.iter().all(|batch| *batch <= most), "{batches:?}");
        assert_eq!(batches.last(), Some(&most));
    }
    // Ten in a millisecond: a batch must not hold others up for long.
    let store = Slow::new(50_000, Duration::from_micros(100));
    assert_eq!(sweep(Sweep::new(), &store).await, 50_000);
    let batches = store.batches.into_inner().unwrap();
    assert!(batches.iter().all(|batch| *batch == 100), "{batches:?}");
}

#[tokio::test(start_paused = true)]
async fn others_get_their_turn() {
    let store = Slow::new(50_000, Duration::from_micros(100));
    let begin = Instant::now();
    sweep(Sweep::new(), &store).await;
    let (work, all) = (Duration::from_secs(5), begin.elapsed());
    assert!(all > work.mul_f64(1.5) && all < work.mul_f64(2.0), "{all:?} for {work:?} of work");
}

#[tokio::test(start_paused = true)]
async fn a_sweep_that_fails_is_gone_on_with() {
    let clock = Clock::manual(NOW);
    let store = expired(&clock, 250).await;
    let mut sweep = Sweep::in_batches(100);
    assert_eq!(sweep.next(&*store).await.unwrap(), Some(100));
    store.set_down(true);
    assert_eq!(sweep.next(&*store).await.unwrap_err().kind(), ErrorKind::Unavailable);
    store.set_down(false);
    assert_eq!(sweep.next(&*store).await.unwrap(), Some(100));
    assert_eq!(sweep.next(&*store).await.unwrap(), Some(50));
    assert_eq!(sweep.next(&*store).await.unwrap(), None);
}

/// A store with so many records that expire in a minute, at a moment when they have.
async fn expired(clock: &Clock, count: usize) -> Arc<StandIn> {
    let store = StandIn::new(clock);
    expire(&store, clock, count).await;
    store
}

async fn expire(store: &StandIn, clock: &Clock, count: usize) {
    for n in 0..count {
        let key = SessionKey::presented(&format!("{n:032}")).unwrap();
        let expiry = clock.now().checked_add_micros(60_000_000).unwrap();
        store.inner.create(&key, Bytes::from_static(b"x"), expiry).await.unwrap();
    }
    clock.advance(Duration::from_secs(61));
}

/// How many tasks of the runtime are alive, that of the test aside.
fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

#[tokio::test(start_paused = true)]
async fn the_background_sweeps_each_time_it_is_due() {
    let clock = Clock::manual(NOW);
    let store = expired(&clock, 2_500).await;
    let shared: Arc<dyn Store> = store.clone();
    in_background(&shared, None, HOUR);
    assert_eq!(store.inner.len(), 2_500, "not at once");
    sleep(HOUR + Duration::from_secs(60)).await;
    assert_eq!(store.inner.len(), 0);
    for _ in 0..5 {
        expire(&store, &clock, 10).await;
        sleep(HOUR.mul_f64(1.1)).await;
        assert_eq!(store.inner.len(), 0);
    }
    // A store that is down is swept when it is back.
    expire(&store, &clock, 10).await;
    store.set_down(true);
    sleep(HOUR * 3).await;
    assert_eq!(store.inner.len(), 10);
    store.set_down(false);
    sleep(HOUR.mul_f64(1.1)).await;
    assert_eq!(store.inner.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_background_keeps_nobody_alive() {
    let clock = Clock::manual(NOW);
    let store = expired(&clock, 10).await;
    let shared: Arc<dyn Store> = store.clone();
    in_background(&shared, None, HOUR);
    drop(shared);
    sleep(HOUR * 3).await;
    assert_eq!((Arc::strong_count(&store), tasks()), (1, 1));
    drop(store);
    sleep(HOUR * 2).await;
    assert_eq!(tasks(), 0, "without a store, there is nothing to do for a task");

    // A runtime does not wait for it either.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let thread = std::thread::spawn(move || {
        runtime.block_on(async {
            let store: Arc<dyn Store> = StandIn::new(&Clock::system());
            in_background(&store, None, HOUR);
            store
        })
    });
    drop(thread.join().unwrap());
}

/// Turns as another node leaves them.
#[derive(Default)]
struct Theirs {
    taken: Arc<AtomicBool>,
    ended: Arc<AtomicUsize>,
}

struct Ours {
    taken: Arc<AtomicBool>,
    ended: Arc<AtomicUsize>,
}

#[async_trait]
impl Turn for Ours {
    async fn end(self: Box<Self>) {
        self.taken.store(false, Ordering::SeqCst);
        self.ended.fetch_add(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl Turns for Theirs {
    async fn take(&self) -> Result<Option<Box<dyn Turn>>> {
        let ours = !self.taken.swap(true, Ordering::SeqCst);
        let turn = || Ours { taken: self.taken.clone(), ended: self.ended.clone() };
        Ok(ours.then(|| Box::new(turn()) as Box<dyn Turn>))
    }
}

#[tokio::test(start_paused = true)]
async fn the_background_leaves_it_to_whoever_has_the_turn() {
    let clock = Clock::manual(NOW);
    let store = expired(&clock, 10).await;
    let shared: Arc<dyn Store> = store.clone();
    let theirs = Arc::new(Theirs::default());
    theirs.taken.store(true, Ordering::SeqCst);
    in_background(&shared, Some(theirs.clone()), HOUR);
    sleep(HOUR * 5).await;
    assert_eq!(store.inner.len(), 10);
    theirs.taken.store(false, Ordering::SeqCst);
    sleep(HOUR.mul_f64(1.1)).await;
    assert_eq!(store.inner.len(), 0);
    // Two sweeps may be nine tenths of the interval apart.
    assert!((1..=2).contains(&theirs.ended.load(Ordering::SeqCst)));
    assert!(!theirs.taken.load(Ordering::SeqCst), "and the turn is given back");
}

#[tokio::test]
async fn a_directory_has_one_turn() {
    let directory = tempfile::tempdir().unwrap();
    let turn = turn_in(directory.path()).unwrap().expect("nobody has it");
    assert!(turn_in(directory.path()).unwrap().is_none());
    turn.end().await;
    drop(turn_in(directory.path()).unwrap().expect("it was given back"));
    assert!(turn_in(directory.path()).unwrap().is_some(), "it ends with its holder");
    assert!(turn_in(&directory.path().join("absent")).is_err());
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "no trace");
}
