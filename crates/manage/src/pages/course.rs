//! One visitor's walk through the seven steps, each carried out in the visitor's sandbox.

use std::time::Duration;

use axum::http::Method;

use super::records::Shelf;
use super::sandbox::{Happening, Sandbox, Who};
use super::wishes::Wishes;

/// How many steps there are.
pub(crate) const STEPS: usize = 7;
/// How many of the last steps the variable tracker goes back.
const TRACKED: usize = 12;

/// One step, in one of the ways to take it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    SwitchOn,
    Choose,
    Migrate,
    Assign,
    Retrieve,
    /// It persists: a later request, and somebody else's.
    Persist,
    /// It persists, or not: after the browser was closed.
    Reopen,
    Expire,
    Clear,
}

impl Step {
    const ALL: [Self; 9] = [
        Self::SwitchOn,
        Self::Choose,
        Self::Migrate,
        Self::Assign,
        Self::Retrieve,
        Self::Persist,
        Self::Reopen,
        Self::Expire,
        Self::Clear,
    ];

    /// The step's row in the table, from 1.
    pub(crate) fn number(self) -> usize {
        match self {
            Self::SwitchOn => 1,
            Self::Choose => 2,
            Self::Migrate => 3,
            Self::Assign => 4,
            Self::Retrieve => 5,
            Self::Persist | Self::Reopen => 6,
            Self::Expire | Self::Clear => 7,
        }
    }

    /// The name by which a form asks for it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::SwitchOn => "switch-on",
            Self::Choose => "choose",
            Self::Migrate => "migrate",
            Self::Assign => "assign",
            Self::Retrieve => "retrieve",
            Self::Persist => "persist",
            Self::Reopen => "reopen",
            Self::Expire => "expire",
            Self::Clear => "clear",
        }
    }

    /// What its button says.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::SwitchOn => "Switch on",
            Self::Choose => "Choose",
            Self::Migrate => "Migrate",
            Self::Assign => "Assign",
            Self::Retrieve => "Retrieve",
            Self::Persist => "Later requests",
            Self::Reopen => "Reopen the browser",
            Self::Expire => "Let it expire",
            Self::Clear => "Clear it",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|step| step.name() == name)
    }

    /// The ways to take the step of a row, the usual one first.
    pub(crate) fn of_row(number: usize) -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(move |step| step.number() == number)
    }
}

/// What a step did, as its row of the table shows it.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) step: Step,
    pub(crate) happenings: Vec<Happening>,
    /// The settings that the file gave then.
    pub(crate) settings: Vec<(String, String)>,
    /// The session's data after it.
    pub(crate) data: String,
    pub(crate) toml: String,
    pub(crate) jar: Vec<String>,
    pub(crate) shelves: Vec<Shelf>,
}

impl Row {
    /// Whether nothing went wrong.
    pub(crate) fn succeeded(&self) -> bool {
        self.happenings.iter().all(|happening| happening.failure.is_none())
    }
}

/// The variables after a step.
#[derive(Clone, Debug)]
pub(crate) struct Variables {
    /// The step after which they were read; `None` for the start.
    pub(crate) after: Option<Step>,
    pub(crate) installed_apps: String,
    pub(crate) engine: String,
    pub(crate) data: String,
}

pub(crate) struct Course {
    sandbox: Sandbox,
    pub(crate) wishes: Wishes,
    /// A form that the settings refused, and their words.
    pub(crate) refused: Option<(Wishes, String)>,
    switched_on: bool,
    chosen: bool,
    rows: [Option<Row>; STEPS],
    /// The step that was taken last.
    pub(crate) present: Option<Step>,
    pub(crate) variables: Vec<Variables>,
}

impl Course {
    /// A new sandbox, whose site runs without sessions.
    pub(crate) async fn begin(wishes: Wishes) -> anyhow::Result<Self> {
        let sandbox = Sandbox::new()?;
        let mut course = Self {
            sandbox,
            wishes,
            refused: None,
            switched_on: false,
            chosen: false,
            rows: Default::default(),
            present: None,
            variables: Vec::new(),
        };
        course.restart().await;
        course.note_variables(None, "{}".to_owned());
        Ok(course)
    }

    /// Begins anew with these wishes, unless the settings refuse them: then nothing happens, and [`refused`](Self::refused)
    /// says why.
    pub(crate) async fn begin_again(&mut self, wishes: Wishes) -> anyhow::Result<()> {
        let wishes = wishes.cut();
        let toml = wishes.toml(true, true, &self.sandbox.missing_directory());
        match self.sandbox.settings_of(&toml) {
            Ok(_) => *self = Self::begin(wishes).await?,
            Err(why) => self.refused = Some((wishes, why.to_string())),
        }
        Ok(())
    }

    pub(crate) fn row(&self, number: usize) -> Option<&Row> {
        self.rows.get(number.checked_sub(1)?)?.as_ref()
    }

