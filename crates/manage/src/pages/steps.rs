//! The first page: a session in seven steps.

use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::extract::{self, Query, State};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Form, http::StatusCode};
use cloakroom::core::settings::EngineName;
use cloakroom::{Error, Session};
use maud::{Markup, html};
use serde::Deserialize;

use super::course::{Course, Row, STEPS, Step};
use super::layout::{self, short};
use super::visitors::{Desk, Visitors};
use super::wishes::{SAME_SITE, Wishes};
use super::{Pages, broken, evidence, flow, unavailable};

pub(crate) fn router() -> Router<Pages> {
    Router::new()
        .route("/", get(page))
        .route("/steps/next", post(next))
        .route("/steps/all", post(all))
        .route("/steps/again", post(again))
        .route("/steps/take/{step}", post(take))
        .route("/steps/settings", post(settings))
        .route("/steps/settings/run", post(settings_and_run))
}

type Visitor = Result<Session, Error>;
type Sandboxes = State<Arc<Visitors>>;

/// The row of the table whose evidence is to be shown.
#[derive(Deserialize)]
struct Shown {
    step: Option<usize>,
}

async fn page(session: Visitor, State(visitors): Sandboxes, Query(shown): Query<Shown>) -> Response {
    let session = match session {
        Ok(session) => session,
        Err(error) => return unavailable(error),
    };
    let Some(desk) = visitors.find(&session) else {
        let lost = visitors.has_lost(&session);
        let refused = shown.step.is_some() && !lost;
        return layout::page("/", "Step by step", content(None, None, lost, refused));
    };
    let course = desk.course.lock().await;
    let number = shown.step.or(course.present.map(Step::number));
    layout::page("/", "Step by step", content(Some(&course), number, false, false))
}

/// What a visitor orders.
enum Order {
    Next,
    All,
    Again,
    Take(Step),
    Settings { wishes: Box<Wishes>, run: bool },
}

async fn carry_out(order: Order, course: &mut Course) -> anyhow::Result<()> {
    match order {
        Order::Next => {
            if let Some(step) = course.next() {
                course.take(step).await;
            }
        }
        Order::All => course.take_all().await,
        Order::Again => course.begin_again(course.wishes.clone()).await?,
        Order::Take(step) => course.take(step).await,
        Order::Settings { wishes, run } => {
            course.begin_again(*wishes).await?;
            if run && course.refused.is_none() {
                course.take_all().await;
            }
        }
    }
    Ok(())
}

/// Carries an order out in the visitor's sandbox, and shows what came of it.
async fn obey(order: Order, session: Visitor, visitors: &Visitors) -> Response {
    let session = match session {
        Ok(session) => session,
        Err(error) => return unavailable(error),
    };
    let done = async {
        let desk: Arc<Desk> = visitors.find_or_make(&session).await?;
        let mut course = desk.course.lock().await;
        // Boxed: what a step does is deep.
        Box::pin(carry_out(order, &mut course)).await?;
        anyhow::Ok(match (&course.refused, course.present) {
            (Some(_), _) => "/?step=0#settings".to_owned(),
            (None, Some(step)) => format!("/?step={0}#step-{0}", step.number()),
            (None, None) => "/?step=0".to_owned(),
        })
    };
    match done.await {
        Ok(address) => Redirect::to(&address).into_response(),
        Err(error) => broken(&error),
    }
}

async fn next(session: Visitor, State(visitors): Sandboxes) -> Response {
    obey(Order::Next, session, &visitors).await
}

async fn all(session: Visitor, State(visitors): Sandboxes) -> Response {
    obey(Order::All, session, &visitors).await
}

async fn again(session: Visitor, State(visitors): Sandboxes) -> Response {
    obey(Order::Again, session, &visitors).await
}

async fn take(session: Visitor, State(visitors): Sandboxes, extract::Path(name): extract::Path<String>) -> Response {
    match Step::named(&name) {
        Some(step) => obey(Order::Take(step), session, &visitors).await,
        None => layout::failure(StatusCode::NOT_FOUND, html! { p { "There is no such step." } }),
    }
}

async fn settings(session: Visitor, State(visitors): Sandboxes, Form(wishes): Form<Wishes>) -> Response {
    obey(Order::Settings { wishes: Box::new(wishes), run: false }, session, &visitors).await
}

async fn settings_and_run(session: Visitor, State(visitors): Sandboxes, Form(wishes): Form<Wishes>) -> Response {
    obey(Order::Settings { wishes: Box::new(wishes), run: true }, session, &visitors).await
}

