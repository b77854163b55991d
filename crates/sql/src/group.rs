//! Operations that wait at the same moment, done together by one statement.
//!
//! Each kind of operation has a few lanes. Whoever finds one free goes at once, by itself, as if there were nobody else:
//! no added wait, no task. Whoever finds none waits; as soon as a lane is free, all who wait go together. So the
//! busier a database is, the more each of its statements does.
//!
//! A statement costs a database more than one more member of it. So in a crowd the other lanes stay free: those who
//! come wait for the statement that is under way, unless they are enough for a full one, or it is slow. To wait
//! for those who were just answered as well makes the statements larger, and the throughput less.
//!
//! Every member keeps an outcome of its own. A row that a statement for many did not match is looked at by its member
//! alone, and what becomes of a statement for many that fails is the affair of each member again, so that none suffers
//! for another one's data. Such a statement runs in a task of its own: a member that is dropped leaves it as it is.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use cloakroom_core::store::Stored;
use cloakroom_core::{ErrorKind, Result};
use tokio::sync::oneshot;

use crate::dialect::{Dialect, Together};
use crate::store::SqlStore;
use crate::sync::{Mutex, MutexGuard, spawn, timeout};
use crate::wish::Wish;

/// How many operations one statement does at most.
const MOST: usize = 64;
/// How many bytes one statement carries at most. A server may take no more than a megabyte.
const HEAVY: usize = 8 * LARGE;
/// How long those who wait leave the other lanes free, so that more of them go together.
const SLOW: Duration = Duration::from_millis(10);
/// How long to wait for a lane whose holder may have been left lying, neither finished nor dropped.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many bytes an operation may carry that goes together with others. Larger ones gain nothing by it.
pub(crate) const LARGE: usize = 1 << 16;

/// How an operation goes on that asked whether it may go together with others.
pub(crate) enum Joined<D: Dialect> {
    /// Alone. What it is given is to be kept until it is done.
    Alone(Alone<D>),
    /// It was done: its row matched. A load has its record.
    Matched(Option<Stored>),
    /// Its row did not match the statement for many.
    Unmatched {
        /// As in [`Ran`](crate::store::Ran).
        repeated: bool,
    },
}

/// One that goes alone.
pub(crate) struct Alone<D: Dialect> {
    /// Passed on at the end.
    _lane: Option<Lane<D>>,
    /// A first attempt may have been carried out, as in [`Ran`](crate::store::Ran).
    pub(crate) repeated: bool,
}

type Answer<D> = Result<Joined<D>>;

fn alone<D: Dialect>(lane: Option<Lane<D>>, repeated: bool) -> Answer<D> {
    Ok(Joined::Alone(Alone { _lane: lane, repeated }))
}

/// For each kind of operation, how many lanes are taken, and who waits.
pub(crate) struct Groups<D: Dialect>([Mutex<Group<D>>; 4]);

struct Group<D: Dialect> {
    taken: usize,
    /// How many of the lanes that are taken have a statement for many under way.
    many: usize,
    /// How many statements are still to come, after which nobody waits, until there is no crowd any more: the last one
    /// for many sets it to the number of its operations. In a crowd, all wait for one lane.
    crowd: usize,
    waiting: VecDeque<Waiting<D>>,
    /// The number of the next one who waits.
    number: u64,
}

struct Waiting<D: Dialect> {
    number: u64,
    wish: Wish,
    answer: oneshot::Sender<Answer<D>>,
}

/// Who goes next in a lane.
enum Next<D: Dialect> {
    Nobody,
    One(Waiting<D>),
    /// In the order of their keys. None is there twice but to be loaded: of two changes of a row, the second has to see
    /// the first.
    Many(Vec<Waiting<D>>),
}

impl<D: Dialect> Groups<D> {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(std::array::from_fn(|_| Mutex::new(Group::new()))))
    }

    fn of(&self, kind: Together) -> MutexGuard<'_, Group<D>> {
        self.0[kind as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<D: Dialect> fmt::Debug for Groups<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Groups").finish_non_exhaustive()
    }
}

impl<D: Dialect> Group<D> {
    fn new() -> Self {
        Self { taken: 0, many: 0, crowd: 0, waiting: VecDeque::new(), number: 0 }
    }

    /// Whether one still waited, and does no longer.
    fn withdraw(&mut self, number: u64) -> bool {
        let place = self.waiting.iter().position(|waiting| waiting.number == number);
        place.is_some_and(|place| self.waiting.remove(place).is_some())
    }

    /// Whether a lane may be taken. In a crowd it is the first one, or there are enough for a full statement.
    fn is_open(&self) -> bool {
        self.taken < D::LANES && (self.crowd == 0 || self.taken == 0 || self.waiting.len() >= MOST)
    }

    /// Who goes next in a lane that is taken; if nobody does, the lane is free.
    fn next(&mut self, kind: Together) -> Next<D> {
        if self.many > 0 && self.waiting.len() < MOST {
            self.taken -= 1;
            return Next::Nobody;
        }
        self.all(kind)
    }