    /// The step that is next in order: after those that went well.
    pub(crate) fn next(&self) -> Option<Step> {
        let number = (1..=STEPS).find(|number| !self.row(*number).is_some_and(Row::succeeded))?;
        Step::of_row(number).next()
    }

    /// Takes every step from the next one on.
    pub(crate) async fn take_all(&mut self) {
        let first = self.next().map_or(1, Step::number);
        for step in (first..=STEPS).filter_map(|number| Step::of_row(number).next()) {
            self.take(step).await;
        }
    }

    /// Takes a step, whatever was done before.
    pub(crate) async fn take(&mut self, step: Step) {
        self.refused = None;
        let assign = format!("/assign?key={}&value={}", escaped(&self.wishes.key), escaped(&self.wishes.value));
        let retrieve = format!("/retrieve?key={}", escaped(&self.wishes.key));
        let happenings = match step {
            Step::SwitchOn => {
                self.switched_on = true;
                vec![self.restart().await]
            }
            Step::Choose => {
                self.chosen = true;
                vec![self.restart().await]
            }
            Step::Migrate => vec![self.sandbox.migrate().await],
            Step::Assign => vec![self.sandbox.visit(Who::Visitor, Method::POST, &assign).await],
            Step::Retrieve => vec![self.sandbox.visit(Who::Visitor, Method::GET, &retrieve).await],
            Step::Persist => vec![
                self.sandbox.advance(Duration::from_secs(60)),
                self.sandbox.visit(Who::Visitor, Method::GET, &retrieve).await,
                self.sandbox.visit(Who::Somebody, Method::GET, &retrieve).await,
            ],
            Step::Reopen => {
                vec![self.sandbox.reopen_browser(), self.sandbox.visit(Who::Visitor, Method::GET, &retrieve).await]
            }
            Step::Expire => {
                let copy = self.sandbox.copied_cookie();
                let age = self.sandbox.settings().map_or(0, |settings| settings.cookie_age());
                let age = Duration::from_secs(u64::try_from(age).unwrap_or(0).saturating_add(1));
                vec![
                    self.sandbox.advance(age),
                    self.sandbox.visit(Who::Visitor, Method::GET, &retrieve).await,
                    self.sandbox.visit(Who::Copy(copy), Method::GET, &retrieve).await,
                ]
            }
            Step::Clear => {
                let copy = self.sandbox.copied_cookie();
                vec![
                    self.sandbox.visit(Who::Visitor, Method::POST, "/sign-out").await,
                    self.sandbox.visit(Who::Copy(copy), Method::GET, &retrieve).await,
                ]
            }
        };
        let data = self.sandbox.data().await;
        self.note_variables(Some(step), data.clone());
        self.rows[step.number() - 1] = Some(Row {
            step,
            happenings,
            settings: self.given_settings(),
            data,
            toml: self.sandbox.toml().to_owned(),
            jar: self.sandbox.jar(),
            shelves: self.sandbox.shelves().await,
        });
        self.present = Some(step);
    }

    #[cfg(test)]
    pub(crate) fn directory(&self) -> &std::path::Path {
        self.sandbox.directory()
    }

    async fn restart(&mut self) -> Happening {
        let missing = self.sandbox.missing_directory();
        self.sandbox.restart(self.wishes.toml(self.switched_on, self.chosen, &missing)).await
    }

    /// The settings that the file gives, as they are in effect.
    fn given_settings(&self) -> Vec<(String, String)> {
        let Ok(settings) = self.sandbox.settings() else { return Vec::new() };
        let given = |name: &str| matches!(settings.source(name), cloakroom::core::settings::Source::File { .. });
        let effective = settings.effective().filter(|setting| given(setting.name));
        let mut given: Vec<_> = effective.map(|setting| (setting.name.to_owned(), setting.value)).collect();
        // First what the first step sets.
        given.sort_by_key(|(name, _)| name != "INSTALLED_APPS");
        given
    }

    fn note_variables(&mut self, after: Option<Step>, data: String) {
        let settings = self.sandbox.settings();
        let value = |wanted: &str| match &settings {
            Ok(settings) => {
                let setting = settings.effective().find(|setting| setting.name == wanted);
                setting.map_or_else(String::new, |setting| match setting.source {
                    cloakroom::core::settings::Source::Default => format!("{} (default)", setting.value),
                    _ => setting.value,
                })
            }
            Err(why) => why.to_string(),
        };
        let now = Variables { after, installed_apps: value("INSTALLED_APPS"), engine: value("SESSION_ENGINE"), data };
        self.variables.push(now);
        if self.variables.len() > TRACKED {
            // The start stays in sight.
            self.variables.remove(1);
        }
    }
}

/// A text as part of a query.
pub(super) fn escaped(text: &str) -> String {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if bare(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
