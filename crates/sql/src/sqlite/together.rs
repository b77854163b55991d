//! The statements for many rows: their parameters are a table of values, whose size is a part of the text.

use crate::sizes::{Many, Sizes, list};

// The dialect's other statements, with a table of values in place of a row of them. Found by key in every case: there is
// a test of it.
static LOAD: Sizes = Sizes::of(|rows| {
    let wanted = list("(?, ?)", rows);
    format!(
        r#"WITH "wanted" ("key", "now") AS (VALUES {wanted}) SELECT "django_session"."session_data", "django_session"."expire_date", "django_session"."session_key" FROM "wanted" CROSS JOIN "django_session" WHERE "django_session"."session_key" = "wanted"."key" AND "django_session"."expire_date" > "wanted"."now""#
    )
});
static CREATE: Sizes = Sizes::of(|rows| {
    let new = list("(?, ?, ?)", rows);
    format!(
        r#"WITH "new" ("key", "payload", "expiry") AS (VALUES {new}) INSERT INTO "django_session" ("session_key", "session_data", "expire_date") SELECT "new"."key", "new"."payload", "new"."expiry" FROM "new" WHERE "new"."key" IS NOT NULL ON CONFLICT DO NOTHING RETURNING "session_key""#
    )
});
static REPLACE: Sizes = Sizes::of(|rows| {
    let new = list("(?, ?, ?, ?)", rows);
    format!(
        r#"WITH "new" ("payload", "expiry", "key", "expected") AS (VALUES {new}) UPDATE "django_session" SET "session_data" = "new"."payload", "expire_date" = "new"."expiry" FROM "new" WHERE "django_session"."session_key" = "new"."key" AND CAST("django_session"."session_data" AS BLOB) = CAST("new"."expected" AS BLOB) RETURNING "session_key""#
    )
});
static TOUCH: Sizes = Sizes::of(|rows| {
    let new = list("(?, ?, ?)", rows);
    format!(
        r#"WITH "new" ("expiry", "key", "now") AS (VALUES {new}) UPDATE "django_session" SET "expire_date" = "new"."expiry" FROM "new" WHERE "django_session"."session_key" = "new"."key" AND "django_session"."expire_date" > "new"."now" RETURNING "session_key""#
    )
});

pub(super) static MANY: Many = Many { load: &LOAD, create: &CREATE, replace: &REPLACE, touch: &TOUCH };
