//! The stack, what goes into containers, and the memo.

use super::{Fault, Machine, Step, broken};
use crate::wire::pickle::MAX_OBJECTS;
use crate::wire::pickle::objects::{Container, Foreign, Item};

impl Machine<'_> {
    pub(super) fn count(&mut self) -> Step {
        self.made += 1;
        if self.made > MAX_OBJECTS { Err(Fault::TooMany) } else { Ok(()) }
    }

    pub(super) fn push(&mut self, item: Item) -> Step {
        self.count()?;
        self.stack.push(item);
        Ok(())
    }

    pub(super) fn push_container(&mut self, container: Container) -> Step {
        self.objects.containers.push(container);
        self.push(Item::Container(self.objects.containers.len() as u32 - 1))
    }

    pub(super) fn push_foreign(&mut self, foreign: Foreign) -> Step {
        self.objects.foreign.push(foreign);
        self.push(Item::Foreign(self.objects.foreign.len() as u32 - 1))
    }

    /// Below this nothing may be taken: it belongs to a container that waits for its elements.
    pub(super) fn fence(&self) -> usize {
        self.marks.last().copied().unwrap_or_default()
    }

    /// Where the last so many items begin.
    pub(super) fn above(&self, count: usize) -> Step<usize> {
        if self.stack.len() - self.fence() < count {
            broken("the stack is empty")
        } else {
            Ok(self.stack.len() - count)
        }
    }

    pub(super) fn pop(&mut self) -> Step<Item> {
        self.above(1)?;
        self.stack.pop().map_or_else(|| broken("the stack is empty"), Ok)
    }

    pub(super) fn top(&self) -> Step<Item> {
        let at = self.above(1)?;
        Ok(self.stack[at])
    }

    pub(super) fn take(&mut self, count: usize) -> Step<Vec<Item>> {
        let from = self.above(count)?;
        Ok(self.stack.split_off(from))
    }

    pub(super) fn unmark(&mut self) -> Step<usize> {
        self.marks.pop().map_or_else(|| broken("a mark is missing"), Ok)
    }

    pub(super) fn take_marked(&mut self) -> Step<Vec<Item>> {
        let from = self.unmark()?;
        Ok(self.stack.split_off(from))
    }

    /// The object below `from`, which what stands from there on is for.
    pub(super) fn below(&self, from: usize) -> Step<Item> {
        if from <= self.fence() { broken("the stack is empty") } else { Ok(self.stack[from - 1]) }
    }

    pub(super) fn set_items(&mut self, from: usize) -> Step {
        let Item::Container(at) = self.below(from)? else { return self.ignore(from) };
        let Container::Dict(entries) = &mut self.objects.containers[at as usize] else {
            return broken("items are set in what is no dictionary");
        };
        if !(self.stack.len() - from).is_multiple_of(2) {
            return broken("a key without a value");
        }
        let first = entries.len();
        entries.extend(self.stack[from..].chunks_exact(2).map(|pair| (pair[0], pair[1])));
        self.stack.truncate(from);
        let Container::Dict(entries) = self.objects.container(at) else { return Ok(()) };
        for (key, _) in &entries[first..] {
            if let Item::Container(at) = key
                && !matches!(self.objects.container(*at), Container::Tuple(_))
            {
                return broken("a key that cannot be one");
            }
        }
        Ok(())
    }

    pub(super) fn append(&mut self, from: usize) -> Step {
        let Item::Container(at) = self.below(from)? else { return self.ignore(from) };
        let Container::List(items) = &mut self.objects.containers[at as usize] else {
            return broken("items are appended to what is no list");
        };
        items.extend_from_slice(&self.stack[from..]);
        self.stack.truncate(from);
        Ok(())
    }

    /// Drops what is put into a foreign object.
    pub(super) fn ignore(&mut self, from: usize) -> Step {
        let Item::Foreign(_) = self.below(from)? else { return broken("something is put into what holds nothing") };
        self.stack.truncate(from);
        Ok(())
    }

    // The memo.

    pub(super) fn remember(&mut self, index: usize) -> Step {
        let top = self.top()?;
        self.count()?;
        // Python counts them through; whoever leaves large gaps wants memory.
        if index >= MAX_OBJECTS.min(self.objects.input.len().max(256)) {
            return broken("an index out of bounds");
        }
        if index >= self.memo.len() {
            self.memo.resize(index + 1, None);
        }
        self.remembered += usize::from(self.memo[index].is_none());
        self.memo[index] = Some(top);
        Ok(())
    }

    pub(super) fn recall(&mut self, index: usize) -> Step {
        match self.memo.get(index) {
            Some(Some(item)) => self.push(*item),
            _ => broken("it refers to what was not remembered"),
        }
    }
}
