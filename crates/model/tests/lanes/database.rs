//! What `group.rs` finds in its own crate: a database, of which nothing is here but that statements take their time.

pub(crate) mod dialect {
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Together {
        Load,
        Create,
        Replace,
        Touch,
    }

    pub(crate) trait Dialect: Send + Sync + 'static {
        const LANES: usize;
    }
}

pub(crate) mod wish {
    use cloakroom_model::SessionKey;

    use super::dialect::Together;

    #[derive(Clone)]
    pub(crate) struct Wish {
        kind: Together,
        key: SessionKey,
        pub(crate) number: usize,
    }

    impl Wish {
        /// One of three keys.
        pub(crate) fn new(kind: Together, number: usize) -> Self {
            let key = SessionKey::presented(&format!("sessionkey{}", number % 3)).expect("a key");
            Self { kind, key, number }
        }

        pub(crate) fn kind(&self) -> Together {
            self.kind
        }

        pub(crate) fn key(&self) -> &SessionKey {
            &self.key
        }

        pub(crate) fn size(&self) -> usize {
            0
        }
    }
}

pub(crate) mod store {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use cloakroom_model::{Error, ErrorKind, Result};
    use shuttle::future::yield_now;
    use shuttle::rand::{Rng, thread_rng};

    use super::dialect::{Dialect, Together};
    use super::sync;
    use super::wish::Wish;
    use crate::group::{Groups, Joined};

    /// How often each operation was carried out, and how many statements for many are under way.
    #[derive(Default)]
    pub(crate) struct Table {
        done: [AtomicUsize; 6],
        under_way: AtomicUsize,
    }

    impl Table {
        pub(crate) fn carry_out(&self, wish: &Wish) {
            self.done[wish.number].fetch_add(1, Ordering::SeqCst);
        }

        pub(crate) fn done(&self, number: usize) -> usize {
            self.done[number].load(Ordering::SeqCst)
        }
    }

    pub(crate) struct SqlStore<D: Dialect> {
        pub(crate) groups: Arc<Groups<D>>,
        pub(crate) table: Arc<Table>,
    }

    impl<D: Dialect> SqlStore<D> {
        pub(crate) fn new(patience: bool) -> Self {
            sync::set_patience(patience);
            Self { groups: Groups::new(), table: Arc::default() }
        }

        pub(crate) fn handle(&self) -> Self {
            Self { groups: self.groups.clone(), table: self.table.clone() }
        }

        pub(crate) fn goes_together(&self, _: &Wish) -> bool {
            true
        }

        pub(crate) async fn by_one_statement(
            &self,
            kind: Together,
            wishes: &[&Wish],
            _: &mut bool,
        ) -> Result<Vec<Joined<D>>> {
            let under_way = self.table.under_way.fetch_add(1, Ordering::SeqCst) + 1;
            assert!(under_way <= D::LANES, "{under_way} statements for many are under way");
            assert!(wishes.is_sorted_by_key(|wish| wish.key()));
            let changes = wishes.windows(2).all(|two| two[0].key() != two[1].key());
            assert!(changes || kind == Together::Load, "two changes of one record in a statement");
            for _ in 0..thread_rng().gen_range(1..4) {
                yield_now().await;
            }
            self.table.under_way.fetch_sub(1, Ordering::SeqCst);
            match thread_rng().gen_range(0..8) {
                0 => Err(Error::new(ErrorKind::Unavailable, "the database is gone")),
                1 => Err(Error::new(ErrorKind::Unrepresentable, "somebody's data")),
                outcome => {
                    wishes.iter().for_each(|wish| self.table.carry_out(wish));
                    let matched = |_: &&Wish| match outcome {
                        2 => Joined::Unmatched { repeated: false },
                        _ => Joined::Matched(None),
                    };
                    Ok(wishes.iter().map(matched).collect())
                }
            }
        }
    }
}

pub(crate) mod sync {
    use std::cell::Cell;
    use std::future::poll_fn;
    use std::pin::Pin;
    use std::task::Poll;
    use std::time::Duration;

    use shuttle::rand::{Rng, thread_rng};
    pub(crate) use shuttle::sync::{Mutex, MutexGuard};

    thread_local! {
        /// Whether those who wait do so until they are answered; else any wait may take too long. The tasks of a test
        /// all run on its thread.
        static PATIENCE: Cell<bool> = const { Cell::new(true) };
    }

    pub(super) fn set_patience(patience: bool) {
        PATIENCE.set(patience);
    }

    pub(crate) fn spawn(work: impl Future<Output = ()> + Send + 'static) {
        drop(shuttle::future::spawn(work));
    }

    pub(crate) async fn timeout<F: Future + Unpin>(_: Duration, mut work: F) -> Result<F::Output, ()> {
        poll_fn(|cx| match Pin::new(&mut work).poll(cx) {
            Poll::Ready(done) => Poll::Ready(Ok(done)),
            Poll::Pending if PATIENCE.get() => Poll::Pending,
            Poll::Pending if thread_rng().gen_bool(0.3) => Poll::Ready(Err(())),
            Poll::Pending => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        })
        .await
    }
}
