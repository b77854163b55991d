//! The routes that do one thing each. Every answer is JSON; session values are printed as they are stored.

use std::collections::HashMap;
use std::time::Duration;

use axum::Extension;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use cloakroom::core::json;
use cloakroom::core::wire::expiry::DateTime;
use cloakroom::django::{Auth, USER_ID_KEY, User};
use cloakroom::{Error, Expiry, RawJson, Session, SessionKey, SessionSlot};

/// The query, with what every route understands: `sleep`, a pause in seconds between the handler's work and its end,
/// and `status`, the status to answer with.
type Params = Query<HashMap<String, String>>;
type Answer = Result<Response, Failure>;

/// Why a route did not do what it was asked.
pub(crate) enum Failure {
    Session(Error),
    Query(String),
}

impl<E: Into<Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Session(error.into())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        match self {
            Self::Session(error) => error.into_response(),
            Self::Query(hint) => respond(StatusCode::BAD_REQUEST, format!("{{\"error\":{}}}", text(&hint))),
        }
    }
}

pub(crate) async fn set(session: Session, Query(params): Params) -> Answer {
    session.insert_raw(required(&params, "k")?, json_value(&params)?);
    finish(&params, OK).await
}

pub(crate) async fn get(session: Session, Query(params): Params) -> Answer {
    let body = match session.try_get_raw(required(&params, "k")?)? {
        Some(value) => format!("{{\"found\":true,\"value\":{}}}", value.as_str()),
        None => "{\"found\":false,\"value\":null}".to_owned(),
    };
    finish(&params, body).await
}

pub(crate) async fn del(session: Session, Query(params): Params) -> Answer {
    let found = session.remove_raw(required(&params, "k")?).is_some();
    finish(&params, format!("{{\"ok\":true,\"found\":{found}}}")).await
}

pub(crate) async fn all(session: Session, Query(params): Params) -> Answer {
    let data = session.to_json();
    finish(&params, format!("{{\"key\":{},\"data\":{data}}}", key_text(session.key()))).await
}

/// Tells the value as this request sees it. What is stored is right whatever other requests do meanwhile: the update
/// is run again on what they left.
pub(crate) async fn incr(session: Session, Query(params): Params) -> Answer {
    let value = session.update(required(&params, "k")?, |n: Option<i64>| n.unwrap_or(0) + 1)?;
    finish(&params, format!("{{\"value\":{value}}}")).await
}

pub(crate) async fn login(session: Session, State(auth): State<Auth>, Query(params): Params) -> Answer {
    let id = required(&params, "u")?;
    let user = match params.get("p") {
        Some(password_field) => User::new(id, password_field),
        None => User::without_password(id),
    };
    auth.log_in(&session, &user)?;
    finish(&params, format!("{{\"ok\":true,\"user\":{}}}", text(id))).await
}

pub(crate) async fn logout(session: Session, State(auth): State<Auth>, Query(params): Params) -> Answer {
    auth.log_out(&session);
    finish(&params, OK).await
}

/// Who is logged in, and with `p`, the user's password field, whether that login still holds.
pub(crate) async fn whoami(session: Session, State(auth): State<Auth>, Query(params): Params) -> Answer {
    let user = session.get_raw(USER_ID_KEY);
    let valid = match (&user, params.get("p")) {
        (Some(_), Some(password_field)) => {
            Some(auth.login(&session).is_some() && auth.confirm(&session, password_field)?)
        }
        _ => None,
    };
    let user = user.as_ref().map_or("null", RawJson::as_str);
    let valid = valid.map_or("null".to_owned(), |valid| valid.to_string());
    finish(&params, format!("{{\"user\":{user},\"valid\":{valid}}}")).await
}

pub(crate) async fn cycle(session: Session, Query(params): Params) -> Answer {
    let before = session.key();
    session.cycle_key()?;
    let after = session.key();
    finish(&params, format!("{{\"before\":{},\"after\":{}}}", key_text(before), key_text(after))).await
}

pub(crate) async fn clear(session: Session, Query(params): Params) -> Answer {
    session.clear();
    finish(&params, OK).await
}

pub(crate) async fn flush(session: Session, Query(params): Params) -> Answer {
    session.flush();
    finish(&params, OK).await
}

pub(crate) async fn save(session: Session, Query(params): Params) -> Answer {
    session.save().await?;
    finish(&params, format!("{{\"ok\":true,\"key\":{}}}", key_text(session.key()))).await
}

pub(crate) async fn expiry(session: Session, Query(params): Params) -> Answer {
    let wanted = required(&params, "s")?;
    let expiry = parse_expiry(wanted).ok_or_else(|| {
        Failure::Query(format!("`s={wanted}`: give seconds, `none`, `td:SECONDS` or `dt:` and an ISO date"))
    })?;
    session.set_expiry(expiry)?;
    finish(&params, OK).await
}

