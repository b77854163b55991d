//! Looking at single records as they stand, for tools.

use std::sync::Arc;

use async_trait::async_trait;

use crate::error::Result;
use crate::key::SessionKey;
use crate::store::Stored;
use crate::wire::session_data::Codec;

/// What a store can tell of a record beyond its contract: that it has expired and was not swept yet, and when it
/// expires where only the server knows.
///
/// It is for operators' tools, which are slow and seldom; the framework does without. A store that does not implement
/// it is looked into through [`Store::load`](crate::store::Store::load).
#[async_trait]
pub trait Peek: Send + Sync + 'static {
    /// The record that stands under `key`, expired or not. Changes nothing: no expiry is moved, no cache is filled.
    ///
    /// # Errors
    /// As [`Store::load`](crate::store::Store::load).
    async fn peek(&self, key: &SessionKey) -> Result<Option<Stored>>;
}

/// How tools look at the records of an engine: at those that decide, where it keeps some twice.
#[derive(Clone)]
pub struct Records {
    /// Looks at one; `None` where the store alone can.
    pub peek: Option<Arc<dyn Peek>>,
    /// What they are written in.
    pub codec: Codec,
}
