//! A part of the memory store: records by key, and in the order in which they expire.

use crate::clock::Timestamp;
use crate::key::SessionKey;

const NONE: u32 = u32::MAX;

/// A record as it stands in memory.
pub(super) struct Record {
    pub(super) key: SessionKey,
    pub(super) payload: Box<[u8]>,
    pub(super) version: u64,
    pub(super) expiry: Timestamp,
}

/// Records in slots, found through chains by hash.
///
/// A `HashMap` would need the key a second time for the order of expiry; here a place is a number, which both share,
/// so that a record costs its slot of 88 bytes, four for its rank, and a few for its chain.
#[derive(Default)]
pub(super) struct Shard {
    slots: Vec<Slot>,
    /// The first slot of each chain; as many as a power of two, or none at all.
    heads: Vec<u32>,
    /// The places of all records as a heap: none expires before the one at half its index. A tree that is sorted
    /// throughout would cost six times the memory, and more work at each save.
    order: Vec<u32>,
    /// The first free slot; the free ones are chained like the others.
    free: Option<u32>,
}

struct Slot {
    record: Option<Record>,
    hash: u32,
    next: u32,
    /// Where the place stands in the order.
    rank: u32,
}

impl Shard {
    /// No shard can hold more.
    pub(super) const MAX: usize = (u32::MAX / 2) as usize;

    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &SessionKey> {
        self.slots.iter().filter_map(|slot| slot.record.as_ref()).map(|record| &record.key)
    }

    /// Where the record of a key stands. One that has expired is removed instead.
    pub(super) fn find_live(&mut self, hash: u32, key: &SessionKey, now: Timestamp) -> Option<u32> {
        let place = self.find(hash, key)?;
        if self.record(place).expiry <= now {
            self.remove(place);
            return None;
        }
        Some(place)
    }

    /// The record at a place that was found.
    pub(super) fn record(&self, place: u32) -> &Record {
        self.slots[place as usize].record.as_ref().expect("a place that was found is filled")
    }

    fn record_mut(&mut self, place: u32) -> &mut Record {
        self.slots[place as usize].record.as_mut().expect("a place that was found is filled")
    }

    /// Gives the record at a place another payload.
    pub(super) fn change(&mut self, place: u32, payload: &[u8], version: u64) {
        let record = self.record_mut(place);
        if record.payload.len() == payload.len() {
            record.payload.copy_from_slice(payload);
        } else {
            record.payload = payload.into();
        }
        record.version = version;
    }

    pub(super) fn set_expiry(&mut self, place: u32, expiry: Timestamp) {
        self.record_mut(place).expiry = expiry;
        self.settle(self.slots[place as usize].rank);
    }

    /// Adds a record under a key that is not there.
    pub(super) fn insert(&mut self, hash: u32, record: Record) {
        if self.len() >= self.heads.len() {
            self.grow();
        }
        let (chain, rank) = (self.chain(hash), self.order.len() as u32);
        let slot = Slot { record: Some(record), hash, next: self.heads[chain], rank };
        let place = match self.free {
            Some(place) => {
                let freed = std::mem::replace(&mut self.slots[place as usize], slot);
                self.free = (freed.next != NONE).then_some(freed.next);
                place
            }
            None => {
                push_tight(&mut self.slots, slot);
                (self.slots.len() - 1) as u32
            }
        };
        self.heads[chain] = place;
        push_tight(&mut self.order, place);
        self.settle(rank);
    }

    pub(super) fn remove(&mut self, place: u32) {
        let Slot { hash, next, rank, .. } = self.slots[place as usize];
        let chain = self.chain(hash);
        if self.heads[chain] == place {
            self.heads[chain] = next;
        } else {
            let mut before = self.heads[chain];
            while self.slots[before as usize].next != place {
                before = self.slots[before as usize].next;
            }
            self.slots[before as usize].next = next;
        }
        let free = self.free.replace(place).unwrap_or(NONE);
        let slot = &mut self.slots[place as usize];
        slot.next = free;
        slot.record = None;
        self.order.swap_remove(rank as usize);
        if self.order.is_empty() {
            // After a rush that is over, its memory goes back.
            *self = Self::default();
        } else if (rank as usize) < self.order.len() {
            self.settle(rank);
        }
    }

    /// Removes up to `limit` records that have expired, and says how many.
    pub(super) fn sweep(&mut self, limit: usize, now: Timestamp) -> usize {
        let mut removed = 0;
        while removed < limit && self.has_expired(now) {
            self.remove_soonest();
            removed += 1;
        }
        removed
    }

