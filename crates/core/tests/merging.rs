//! The merge, on any interleaving of requests: what stands in the end is what some order of theirs, one after another,
//! would have made; a session that was ended does not come back; and a crowd gets through.

use std::collections::BTreeMap;
use std::sync::Arc;

use cloakroom_core::engine::Engine;
use cloakroom_core::engine::memory::MemoryStore;
use cloakroom_core::exchange::{Exchange, Policy, Session, SessionSlot};
use cloakroom_core::store::Store;
use cloakroom_core::wire::cookie::{CookieAttributes, CookieWriter};
use cloakroom_core::wire::expiry::ExpiryRules;
use cloakroom_core::wire::session_data::Codec;
use cloakroom_core::{Clock, ErrorKind, KeySource, SessionKey};
use proptest::prelude::*;
use tokio::sync::Barrier;

/// What a handler may do to its session, on one of a few keys.
#[derive(Clone, Copy, Debug)]
enum Step {
    Set(u8, i64),
    SetDefault(u8, i64),
    Remove(u8),
    Add(u8, i64),
    /// Removes what is a multiple of this, and doubles anything else.
    RemoveOrDouble(u8, i64),
    Clear,
    Rotate,
    Save,
    /// The last thing that a request does, if it does it.
    Flush,
}

fn step() -> impl Strategy<Value = Step> {
    let key = 0..4_u8;
    prop_oneof![
        3 => (key.clone(), 0..9_i64).prop_map(|(key, n)| Step::Set(key, n)),
        1 => (key.clone(), 0..9_i64).prop_map(|(key, n)| Step::SetDefault(key, n)),
        2 => key.clone().prop_map(Step::Remove),
        4 => (key.clone(), 1..9_i64).prop_map(|(key, n)| Step::Add(key, n)),
        1 => (key, 2..4_i64).prop_map(|(key, n)| Step::RemoveOrDouble(key, n)),
        1 => Just(Step::Clear),
        1 => Just(Step::Rotate),
        2 => Just(Step::Save),
    ]
}

/// Requests, and whose turn it is at each moment: to load, to take a step, to answer.
fn requests() -> impl Strategy<Value = (Vec<Vec<Step>>, Vec<usize>)> {
    let request = (prop::collection::vec(step(), 0..6), prop::bool::weighted(0.1)).prop_map(|(mut steps, flush)| {
        if flush {
            steps.push(Step::Flush);
        }
        steps
    });
    prop::collection::vec(request, 1..5).prop_flat_map(|requests| {
        let turns = requests.iter().enumerate();
        let turns: Vec<usize> = turns.flat_map(|(n, steps)| std::iter::repeat_n(n, steps.len() + 2)).collect();
        (Just(requests), Just(turns).prop_shuffle())
    })
}

/// A dictionary that keeps its order, with nothing of ours in it.
#[derive(Clone, Debug, Default, PartialEq)]
struct Dictionary(Vec<(u8, i64)>);

impl Dictionary {
    fn get(&self, key: u8) -> Option<i64> {
        self.0.iter().find(|(known, _)| *known == key).map(|(_, value)| *value)
    }

    fn set(&mut self, key: u8, value: Option<i64>) {
        match (self.0.iter().position(|(known, _)| *known == key), value) {
            (Some(place), Some(value)) => self.0[place].1 = value,
            (Some(place), None) => drop(self.0.remove(place)),
            (None, Some(value)) => self.0.push((key, value)),
            (None, None) => {}
        }
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Set(key, value) => self.set(key, Some(value)),
            Step::SetDefault(key, value) => self.set(key, self.get(key).or(Some(value))),
            Step::Remove(key) => self.set(key, None),
            Step::Add(key, n) => self.set(key, Some(self.get(key).unwrap_or(0) + n)),
            Step::RemoveOrDouble(key, n) => self.set(key, double_unless(self.get(key), n)),
            Step::Clear => self.0.clear(),
            Step::Rotate | Step::Save | Step::Flush => {}
        }
    }

    /// Whether a step is a change here: to remove what is not there, or to look up what is, is none.
    fn is_changed_by(&self, step: Step) -> bool {
        match step {
            Step::Remove(key) => self.get(key).is_some(),
            Step::SetDefault(key, _) => self.get(key).is_none(),
            _ => true,
        }
    }

    fn to_json(&self) -> String {
        let items: Vec<_> = self.0.iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
        format!("{{{}}}", items.join(","))
    }
}

fn double_unless(present: Option<i64>, n: i64) -> Option<i64> {
    present.filter(|present| present % n != 0).map(|present| present * 2)
}