/// The page; `shown` is the row whose evidence is shown.
fn content(course: Option<&Course>, shown: Option<usize>, lost: bool, refused: bool) -> Markup {
    let usual = Wishes::default();
    let wishes = course.map_or(&usual, |course| &course.wishes);
    let row = shown.and_then(|number| course.and_then(|course| course.row(number)));
    // Before anything was done, the code of the first step.
    let number = shown.filter(|number| (1..=STEPS).contains(number)).unwrap_or(1);
    html! {
        h1 { "A session, step by step" }
        p.lead { "You have a sandbox of your own here: a site with a database, a cache, a directory for files, and a "
            "browser that visits it. Each step is really carried out in it, and the table tells what happened." }
        @if lost { div.notice role="status" { p { "Your sandbox had rested for a while and was cleared away. The next step begins a new one." } } }
        @if refused { div.notice.bad role="alert" { p { "Your browser did not send this site's session cookie back, so "
            "your sandbox is not found again. Please allow cookies for this site." } } }
        (flow::flow(course))
        (form(course, wishes))
        (controls(course))
        (table(course, wishes, row.map(|row| row.step.number())))
        div.columns id="evidence" {
            section {
                h2 { "What happened in step " (number) }
                @match row {
                    Some(row) => @for happening in &row.happenings { (evidence::details(happening)) },
                    None => p.quiet { "Nothing yet." },
                }
                @if let Some(row) = row.filter(|row| !row.shelves.is_empty()) {
                    h3 { "What is stored after it" }
                    (evidence::shelves(&row.shelves))
                }
            }
            section {
                h2 { "The code of step " (number) }
                (code(number))
                @if let Some(row) = row {
                    h3 { "settings.toml" }
                    pre.panel { (short(&row.toml, 900)) }
                    h3 { "Cookies in the visitor's browser" }
                    @if row.jar.is_empty() { p.quiet { "None." } }
                    @for cookie in &row.jar { pre.panel { (short(cookie, 600)) } }
                }
            }
        }
        h2 { "The variables, from the start on" }
        (variables(course))
    }
}

fn controls(course: Option<&Course>) -> Markup {
    let next = course.map_or(Some(Step::SwitchOn), Course::next);
    html! {
        div.controls {
            form method="post" action="/steps/next" {
                button.primary disabled[next.is_none()] {
                    @match next {
                        Some(step) => { "Next step: " (step.number()) },
                        None => "All done",
                    }
                }
            }
            form method="post" action="/steps/all" { button disabled[next.is_none()] { "Run all" } }
            form method="post" action="/steps/again" { button { "Start again" } }
            (flow::strip(course))
        }
    }
}

/// What is done in each step: its name, and the line that does it.
fn action(number: usize, wishes: &Wishes) -> (&'static str, Markup) {
    let item = || html! { "session['" (short(&wishes.key, 40)) "']" };
    match number {
        1 => ("Switch sessions on", html! { "INSTALLED_APPS = [\"django.contrib.sessions\"]" }),
        2 if wishes.engine.is_empty() => ("Leave the engine to the default", html! { "# no SESSION_ENGINE" }),
        2 => ("Choose the engine", html! { "SESSION_ENGINE = \"" (wishes.engine) "\"" }),
        3 => ("Run the migrations", html! { "cloakroom migrate" }),
        4 => ("Assign a value", html! { (item()) " = '" (short(&wishes.value, 60)) "'" }),
        5 => ("Retrieve it", html! { (item()) }),
        6 => ("It persists for this user across requests", html! { (item()) }),
        _ => ("It expires, or is cleared", html! { "session.flush()" }),
    }
}

fn table(course: Option<&Course>, wishes: &Wishes, shown: Option<usize>) -> Markup {
    let present = course.and_then(|course| course.present).map(Step::number);
    html! {
        table.steps id="steps" {
            caption.said { "The seven steps, and what each of them did" }
            thead { tr {
                @for column in ["Step", "Action", "Settings state", "Effect", "Session data"] { th scope="col" { (column) } }
            } }
            tbody {
                @for number in 1..=STEPS {
                    @let row = course.and_then(|course| course.row(number));
                    @let (name, line) = action(number, wishes);
                    tr id={ "step-" (number) } .present[present == Some(number)]
                        .failed[row.is_some_and(|row| !row.succeeded())] {
                        th scope="row" { (number) }
                        td data-label="Action" {
                            p.what { (name) }
                            p { code { (line) } }
                            form.take method="post" {
                                @for step in Step::of_row(number) {
                                    button formaction={ "/steps/take/" (step.name()) } aria-label={ "Step " (number) ": " (step.label()) } {
                                        (step.label())
                                    }
                                }
                            }
                        }
                        @match row {
                            Some(row) => (cells(row, shown == Some(number))),
                            None => { td.empty data-label="Settings state" {} td.empty data-label="Effect" {} td.empty data-label="Session data" {} },
                        }
                    }
                }
            }
        }
    }
}

fn cells(row: &Row, shown: bool) -> Markup {
    html! {
        td data-label="Settings state" {
            @for (name, value) in &row.settings { p.setting { code { (name) } " = " code.value { (short(value, 120)) } } }
        }
        td data-label="Effect" {
            @for happening in &row.happenings { (evidence::effect(happening)) }
            @if !shown { p { a href={ "/?step=" (row.step.number()) "#evidence" } { "Evidence of step " (row.step.number()) } } }
        }
        td data-label="Session data" { code.data { (short(&row.data, 240)) } }
    }
}

