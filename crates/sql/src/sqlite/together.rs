//! The statements for many rows: their parameters are a table of values, whose size is a part of the text.

use std::sync::OnceLock;

use crate::dialect::Together;

/// How many sizes of each statement there are: 2, 4, 8 … rows. What is left over is filled up with rows of NULL, which
/// match nothing.
const SIZES: usize = 6;

/// One statement, in all sizes.
struct Sizes {
    /// Before the rows, a row, and after the rows.
    parts: [&'static str; 3],
    texts: [OnceLock<String>; SIZES],
}

impl Sizes {
    const fn of(parts: [&'static str; 3]) -> Self {
        Self { parts, texts: [const { OnceLock::new() }; SIZES] }
    }
}

// The dialect's other statements, with a table of values in place of a row of them. Found by key in every case: there is
// a test of it.
static LOAD: Sizes = Sizes::of([
    r#"WITH "wanted" ("key", "now") AS (VALUES "#,
    "(?, ?)",
    r#") SELECT "django_session"."session_data", "django_session"."expire_date", "django_session"."session_key" FROM "wanted" CROSS JOIN "django_session" WHERE "django_session"."session_key" = "wanted"."key" AND "django_session"."expire_date" > "wanted"."now""#,
]);
static CREATE: Sizes = Sizes::of([
    r#"WITH "new" ("key", "payload", "expiry") AS (VALUES "#,
    "(?, ?, ?)",
    r#") INSERT INTO "django_session" ("session_key", "session_data", "expire_date") SELECT "new"."key", "new"."payload", "new"."expiry" FROM "new" WHERE "new"."key" IS NOT NULL ON CONFLICT DO NOTHING RETURNING "session_key""#,
]);
static REPLACE: Sizes = Sizes::of([
    r#"WITH "new" ("payload", "expiry", "key", "expected") AS (VALUES "#,
    "(?, ?, ?, ?)",
    r#") UPDATE "django_session" SET "session_data" = "new"."payload", "expire_date" = "new"."expiry" FROM "new" WHERE "django_session"."session_key" = "new"."key" AND CAST("django_session"."session_data" AS BLOB) = CAST("new"."expected" AS BLOB) RETURNING "session_key""#,
]);
static TOUCH: Sizes = Sizes::of([
    r#"WITH "new" ("expiry", "key", "now") AS (VALUES "#,
    "(?, ?, ?)",
    r#") UPDATE "django_session" SET "expire_date" = "new"."expiry" FROM "new" WHERE "django_session"."session_key" = "new"."key" AND "django_session"."expire_date" > "new"."now" RETURNING "session_key""#,
]);

/// The size of the statement for so many rows.
pub(super) fn padded(rows: usize) -> usize {
    rows.next_power_of_two().max(2)
}

/// The statement for so many rows.
pub(super) fn statement(kind: Together, rows: usize) -> &'static str {
    let sizes = match kind {
        Together::Load => &LOAD,
        Together::Create => &CREATE,
        Together::Replace => &REPLACE,
        Together::Touch => &TOUCH,
    };
    let rows = padded(rows);
    sizes.texts[rows.ilog2() as usize - 1].get_or_init(|| {
        let [before, row, after] = sizes.parts;
        [before, &vec![row; rows].join(", "), after].concat()
    })
}