/// A request as the model sees it.
#[derive(Default)]
struct Request {
    /// Which of the model's records it is about; none for a visitor without a session.
    record: Option<usize>,
    view: Dictionary,
    /// What has changed since it was loaded or saved, in order.
    changes: Vec<Step>,
    rotated: bool,
    flushed: bool,
    /// Something was changed; and something is to be saved that was not, or not with success.
    modified: bool,
    unsaved: bool,
}

/// What should stand: every save is done as a whole, one after another, on what stands at that moment.
struct Model {
    records: BTreeMap<usize, Dictionary>,
    next: usize,
}

/// The session was deleted meanwhile.
#[derive(Debug, PartialEq)]
struct Interrupted;

impl Model {
    fn load(&self, record: usize) -> Request {
        match self.records.get(&record) {
            Some(found) => Request { record: Some(record), view: found.clone(), ..Request::default() },
            None => Request::default(),
        }
    }

    fn save(&mut self, request: &mut Request) -> Result<(), Interrupted> {
        match request.record {
            None => {
                request.record = Some(self.make(request.view.clone()));
                request.modified = true;
            }
            Some(record) => {
                let Some(standing) = self.records.get_mut(&record) else {
                    request.unsaved = true;
                    return Err(Interrupted);
                };
                for step in &request.changes {
                    standing.apply(*step);
                }
                // Where nothing has changed, the expiry alone is moved, and what stands there is not asked for.
                if request.rotated || !request.changes.is_empty() {
                    request.view = standing.clone();
                }
                if request.rotated {
                    self.records.remove(&record);
                    request.record = Some(self.make(request.view.clone()));
                }
            }
        }
        (request.changes, request.rotated, request.unsaved) = (Vec::new(), false, false);
        Ok(())
    }

    fn make(&mut self, data: Dictionary) -> usize {
        self.next += 1;
        self.records.insert(self.next, data);
        self.next
    }

    fn step(&mut self, request: &mut Request, step: Step) -> Result<(), Interrupted> {
        match step {
            Step::Save => return self.save(request),
            Step::Flush => request.flushed = true,
            Step::Rotate => (request.rotated, request.modified, request.unsaved) = (true, true, true),
            step if request.view.is_changed_by(step) => {
                request.view.apply(step);
                request.changes.push(step);
                (request.modified, request.unsaved) = (true, true);
            }
            _ => {}
        }
        Ok(())
    }

    fn answer(&mut self, request: &mut Request) -> Result<(), Interrupted> {
        if request.flushed {
            if let Some(record) = request.record {
                self.records.remove(&record);
            }
            return Ok(());
        }
        // A visitor without a session who has nothing in it gets none; with a key of its own, it has one.
        let nothing = request.record.is_none() && request.view.0.is_empty() && !request.rotated;
        if nothing || !request.modified || !request.unsaved { Ok(()) } else { self.save(request) }
    }
}

/// The same on the real thing.
struct Site {
    store: Arc<MemoryStore>,
    exchange: Exchange,
}

impl Site {
    fn new() -> Self {
        let clock = Clock::system();
        let store = Arc::new(MemoryStore::new(clock.clone()));
        Self { exchange: exchange(store.clone(), clock), store }
    }

    async fn make(&self, data: &Dictionary) -> SessionKey {
        let slot = self.exchange.open(std::iter::empty());
        let session = slot.load().await.unwrap();
        session.extend(data.0.iter().map(|(key, value)| (key.to_string(), *value))).unwrap();
        session.save().await.unwrap();
        session.key().unwrap()
    }

    /// The data of every session that stands.
    async fn data(&self) -> Vec<String> {
        let mut data = Vec::new();
        for key in self.store.list(None, 1_000).await.unwrap() {
            let payload = self.store.load(&key).await.unwrap().unwrap().payload;
            data.push(Codec::in_process().decode(&payload).unwrap().to_json());
        }
        data.sort();
        data
    }
}

fn exchange(store: Arc<dyn Store>, clock: Clock) -> Exchange {
    let cookie = CookieWriter::new(&CookieAttributes::default()).unwrap();
    let policy = Policy::new(cookie, ExpiryRules::default());
    Exchange::new(Engine::Store { store, codec: Codec::in_process() }, policy, clock, KeySource::system())
}

async fn open(exchange: &Exchange, key: &SessionKey) -> (SessionSlot, Session) {
    let cookie = format!("sessionid={}", key.as_str());
    let slot = exchange.open([cookie.as_bytes()].into_iter());
    let session = slot.load().await.unwrap();
    (slot, session)
}

