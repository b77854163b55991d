//! Stores with one fault each: the suite is worth something only if it finds them.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use cloakroom_core::conformance::store::{CHECKS, Harness, Subject};
use cloakroom_core::engine::memory::MemoryStore;
use cloakroom_core::store::{Cleared, Created, Deleted, Replaced, Rotated, Store, Stored, Touched, Version};
use cloakroom_core::{Clock, Result, SessionKey, Timestamp};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    None,
    ReplaceInserts,
    ReplaceIgnoresVersion,
    ReplaceComparesThenWrites,
    ReplaceKeepsExpiry,
    TouchResurrects,
    TouchDoesNothing,
    TouchWritesBack,
    CreateOverwrites,
    CreateLooksThenWrites,
    DeleteIgnoresVersion,
    DeleteFails,
    DeleteDoesNothing,
    RotateIgnoresVersion,
    RotateComparesThenWrites,
    RotateOverwrites,
    RotateKeepsTheOld,
    RotateInserts,
    LoadsExpired,
    NeverSetsItsClockBack,
    LoadCuts,
    ConflictHandsOverTheNew,
    VersionsRepeat,
    SweepsLiveRecords,
    SweepsTooMany,
    SweepNeverDone,
    ListsInDisorder,
}

/// A good store with a fault.
struct Broken {
    store: MemoryStore,
    fault: Fault,
    /// The suite's clock, and the store's own.
    clocks: (Clock, Clock),
}

