//! Questions to a server that wait at the same moment, sent as one.
//!
//! A command takes the server, and its client here, longer than one more question in a command that goes anyway, and so
//! does a system call. So whoever finds others under way lets every task that is ready have its turn, and then all go
//! together that have come by then. Whoever finds nobody goes at once, by itself.
//!
//! Those who go together do so in a task of their own: a request that is dropped takes nobody else's answer along.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use tokio::task::yield_now;

/// How many questions go together at most: while a server answers them, it does nothing else.
const MOST: usize = 64;

/// The questions that are about to be sent to one server, and their answers.
pub struct Together<Q, A> {
    waiting: Mutex<Vec<Waiting<Q, A>>>,
    /// A clone is kept by each that is under way.
    under_way: Arc<()>,
}

struct Waiting<Q, A> {
    question: Q,
    /// `None` says that it is to go alone.
    answer: oneshot::Sender<Option<A>>,
}

/// How a question goes on that asked whether it may go together with others.
pub enum Joined<A> {
    /// It went together with others, and this is its answer.
    Answered(A),
    /// It goes alone.
    Alone(Alone),
    /// Nobody knows whether it was asked: the task that was to do so was ended, with its runtime.
    Lost,
}

/// To be kept by whoever goes alone until it is done.
pub struct Alone {
    _under_way: Arc<()>,
}

impl<Q, A> Default for Together<Q, A> {
    fn default() -> Self {
        Self { waiting: Mutex::default(), under_way: Arc::default() }
    }
}

impl<Q: Send, A: Send + 'static> Together<Q, A> {
    /// Asks a question together with others, by `ask`, or says that it goes alone; `question` makes it only if it may
    /// wait for others. What `ask` answers is for each question, in their order; those without an answer go alone.
    pub async fn join<F>(&self, question: impl FnOnce() -> Q, ask: impl Fn(Vec<Q>) -> F) -> Joined<A>
    where
        F: Future<Output = Vec<Option<A>>> + Send + 'static,
    {
        let (call, answer) = {
            let mut waiting = self.waiting();
            let first = waiting.is_empty();
            if first && Arc::strong_count(&self.under_way) == 1 {
                return self.alone();
            }
            let (sender, answer) = oneshot::channel();
            waiting.push(Waiting { question: question(), answer: sender });
            (first.then(|| Call(Some(self))), answer)
        };
        if let Some(call) = call {
            // It wakes this task when there is nothing else to run.
            yield_now().await;
            let mut all = call.all();
            if all.len() == 1 {
                return self.alone();
            }
            while !all.is_empty() {
                let rest = all.split_off(all.len().min(MOST));
                let (questions, answers): (Vec<_>, Vec<_>) =
                    all.into_iter().map(|one| (one.question, one.answer)).unzip();
                tokio::spawn(tell(ask(questions), answers, self.under_way.clone()));
                all = rest;
            }
        }
        match answer.await {
            Ok(Some(answer)) => Joined::Answered(answer),
            Ok(None) => self.alone(),
            Err(_) => Joined::Lost,
        }
    }
}

impl<Q, A> Together<Q, A> {
    fn alone(&self) -> Joined<A> {
        Joined::Alone(Alone { _under_way: self.under_way.clone() })
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Waiting<Q, A>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All who still wait.
    fn take(&self) -> Vec<Waiting<Q, A>> {
        let mut all = std::mem::take(&mut *self.waiting());
        all.retain(|waiting| !waiting.answer.is_closed());
        all
    }
}

/// The duty to call those who wait, which the first of them has. If that one gives up, each goes alone.
struct Call<'a, Q, A>(Option<&'a Together<Q, A>>);

impl<Q, A> Call<'_, Q, A> {
    fn all(mut self) -> Vec<Waiting<Q, A>> {
        self.0.take().map(Together::take).unwrap_or_default()
    }
}

impl<Q, A> Drop for Call<'_, Q, A> {
    fn drop(&mut self) {
        for waiting in self.0.map(Together::take).unwrap_or_default() {
            drop(waiting.answer.send(None));
        }
    }
}