/// What the session says of itself; the flags are those before this handler touched it.
pub(crate) async fn info(Extension(slot): Extension<SessionSlot>, Query(params): Params) -> Answer {
    let (accessed, modified, empty) = (slot.accessed(), slot.modified(), slot.is_empty());
    let session = slot.load().await?;
    let age = session.expiry_age()?;
    let date = session.expiry_date()?;
    let browser_close = session.expires_at_browser_close()?;
    let body = format!(
        "{{\"age\":{age},\"date\":{},\"browser_close\":{browser_close},\"key\":{},\"accessed_before\":{accessed},\
         \"modified_before\":{modified},\"is_empty_before\":{empty}}}",
        text(&date.to_string()),
        key_text(session.key())
    );
    finish(&params, body).await
}

/// Does not touch the session: no store is asked.
pub(crate) async fn noop(Query(params): Params) -> Answer {
    finish(&params, OK).await
}

pub(crate) async fn bulk(session: Session, Query(params): Params) -> Answer {
    let (count, size) = (number(&params, "n")?, number(&params, "size")?);
    let value = "x".repeat(size);
    session.extend((0..count).map(|i| (format!("bulk{i}"), value.as_str())))?;
    finish(&params, format!("{{\"ok\":true,\"n\":{count},\"size\":{size}}}")).await
}

pub(crate) async fn testcookie(session: Session, Query(params): Params) -> Answer {
    let body = match required(&params, "op")? {
        "set" => {
            session.set_test_cookie();
            OK.to_owned()
        }
        "check" => format!("{{\"worked\":{}}}", session.test_cookie_worked()),
        "delete" => format!("{{\"ok\":{}}}", session.delete_test_cookie().is_ok()),
        other => return Err(Failure::Query(format!("`op={other}`: give set, check or delete"))),
    };
    finish(&params, body).await
}

const OK: &str = "{\"ok\":true}";
/// One query must not ask for more memory than a session could ever be given.
const MAX_BULK: usize = 64 * 1024 * 1024;

async fn finish(params: &HashMap<String, String>, body: impl Into<String>) -> Answer {
    let status = status(params)?;
    if let Some(seconds) = params.get("sleep") {
        let pause = seconds.parse().ok().and_then(|s| Duration::try_from_secs_f64(s).ok());
        let pause = pause.filter(|pause| *pause <= Duration::from_secs(3600));
        tokio::time::sleep(pause.ok_or_else(|| Failure::Query(format!("`sleep={seconds}`: give seconds")))?).await;
    }
    Ok(respond(status, body.into()))
}

fn respond(status: StatusCode, body: String) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

fn status(params: &HashMap<String, String>) -> Result<StatusCode, Failure> {
    match params.get("status") {
        None => Ok(StatusCode::OK),
        Some(text) => text
            .parse()
            .ok()
            .filter(|status| *status >= 200)
            .and_then(|status| StatusCode::from_u16(status).ok())
            .ok_or_else(|| Failure::Query(format!("`status={text}`: give an HTTP status of 200 or more"))),
    }
}

fn required<'a>(params: &'a HashMap<String, String>, name: &str) -> Result<&'a str, Failure> {
    params.get(name).map(String::as_str).ok_or_else(|| Failure::Query(format!("the query lacks `{name}=`")))
}

fn number(params: &HashMap<String, String>, name: &str) -> Result<usize, Failure> {
    let text = required(params, name)?;
    let number = text.parse().ok().filter(|number| *number <= MAX_BULK);
    number.ok_or_else(|| Failure::Query(format!("`{name}={text}`: give a number from 0 to {MAX_BULK}")))
}

fn json_value(params: &HashMap<String, String>) -> Result<RawJson, Failure> {
    RawJson::parse(required(params, "v")?)
        .map_err(|error| Failure::Query(format!("`v` is not JSON ({error}); text needs its quotes, as in v=%22tea%22")))
}

fn parse_expiry(text: &str) -> Option<Expiry> {
    if text == "none" {
        return Some(Expiry::Default);
    }
    if let Some(seconds) = text.strip_prefix("td:") {
        let seconds: f64 = seconds.parse().ok()?;
        return seconds.is_finite().then_some(Expiry::After((seconds * 1e6) as i64));
    }
    if let Some(iso) = text.strip_prefix("dt:") {
        return DateTime::parse_iso(iso).ok().map(Expiry::At);
    }
    match text.parse::<i64>() {
        Ok(seconds) => Some(Expiry::from(seconds)),
        Err(_) => text.parse().ok().map(Expiry::Fractional),
    }
}

/// Text as a JSON string.
fn text(text: &str) -> String {
    json::to_string(text).unwrap_or_else(|_| "null".to_owned())
}

fn key_text(key: Option<SessionKey>) -> String {
    key.map_or_else(|| "null".to_owned(), |key| text(key.as_str()))
}