    /// The same, whatever else is under way.
    fn all(&mut self, kind: Together) -> Next<D> {
        // Those who gave up in the meantime have no effect.
        self.waiting.retain(|waiting| !waiting.answer.is_closed());
        if self.waiting.len() > 1 {
            let mut bytes = 0;
            let fits = |waiting: &&Waiting<D>| {
                bytes += waiting.wish.size();
                bytes <= HEAVY
            };
            let most = self.waiting.iter().take(MOST).take_while(fits).count();
            let mut many: Vec<_> = self.waiting.drain(..most).collect();
            many.sort_by(|a, b| a.wish.key().cmp(b.wish.key()));
            if kind != Together::Load {
                let mut again = Vec::new();
                let mut once: Vec<Waiting<D>> = Vec::with_capacity(many.len());
                for waiting in many {
                    match once.last() {
                        Some(last) if last.wish.key() == waiting.wish.key() => again.push(waiting),
                        _ => once.push(waiting),
                    }
                }
                many = once;
                again.into_iter().rev().for_each(|waiting| self.waiting.push_front(waiting));
            }
            return match many.len() {
                1 => self.one(kind, many.remove(0)),
                _ => self.together(many),
            };
        }
        match self.waiting.pop_front() {
            Some(waiting) => self.one(kind, waiting),
            None => {
                self.taken -= 1;
                self.crowd = self.crowd.saturating_sub(1);
                Next::Nobody
            }
        }
    }

    fn one(&mut self, kind: Together, waiting: Waiting<D>) -> Next<D> {
        if self.may_go_alone(kind) { Next::One(waiting) } else { self.together(vec![waiting]) }
    }

    fn together(&mut self, many: Vec<Waiting<D>>) -> Next<D> {
        self.many += 1;
        if many.len() > 1 {
            self.crowd = many.len();
        }
        Next::Many(many)
    }

    /// Whether the one that took a lane may go by a statement of its own. That one waits for a row which somebody
    /// holds, perhaps for long: only one of the lanes may come to that.
    fn may_go_alone(&self, kind: Together) -> bool {
        D::LANES == 1 || self.taken == 1 || matches!(kind, Together::Load | Together::Create)
    }
}

/// A place among those who go at the same time. Whoever goes alone passes it on at the end, however that comes about.
struct Lane<D: Dialect> {
    store: SqlStore<D>,
    kind: Together,
    state: Held,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Held {
    /// By an operation that goes alone.
    Alone,
    /// By the task that serves those who wait.
    Serving,
    /// No longer: it is free, or somebody else's.
    PassedOn,
}

impl<D: Dialect> Lane<D> {
    fn new(store: &SqlStore<D>, kind: Together, state: Held) -> Self {
        Self { store: store.handle(), kind, state }
    }

    /// Gives the lane to whoever goes next, alone or by the task that this starts.
    fn pass_on(&mut self) {
        let next = self.store.groups.of(self.kind).next(self.kind);
        self.start(next);
    }

    /// Gives the lane to all who wait.
    fn take_all(mut self) {
        let next = self.store.groups.of(self.kind).all(self.kind);
        self.start(next);
    }

    fn start(&mut self, next: Next<D>) {
        self.state = Held::PassedOn;
        match next {
            Next::Nobody => {}
            Next::One(waiting) => self.give(waiting),
            Next::Many(many) => {
                let lane = Self::new(&self.store, self.kind, Held::Serving);
                // Without a runtime nobody waits who could still be served.
                spawn(lane.serve(many));
            }
        }
    }

    /// Lets one go alone. If that one gave up just now, it passes the lane on.
    fn give(&self, waiting: Waiting<D>) {
        drop(waiting.answer.send(alone(Some(Self::new(&self.store, self.kind, Held::Alone)), false)));
    }

    /// Serves those who wait until nobody does, or only one.
    async fn serve(mut self, mut many: Vec<Waiting<D>>) {
        loop {
            self.store.together(self.kind, many).await;
            let next = {
                let mut group = self.store.groups.of(self.kind);
                group.many -= 1;
                group.next(self.kind)
            };
            match next {
                Next::Many(more) => many = more,
                Next::Nobody => break,
                Next::One(waiting) => {
                    self.give(waiting);
                    break;
                }
            }
        }
        self.state = Held::PassedOn;
    }
}

impl<D: Dialect> Drop for Lane<D> {
    fn drop(&mut self) {
        match self.state {
            Held::PassedOn => {}
            Held::Alone => self.pass_on(),
            // The task was ended in the middle, with its runtime. What else waits belongs to other runtimes, perhaps.
            Held::Serving => {
                let waiting = {
                    let mut group = self.store.groups.of(self.kind);
                    group.taken -= 1;
                    group.many -= 1;
                    std::mem::take(&mut group.waiting)
                };
                waiting.into_iter().for_each(|waiting| drop(waiting.answer.send(alone(None, false))));
            }
        }
    }
}

impl<D: Dialect> SqlStore<D> {
    /// Does an operation together with others that wait, or says that it goes alone.
    ///
    /// # Errors
    /// If the database failed.
    pub(crate) async fn join(&self, wish: &Wish) -> Result<Joined<D>> {
        let kind = wish.kind();
        if !self.goes_together(wish) {
            return alone(None, false);
        }
        let (number, mut answer) = {
            let mut group = self.groups.of(kind);
            let free = group.is_open();
            group.taken += usize::from(free);
            if free && group.may_go_alone(kind) {
                drop(group);
                return alone(Some(Lane::new(self, kind, Held::Alone)), false);
            }
            let (sender, answer) = oneshot::channel();
            let number = group.number;
            group.number += 1;
            group.waiting.push_back(Waiting { number, wish: wish.clone(), answer: sender });
            drop(group);
            if free {
                Lane::new(self, kind, Held::Alone).pass_on();
            }
            (number, answer)
        };
        let mut patience = if D::LANES > 1 { SLOW } else { PATIENCE };
        let answered = loop {
            match timeout(patience, &mut answer).await {
                Ok(answered) => break answered,
                Err(_) if patience == SLOW => {
                    self.hurry(kind, number);
                    patience = PATIENCE;
                }
                Err(_) if self.groups.of(kind).withdraw(number) => return alone(None, false),
                Err(_) => break answer.await,
            }
        };
        // No answer: the task was ended in the middle.
        answered.unwrap_or_else(|_| alone(None, true))
    }

