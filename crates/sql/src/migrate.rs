//! Django's own migration of the session table, run by us.

use cloakroom_core::{Error, ErrorKind, Result};
use sqlx::{Connection, Database, SqlStr};
use tracing::debug;

use crate::dialect::{Dialect, Param, Run};
use crate::store::SqlStore;

const APP: &str = "sessions";
const NAME: &str = "0001_initial";
const TABLE: &str = "django_session";
const RECORDER: &str = "django_migrations";
const COLUMNS: [&str; 3] = ["session_key", "session_data", "expire_date"];

/// Creates Django's session table, and records that in Django's own list of migrations: Django's `migrate` then has
/// nothing to do for sessions, and after Django's neither have we.
#[derive(Debug)]
pub struct Migrations<'a, D: Dialect> {
    store: &'a SqlStore<D>,
}

/// What a migration would do, from [`Migrations::plan`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The migrations there are, in the order in which they are applied. So far there is one.
    pub steps: Vec<Step>,
}

impl Plan {
    /// Whether there is nothing to do.
    pub fn is_done(&self) -> bool {
        self.steps.iter().all(|step| step.state == State::Done)
    }
}

/// One migration of a [`Plan`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Django's name of the app: `sessions`.
    pub app: &'static str,
    /// Django's name of the migration: `0001_initial`.
    pub name: &'static str,
    /// Whether it was applied.
    pub state: State,
}

/// How a migration stands in a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Applied and recorded: nothing to do.
    Done,
    /// Not applied: the table will be created and the migration recorded.
    Pending,
    /// The table is there and is Django's, but the record is missing. It will be recorded, as Django's
    /// `migrate --fake-initial` does.
    Unrecorded,
}

/// What [`Migrations::apply`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The table was created and the migration recorded.
    Created,
    /// The table was there already; the migration was recorded.
    Recorded,
    /// There was nothing to do.
    UpToDate,
}

impl<'a, D: Dialect> Migrations<'a, D> {
    pub(crate) fn new(store: &'a SqlStore<D>) -> Self {
        Self { store }
    }

    /// The lines that Django's `sqlmigrate sessions 0001` prints. Nothing is run.
    pub fn sql(&self) -> Vec<String> {
        let mut lines = vec!["--".to_owned(), "-- Create model Session".to_owned(), "--".to_owned()];
        lines.extend(D::SCHEMA.create.iter().map(|statement| format!("{statement};")));
        if D::SCHEMA.transactional {
            lines.insert(0, "BEGIN;".to_owned());
            lines.push("COMMIT;".to_owned());
        }
        lines
    }

    /// What there is to do. Nothing is changed.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] if a table of that name is not Django's, [`ErrorKind::NotMigrated`] if the
    /// migration is recorded but its table is missing (each message says what to do), and
    /// [`ErrorKind::Unavailable`] if the database fails.
    pub async fn plan(&self) -> Result<Plan> {
        let mut conn = self.store.reader(PLANNING).await?;
        let state = self.state(&mut conn).await?.0;
        Ok(Plan { steps: vec![Step { app: APP, name: NAME, state }] })
    }

    /// Whether sessions can be stored. A table that Django's list of migrations does not mention serves as well as
    /// another, so this asks for the table alone.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] if a table of that name is not Django's, [`ErrorKind::Unavailable`] if the
    /// database fails.
    pub async fn is_migrated(&self) -> Result<bool> {
        let mut conn = self.store.reader(PLANNING).await?;
        self.has_table(&mut conn).await
    }

