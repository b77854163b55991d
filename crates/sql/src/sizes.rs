//! Statements for many rows of parameters, of which their text says how many.

use std::sync::OnceLock;

use crate::dialect::Together;

/// How many sizes of each statement there are: for 2, 4, 8 … rows. A connection keeps each that it has prepared, so there
/// must not be one for every number. What is left over is filled up with NULL, which matches nothing.
const SIZES: usize = 6;

/// The statements of a dialect.
pub(crate) struct Many {
    pub(crate) load: &'static Sizes,
    pub(crate) create: &'static Sizes,
    pub(crate) replace: &'static Sizes,
    pub(crate) touch: &'static Sizes,
}

impl Many {
    /// The text for at least so many rows, which are [`padded`].
    pub(crate) fn text(&self, kind: Together, rows: usize) -> &str {
        let sizes = match kind {
            Together::Load => self.load,
            Together::Create => self.create,
            Together::Replace => self.replace,
            Together::Touch => self.touch,
        };
        sizes.text(rows)
    }
}

/// One statement, in all sizes.
pub(crate) struct Sizes {
    /// Writes it for so many rows.
    write: fn(usize) -> String,
    texts: [OnceLock<String>; SIZES],
}

impl Sizes {
    pub(crate) const fn of(write: fn(usize) -> String) -> Self {
        Self { write, texts: [const { OnceLock::new() }; SIZES] }
    }

    fn text(&self, rows: usize) -> &str {
        let rows = padded(rows);
        self.texts[rows.ilog2() as usize - 1].get_or_init(|| (self.write)(rows))
    }
}

/// The size of a statement for so many rows.
pub(crate) fn padded(rows: usize) -> usize {
    rows.next_power_of_two().max(2)
}

/// So many times the same, with commas.
pub(crate) fn list(item: &str, rows: usize) -> String {
    vec![item; rows].join(", ")
}