/// The values of the variables, from the start on.
fn variables(course: Option<&Course>) -> Markup {
    let Some(course) = course else { return html! { p.quiet { "Nothing yet." } } };
    html! {
        table.variables {
            thead { tr {
                @for column in ["After", "INSTALLED_APPS", "SESSION_ENGINE", "Session data"] { th scope="col" { (column) } }
            } }
            tbody {
                @for (place, now) in course.variables.iter().enumerate() {
                    @let before = place.checked_sub(1).map(|place| &course.variables[place]);
                    tr {
                        th scope="row" { @match now.after { Some(step) => { "Step " (step.number()) }, None => "Start" } }
                        @for (name, value, former) in [
                            ("INSTALLED_APPS", &now.installed_apps, before.map(|before| &before.installed_apps)),
                            ("SESSION_ENGINE", &now.engine, before.map(|before| &before.engine)),
                            ("Session data", &now.data, before.map(|before| &before.data)),
                        ] {
                            td data-label=(name) .changed[former.is_some_and(|former| former != value)] {
                                code { (short(value, 120)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The part of the example that is about a step; the example is what the sandbox runs.
fn code(number: usize) -> Markup {
    const EXAMPLE: &str = include_str!("../../examples/steps.rs");
    let part = EXAMPLE.split("// --- ").find_map(|part| part.strip_prefix(&format!("step {number} ---\n")));
    html! {
        pre.panel.code {
            @for line in part.unwrap_or_default().trim_end().lines() {
                @if line.trim_start().starts_with("//") { i { (line) } } @else { (line) }
                "\n"
            }
        }
    }
}

fn form(course: Option<&Course>, wishes: &Wishes) -> Markup {
    let refused = course.and_then(|course| course.refused.as_ref());
    let shown = refused.map_or(wishes, |(typed, _)| typed);
    let text = |label: &str, name: &str, value: &str, hint: &str| {
        html! {
            label { span { code { (label) } } input name=(name) value=(value) autocomplete="off" spellcheck="false";
                @if !hint.is_empty() { small { (hint) } } }
        }
    };
    let tick = |label: &str, name: &str, on: bool, hint: &str| {
        html! {
            label.tick { input type="checkbox" name=(name) checked[on]; span { code { (label) } small { (hint) } } }
        }
    };
    html! {
        details.settings id="settings" open[refused.is_some()] {
            summary { "Settings of your sandbox "
                @for line in wishes.toml(true, true, Path::new("nowhere")).lines().skip(1) { code.chip { (line) } " " } }
            @if let Some((_, why)) = refused {
                div.notice.bad role="alert" { p { "The settings refuse this, and your sandbox stays as it was:" } pre { (short(why, 2_000)) } }
            }
            form method="post" action="/steps/settings" {
                div.fields {
                    label { span { code { "SESSION_ENGINE" } }
                        select name="engine" {
                            @for engine in EngineName::ALL {
                                option value=(engine.short()) selected[shown.engine == engine.short()] { (engine.short()) }
                            }
                            option value="" selected[shown.engine.is_empty()] { "not set" }
                        } }
                    (text("SESSION_COOKIE_AGE", "age", &shown.age, "seconds"))
                    (text("SESSION_COOKIE_NAME", "name", &shown.name, ""))
                    (text("SESSION_COOKIE_PATH", "path", &shown.path, ""))
                    (text("SESSION_COOKIE_DOMAIN", "domain", &shown.domain, "the site is http://sandbox.example"))
                    label { span { code { "SESSION_COOKIE_SAMESITE" } }
                        select name="same_site" {
                            @for (value, name) in SAME_SITE { option value=(value) selected[shown.same_site == *value] { (name) } }
                        } }
                    (text("key", "key", &shown.key, "what the steps assign and retrieve"))
                    (text("value", "value", &shown.value, ""))
                }
                div.fields {
                    (tick("SESSION_EXPIRE_AT_BROWSER_CLOSE", "at_close", shown.at_close.is_some(), "the cookie ends with the browser"))
                    (tick("SESSION_SAVE_EVERY_REQUEST", "every_request", shown.every_request.is_some(), "each request renews the session"))
                    (tick("SESSION_COOKIE_SECURE", "secure", shown.secure.is_some(), "only over HTTPS, which the sandbox has not"))
                    (tick("SESSION_COOKIE_HTTPONLY", "http_only", shown.http_only.is_some(), "hidden from scripts"))
                    (tick("SESSION_FILE_PATH", "missing", shown.missing.is_some(), "names a directory that nobody has made (engine file)"))
                }
                div.buttons {
                    button.primary { "Start again with these" }
                    button formaction="/steps/settings/run" { "Start again and run all" }
                }
            }
        }
    }
}