impl Broken {
    fn is(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    /// Writes, whatever stands there.
    async fn put(&self, key: &SessionKey, payload: Bytes, expiry: Timestamp) -> Result<Version> {
        loop {
            self.store.delete(key, None).await?;
            if let Created::Created(version) = self.store.create(key, payload.clone(), expiry).await? {
                return Ok(version);
            }
        }
    }

    /// Between a look and the write that should be one step with it.
    async fn gap(&self) {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Store for Broken {
    async fn load(&self, key: &SessionKey) -> Result<Option<Stored>> {
        let (suite, own) = &self.clocks;
        if self.is(Fault::NeverSetsItsClockBack) && own.now() < suite.now() {
            own.set(suite.now());
        }
        let mut stored = self.store.load(key).await?;
        if let Some(stored) = stored.as_mut() {
            if self.is(Fault::LoadCuts) {
                stored.payload.truncate(65_535);
            }
            if self.is(Fault::VersionsRepeat) {
                stored.version = Version::counter(stored.payload.len() as u64 / 100);
            }
        }
        Ok(stored)
    }

    async fn create(&self, key: &SessionKey, payload: Bytes, expiry: Timestamp) -> Result<Created> {
        match self.fault {
            Fault::CreateOverwrites => {
                let taken = self.store.load(key).await?.is_some();
                let version = self.put(key, payload, expiry).await?;
                Ok(if taken { Created::Taken } else { Created::Created(version) })
            }
            Fault::CreateLooksThenWrites => {
                if self.store.load(key).await?.is_some() {
                    return Ok(Created::Taken);
                }
                self.gap().await;
                Ok(Created::Created(self.put(key, payload, expiry).await?))
            }
            Fault::VersionsRepeat => {
                let version = Version::counter(payload.len() as u64 / 100);
                Ok(match self.store.create(key, payload, expiry).await? {
                    Created::Created(_) => Created::Created(version),
                    Created::Taken => Created::Taken,
                })
            }
            _ => self.store.create(key, payload, expiry).await,
        }
    }

    async fn replace(
        &self,
        key: &SessionKey,
        version: &Version,
        payload: Bytes,
        expiry: Timestamp,
    ) -> Result<Replaced> {
        let Some(standing) = self.store.load(key).await? else {
            return match self.fault {
                Fault::ReplaceInserts => Ok(Replaced::Replaced(self.put(key, payload, expiry).await?)),
                _ => Ok(Replaced::Gone),
            };
        };
        match self.fault {
            Fault::ReplaceIgnoresVersion => self.store.replace(key, &standing.version, payload, expiry).await,
            Fault::ReplaceComparesThenWrites if standing.version == *version => {
                self.gap().await;
                Ok(Replaced::Replaced(self.put(key, payload, expiry).await?))
            }
            Fault::ReplaceKeepsExpiry => self.store.replace(key, version, payload, standing.expiry).await,
            Fault::ConflictHandsOverTheNew => {
                Ok(match self.store.replace(key, version, payload.clone(), expiry).await? {
                    Replaced::Conflict(stored) => Replaced::Conflict(Stored { payload, ..stored }),
                    other => other,
                })
            }
            Fault::VersionsRepeat if *version == Version::counter(standing.payload.len() as u64 / 100) => {
                self.store.replace(key, &standing.version, payload, expiry).await
            }
            _ => self.store.replace(key, version, payload, expiry).await,
        }
    }

    async fn touch(&self, key: &SessionKey, expiry: Timestamp) -> Result<Touched> {
        match self.fault {
            Fault::TouchDoesNothing if self.store.load(key).await?.is_some() => Ok(Touched::Touched),
            Fault::TouchResurrects => {
                let touched = self.store.touch(key, expiry).await?;
                if touched == Touched::Gone {
                    self.put(key, Bytes::from_static(b"back"), expiry).await?;
                }
                Ok(touched)
            }
            Fault::TouchWritesBack => match self.store.load(key).await? {
                None => Ok(Touched::Gone),
                Some(stored) => {
                    self.gap().await;
                    self.put(key, stored.payload, expiry).await?;
                    Ok(Touched::Touched)
                }
            },
            _ => self.store.touch(key, expiry).await,
        }
    }

    async fn delete(&self, key: &SessionKey, version: Option<&Version>) -> Result<Deleted> {
        match self.fault {
            Fault::DeleteIgnoresVersion => self.store.delete(key, None).await,
            Fault::DeleteDoesNothing if self.store.load(key).await?.is_some() => Ok(Deleted::Deleted),
            Fault::DeleteFails if self.store.load(key).await?.is_none() => {
                Err(cloakroom_core::Error::new(cloakroom_core::ErrorKind::Missing, "no such record"))
            }
            _ => self.store.delete(key, version).await,
        }
    }

    async fn rotate(
        &self,
        old: &SessionKey,
        version: &Version,
        new: &SessionKey,
        payload: Bytes,
        expiry: Timestamp,
    ) -> Result<Rotated> {
        let standing = self.store.load(old).await?;
        if self.is(Fault::RotateInserts) && standing.is_none() {
            return Ok(Rotated::Rotated(self.put(new, payload, expiry).await?));
        }
        let Some(standing) = standing else { return Ok(Rotated::Gone) };
        if standing.version != *version && !self.is(Fault::RotateIgnoresVersion) {
            return Ok(Rotated::Conflict(standing));
        }
        if self.store.load(new).await?.is_some() && !self.is(Fault::RotateOverwrites) {
            return Ok(Rotated::Taken);
        }
        if self.is(Fault::RotateComparesThenWrites) {
            self.gap().await;
        } else if !self.is(Fault::RotateKeepsTheOld)
            && let Deleted::Conflict(standing) = self.store.delete(old, Some(&standing.version)).await?
        {
            return Ok(Rotated::Conflict(standing));
        }
        let version = self.put(new, payload, expiry).await?;
        if self.is(Fault::RotateComparesThenWrites) {
            self.store.delete(old, None).await?;
        }
        Ok(Rotated::Rotated(version))
    }

    async fn clear_expired(&self, batch: usize) -> Result<Cleared> {
        match self.fault {
            Fault::SweepsLiveRecords => {
                let keys = self.store.list(None, batch).await?;
                for key in &keys {
                    self.store.delete(key, None).await?;
                }
                Ok(Cleared { removed: keys.len() as u64, more: keys.len() == batch })
            }
            Fault::SweepsTooMany => self.store.clear_expired(usize::MAX).await,
            Fault::SweepNeverDone => {
                Ok(Cleared { removed: self.store.clear_expired(batch.min(1)).await?.removed, more: false })
            }
            _ => self.store.clear_expired(batch).await,
        }
    }

    async fn list(&self, after: Option<&SessionKey>, limit: usize) -> Result<Vec<SessionKey>> {
        let mut keys = self.store.list(after, limit).await?;
        if self.is(Fault::ListsInDisorder) {
            keys.reverse();
        }
        Ok(keys)
    }
}

/// The names of the checks that a store with this fault fails.
async fn failed(fault: Fault) -> Vec<&'static str> {
    let harness = Arc::new(Harness::new(move |clock: Clock| async move {
        let own = match fault {
            // Time stands still, or goes on only.
            Fault::LoadsExpired | Fault::NeverSetsItsClockBack => Clock::manual(clock.now()),
            _ => clock.clone(),
        };
        Subject::new(Broken { store: MemoryStore::new(own.clone()), fault, clocks: (clock, own) })
    }));
    let mut failed = Vec::new();
    for (name, check) in CHECKS {
        let harness = Arc::clone(&harness);
        // A store that is broken may also keep a check waiting.
        let run = tokio::time::timeout(std::time::Duration::from_secs(5), async move { check(&harness).await });
        if !matches!(tokio::spawn(run).await, Ok(Ok(()))) {
            failed.push(*name);
        }
    }
    failed
}

macro_rules! caught {
    ($($test:ident: $fault:ident => $($check:ident)+;)*) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                let failed = failed(Fault::$fault).await;
                $(assert!(failed.contains(&stringify!($check)), "only {failed:?} failed");)+
            }
        )*
    };
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrapper_without_a_fault_passes() {
    assert_eq!(failed(Fault::None).await, Vec::<&str>::new());
}

