//! Ending all sessions of a user.

use std::time::Instant;

use cloakroom_core::Result;

use crate::scan::Walk;
use crate::{Handle, Inspector, Step};

/// So many times the sessions are gone through at most.
const MAX_PASSES: u32 = 4;

/// All sessions of one user, being revoked step by step.
///
/// Who signs in or changes the key while this goes on has a new session under a key that was passed already. So all are
/// gone through again until none is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// The user.
    pub user: String,
    /// How many sessions were ended.
    pub revoked: u64,
    /// How many records were looked at.
    pub scanned: u64,
    /// Whether all is done.
    pub done: bool,
    /// Where the next step goes on.
    pub after: Option<Handle>,
    /// How many were ended since the sessions were last begun with.
    pub in_this_pass: u64,
    /// How many times the sessions were gone through.
    pub passes: u32,
}

impl Revocation {
    /// One that has not begun.
    pub fn of(user: impl Into<String>) -> Self {
        let user = user.into();
        Self { user, revoked: 0, scanned: 0, done: false, after: None, in_this_pass: 0, passes: 0 }
    }

    /// Goes on as far as one step goes.
    ///
    /// # Errors
    /// As [`Inspector::list`] and [`Inspector::revoke`]; what is ended stays ended.
    pub async fn go_on(&mut self, inspector: &Inspector, step: Step) -> Result<()> {
        let (begin, mut left) = (Instant::now(), step);
        while !self.done && left.records > 0 && !left.time.is_zero() {
            let mut walk = Walk::through(inspector, self.after.as_ref(), left).await?;
            while let Some(details) = walk.next().await? {
                self.scanned += 1;
                let record = &details.record;
                if record.user.as_deref() != Some(&self.user) {
                    // A place to go on from has to be still there then.
                    self.after = Some(record.handle.clone());
                } else if inspector.revoke(record).await? {
                    self.revoked += 1;
                    self.in_this_pass += 1;
                }
            }
            if walk.has_more().await? {
                return Ok(());
            }
            left.records = left.records.saturating_sub(walk.scanned.max(1));
            left.time = step.time.saturating_sub(begin.elapsed());
            self.passes += 1;
            self.done = self.in_this_pass == 0 || self.passes >= MAX_PASSES;
            (self.after, self.in_this_pass) = (None, 0);
        }
        Ok(())
    }
}
