//! The statements for many rows, which MariaDB takes from 10.6 on: an UPDATE does not tell which rows it matched, and waits
//! for those that others hold, but an INSERT does tell, and its SELECT passes them.
//!
//! So a change reads its rows, which locks them, and inserts them again. Each meets itself, and ON DUPLICATE KEY changes
//! it. Since the rows are locked before, none that was deleted or changed in the meantime comes back.
//!
//! Parameters are lists, never a table of values: only with constants does the index work, and the column's collation
//! decide, whatever character set the table has. Where a key stands in its list, there the rest stands in the others.

use sqlx::Arguments;
use sqlx::error::BoxDynError;
use sqlx::mysql::MySqlArguments;

use crate::dialect::{Param, Together};
use crate::sizes::{Many, Sizes, list, padded};

/// Gives a row if the server knows the statements: MariaDB alone reads the comment, from that version on. A log of
/// statements would be another reason against them, since a replica passes other rows than its primary. (It takes an
/// application's own pool to get so far: a log of statements and READ COMMITTED exclude each other.)
pub(super) const QUESTION: &str = "SELECT 1 FROM DUAL WHERE FALSE /*M!100600 OR @@binlog_format <> 'STATEMENT' */";

static LOAD: Sizes = Sizes::of(|rows| {
    let keys = list("?", rows);
    format!(
        "SELECT `session_data`, CAST(`expire_date` AS CHAR), `session_key` FROM `django_session` FORCE INDEX (PRIMARY) WHERE `session_key` IN ({keys}) AND CAST(CONVERT(`session_key` USING utf8mb4) AS BINARY) IN ({keys}) AND `expire_date` > ?"
    )
});
// No row of NULL can be inserted, as in the other dialects. So many of the numbers count as there are rows.
static CREATE: Sizes = Sizes::of(|rows| {
    let numbers = (2..=rows).map(|number| format!(" UNION ALL SELECT {number}")).collect::<String>();
    let column = list("?", rows);
    format!(
        "INSERT INTO `django_session` (`session_key`, `session_data`, `expire_date`) SELECT ELT(`new`.`place`, {column}), ELT(`new`.`place`, {column}), ELT(`new`.`place`, {column}) FROM (SELECT 1 AS `place`{numbers}) AS `new` WHERE `new`.`place` <= ? RETURNING `session_key`"
    )
});
static REPLACE: Sizes = Sizes::of(|rows| {
    let column = list("?", rows);
    let is_expected =
        format!("CAST(CONVERT(`held`.`session_data` USING utf8mb4) AS BINARY) = ELT({}, {column})", place(&column));
    let payload = format!(", `session_data` = ELT(VALUES(`session_data`), {column})");
    change(&column, &is_expected, &payload)
});
static TOUCH: Sizes = Sizes::of(|rows| {
    let column = list("?", rows);
    let is_alive = format!("{} > 0 AND `held`.`expire_date` > ?", place(&column));
    change(&column, &is_alive, "")
});

pub(super) static MANY: Many = Many { load: &LOAD, create: &CREATE, replace: &REPLACE, touch: &TOUCH };

/// Where a row's key stands among those that are given as bytes; 0 if it does not.
fn place(column: &str) -> String {
    format!("FIELD(CAST(CONVERT(`held`.`session_key` USING utf8mb4) AS BINARY), {column})")
}

/// Changes the expiry, and what else is said, of rows that fit. The place travels as the payload to insert. It is used up
/// when that changes, which therefore comes last. A row that were inserted after all would have expired long ago.
fn change(column: &str, fits: &str, more: &str) -> String {
    let place = place(column);
    format!(
        "INSERT INTO `django_session` (`session_key`, `session_data`, `expire_date`) SELECT `held`.`session_key`, {place}, '1000-01-01' FROM `django_session` AS `held` FORCE INDEX (PRIMARY) WHERE `held`.`session_key` IN ({column}) AND {fits} FOR UPDATE SKIP LOCKED ON DUPLICATE KEY UPDATE `expire_date` = ELT(VALUES(`session_data`), {column}){more} RETURNING `session_key`"
    )
}

/// What stands in a statement's text for the parameters of all rows.
enum Part {
    /// This column of them.
    List(usize),
    /// The same, as bytes.
    Bytes(usize),
    /// Of a column of moments the first.
    First(usize),
    /// The last.
    Last(usize),
    /// How many rows there are.
    Rows,
}

/// The parts of a statement, in the order of its text. One moment does for all: a record that has expired for some of those
/// who load it is not given to them, and one that lives on for some of those who renew it alone is renewed by each alone.
fn parts(kind: Together) -> &'static [Part] {
    use Part::{Bytes, First, Last, List, Rows};

    match kind {
        Together::Load => &[List(0), Bytes(0), First(1)],
        Together::Create => &[List(0), List(1), List(2), Rows],
        Together::Replace => &[Bytes(2), List(2), Bytes(2), List(3), List(1), List(0)],
        Together::Touch => &[Bytes(1), List(1), Bytes(1), Last(2), List(0)],
    }
}

/// The parameters of [`MANY`]'s texts, from so many rows of them, one after the other. `date` writes a moment.
///
/// # Errors
/// If a payload is no text: the others would have to travel as bytes too.
pub(super) fn arguments(
    kind: Together,
    params: &[Param<'_>],
    rows: usize,
    date: impl Fn(cloakroom_core::Timestamp) -> String,
) -> Result<MySqlArguments, BoxDynError> {
    let mut arguments = MySqlArguments::default();
    let width = params.len() / rows;
    arguments.reserve(padded(rows) * parts(kind).len(), 0);
    for part in parts(kind) {
        let column = |first: usize| params[first..].iter().step_by(width);
        let moments = |first| {
            column(first).filter_map(|param| if let Param::Moment(moment) = param { Some(*moment) } else { None })
        };
        match *part {
            Part::List(first) => {
                for param in column(first) {
                    match *param {
                        Param::Key(text) | Param::Text(text) => arguments.add(text)?,
                        Param::Payload(payload) => arguments.add(std::str::from_utf8(payload)?)?,
                        Param::Moment(moment) => arguments.add(date(moment))?,
                        Param::Count(count) => arguments.add(count)?,
                    }
                }
            }
            Part::Bytes(first) => {
                for param in column(first) {
                    if let Param::Key(text) = param {
                        arguments.add(text.as_bytes())?;
                    }
                }
            }
            Part::First(first) => arguments.add(moments(first).min().map(&date))?,
            Part::Last(first) => arguments.add(moments(first).max().map(&date))?,
            Part::Rows => arguments.add(u32::try_from(rows)?)?,
        }
        if matches!(part, Part::List(_) | Part::Bytes(_)) {
            for _ in rows..padded(rows) {
                arguments.add(None::<&str>)?;
            }
        }
    }
    Ok(arguments)
}
