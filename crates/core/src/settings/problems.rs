//! What is wrong with the settings: all of it at once, each with its place and a remedy.

use std::fmt;

use super::sources::Source;
use crate::error::{Error, ErrorKind};

/// One thing that is wrong with the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The setting's name as it was written.
    pub setting: String,
    /// Its value as it was written, secrets masked; `None` if it was not given at all.
    pub value: Option<String>,
    /// Where it came from.
    pub source: Source,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub hint: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{} = {value} ({}): ", self.setting, self.source)?,
            None if self.source == Source::Default => write!(f, "{}: ", self.setting)?,
            None => write!(f, "{} ({}): ", self.setting, self.source)?,
        }
        write!(f, "{}. {}.", self.message, self.hint)
    }
}

/// Every problem of the settings, in one error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsError {
    problems: Vec<Problem>,
}

impl SettingsError {
    pub(super) fn new(problems: Vec<Problem>) -> Self {
        debug_assert!(!problems.is_empty());
        Self { problems }
    }

    /// The problems, at least one.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problems.as_slice() {
            [problem] => write!(f, "a problem with the settings: {problem}"),
            problems => {
                write!(f, "{} problems with the settings:", problems.len())?;
                problems.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
            }
        }
    }
}

impl std::error::Error for SettingsError {}

impl From<SettingsError> for Error {
    fn from(error: SettingsError) -> Self {
        Error::new(ErrorKind::Configuration, error.to_string()).with_source(error)
    }
}

/// The name that is most like the given one, if any is like it at all: for messages that say "did you mean".
pub fn nearest<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let (distance, best) = names.into_iter().map(|known| (distance(name, known), known)).min()?;
    // A third of the letters may be wrong; beyond that a suggestion confuses more than it helps.
    (distance <= name.chars().count() / 3 + 1).then_some(best)
}

/// How many letters have to be changed, added, dropped or swapped with their neighbour to make one text the other.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.to_lowercase().chars().take(80).collect();
    let b: Vec<char> = b.to_lowercase().chars().take(80).collect();
    let mut rows: [Vec<usize>; 3] = [vec![0; b.len() + 1], (0..=b.len()).collect(), vec![0; b.len() + 1]];
    for i in 1..=a.len() {
        let [before, last, row] = &mut rows;
        row[0] = i;
        for j in 1..=b.len() {
            let changed = usize::from(a[i - 1] != b[j - 1]);
            row[j] = (last[j] + 1).min(row[j - 1] + 1).min(last[j - 1] + changed);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        rows.rotate_left(1);
    }
    rows[1][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name() {
        let names = ["SESSION_COOKIE_AGE", "SESSION_COOKIE_NAME", "SESSION_ENGINE", "SESSION_COOKIE_SAMESITE"];
        assert_eq!(nearest("SESSION_COOKIE_AEG", names), Some("SESSION_COOKIE_AGE"));
        assert_eq!(nearest("SESSION_COOKIE_SAME_SITE", names), Some("SESSION_COOKIE_SAMESITE"));
        assert_eq!(nearest("SESSION_ENGIN", names), Some("SESSION_ENGINE"));
        assert_eq!(nearest("zzz", names), None);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("ab", "ba"), 1);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
