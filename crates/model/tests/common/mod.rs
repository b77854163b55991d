//! What the tests of all sources share: the schedules that they are run through, and work that is given up.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use shuttle::future::block_on;
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, Runner};

/// Tries a scenario on so many schedules of each kind: drawn at every step, and with few changes at the worst moments.
pub(crate) fn explore<F: Future<Output = ()> + 'static>(
    schedules: usize,
    scenario: impl Fn() -> F + Copy + Send + Sync + 'static,
) {
    let run = move || block_on(scenario());
    let mut config = Config::new();
    // Unoptimised, the pickles and signatures of a save overflow the usual 32 KiB.
    config.stack_size = 256 << 10;
    Runner::new(RandomScheduler::new_from_seed(42, schedules), config.clone()).run(run);
    Runner::new(PctScheduler::new_from_seed(42, 4, schedules), config).run(run);
}

/// Drops some work when it was polled so often, unless it was done by then.
pub(crate) async fn give_up<T>(polls: usize, work: impl Future<Output = T>) -> Option<T> {
    let (mut work, mut left) = (pin!(work), polls);
    poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        work.as_mut().poll(cx).map(Some)
    })
    .await
}
