//! Support for the tests that hold Cloakroom against Django: recorded cases, their values, and an account of them.
//!
//! A test loops over whole sections of a file of cases, whatever stands in them: other files of the same form are run
//! through the same tests, from the directory that `CLOAKROOM_VECTORS` names.

pub mod live;
mod report;
mod value;

use std::path::PathBuf;

use cloakroom_core::Timestamp;
use cloakroom_core::wire::expiry::{DateTime, Expiry};
use serde::Deserialize;
use serde_json::Value;

pub use report::Report;
pub use value::{PyValue, keeps_json_types, normal_json, python_json, repeats_itself, try_python_json};

/// One file of recorded cases.
pub struct Vectors {
    name: String,
    root: Value,
}

impl Vectors {
    /// Loads `NAME.json`, from the directory in `CLOAKROOM_VECTORS` if that is set.
    ///
    /// # Panics
    /// If the file is not there or not JSON.
    pub fn load(name: &str) -> Self {
        let directory = match std::env::var_os("CLOAKROOM_VECTORS") {
            Some(directory) => PathBuf::from(directory),
            None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("vectors"),
        };
        let path = directory.join(format!("{name}.json"));
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        // Some cases are nested more deeply than serde_json likes.
        let mut reader = serde_json::Deserializer::from_str(&text);
        reader.disable_recursion_limit();
        let root = Value::deserialize(&mut reader).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Self { name: name.to_owned(), root }
    }

    /// The file's name without its ending.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The whole file.
    pub fn root(&self) -> &Value {
        &self.root
    }

    /// The cases of a section; none if the file lacks it.
    pub fn section(&self, name: &str) -> &[Value] {
        self.root.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    /// The names of all sections that are lists of cases.
    pub fn sections(&self) -> Vec<&str> {
        let object = self.root.as_object().into_iter().flatten();
        object.filter(|(_, section)| section.is_array()).map(|(name, _)| name.as_str()).collect()
    }

    /// An account of the cases of these sections, all of which have to be checked.
    pub fn report(&self, sections: &[&str]) -> Report {
        Report::new(&self.name, sections.iter().map(|section| self.section(section).len()).sum())
    }
}

/// The text of a case's field.
///
/// # Panics
/// If there is none.
pub fn text<'a>(case: &'a Value, field: &str) -> &'a str {
    case[field].as_str().unwrap_or_else(|| panic!("a case without the text {field:?}: {case}"))
}

/// A moment in a case's field: Unix seconds, with a fraction perhaps.
///
/// # Panics
/// If there is none.
pub fn moment(case: &Value, field: &str) -> Timestamp {
    let seconds = case[field].as_f64().unwrap_or_else(|| panic!("a case without the moment {field:?}: {case}"));
    Timestamp::from_micros((seconds * 1e6).round() as i64)
}

/// The recorded argument of a `set_expiry`.
///
/// # Panics
/// If it is none.
pub fn expiry_argument(argument: &Value) -> Expiry {
    if argument.is_null() {
        Expiry::Default
    } else if let Some(date) = argument.get("datetime") {
        Expiry::At(DateTime::parse_iso(date.as_str().expect("a date is text")).expect("a date"))
    } else if let Some(seconds) = argument.get("timedelta_s") {
        let seconds: f64 = seconds.as_str().and_then(|seconds| seconds.parse().ok()).expect("a duration is a number");
        Expiry::After((seconds * 1e6).round() as i64)
    } else if let Some(text) = argument.as_str() {
        Expiry::from(text)
    } else {
        let number = python_json(argument);
        match number.parse::<i64>() {
            Ok(seconds) => Expiry::from(seconds),
            Err(_) => Expiry::from(number.parse::<f64>().expect("a number")),
        }
    }
}

/// A key for signing: `{"text": ...}`, `{"hex": ...}`, or plain text.
///
/// # Panics
/// If it is none of these.
pub fn secret(key: &Value) -> Vec<u8> {
    if let Some(text) = key.as_str().or_else(|| key["text"].as_str()) {
        return text.as_bytes().to_vec();
    }
    let hex = key["hex"].as_str().unwrap_or_else(|| panic!("no key for signing: {key}"));
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal digits")).collect()
}
