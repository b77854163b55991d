//! The operations that can go together with others.

use bytes::Bytes;
use cloakroom_core::{Error, ErrorKind, Result, SessionKey, Timestamp};
use sqlx::Database;

use crate::dialect::{Dialect, Param, Run, Together};
use crate::group::{Joined, LARGE};
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
        if let Some(question) = self.dialect.question() {
            let none = || self.dialect.arguments(&[]);
            let way = D::Db::fetch_optional;
            let row = self.attempt(kind.doing(), kind.side(), way, question, &none, &mut false).await?;
            self.dialect.answered(row.is_some());
        }
        if !self.dialect.goes_together() {
            return Err(Error::new(ErrorKind::Unsupported, "this server takes no statements for many"));
        }
        let mut params = Vec::with_capacity(MOST_PARAMS * wishes.len());
        wishes.iter().for_each(|wish| wish.add_params(&mut params));
        let arguments = || self.dialect.arguments_together(kind, &params, wishes.len());
        let sql = D::together(kind, wishes.len());
        match self.attempt(kind.doing(), kind.side(), D::Db::fetch_all, sql, &arguments, repeated).await {
            Ok(rows) => self.outcomes(kind, wishes, &rows, *repeated),
            Err(error) => {
                // Another server may have come in place of the one that was asked.
                if error.kind() == ErrorKind::Unsupported {
                    self.dialect.answered(false);
                }
                Err(self.explained(kind.doing(), error, params.iter().map(Param::size).sum()).await)
            }
        }
    }

    /// Whether an operation may go together with others.
    pub(crate) fn goes_together(&self, wish: &Wish) -> bool {
        wish.size() <= LARGE && self.dialect.goes_together()
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
            // Several may load a key, of whom some have come after the end of its record.
            for (wish, outcome) in wishes.iter().zip(&mut outcomes).take(last).skip(first) {
                match wish {
                    Wish::Load { now, .. } if stored.as_ref().is_some_and(|stored| stored.expiry <= *now) => {}
                    _ => *outcome = Joined::Matched(stored.clone()),
                }
            }
        }
        Ok(outcomes)
    }
}
