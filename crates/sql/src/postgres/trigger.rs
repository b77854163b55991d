//! The trigger by which PostgreSQL tells what changes in the session table.

use cloakroom_core::Result;
use sqlx::{AssertSqlSafe, Connection, SqlStr};
use tracing::debug;

use super::{Postgres, PostgresStore};
use crate::dialect::{Dialect, Param, Run};
use crate::store::Side;

/// Where it tells of changes.
pub(super) const CHANNEL: &str = "cloakroom_session";
/// How many characters of a session's key it tells: enough to name the session, and too few to open it, since whoever
/// may log in to a database may listen. A session that has no such key cannot be asked for.
pub(super) const NAME: usize = 8;

/// What the triggers call, as PostgreSQL keeps it: by this text it is known again. Whoever changes a trigger below
/// changes this text too.
const BODY: &str = "
BEGIN
  -- Told to Cloakroom's near caches, version 1.
  IF TG_OP = 'TRUNCATE' THEN
    PERFORM pg_notify('cloakroom_session', '');
  ELSIF OLD.session_key COLLATE \"C\" ~ '^[0-9a-z]{8}' THEN
    PERFORM pg_notify('cloakroom_session', substr(OLD.session_key, 1, 8));
  END IF;
  RETURN NULL;
END
";

/// A deletion is not told of what ended two minutes ago or earlier: a sweep would tell of every row, and nobody keeps them
/// any more, since no near cache is filled whose clock is more than a minute behind the server's.
const TRIGGERS: [(&str, &str); 3] = [
    (
        "cloakroom_session_delete",
        r#"AFTER DELETE ON "django_session" FOR EACH ROW WHEN (OLD."expire_date" > now() - interval '2 minutes')"#,
    ),
    ("cloakroom_session_truncate", r#"AFTER TRUNCATE ON "django_session" FOR EACH STATEMENT"#),
    (
        "cloakroom_session_update",
        r#"AFTER UPDATE ON "django_session" FOR EACH ROW WHEN (OLD."expire_date" IS DISTINCT FROM NEW."expire_date" OR OLD."session_key" COLLATE "C" IS DISTINCT FROM NEW."session_key" COLLATE "C" OR OLD."session_data" COLLATE "C" IS DISTINCT FROM NEW."session_data" COLLATE "C")"#,
    ),
];

/// The function's text → one row if all is in place and switched on, with what is another text after any change to it,
/// even one that was taken back.
macro_rules! in_place {
    () => {
        r#"SELECT string_agg(concat_ws(' ', "t"."tgname", "t"."oid", "t"."xmin", "p"."oid", "p"."xmin"), ', ' ORDER BY "t"."tgname") FROM "pg_trigger" AS "t" JOIN "pg_proc" AS "p" ON "p"."oid" = "t"."tgfoid" WHERE "t"."tgrelid" = to_regclass('"django_session"') AND "t"."tgenabled" = 'A' AND "t"."tgattr"::text = '' AND "p"."prosrc" = $1 AND ("t"."tgname"::text, "t"."tgtype", "t"."tgqual" IS NOT NULL) IN (('cloakroom_session_delete', 9, TRUE), ('cloakroom_session_truncate', 32, FALSE), ('cloakroom_session_update', 17, TRUE)) HAVING COUNT(*) = 3"#
    };
}

const IN_PLACE: &str = in_place!();

/// The function's text, now → as [`IN_PLACE`], NULL if it is not, and as text whether our clock will do.
pub(super) const LOOK: &str = concat!(
    "SELECT (",
    in_place!(),
    ") AS \"signature\", (now() < $2::timestamptz + interval '1 minute')::text AS \"in_time\""
);

/// The function's text, what [`LOOK`] said of it, now, channel, text → tells that text, and gives a row, if all is still
/// as it was.
pub(super) const EXPECTED: &str = concat!(
    "SELECT pg_notify($4, $5) FROM (",
    in_place!(),
    ") AS \"trigger\" (\"signature\") WHERE \"signature\" = $2 AND now() < $3::timestamptz + interval '1 minute'"
);

/// The first parameter of the statements above.
pub(super) const TEXT: Param<'static> = Param::Text(BODY);

/// The trigger that a [near cache](PostgresStore::with_near_cache) on PostgreSQL needs: it tells those who listen which
/// sessions change, whoever changes them, be it Django.
///
/// It is no part of Django's migration, and is installed by an explicit act. Each change then takes a lock that the
/// whole server has one of, from its `NOTIFY` to the end of its transaction.
#[derive(Debug)]
pub struct NearCacheTrigger<'a> {
    store: &'a PostgresStore,
}

const LOOKING: &str = "look at the near cache's trigger";
const INSTALLING: &str = "install the near cache's trigger";
const REMOVING: &str = "remove the near cache's trigger";

impl<'a> NearCacheTrigger<'a> {
    pub(super) fn new(store: &'a PostgresStore) -> Self {
        Self { store }
    }

