//! What was read or written lately, so that the same bytes are not read again.
//!
//! A visitor seldom comes for one request: what the last one wrote, the next one reads. Whether a text bears a signature,
//! and what is in it, depends on nothing but the text, so it is looked at once. Nobody is ever told anything that is out of
//! date: the store is asked each time, and this only knows what its answer means.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::spread::Spread;

/// Threads that read different texts seldom wait for each other; a power of two.
const SHARDS: usize = 16;
/// Texts that one shard has a place for; a power of two.
const PLACES: usize = 64;
/// How many bytes one shard holds at most: 8 MiB in all.
const ROOM: usize = 512 * 1024;
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

/// The place of a text, by its hash.
#[derive(Clone, Copy)]
pub(super) struct Place(usize);

impl Place {
    fn in_shard(self) -> usize {
        self.0 / SHARDS % PLACES
    }
}

impl<T: Clone> Memo<T> {
    pub(super) fn new() -> Self {
        let shard = |_| Mutex::new(Shard { places: Vec::new(), size: 0, hand: 0 });
        Self { shards: std::array::from_fn(shard), spread: Spread::new() }
    }

    /// Where what is known of a text has its place; `None` if the text is too long to have one.
    pub(super) fn place(&self, text: &[u8]) -> Option<Place> {
        (text.len() + OVERHEAD <= ROOM).then(|| Place(self.spread.hash(text) as usize))
    }

    /// What is known of a text, whose place this is.
    pub(super) fn get(&self, place: Place, text: &[u8]) -> Option<T> {
        let shard = self.shard(place);
        let known = shard.places.get(place.in_shard())?.as_ref()?;
        (known.text == text).then(|| known.fact.clone())
    }

    /// Keeps what is known of a text, whose place this is; it takes so many bytes beside the text itself.
    pub(super) fn put(&self, place: Place, text: Bytes, fact: T, size: usize) {
        let size = OVERHEAD + text.len() + size;
        if size > ROOM {
            return;
        }
        let former = self.shard(place).put(place.in_shard(), Known { text, fact, size });
        // Whose memory is given back when nobody waits for the shard.
        drop(former);
    }

    fn shard(&self, place: Place) -> MutexGuard<'_, Shard<T>> {
        self.shards[place.0 % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
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

    impl Memo<usize> {
        fn known(&self, text: &[u8]) -> Option<usize> {
            self.get(self.place(text)?, text)
        }

        fn keep(&self, text: Bytes, fact: usize, size: usize) {
            self.put(self.place(&text).expect("short enough"), text, fact, size);
        }
    }

    #[test]
    fn a_text_is_known_byte_for_byte() {
        let memo = Memo::new();
        memo.keep(Bytes::from_static(b"text"), 1, 0);
        memo.keep(Bytes::from_static(b""), 2, 0);
        assert_eq!((memo.known(b"text"), memo.known(b"")), (Some(1), Some(2)));
        memo.keep(Bytes::from_static(b"text"), 3, 0);
        assert_eq!((memo.known(b"text"), memo.known(b"Text"), memo.known(b"text ")), (Some(3), None, None));
        assert_eq!(held(&memo).0, 2);
    }

    #[test]
    fn however_many_come_it_stays_small() {
        let memo = Memo::new();
        let text = |number: usize| Bytes::from(format!("text {number}"));
        for number in 0..20_000 {
            memo.keep(text(number), number, if number % 2 == 0 { 100 } else { 30_000 });
            assert_eq!(memo.known(&text(number)), Some(number), "the latest is there");
        }
        let (count, size) = held(&memo);
        assert!(count <= SHARDS * PLACES && size <= SHARDS * ROOM, "{count} with {size} bytes");
        assert!(size > SHARDS * ROOM / 2, "{size} bytes: there is room for more");
        for number in 0..20_000 {
            assert!(memo.known(&text(number)).is_none_or(|known| known == number));
        }
        memo.keep(text(0), 7, ROOM);
        assert_ne!(memo.known(&text(0)), Some(7), "too large");
        assert_eq!(held(&memo).0, count);
        assert!(memo.place(&vec![b' '; ROOM]).is_none());
        let longest = Bytes::from(vec![b' '; ROOM - OVERHEAD]);
        memo.keep(longest.clone(), 8, 0);
        assert_eq!(memo.known(&longest), Some(8));
        held(&memo);
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
                        assert!(memo.known(&text).is_none_or(|known| known == fact));
                        memo.keep(text, fact, 1_000);
                    }
                });
            }
        });
        held(&memo);
    }
}