caught! {
    upserting: ReplaceInserts => replace_never_inserts unknown_keys_have_no_record;
    ignoring_the_version: ReplaceIgnoresVersion => replace_compares_and_hands_over_what_stands
        race_increments_are_not_lost race_one_replace_wins a_new_record_is_another_version;
    comparing_before_writing: ReplaceComparesThenWrites => race_increments_are_not_lost race_one_replace_wins;
    keeping_the_expiry: ReplaceKeepsExpiry => replace_moves_the_expiry;
    resurrecting_on_touch: TouchResurrects => touch_never_resurrects unknown_keys_have_no_record;
    touching_nothing: TouchDoesNothing => touch_moves_the_expiry;
    touching_with_the_payload: TouchWritesBack => race_delete_is_final;
    overwriting_on_create: CreateOverwrites => create_never_overwrites;
    looking_before_creating: CreateLooksThenWrites => race_one_create_wins;
    deleting_unseen: DeleteIgnoresVersion => guarded_delete_compares rotation_meets_a_concurrent_write;
    deleting_nothing: DeleteDoesNothing => delete_is_idempotent;
    rotating_unseen: RotateIgnoresVersion => rotate_compares_and_moves;
    comparing_before_rotating: RotateComparesThenWrites => race_rotate_or_replace;
    rotating_over_another: RotateOverwrites => rotate_compares_and_moves;
    rotating_a_copy: RotateKeepsTheOld => rotate_compares_and_moves;
    rotating_what_is_gone: RotateInserts => rotate_compares_and_moves;
    failing_on_a_second_delete: DeleteFails => delete_is_idempotent unknown_keys_have_no_record;
    loading_what_expired: LoadsExpired => expired_is_gone;
    never_going_back: NeverSetsItsClockBack => a_clock_that_jumps_neither_ends_nor_revives;
    cutting: LoadCuts => round_trip_keeps_every_byte;
    handing_over_the_wrong_record: ConflictHandsOverTheNew => replace_compares_and_hands_over_what_stands
        race_one_replace_wins;
    repeating_versions: VersionsRepeat => a_new_record_is_another_version;
    sweeping_the_living: SweepsLiveRecords => clear_expired_removes_only_what_expired;
    sweeping_too_many: SweepsTooMany => clear_expired_works_in_batches;
    sweeping_too_few: SweepNeverDone => clear_expired_works_in_batches;
    listing_in_disorder: ListsInDisorder => list_pages_in_order;
}
