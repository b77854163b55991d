//! Loads that wait at the same moment, sent as one command.
//!
//! A command takes the server, and its client here, longer than another key in a command that goes anyway. So whoever
//! finds others under way lets every task that is ready have its turn, and then all go together that have come by then.
//! Whoever finds nobody goes at once, by itself.
//!
//! Such a command is sent by a task of its own: a request that is dropped takes nobody else's answer along.
//!
//! With saves there is nothing to be gained: what a script does for each of them takes the time, not the command.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cloakroom_core::store::Stored;
use cloakroom_core::{Result, SessionKey};
use tokio::sync::oneshot;
use tokio::task::yield_now;

/// How many sessions one command asks for at most: while the server looks for them, it does nothing else.
const MOST: usize = 64;

/// The loads that are about to use a connection.
#[derive(Default)]
pub(crate) struct Loads {
    waiting: Mutex<Vec<Waiting>>,
    /// A clone is kept by each command that is under way.
    under_way: Arc<()>,
}

struct Waiting {
    key: SessionKey,
    /// `None` says that it is to go alone.
    answer: oneshot::Sender<Option<Result<Stored>>>,
}

/// How a load goes on that asked whether it may go together with others.
pub(crate) enum Joined {
    Done(Result<Stored>),
    Alone(Alone),
}

/// To be kept by a load that goes alone until it is done.
pub(crate) struct Alone {
    _under_way: Arc<()>,
}

impl Loads {
    /// Loads a session together with others, by `load`, or says that it goes alone. What `load` answers is for each key,
    /// in their order, what it found; those for which that is nothing go alone.
    pub(crate) async fn join<F>(&self, key: &SessionKey, load: impl Fn(Vec<SessionKey>) -> F) -> Joined
    where
        F: Future<Output = Result<Vec<Option<Stored>>>> + Send + 'static,
    {
        let (call, answer) = {
            let mut waiting = self.waiting();
            let first = waiting.is_empty();
            if first && Arc::strong_count(&self.under_way) == 1 {
                return self.alone();
            }
            let (sender, answer) = oneshot::channel();
            waiting.push(Waiting { key: key.clone(), answer: sender });
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
                let (keys, answers): (Vec<_>, Vec<_>) = all.into_iter().map(|one| (one.key, one.answer)).unzip();
                tokio::spawn(tell(load(keys), answers, self.under_way.clone()));
                all = rest;
            }
        }
        match answer.await {
            Ok(Some(found)) => Joined::Done(found),
            // Without an answer, the task was ended in the middle, with its runtime.
            Ok(None) | Err(_) => self.alone(),
        }
    }

    fn alone(&self) -> Joined {
        Joined::Alone(Alone { _under_way: self.under_way.clone() })
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All who still wait.
    fn take(&self) -> Vec<Waiting> {
        let mut all = std::mem::take(&mut *self.waiting());
        all.retain(|waiting| !waiting.answer.is_closed());
        all
    }
}

/// The duty to call those who wait, which the first of them has. If that one gives up, each goes alone.
struct Call<'a>(Option<&'a Loads>);

impl Call<'_> {
    fn all(mut self) -> Vec<Waiting> {
        self.0.take().map(Loads::take).unwrap_or_default()
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        for waiting in self.0.map(Loads::take).unwrap_or_default() {
            drop(waiting.answer.send(None));
        }
    }
}