    /// The statements of [`install`](Self::install), for somebody else to run. Nothing is run.
    pub fn sql(&self) -> Vec<String> {
        script(installation())
    }

    /// The statements of [`remove`](Self::remove). Nothing is run.
    pub fn removal_sql(&self) -> Vec<String> {
        script(removal())
    }

    /// Whether it is there, as this version wants it, and switched on.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`](cloakroom_core::ErrorKind::Unavailable) if the database fails.
    pub async fn is_installed(&self) -> Result<bool> {
        self.has_row(IN_PLACE, &[TEXT]).await
    }

    /// Whether there is anything of it, in whatever state.
    ///
    /// # Errors
    /// As [`is_installed`](Self::is_installed).
    pub async fn is_there(&self) -> Result<bool> {
        const ANY: &str = r#"SELECT 1 FROM "pg_proc" WHERE "oid" = to_regproc('"cloakroom_session_changed"')"#;
        self.has_row(ANY, &[]).await
    }

    /// Installs it, in the place of another version, in one transaction; `false` if there was nothing to do. Sites that run
    /// notice it within a minute.
    ///
    /// # Errors
    /// [`ErrorKind::NotMigrated`](cloakroom_core::ErrorKind::NotMigrated) if there is no session table,
    /// [`ErrorKind::Configuration`](cloakroom_core::ErrorKind::Configuration) if the user may not do that: it takes the
    /// owner of the table. [`ErrorKind::Unavailable`](cloakroom_core::ErrorKind::Unavailable) if the database fails.
    pub async fn install(&self) -> Result<bool> {
        if self.is_installed().await? {
            return Ok(false);
        }
        self.run(INSTALLING, installation()).await?;
        Ok(true)
    }

    /// Removes it, in one transaction; `false` if there was nothing to do. Near caches serve nothing from then on.
    ///
    /// # Errors
    /// As [`install`](Self::install).
    pub async fn remove(&self) -> Result<bool> {
        if !self.is_there().await? {
            return Ok(false);
        }
        self.run(REMOVING, removal()).await?;
        Ok(true)
    }

    async fn has_row(&self, sql: &'static str, params: &[Param<'_>]) -> Result<bool> {
        let arguments = || self.store.dialect.arguments(params);
        let way = sqlx::Postgres::fetch_optional;
        let row = self.store.attempt(LOOKING, Side::Read, way, sql, &arguments, &mut false).await?;
        Ok(row.is_some())
    }

    async fn run(&self, doing: &'static str, statements: Vec<String>) -> Result<()> {
        let failed = |e| self.store.dialect.error(doing, e);
        let mut conn = self.store.writer(doing).await?;
        let mut transaction = conn.begin_with(SqlStr::from_static(Postgres::SCHEMA.begin)).await.map_err(failed)?;
        // Two at once would be in each other's way, and so would a migration.
        let first = [Postgres::SCHEMA.lock.unwrap_or_default(), "SET LOCAL client_min_messages = warning"];
        for statement in first.into_iter().map(str::to_owned).chain(statements) {
            sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut *transaction).await.map_err(failed)?;
        }
        transaction.commit().await.map_err(failed)?;
        debug!("done: {doing}");
        Ok(())
    }
}

fn script(mut statements: Vec<String>) -> Vec<String> {
    statements.iter_mut().for_each(|statement| statement.push(';'));
    statements.insert(0, "BEGIN;".to_owned());
    statements.push("COMMIT;".to_owned());
    statements
}

fn installation() -> Vec<String> {
    let mut statements = vec![format!(
        r#"CREATE OR REPLACE FUNCTION "cloakroom_session_changed"() RETURNS trigger LANGUAGE plpgsql AS $cloakroom${BODY}$cloakroom$"#
    )];
    for (name, when) in TRIGGERS {
        statements.extend([
            format!(r#"DROP TRIGGER IF EXISTS "{name}" ON "django_session""#),
            format!(r#"CREATE TRIGGER "{name}" {when} EXECUTE FUNCTION "cloakroom_session_changed"()"#),
            // In whatever role a session or a replication writes.
            format!(r#"ALTER TABLE "django_session" ENABLE ALWAYS TRIGGER "{name}""#),
        ]);
    }
    statements
}

fn removal() -> Vec<String> {
    let triggers = TRIGGERS.iter().map(|(name, _)| format!(r#"DROP TRIGGER IF EXISTS "{name}" ON "django_session""#));
    triggers.chain([r#"DROP FUNCTION IF EXISTS "cloakroom_session_changed"()"#.to_owned()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_texts_agree() {
        assert!(BODY.contains(&format!("'{CHANNEL}'")) && BODY.contains(&format!("{{{NAME}}}")));
        assert!(BODY.contains(&format!("1, {NAME})")));
        assert!(TRIGGERS.iter().all(|(name, _)| IN_PLACE.contains(&format!("'{name}'"))));
        assert!(TRIGGERS.is_sorted(), "by name");
    }
}