async fn take(session: &Session, step: Step) -> Result<(), Interrupted> {
    let name = |key: u8| key.to_string();
    match step {
        Step::Set(key, value) => session.insert(&name(key), &value).unwrap(),
        Step::SetDefault(key, value) => drop(session.get_or_insert_with(&name(key), || value).unwrap()),
        Step::Remove(key) => drop(session.remove::<i64>(&name(key)).unwrap()),
        Step::Add(key, n) => {
            session.update(&name(key), move |present: Option<i64>| present.unwrap_or(0) + n).unwrap();
        }
        Step::RemoveOrDouble(key, n) => {
            session.update_or_remove(&name(key), move |present| double_unless(present, n)).unwrap();
        }
        Step::Clear => session.clear(),
        Step::Rotate => session.cycle_key().unwrap(),
        Step::Flush => session.flush(),
        Step::Save => return outcome(session.save().await),
    }
    Ok(())
}

fn outcome<T>(outcome: cloakroom_core::Result<T>) -> Result<(), Interrupted> {
    match outcome {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::Interrupted => Err(Interrupted),
        Err(error) => panic!("{error}"),
    }
}

async fn interleave(requests: &[Vec<Step>], turns: &[usize]) -> Result<(), TestCaseError> {
    let begin = Dictionary(vec![(0, 1), (1, 5)]);
    let site = Site::new();
    let key = site.make(&begin).await;
    let mut model = Model { records: BTreeMap::from([(0, begin)]), next: 0 };
    let mut under_way: Vec<Option<(Request, SessionSlot, Session)>> = requests.iter().map(|_| None).collect();
    let mut steps: Vec<_> = requests.iter().map(|steps| steps.iter()).collect();
    for turn in turns {
        let Some((request, slot, session)) = &mut under_way[*turn] else {
            let (slot, session) = open(&site.exchange, &key).await;
            under_way[*turn] = Some((model.load(0), slot, session));
            continue;
        };
        let (expected, came) = match steps[*turn].next() {
            Some(step) => (model.step(request, *step), take(session, *step).await),
            None => (model.answer(request), outcome(site.exchange.commit(slot, 200).await)),
        };
        prop_assert_eq!(came, expected, "request {}", turn);
        if !request.flushed {
            prop_assert_eq!(session.to_json(), request.view.to_json(), "what request {} sees", turn);
        }
    }
    let mut expected: Vec<String> = model.records.values().map(Dictionary::to_json).collect();
    expected.sort();
    prop_assert_eq!(site.data().await, expected);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    /// Every save does its changes as a whole on what stands at that moment, whatever was loaded before: so the order of
    /// the saves is an order of the requests that comes to the same.
    #[test]
    fn any_interleaving_comes_to_what_some_order_does((requests, turns) in requests()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(interleave(&requests, &turns))?;
    }
}

/// Two hundred requests at once, in processes that know nothing of each other, each of which read the session before any
/// of them saves: everybody gets through, and nothing is lost.
async fn crowd(processes: usize, key_of: impl Fn(usize) -> String) -> BTreeMap<String, u64> {
    let site = Site::new();
    let key = site.make(&Dictionary::default()).await;
    let all = Arc::new(Barrier::new(200));
    let processes: Vec<Exchange> = (0..processes).map(|_| exchange(site.store.clone(), Clock::system())).collect();
    let requests: Vec<_> = (0..200)
        .map(|n| {
            let (process, all) = (processes[n % processes.len()].clone(), Arc::clone(&all));
            let (key, item) = (key.clone(), key_of(n));
            tokio::spawn(async move {
                let (slot, session) = open(&process, &key).await;
                session.update(&item, |n: Option<u64>| n.unwrap_or(0) + 1).unwrap();
                all.wait().await;
                process.commit(&slot, 200).await.map(drop)
            })
        })
        .collect();
    for request in requests {
        request.await.unwrap().expect("nobody is turned away");
    }
    let (_, session) = open(&site.exchange, &key).await;
    session.iter().map(|(item, value)| (item, value.as_str().parse().unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_crowd_on_one_key_is_counted() {
    for processes in [1, 4, 20] {
        let counted = crowd(processes, |_| "n".to_owned()).await;
        assert_eq!(counted, BTreeMap::from([("n".to_owned(), 200)]), "{processes} processes");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_crowd_on_different_keys_is_kept() {
    for processes in [1, 4, 20] {
        let kept = crowd(processes, |n| format!("key{n}")).await;
        assert_eq!((kept.len(), kept.values().sum::<u64>()), (200, 200), "{processes} processes");
    }
}