/// Tells each what was found.
async fn tell(
    load: impl Future<Output = Result<Vec<Option<Stored>>>>,
    answers: Vec<oneshot::Sender<Option<Result<Stored>>>>,
    _under_way: Arc<()>,
) {
    match load.await {
        Ok(found) => {
            let mut found = found.into_iter();
            for answer in answers {
                drop(answer.send(found.next().flatten().map(Ok)));
            }
        }
        Err(error) => {
            let error = Arc::new(error);
            for answer in answers {
                drop(answer.send(Some(Err(error.shared()))));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use cloakroom_core::{Error, ErrorKind};

    use super::*;

    fn key(number: usize) -> SessionKey {
        SessionKey::presented(&format!("key{number:05}")).expect("long enough")
    }

    fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    /// No load of a test may come to this.
    async fn never(_: Vec<SessionKey>) -> Result<Vec<Option<Stored>>> {
        unreachable!("nobody goes together")
    }

    fn is_alone(polled: Poll<Joined>) -> Option<Alone> {
        match polled {
            Poll::Ready(Joined::Alone(alone)) => Some(alone),
            _ => None,
        }
    }

    #[test]
    fn whoever_finds_nobody_goes_at_once() {
        let loads = Loads::default();
        for number in 0..3 {
            assert!(is_alone(poll(pin!(loads.join(&key(number), never)))).is_some());
        }
    }

    #[test]
    fn who_is_the_only_one_to_wait_goes_alone() {
        let (loads, key) = (Loads::default(), key(0));
        let _first = is_alone(poll(pin!(loads.join(&key, never)))).expect("alone");
        let mut second = pin!(loads.join(&key, never));
        assert!(poll(second.as_mut()).is_pending(), "the tasks that are ready have their turn");
        assert!(is_alone(poll(second)).is_some());
        assert!(loads.waiting().is_empty());
    }

    #[test]
    fn whoever_calls_and_gives_up_leaves_nobody_waiting() {
        let loads = Loads::default();
        let keys = [key(0), key(1), key(2)];
        let _first = is_alone(poll(pin!(loads.join(&keys[0], never)))).expect("alone");
        let mut caller = Box::pin(loads.join(&keys[1], never));
        let mut other = pin!(loads.join(&keys[2], never));
        assert!(poll(caller.as_mut()).is_pending() && poll(other.as_mut()).is_pending());
        drop(caller);
        assert!(is_alone(poll(other)).is_some());
    }

    #[tokio::test]
    async fn all_who_wait_go_together_and_each_has_its_answer() {
        let loads = Loads::default();
        let keys: Vec<_> = (0..MOST + 10).map(key).collect();
        let sizes = Arc::new(Mutex::new(Vec::new()));
        let load = |keys: Vec<SessionKey>| {
            sizes.lock().unwrap().push(keys.len());
            // The last one of each command finds nothing.
            let found =
                keys[..keys.len() - 1].iter().map(|key| Some(crate::store::stored(key.as_str().to_owned().into())));
            ready(Ok(found.collect::<Vec<_>>()))
        };
        let first = is_alone(poll(pin!(loads.join(&keys[0], load)))).expect("alone");
        let mut waiting: Vec<_> = keys.iter().map(|key| Box::pin(loads.join(key, load))).collect();
        for one in &mut waiting {
            assert!(poll(one.as_mut()).is_pending());
        }
        // Who gave up is not asked for.
        drop(waiting.remove(1));
        let mut alone = 0;
        for (one, key) in
            waiting.into_iter().zip(keys.iter().enumerate().filter_map(|(n, key)| (n != 1).then_some(key)))
        {
            match one.await {
                Joined::Done(found) => assert_eq!(found.unwrap().payload, key.as_str().as_bytes()),
                Joined::Alone(_) => alone += 1,
            }
        }
        assert_eq!((sizes.lock().unwrap().as_slice(), alone), (&[MOST, 9][..], 2));
        drop(first);
        tokio::task::yield_now().await;
        assert!(is_alone(poll(pin!(loads.join(&keys[0], never)))).is_some(), "nobody is under way any more");
    }

    #[tokio::test]
    async fn all_hear_of_a_failure() {
        let loads = Loads::default();
        let keys: Vec<_> = (0..3).map(key).collect();
        let load = |_| ready(Err(Error::new(ErrorKind::Unavailable, "the server is down")));
        let _first = is_alone(poll(pin!(loads.join(&keys[0], load)))).expect("alone");
        let mut waiting: Vec<_> = keys.iter().map(|key| Box::pin(loads.join(key, load))).collect();
        waiting.iter_mut().for_each(|one| assert!(poll(one.as_mut()).is_pending()));
        for one in waiting {
            let Joined::Done(Err(error)) = one.await else { panic!("it was done, and failed") };
            assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Unavailable, "the server is down"));
        }
    }
}