    /// Does what [`plan`](Self::plan) says, in one transaction. Two that run at once do it once.
    ///
    /// # Errors
    /// As [`plan`](Self::plan).
    pub async fn apply(&self) -> Result<Outcome> {
        let store = self.store;
        let failed = |e| store.dialect.error(DOING, e);
        let mut conn = store.writer(DOING).await?;
        if D::SCHEMA.lock.is_some() {
            conn.close_on_drop();
        }
        let mut transaction = conn.begin_with(SqlStr::from_static(D::SCHEMA.begin)).await.map_err(failed)?;
        if let Some(lock) = D::SCHEMA.lock {
            let locked = D::Db::fetch_optional(&mut transaction, lock, store.arguments(DOING, &[])?).await;
            if locked.map_err(failed)?.is_none() {
                return Err(Error::new(
                    ErrorKind::Unavailable,
                    "could not migrate: another migration of this database is under way; try again when it is done",
                ));
            }
        }
        // Looked at inside the transaction: the state cannot change until the end of it. Dropping it rolls back.
        let (state, has_recorder) = self.state(&mut transaction).await?;
        let outcome = match state {
            State::Done => {
                debug!(migration = NAME, "migrate: nothing to do");
                return Ok(Outcome::UpToDate);
            }
            State::Unrecorded => Outcome::Recorded,
            State::Pending => {
                let at_once = D::SCHEMA.create_at_once.as_slice();
                for statement in if at_once.is_empty() { D::SCHEMA.create } else { at_once } {
                    self.execute(&mut transaction, statement, &[]).await?;
                }
                Outcome::Created
            }
        };
        if !has_recorder {
            self.execute(&mut transaction, D::SCHEMA.create_recorder, &[]).await?;
        }
        let params = [Param::Text(APP), Param::Text(NAME), Param::Moment(store.clock().now())];
        self.execute(&mut transaction, D::SCHEMA.record, &params).await?;
        transaction.commit().await.map_err(failed)?;
        debug!(migration = NAME, table = TABLE, ?outcome, "migrate: applied");
        Ok(outcome)
    }

    async fn execute(
        &self,
        conn: &mut <D::Db as Database>::Connection,
        sql: &'static str,
        params: &[Param<'_>],
    ) -> Result<()> {
        let arguments = self.store.arguments(DOING, params)?;
        D::Db::execute(conn, sql, arguments).await.map_err(|e| self.store.dialect.error(DOING, e))?;
        Ok(())
    }

    /// How the migration stands, and whether there is a table that records migrations.
    async fn state(&self, conn: &mut <D::Db as Database>::Connection) -> Result<(State, bool)> {
        let has_table = self.has_table(conn).await?;
        let has_recorder = !self.columns(conn, RECORDER).await?.is_empty();
        let recorded = has_recorder && {
            let params = [Param::Text(APP), Param::Text(NAME)];
            let arguments = self.store.arguments(PLANNING, &params)?;
            let row = D::Db::fetch_optional(conn, D::SCHEMA.recorded, arguments).await;
            row.map_err(|e| self.store.dialect.error(PLANNING, e))?.is_some()
        };
        let state = match (has_table, recorded) {
            (true, true) => State::Done,
            (true, false) => State::Unrecorded,
            (false, false) => State::Pending,
            (false, true) => {
                return Err(Error::new(
                    ErrorKind::NotMigrated,
                    "django_migrations says that sessions.0001_initial was applied, but the table django_session is \
                     missing. Restore the table from a backup; or, to start without sessions, run \
                     `DELETE FROM django_migrations WHERE app = 'sessions'`, then `cloakroom migrate`.",
                ));
            }
        };
        Ok((state, has_recorder))
    }

    async fn has_table(&self, conn: &mut <D::Db as Database>::Connection) -> Result<bool> {
        let columns = self.columns(conn, TABLE).await?;
        if columns.is_empty() {
            return Ok(false);
        }
        // More columns are none of our business, as long as a row without them can be inserted; it is Django's habit
        // to let projects extend the table.
        let missing: Vec<_> = COLUMNS.into_iter().filter(|wanted| !columns.iter().any(|have| have == wanted)).collect();
        if missing.is_empty() {
            return Ok(true);
        }
        Err(Error::new(
            ErrorKind::Configuration,
            format!(
                "the database has a table django_session that is not Django's: it lacks {}, and has {}. Rename it, or \
                 point DATABASE_URL at another database, then run `cloakroom migrate`.",
                missing.join(", "),
                columns.join(", ")
            ),
        ))
    }

    /// The names of a table's columns; none if there is no such table.
    async fn columns(&self, conn: &mut <D::Db as Database>::Connection, table: &str) -> Result<Vec<String>> {
        let failed = |e| self.store.dialect.error(PLANNING, e);
        let arguments = self.store.arguments(PLANNING, &[Param::Text(table)])?;
        let rows = D::Db::fetch_all(conn, D::SCHEMA.columns, arguments).await.map_err(failed)?;
        rows.iter().map(|row| Ok(self.store.dialect.text(row, 0).map_err(failed)?.into_owned())).collect()
    }
}

const DOING: &str = "migrate";
const PLANNING: &str = "look at the tables";