    /// Lets all who wait go in another lane, if there is one, for the sake of one who still waits.
    fn hurry(&self, kind: Together, number: u64) {
        let mut group = self.groups.of(kind);
        if group.taken < D::LANES && group.waiting.iter().any(|waiting| waiting.number == number) {
            group.taken += 1;
            group.crowd = 0;
            drop(group);
            Lane::new(self, kind, Held::Alone).take_all();
        }
    }

    /// Does the same for many by one statement, and tells each what came of it.
    async fn together(&self, kind: Together, many: Vec<Waiting<D>>) {
        let mut repeated = false;
        let wishes: Vec<_> = many.iter().map(|waiting| &waiting.wish).collect();
        match self.by_one_statement(kind, &wishes, &mut repeated).await {
            Ok(outcomes) => {
                for (waiting, outcome) in many.into_iter().zip(outcomes) {
                    drop(waiting.answer.send(Ok(outcome)));
                }
            }
            // The database is in trouble, whoever asks.
            Err(error) if error.kind() == ErrorKind::Unavailable => {
                let error = Arc::new(error);
                for waiting in many {
                    drop(waiting.answer.send(Err(error.shared())));
                }
            }
            // Somebody's data may be the reason.
            Err(error) => {
                tracing::debug!(%error, "a statement for {} operations failed: each goes alone", many.len());
                for waiting in many {
                    drop(waiting.answer.send(alone(None, repeated)));
                }
            }
        }
    }
}

#[cfg(all(test, feature = "postgres"))]
mod tests {
    use cloakroom_core::{SessionKey, Timestamp};

    use super::*;
    use crate::Postgres;

    type Answers = Vec<oneshot::Receiver<Answer<Postgres>>>;

    /// So many come, of whom those wait that find no lane.
    fn come(group: &mut Group<Postgres>, many: usize) -> Answers {
        let mut answers = Vec::new();
        for _ in 0..many {
            if group.is_open() {
                group.taken += 1;
                continue;
            }
            let (answer, receiver) = oneshot::channel();
            let key = SessionKey::presented(&format!("key{:05}", group.number)).expect("a key");
            let wish = Wish::Load { key, now: Timestamp::MIN };
            group.waiting.push_back(Waiting { number: group.number, wish, answer });
            group.number += 1;
            answers.push(receiver);
        }
        answers
    }

    /// A lane is done, whose statement was for many or not; how many go next.
    fn done(group: &mut Group<Postgres>, was_for_many: bool) -> usize {
        group.many -= usize::from(was_for_many);
        match group.next(Together::Load) {
            Next::Nobody => 0,
            Next::One(_) => 1,
            Next::Many(many) => many.len(),
        }
    }

    #[test]
    fn in_a_crowd_all_wait_for_one_lane() {
        let mut group = Group::new();
        // Two find a lane, three wait: they go in the one that is free first, and those after them wait for their end.
        let _waiting = come(&mut group, 5);
        assert_eq!(done(&mut group, false), 3);
        let _waiting = come(&mut group, 4);
        assert_eq!(done(&mut group, false), 0);
        assert_eq!((group.taken, group.many), (1, 1));
        let _waiting = come(&mut group, 2);
        assert_eq!(done(&mut group, true), 6);
        // Nobody waits, six times in a row: then it is no crowd any more.
        for round in 0..6 {
            assert_eq!(done(&mut group, round == 0), 0);
            assert_eq!((group.taken, come(&mut group, 1).len()), (0, 0), "the first lane is always open");
            assert_eq!(group.is_open(), round == 5, "{round}");
        }
        // As many as a statement takes have the second lane.
        group.crowd = 1;
        let _waiting = come(&mut group, MOST + 1);
        assert_eq!((group.taken, group.waiting.len()), (2, MOST));
    }
}
