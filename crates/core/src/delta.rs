//! The ordered changes of one request: apply and replay.
//!
//! A session is what was loaded plus a [`Delta`]. When another request changed the stored record meanwhile, the delta
//! is replayed on what stands there now: changes of different keys merge, of the same key the later commit wins, and
//! an update runs its closure again on the fresh value.

use std::sync::Arc;

use crate::error::Result;
use crate::json::RawJson;
use crate::values::Values;

/// From the present raw value of a key, or none, to its new one, or none. Free of side effects, since it may run again.
pub(crate) type Updater = Arc<dyn Fn(Option<&str>) -> Result<Option<RawJson>> + Send + Sync>;

/// One change, as a handler made it.
#[derive(Clone)]
pub(crate) enum Change {
    Set(Box<str>, RawJson),
    /// Sets the value only where the key is missing: on replay, what another request set meanwhile stays.
    SetDefault(Box<str>, RawJson),
    Remove(Box<str>),
    Update(Arc<str>, Updater),
    Clear,
}

impl Change {
    fn is_set_of(&self, key: &str) -> bool {
        matches!(self, Self::Set(set, _) if **set == *key)
    }

    /// Makes the change on `values`.
    pub(crate) fn apply(&self, values: &mut Values) -> Result<()> {
        match self {
            Self::Set(key, value) => values.insert_raw(key, value.clone()),
            Self::SetDefault(key, value) => {
                if !values.contains_key(key) {
                    values.insert_raw(key, value.clone());
                }
            }
            Self::Remove(key) => {
                values.remove(key);
            }
            Self::Update(key, update) => match update(values.readable(key)?)? {
                Some(value) => values.insert_raw(key, value),
                None => drop(values.remove(key)),
            },
            Self::Clear => values.clear(),
        }
        Ok(())
    }
}

/// The changes of one request since its last load or save, in their order.
#[derive(Clone, Default)]
pub(crate) struct Delta(Vec<Change>);

impl Delta {
    pub(crate) fn push(&mut self, change: Change) {
        match (&change, self.0.last_mut()) {
            // Whatever came before has no effect any more, on any base.
            (Change::Clear, _) => self.0.clear(),
            // A loop that sets one key does not pile up.
            (Change::Set(key, _), Some(last @ Change::Set(..))) if last.is_set_of(key) => {
                *last = change;
                return;
            }
            _ => {}
        }
        self.0.push(change);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Puts the changes of `earlier` before these.
    pub(crate) fn prepend(&mut self, mut earlier: Self) {
        earlier.0.append(&mut self.0);
        *self = earlier;
    }

    /// The values that these changes make of `base`.
    ///
    /// # Errors
    /// What an update's closure, or reading the value it asks for, came to on this base.
    pub(crate) fn replay(&self, mut base: Values) -> Result<Values> {
        for change in &self.0 {
            change.apply(&mut base)?;
        }
        Ok(base)
    }
}
