//! What was read or written lately, so that the same bytes are not read again.
//!
//! A visitor seldom comes for one request: what the last one wrote, the next one reads. Whether a text bears a signature,
//! and what is in it, depends on nothing but the text, so it is looked at once. Nobody is ever told anything that is out of
//! date: the store is asked each time, and this only knows what its answer means.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

use crate::spread::Spread;

/// Threads that read different texts seldom wait for each other; a power of two.
const SHARDS: usize = 16;
/// Texts that one shard has a place for; a power of two.
const PLACES: usize = 64;
/// How many bytes one shard holds at most: 8 MiB in all.
const ROOM: usize = 512 * 1024;
/// What takes more than this would drive out too many others.
const MOST: usize = ROOM / 4;
/// What an entry takes beside its text and what is known of it: allocations, their owners.
const OVERHEAD: usize = 200;

/// What is known of texts: a small table, in which each text has one place, for which others have to make way.
pub(super) struct Memo<T> {
    shards: [Mutex<Shard<T>>; SHARDS],
    spread: Spread,
}

struct Shard<T> {
    /// None before the first text comes.
    places: Vec<Option<Known<T>>>,
    size: usize,
    /// Where to look next for one that has to make way.
    hand: usize,
}

struct Known<T> {
    text: Bytes,
    fact: T,
    size: usize,
}

impl<T: Clone> Memo<T> {
    pub(super) fn new() -> Self {
        let shard = |_| Mutex::new(Shard { places: Vec::new(), size: 0, hand: 0 });
        Self { shards: std::array::from_fn(shard), spread: Spread::new() }
    }

    /// What is known of a text.
    pub(super) fn get(&self, text: &[u8]) -> Option<T> {
        self.with(text, |shard, place| {
            let known = shard.places.get(place)?.as_ref()?;
            (known.text == text).then(|| known.fact.clone())
        })
    }

    /// Keeps what is known of a text, which takes so many bytes beside the text itself.
    pub(super) fn put(&self, text: Bytes, fact: T, size: usize) {
        let size = OVERHEAD + text.len() + size;
        if size > MOST {
            return;
        }
        let known = Known { text: text.clone(), fact, size };
        let former = self.with(&text, |shard, place| shard.put(place, known));
        // Whose memory is given back when nobody waits for the shard.
        drop(former);
    }

    fn with<R>(&self, text: &[u8], work: impl FnOnce(&mut Shard<T>, usize) -> R) -> R {
        let hash = self.spread.hash(text) as usize;
        let mut shard = self.shards[hash % SHARDS].lock().unwrap_or_else(PoisonError::into_inner);
        work(&mut shard, hash / SHARDS % PLACES)
    }
}

impl<T> Shard<T> {
    /// Puts an entry in the place of another one, which is returned; as many as take too much room are gone then.
    fn put(&mut self, place: usize, known: Known<T>) -> Option<Known<T>> {
        if self.places.is_empty() {
            self.places.resize_with(PLACES, || None);
        }
        self.size += known.size;
        let former = self.places[place].replace(known);
        self.size -= former.as_ref().map_or(0, |former| former.size);
        while self.size > ROOM {
            self.hand = (self.hand + 1) % PLACES;
            if self.hand != place {
                self.size -= self.places[self.hand].take().map_or(0, |gone| gone.size);
            }
        }
        former
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(memo: &Memo<usize>) -> (usize, usize) {
        let shards = memo.shards.iter().map(|shard| shard.lock().unwrap());
        shards.fold((0, 0), |(count, size), shard| {
            let sizes = shard.places.iter().flatten().map(|known| known.size);
            assert_eq!(sizes.clone().sum::<usize>(), shard.size, "what is counted is what is there");
            (count + sizes.count(), size + shard.size)
        })
    }

    #[test]
    fn a_text_is_known_byte_for_byte() {
        let memo = Memo::new();
        memo.put(Bytes::from_static(b"text"), 1, 0);
        memo.put(Bytes::from_static(b""), 2, 0);
        assert_eq!((memo.get(b"text"), memo.get(b"")), (Some(1), Some(2)));
        memo.put(Bytes::from_static(b"text"), 3, 0);
        assert_eq!((memo.get(b"text"), memo.get(b"Text"), memo.get(b"text ")), (Some(3), None, None));
        assert_eq!(held(&memo).0, 2);
    }

    #[test]
    fn however_many_come_it_stays_small() {
        let memo = Memo::new();
        let text = |number: usize| Bytes::from(format!("text {number}"));
        for number in 0..20_000 {
            memo.put(text(number), number, if number % 2 == 0 { 100 } else { 30_000 });
            assert_eq!(memo.get(&text(number)), Some(number), "the latest is there");
        }
        let (count, size) = held(&memo);
        assert!(count <= SHARDS * PLACES && size <= SHARDS * ROOM, "{count} with {size} bytes");
        assert!(size > SHARDS * ROOM / 2, "{size} bytes: there is room for more");
        for number in 0..20_000 {
            assert!(memo.get(&text(number)).is_none_or(|known| known == number));
        }
        memo.put(text(0), 7, MOST);
        assert_ne!(memo.get(&text(0)), Some(7), "too large");
        assert_eq!(held(&memo).0, count);
    }

    #[test]
    fn threads_share_it() {
        let memo = Memo::new();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let memo = &memo;
                scope.spawn(move || {
                    for number in 0..5_000 {
                        let text = Bytes::from(format!("{}", (number * 7 + thread) % 3_000));
                        let fact = text.len();
                        assert!(memo.get(&text).is_none_or(|known| known == fact));
                        memo.put(text, fact, 1_000);
                    }
                });
            }
        });
        held(&memo);
    }
}