/// Tells each its answer.
async fn tell<A>(
    ask: impl Future<Output = Vec<Option<A>>>,
    answers: Vec<oneshot::Sender<Option<A>>>,
    _under_way: Arc<()>,
) {
    let mut found = ask.await.into_iter();
    for answer in answers {
        drop(answer.send(found.next().flatten()));
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    type Numbers = Together<usize, String>;

    fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    /// No question of a test may come to this.
    async fn never(_: Vec<usize>) -> Vec<Option<String>> {
        unreachable!("nobody goes together")
    }

    fn is_alone(polled: Poll<Joined<String>>) -> Option<Alone> {
        match polled {
            Poll::Ready(Joined::Alone(alone)) => Some(alone),
            _ => None,
        }
    }

    #[test]
    fn whoever_finds_nobody_goes_at_once() {
        let together = Numbers::default();
        for number in 0..3 {
            assert!(is_alone(poll(pin!(together.join(|| number, never)))).is_some());
        }
    }

    #[test]
    fn who_is_the_only_one_to_wait_goes_alone() {
        let together = Numbers::default();
        let _first = is_alone(poll(pin!(together.join(|| 0, never)))).expect("alone");
        let mut second = pin!(together.join(|| 0, never));
        assert!(poll(second.as_mut()).is_pending(), "the tasks that are ready have their turn");
        assert!(is_alone(poll(second)).is_some());
        assert!(together.waiting().is_empty());
    }

    #[test]
    fn whoever_calls_and_gives_up_leaves_nobody_waiting() {
        let together = Numbers::default();
        let _first = is_alone(poll(pin!(together.join(|| 0, never)))).expect("alone");
        let mut caller = Box::pin(together.join(|| 1, never));
        let mut other = pin!(together.join(|| 2, never));
        assert!(poll(caller.as_mut()).is_pending() && poll(other.as_mut()).is_pending());
        drop(caller);
        assert!(is_alone(poll(other)).is_some());
    }

    #[tokio::test]
    async fn all_who_wait_go_together_and_each_has_its_answer() {
        let together = Numbers::default();
        let sizes = Arc::new(Mutex::new(Vec::new()));
        let ask = |numbers: Vec<usize>| {
            sizes.lock().unwrap().push(numbers.len());
            // The last one of each command has no answer.
            ready(numbers[..numbers.len() - 1].iter().map(|number| Some(number.to_string())).collect())
        };
        let first = is_alone(poll(pin!(together.join(|| 0, ask)))).expect("alone");
        let join = |number| (number, Box::pin(together.join(move || number, ask)));
        let mut waiting: Vec<_> = (0..MOST + 10).map(join).collect();
        for (_, one) in &mut waiting {
            assert!(poll(one.as_mut()).is_pending());
        }
        // Who gave up is not asked for.
        drop(waiting.remove(1));
        let mut alone = 0;
        for (number, one) in waiting {
            match one.await {
                Joined::Answered(answer) => assert_eq!(answer, number.to_string()),
                Joined::Alone(_) => alone += 1,
                Joined::Lost => panic!("the runtime stands"),
            }
        }
        assert_eq!((sizes.lock().unwrap().as_slice(), alone), (&[MOST, 9][..], 2));
        drop(first);
        tokio::task::yield_now().await;
        assert!(is_alone(poll(pin!(together.join(|| 0, never)))).is_some(), "nobody is under way any more");
    }

    #[test]
    fn what_a_runtime_has_begun_and_not_ended_is_lost() {
        let together = Numbers::default();
        let _first = is_alone(poll(pin!(together.join(|| 0, never)))).expect("alone");
        let ask = |_: Vec<usize>| std::future::pending();
        let mut waiting: Vec<_> = (0..3).map(|number| Box::pin(together.join(move || number, ask))).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            for _ in 0..2 {
                waiting.iter_mut().for_each(|one| assert!(poll(one.as_mut()).is_pending()));
            }
            yield_now().await;
        });
        drop(runtime);
        for mut one in waiting {
            assert!(matches!(poll(one.as_mut()), Poll::Ready(Joined::Lost)));
        }
        assert!(together.waiting().is_empty());
    }
}