    pub(super) fn has_expired(&self, now: Timestamp) -> bool {
        self.order.first().is_some_and(|&place| self.record(place).expiry <= now)
    }

    /// Removes the record that expires first.
    pub(super) fn remove_soonest(&mut self) {
        if let Some(&place) = self.order.first() {
            self.remove(place);
        }
    }

    /// Moves what stands at a rank to where it belongs by its expiry: up past all that expire later, or down.
    fn settle(&mut self, rank: u32) {
        let mut rank = rank as usize;
        let place = self.order[rank];
        let expiry = self.record(place).expiry;
        while rank > 0 {
            let above = self.order[(rank - 1) / 2];
            if self.record(above).expiry <= expiry {
                break;
            }
            self.rank(above, rank);
            rank = (rank - 1) / 2;
        }
        while let Some(&left) = self.order.get(2 * rank + 1) {
            let (mut below, mut at) = (left, 2 * rank + 1);
            if let Some(&right) = self.order.get(at + 1)
                && self.record(right).expiry < self.record(left).expiry
            {
                (below, at) = (right, at + 1);
            }
            if self.record(below).expiry >= expiry {
                break;
            }
            self.rank(below, rank);
            rank = at;
        }
        self.rank(place, rank);
    }

    fn rank(&mut self, place: u32, rank: usize) {
        self.order[rank] = place;
        self.slots[place as usize].rank = rank as u32;
    }

    /// Where the record of a key stands, expired or not.
    pub(super) fn find(&self, hash: u32, key: &SessionKey) -> Option<u32> {
        let mut place = *self.heads.get(self.chain(hash))?;
        while place != NONE {
            let slot = &self.slots[place as usize];
            if slot.hash == hash && slot.record.as_ref().is_some_and(|record| record.key == *key) {
                return Some(place);
            }
            place = slot.next;
        }
        None
    }

    fn chain(&self, hash: u32) -> usize {
        hash as usize & self.heads.len().wrapping_sub(1)
    }

    /// Twice as many chains.
    fn grow(&mut self) {
        self.heads = vec![NONE; (self.heads.len() * 2).max(8)];
        for place in 0..self.slots.len() {
            if self.slots[place].record.is_some() {
                let chain = self.chain(self.slots[place].hash);
                self.slots[place].next = std::mem::replace(&mut self.heads[chain], place as u32);
            }
        }
    }
}

/// Appends with room for an eighth more at a time, not for twice as many as `Vec` would: empty slots are memory too.
fn push_tight<T>(list: &mut Vec<T>, item: T) {
    if list.len() == list.capacity() {
        list.reserve_exact(list.len() / 8 + 4);
    }
    list.push(item);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(number: u32) -> SessionKey {
        SessionKey::presented(&format!("key{number:05}")).unwrap()
    }

    proptest! {
        /// Whatever happens to its records, the one that goes first is one that expires first.
        #[test]
        fn the_order_is_that_of_expiry(steps in prop::collection::vec((0..40u32, 0..100i64, 0..4u8), 0..300)) {
            let mut shard = Shard::default();
            let mut model = std::collections::BTreeMap::new();
            let long_ago = Timestamp::from_secs(-1);
            for (number, secs, what) in steps {
                let expiry = Timestamp::from_secs(secs);
                // Few hashes, so that chains are long.
                match (shard.find_live(number % 5, &key(number), long_ago), what) {
                    (None, _) => {
                        let record = Record { key: key(number), payload: Box::default(), version: 0, expiry };
                        shard.insert(number % 5, record);
                        model.insert(number, expiry);
                    }
                    (Some(place), 0) => {
                        shard.remove(place);
                        model.remove(&number);
                    }
                    (Some(_), 1) => {
                        let first = shard.record(shard.order[0]);
                        prop_assert_eq!(Some(&first.expiry), model.values().min());
                        let number = first.key.as_str()[3..].parse::<u32>().unwrap();
                        shard.remove_soonest();
                        model.remove(&number);
                    }
                    (Some(place), _) => {
                        shard.set_expiry(place, expiry);
                        model.insert(number, expiry);
                    }
                }
                prop_assert_eq!(shard.len(), model.len());
            }
            let mut left: Vec<_> = model.into_values().collect();
            left.sort();
            for expiry in left {
                prop_assert_eq!(shard.record(shard.order[0]).expiry, expiry);
                shard.remove_soonest();
            }
            prop_assert_eq!(shard.len(), 0);
        }
    }
}
