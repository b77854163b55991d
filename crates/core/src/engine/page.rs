//! One page of a listing, for stores whose records stand in no order.

use std::collections::BinaryHeap;

use crate::key::SessionKey;

/// The smallest keys after a given one among those that were offered; it never holds more than a page.
pub(super) struct Page<'a> {
    after: Option<&'a SessionKey>,
    limit: usize,
    /// The largest key on top: the one that leaves when a smaller comes.
    keys: BinaryHeap<SessionKey>,
}

impl<'a> Page<'a> {
    pub(super) fn new(after: Option<&'a SessionKey>, limit: usize) -> Self {
        Self { after, limit, keys: BinaryHeap::new() }
    }

    pub(super) fn offer(&mut self, key: &SessionKey) {
        if self.after.is_some_and(|after| key <= after) {
            return;
        }
        if self.keys.len() < self.limit {
            self.keys.push(key.clone());
        } else if let Some(mut largest) = self.keys.peek_mut()
            && key < &*largest
        {
            *largest = key.clone();
        }
    }

    pub(super) fn finish(self) -> Vec<SessionKey> {
        self.keys.into_sorted_vec()
    }
}
