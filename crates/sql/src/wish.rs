//! The operations that can go together with others.

use bytes::Bytes;
use cloakroom_core::{Result, SessionKey, Timestamp};
use sqlx::Database;

use crate::dialect::{Dialect, Param, Run, Together};
use crate::group::Joined;
use crate::store::{Side, SqlStore};

type Row<D> = <<D as Dialect>::Db as Database>::Row;

/// How many parameters an operation has at most.
const MOST_PARAMS: usize = 4;

/// An operation on one row, with what it takes.
#[derive(Clone)]
pub(crate) enum Wish {
    Load { key: SessionKey, now: Timestamp },
    Create { key: SessionKey, payload: Bytes, expiry: Timestamp },
    Replace { key: SessionKey, expected: Bytes, payload: Bytes, expiry: Timestamp },
    Touch { key: SessionKey, expiry: Timestamp, now: Timestamp },
}

impl Wish {
    pub(crate) fn kind(&self) -> Together {
        match self {
            Self::Load { .. } => Together::Load,
            Self::Create { .. } => Together::Create,
            Self::Replace { .. } => Together::Replace,
            Self::Touch { .. } => Together::Touch,
        }
    }

    /// What is being done, for errors.
    pub(crate) fn doing(&self) -> &'static str {
        self.kind().doing()
    }

    pub(crate) fn key(&self) -> &SessionKey {
        match self {
            Self::Load { key, .. } | Self::Create { key, .. } | Self::Replace { key, .. } | Self::Touch { key, .. } => {
                key
            }
        }
    }

    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Load { .. } | Self::Touch { .. } => 0,
            Self::Create { payload, .. } => payload.len(),
            Self::Replace { expected, payload, .. } => expected.len() + payload.len(),
        }
    }

    /// The parameters, in the order in which the statements for one and for many name them.
    pub(crate) fn params(&self) -> Vec<Param<'_>> {
        let mut params = Vec::with_capacity(MOST_PARAMS);
        self.add_params(&mut params);
        params
    }

    pub(crate) fn add_params<'a>(&'a self, params: &mut Vec<Param<'a>>) {
        match self {
            Self::Load { key, now } => params.extend([Param::Key(key.as_str()), Param::Moment(*now)]),
            Self::Create { key, payload, expiry } => {
                params.extend([Param::Text(key.as_str()), Param::Payload(payload), Param::Moment(*expiry)]);
            }
            Self::Replace { key, expected, payload, expiry } => params.extend([
                Param::Payload(payload),
                Param::Moment(*expiry),
                Param::Key(key.as_str()),
                Param::Payload(expected),
            ]),
            Self::Touch { key, expiry, now } => {
                params.extend([Param::Moment(*expiry), Param::Key(key.as_str()), Param::Moment(*now)]);
            }
        }
    }
}

impl Together {
    pub(crate) fn doing(self) -> &'static str {
        match self {
            Self::Load => "load a session",
            Self::Create => "create a session",
            Self::Replace => "save a session",
            Self::Touch => "renew a session",
        }
    }

    pub(crate) fn side(self) -> Side {
        match self {
            Self::Load => Side::Read,
            _ => Side::Write,
        }
    }
}

impl<D: Dialect> SqlStore<D> {
    /// Does many operations of a kind, in the order of their keys, and tells the outcome of each. `repeated` is told in
    /// case of an error too.
    pub(crate) async fn by_one_statement(
        &self,
        kind: Together,
        wishes: &[&Wish],
        repeated: &mut bool,
    ) -> Result<Vec<Joined<D>>> {
        let mut params = Vec::with_capacity(MOST_PARAMS * wishes.len());
        wishes.iter().for_each(|wish| wish.add_params(&mut params));
        let arguments = || self.dialect.arguments_together(&params, wishes.len());
        let sql = D::together(kind, wishes.len()).unwrap_or_default();
        let rows = self.attempt(kind.doing(), kind.side(), D::Db::fetch_all, sql, &arguments, repeated).await?;
        self.outcomes(kind, wishes, &rows, *repeated)
    }

    /// What the rows that a statement for many gave mean for each member.
    fn outcomes(&self, kind: Together, wishes: &[&Wish], rows: &[Row<D>], repeated: bool) -> Result<Vec<Joined<D>>> {
        let doing = kind.doing();
        let mut outcomes: Vec<Joined<D>> = wishes.iter().map(|_| Joined::Unmatched { repeated }).collect();
        for row in rows {
            let (column, stored) = match kind {
                Together::Load => (2, Some(self.stored(doing, row)?)),
                _ => (0, None),
            };
            let key = self.dialect.text(row, column).map_err(|e| self.dialect.error(doing, e))?;
            let first = wishes.partition_point(|wish| wish.key().as_str() < &*key);
            let same = wishes[first..].iter().take_while(|wish| wish.key().as_str() == key);
            let last = first + same.count();
            // A load of a key that several load gives a row for each of them.
            if let Some(outcome) = outcomes[first..last].iter_mut().find(|o| matches!(o, Joined::Unmatched { .. })) {
                *outcome = Joined::Matched(stored);
            }
        }
        Ok(outcomes)
    }
}
