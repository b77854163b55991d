//! Operations that wait for each other and go together, as `cloakroom-sql` lets them (`group.rs`, the very source), over a
//! database whose statements take any time and may fail. Locks, tasks and time limits are those of a model checker.

// What the source finds under these names in its own crate.
extern crate cloakroom_model as cloakroom_core;
#[path = "../../../sql/src/group.rs"]
mod group;

#[path = "../common/mod.rs"]
mod common;
mod database;

use cloakroom_model::ErrorKind;
use common::{explore, give_up};
use database::dialect::{Dialect, Together};
use database::wish::Wish;
use database::{dialect, store, sync, wish};
use group::Joined;
use shuttle::future::{spawn, yield_now};
use shuttle::rand::{Rng, thread_rng};
use store::SqlStore;

struct OneLane;
struct TwoLanes;

impl Dialect for OneLane {
    const LANES: usize = 1;
}

impl Dialect for TwoLanes {
    const LANES: usize = 2;
}

/// An operation as the store does it: with others, or alone.
async fn operate<D: Dialect>(store: &SqlStore<D>, wish: &Wish) -> Option<ErrorKind> {
    match store.join(wish).await {
        Ok(Joined::Matched(stored)) => {
            assert!(stored.is_none());
            None
        }
        Ok(Joined::Unmatched { repeated }) => {
            assert!(!repeated, "no answer was lost");
            None
        }
        Ok(Joined::Alone(alone)) => {
            assert!(!alone.repeated, "no answer was lost");
            yield_now().await;
            store.table.carry_out(wish);
            yield_now().await;
            drop(alone);
            None
        }
        Err(error) => Some(error.kind()),
    }
}

/// Six operations at once on three keys, each twice, of which one may be given up. All end; none is done twice, and none
/// left undone that was not told so; and afterwards the lanes are free.
async fn six_at_once<D: Dialect>(kind: Together, patience: bool) {
    let store = SqlStore::<D>::new(patience);
    let given_up = thread_rng().gen_range(0..12);
    let operations: Vec<_> = (0..6)
        .map(|number| {
            let (store, wish) = (store.handle(), Wish::new(kind, number));
            spawn(async move {
                let work = operate(&store, &wish);
                if number != given_up {
                    return Some(work.await);
                }
                let polls = thread_rng().gen_range(0..6);
                give_up(polls, work).await
            })
        })
        .collect();
    for (number, operation) in operations.into_iter().enumerate() {
        let ended = operation.await.expect("an operation");
        let done = store.table.done(number);
        match ended {
            Some(None) => assert_eq!(done, 1, "operation {number}"),
            Some(Some(kind)) => assert_eq!((kind, done), (ErrorKind::Unavailable, 0), "operation {number}"),
            // Given up: done or not.
            None => {}
        }
    }
    // As many one after the other, and it is no crowd any more.
    let wish = Wish::new(kind, 0);
    for _ in 0..6 {
        operate(&store, &wish).await;
    }
    if !patience {
        return;
    }
    // Then all lanes can be taken, or this waits for ever.
    let lanes = if matches!(kind, Together::Load | Together::Create) { D::LANES } else { 1 };
    let mut held = Vec::new();
    for _ in 0..lanes {
        held.push(store.join(&wish).await);
    }
    assert!(held.iter().all(|joined| matches!(joined, Ok(Joined::Alone(_)))));
}

#[test]
fn loads_go_together() {
    explore(1_000, || six_at_once::<TwoLanes>(Together::Load, true));
    explore(1_000, || six_at_once::<OneLane>(Together::Load, true));
}

#[test]
fn saves_go_together() {
    explore(1_000, || six_at_once::<TwoLanes>(Together::Replace, true));
    explore(1_000, || six_at_once::<OneLane>(Together::Replace, true));
}

#[test]
fn those_who_lose_patience_disturb_nobody() {
    explore(1_000, || six_at_once::<TwoLanes>(Together::Replace, false));
    explore(1_000, || six_at_once::<TwoLanes>(Together::Create, false));
    explore(1_000, || six_at_once::<OneLane>(Together::Touch, false));
}
