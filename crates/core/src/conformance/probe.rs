//! A store that counts what it is asked, and fails on demand.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use bytes::Bytes;

use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::key::SessionKey;
use crate::store::{Cleared, Created, Deleted, Replaced, Rotated, Store, Stored, Touched, Version};

/// An operation of a [`Store`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// [`Store::load`]
    Load,
    /// [`Store::create`]
    Create,
    /// [`Store::replace`]
    Replace,
    /// [`Store::touch`]
    Touch,
    /// [`Store::delete`]
    Delete,
    /// [`Store::clear_expired`]
    ClearExpired,
    /// [`Store::list`]
    List,
}

impl Operation {
    /// All operations.
    pub const ALL: [Self; 7] =
        [Self::Load, Self::Create, Self::Replace, Self::Touch, Self::Delete, Self::ClearExpired, Self::List];

    /// The method's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Create => "create",
            Self::Replace => "replace",
            Self::Touch => "touch",
            Self::Delete => "delete",
            Self::ClearExpired => "clear_expired",
            Self::List => "list",
        }
    }
}

/// How an operation of a [`ProbeStore`] goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The store cannot be reached: nothing happens, and the operation fails with [`ErrorKind::Unavailable`].
    Refused,
    /// The operation is carried out, but its answer is lost: it fails with [`ErrorKind::Unavailable`].
    AnswerLost,
    /// The store never answers, and nothing happens.
    Silent,
}

/// A store around another, for tests: it notes each operation, and goes wrong where it is told to.
///
/// ```
/// # use cloakroom_core::conformance::probe::{Fault, Operation, ProbeStore};
/// # use cloakroom_core::{Clock, ErrorKind, KeySource, engine::memory::MemoryStore, store::Store};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> cloakroom_core::Result<()> {
/// let store = ProbeStore::new(MemoryStore::new(Clock::system()));
/// let key = KeySource::system().draw()?;
/// assert!(store.load(&key).await?.is_none());
/// assert_eq!(store.take_calls(), [Operation::Load]);
///
/// store.fail(Operation::Load, Fault::Refused);
/// assert_eq!(store.load(&key).await.unwrap_err().kind(), ErrorKind::Unavailable);
/// # Ok(())
/// # }
/// ```
pub struct ProbeStore {
    inner: Arc<dyn Store>,
    calls: Mutex<Vec<Operation>>,
    faults: Mutex<Vec<(Operation, Fault)>>,
}

impl ProbeStore {
    /// A probe around `inner`, which works until it is told to fail.
    pub fn new(inner: impl Store) -> Self {
        Self { inner: Arc::new(inner), calls: Mutex::default(), faults: Mutex::default() }
    }

    /// The store behind the probe: what is asked there is neither counted nor fails.
    pub fn inner(&self) -> &Arc<dyn Store> {
        &self.inner
    }

    /// The operations since the last call of this, in their order.
    pub fn take_calls(&self) -> Vec<Operation> {
        std::mem::take(&mut lock(&self.calls))
    }

    /// From now on, `operation` goes wrong.
    pub fn fail(&self, operation: Operation, fault: Fault) {
        lock(&self.faults).push((operation, fault));
    }

    /// From now on, every operation goes wrong.
    pub fn fail_all(&self, fault: Fault) {
        lock(&self.faults).extend(Operation::ALL.map(|operation| (operation, fault)));
    }

    /// From now on, everything works again.
    pub fn heal(&self) {
        lock(&self.faults).clear();
    }

    async fn perform<T>(&self, operation: Operation, work: impl Future<Output = Result<T>>) -> Result<T> {
        lock(&self.calls).push(operation);
        let fault = lock(&self.faults).iter().find(|(failing, _)| *failing == operation).map(|(_, fault)| *fault);
        match fault {
            None => return work.await,
            Some(Fault::Refused) => {}
            Some(Fault::AnswerLost) => drop(work.await?),
            Some(Fault::Silent) => std::future::pending().await,
        }
        Err(Error::new(ErrorKind::Unavailable, format!("the probe was told to fail in `{}`", operation.name())))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl fmt::Debug for ProbeStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProbeStore")
            .field("calls", &lock(&self.calls))
            .field("faults", &lock(&self.faults))
            .finish_non_exhaustive()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Store for ProbeStore {
    async fn load(&self, key: &SessionKey) -> Result<Option<Stored>> {
        self.perform(Operation::Load, self.inner.load(key)).await
    }

    async fn create(&self, key: &SessionKey, payload: Bytes, expiry: Timestamp) -> Result<Created> {
        self.perform(Operation::Create, self.inner.create(key, payload, expiry)).await
    }

    async fn replace(
        &self,
        key: &SessionKey,
        version: &Version,
        payload: Bytes,
        expiry: Timestamp,
    ) -> Result<Replaced> {
        self.perform(Operation::Replace, self.inner.replace(key, version, payload, expiry)).await
    }

    async fn touch(&self, key: &SessionKey, expiry: Timestamp) -> Result<Touched> {
        self.perform(Operation::Touch, self.inner.touch(key, expiry)).await
    }

    async fn delete(&self, key: &SessionKey, version: Option<&Version>) -> Result<Deleted> {
        self.perform(Operation::Delete, self.inner.delete(key, version)).await
    }

    /// A rotation takes two operations here, so that each of them can be made to fail.
    async fn rotate(
        &self,
        _old: &SessionKey,
        _version: &Version,
        _new: &SessionKey,
        _payload: Bytes,
        _expiry: Timestamp,
    ) -> Result<Rotated> {
        Ok(Rotated::Unsupported)
    }

    async fn clear_expired(&self, batch: usize) -> Result<Cleared> {
        self.perform(Operation::ClearExpired, self.inner.clear_expired(batch)).await
    }

    async fn list(&self, after: Option<&SessionKey>, limit: usize) -> Result<Vec<SessionKey>> {
        self.perform(Operation::List, self.inner.list(after, limit)).await
    }
}
