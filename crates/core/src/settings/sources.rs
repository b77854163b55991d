//! Where settings come from: a TOML file, the environment, code; and reading the first two.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::names::{self, Kind};
use super::problems::Problem;
use super::value::{SettingValue, parse_number};

/// Where the value of a setting came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nobody gave it: Django's default.
    Default,
    /// Nobody gave it, and the program provides one; the text says how it came to it.
    Provided(String),
    /// A TOML file, and the line in it (from 1).
    File {
        /// The file, or `None` for TOML text that a program gave.
        path: Option<PathBuf>,
        /// The line of the setting, from 1; 0 for the file as a whole.
        line: usize,
    },
    /// An environment variable of the setting's name.
    Environment,
    /// The program.
    Code,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Provided(how) => f.write_str(how),
            Self::File { path, line } => {
                match path {
                    Some(path) => write!(f, "{}", path.display())?,
                    None => f.write_str("TOML text")?,
                }
                if *line > 0 { write!(f, ", line {line}") } else { Ok(()) }
            }
            Self::Environment => f.write_str("environment"),
            Self::Code => f.write_str("code"),
        }
    }
}

/// A value and where it came from.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Given {
    pub(super) value: SettingValue,
    pub(super) source: Source,
}

/// Settings by name, from one source.
pub(super) type Layer = BTreeMap<String, Given>;

/// Reads a TOML file.
pub(super) fn read_file(path: &Path, problems: &mut Vec<Problem>) -> Layer {
    match std::fs::read_to_string(path) {
        Ok(text) => read_toml(&text, Some(path), problems),
        Err(error) => {
            problems.push(Problem {
                setting: "settings file".into(),
                value: None,
                source: Source::File { path: Some(path.to_owned()), line: 0 },
                message: format!("it cannot be read: {error}"),
                hint: "Give the path of a TOML file, by --settings or by CLOAKROOM_SETTINGS".into(),
            });
            Layer::new()
        }
    }
}

/// Reads TOML text. Settings that are none of Django's session framework are left alone, since a whole site's
/// settings may stand in the file; but a name that begins with `SESSION_` has to be one that we know.
pub(super) fn read_toml(text: &str, path: Option<&Path>, problems: &mut Vec<Problem>) -> Layer {
    let at = |offset: usize| Source::File {
        path: path.map(Path::to_owned),
        line: 1 + text.as_bytes()[..offset.min(text.len())].iter().filter(|&&b| b == b'\n').count(),
    };
    let table = match DeTable::parse(text) {
        Ok(table) => table.into_inner(),
        Err(error) => {
            problems.push(Problem {
                setting: "settings file".into(),
                value: None,
                source: at(error.span().map_or(0, |span| span.start)),
                message: format!("it is not TOML: {}", error.message().lines().next().unwrap_or_default()),
                hint: "Write settings as NAME = value, with text in quotes, true or false, and lists in brackets"
                    .into(),
            });
            return Layer::new();
        }
    };
    let mut layer = Layer::new();
    for (name, value) in table {
        let source = at(name.span().start);
        let name = name.into_inner().into_owned();
        if names::kind_of(&name).is_some() {
            layer.insert(name, Given { value: from_toml(value), source });
        } else if name.starts_with("SESSION_") {
            problems.push(unknown(&name, &from_toml(value), source));
        }
    }
    layer
}

fn from_toml(value: Spanned<DeValue<'_>>) -> SettingValue {
    match value.into_inner() {
        DeValue::String(text) => SettingValue::Text(text.into_owned()),
        DeValue::Integer(number) => {
            let digits = number.as_str().replace('_', "");
            match i64::from_str_radix(&digits, number.radix()) {
                Ok(number) => SettingValue::Int(number),
                Err(_) => SettingValue::Float(digits.parse().unwrap_or(f64::INFINITY)),
            }
        }
        DeValue::Float(number) => SettingValue::Float(number.as_str().replace('_', "").parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(value) => SettingValue::Bool(value),
        DeValue::Datetime(date) => SettingValue::Text(date.to_string()),
        DeValue::Array(items) => SettingValue::List(items.into_iter().map(from_toml).collect()),
        DeValue::Table(items) => SettingValue::Table(
            items.into_iter().map(|(name, value)| (name.into_inner().into_owned(), from_toml(value))).collect(),
        ),
    }
}

/// Reads environment variables. Only names of settings are looked at, and unknown ones that begin with `SESSION_`.
pub(super) fn read_environment(
    variables: impl IntoIterator<Item = (String, String)>,
    problems: &mut Vec<Problem>,
) -> Layer {
    let mut layer = Layer::new();
    for (name, text) in variables {
        match names::kind_of(&name) {
            Some(kind) => {
                let value = from_variable(kind, text);
                layer.insert(name, Given { value, source: Source::Environment });
            }
            // X11 session managers put this one into everybody's environment.
            None if name == "SESSION_MANAGER" => {}
            None if name.starts_with("SESSION_") => {
                problems.push(unknown(&name, &text.into(), Source::Environment));
            }
            None => {}
        }
    }
    layer
}

/// A variable's text as the kind of value that the setting has. What cannot be read so stays text, and is reported
/// when the setting gets its type.
fn from_variable(kind: Kind, text: String) -> SettingValue {
    let word = text.trim();
    match kind {
        Kind::Text => SettingValue::Text(text),
        Kind::OptionalText if word == "None" => SettingValue::None,
        Kind::OptionalText => SettingValue::Text(text),
        // "None" is a value of this attribute; Python's None is written False here, as Django advises anyway.
        Kind::SameSite => match word {
            "False" | "false" => SettingValue::Bool(false),
            _ => SettingValue::Text(text),
        },
        Kind::Flag | Kind::Int => match word {
            "None" => SettingValue::None,
            "True" | "true" => SettingValue::Bool(true),
            "False" | "false" => SettingValue::Bool(false),
            _ => parse_number(word).unwrap_or(SettingValue::Text(text)),
        },
        Kind::List if word == "None" => SettingValue::None,
        Kind::List if word.starts_with(['[', '(']) => {
            SettingValue::parse_literal(word).unwrap_or(SettingValue::Text(text))
        }
        Kind::List => SettingValue::List(
            word.split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty())
                .map(|item| SettingValue::Text(item.to_owned()))
                .collect(),
        ),
        Kind::Table => SettingValue::parse_literal(word).unwrap_or(SettingValue::Text(text)),
    }
}

/// The problem of a name that begins like a session setting and is none.
pub(super) fn unknown(name: &str, value: &SettingValue, source: Source) -> Problem {
    let hint = match super::problems::nearest(name, names::session_names()) {
        Some(known) => format!("Did you mean {known}"),
        None => "Remove it; `cloakroom settings` lists the settings there are".into(),
    };
    // Other frameworks have a SESSION_SECRET, and a name that we do not know may be any secret.
    let secret = ["SECRET", "KEY", "PASSWORD", "TOKEN"].iter().any(|word| name.contains(word));
    let value = if secret { "***".to_owned() } else { super::caches::masked(value).to_string() };
    Problem { setting: name.into(), value: Some(value), source, message: "there is no such setting".into(), hint }
}
