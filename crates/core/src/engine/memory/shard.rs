//! A part of the memory store: records by key, and in the order in which they expire.

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::clock::Timestamp;
use crate::key::SessionKey;

const NONE: u32 = u32::MAX;

/// A record as it stands in memory.
pub(super) struct Record {
    pub(super) key: SessionKey,
    pub(super) payload: Bytes,
    pub(super) version: u64,
    pub(super) expiry: Timestamp,
}

/// Records in slots, found through chains by hash.
///
/// A `HashMap` would need the key a second time for the order of expiry; here a place is a number, which both share,
/// so that a record costs its slot of 104 bytes, some 25 for its rank, and a few for its chain.
#[derive(Default)]
pub(super) struct Shard {
    slots: Vec<Slot>,
    /// The first slot of each chain; as many as a power of two, or none at all.
    heads: Vec<u32>,
    /// What expires first stands first.
    order: BTreeSet<(Timestamp, u32)>,
    /// The first free slot; the free ones are chained like the others.
    free: Option<u32>,
}

struct Slot {
    record: Option<Record>,
    hash: u32,
    next: u32,
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
    pub(super) fn change(&mut self, place: u32, payload: Bytes, version: u64) {
        let record = self.record_mut(place);
        record.payload = payload;
        record.version = version;
    }

    pub(super) fn set_expiry(&mut self, place: u32, expiry: Timestamp) {
        let former = std::mem::replace(&mut self.record_mut(place).expiry, expiry);
        self.order.remove(&(former, place));
        self.order.insert((expiry, place));
    }

    /// Adds a record under a key that is not there.
    pub(super) fn insert(&mut self, hash: u32, record: Record) {
        if self.len() >= self.heads.len() {
            self.grow();
        }
        let expiry = record.expiry;
        let chain = self.chain(hash);
        let slot = Slot { record: Some(record), hash, next: self.heads[chain] };
        let place = match self.free {
            Some(place) => {
                let freed = std::mem::replace(&mut self.slots[place as usize], slot);
                self.free = (freed.next != NONE).then_some(freed.next);
                place
            }
            None => {
                // By a quarter, not by half as `Vec` would: half a million empty slots are 50 MB.
                if self.slots.len() == self.slots.capacity() {
                    self.slots.reserve_exact(self.slots.len() / 4 + 4);
                }
                self.slots.push(slot);
                (self.slots.len() - 1) as u32
            }
        };
        self.heads[chain] = place;
        self.order.insert((expiry, place));
    }

    pub(super) fn remove(&mut self, place: u32) {
        let Slot { hash, next, .. } = self.slots[place as usize];
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
        if let Some(record) = slot.record.take() {
            self.order.remove(&(record.expiry, place));
        }
        if self.order.is_empty() {
            // After a rush that is over, its memory goes back.
            *self = Self::default();
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
        self.order.first().is_some_and(|&(expiry, _)| expiry <= now)
    }

    /// Removes the record that expires first.
    pub(super) fn remove_soonest(&mut self) {
        if let Some(&(_, place)) = self.order.first() {
            self.remove(place);
        }
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
