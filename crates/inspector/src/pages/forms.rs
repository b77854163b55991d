//! Forms that only the visitor who was shown them can send.

use axum::http::{HeaderValue, header};
use axum::response::Response;
use cloakroom_core::wire::cookie;
use cloakroom_core::wire::signing::Signer;
use cloakroom_core::{KeySource, SessionKey, Settings};
use maud::{Markup, html};

use super::Here;

/// The cookie that tells visitors apart. It is not the session's, which is left alone.
const COOKIE: &str = "cloakroom_inspector";
const SALT: &str = "cloakroom.inspector.form";

/// Makes and checks what goes with a form: a signature of the visitor's cookie. Another site can neither read the cookie
/// nor sign one of its own.
pub(super) struct Forms {
    signer: Signer,
    secure: bool,
    fresh: KeySource,
}

/// The visitor's cookie, if it is one that we set.
pub(super) fn visitor<'a>(cookies: impl Iterator<Item = &'a [u8]>) -> Option<String> {
    let value = cookie::find(cookies, COOKIE)?;
    SessionKey::presented(&value).filter(SessionKey::is_storable).map(|key| key.as_str().to_owned())
}

impl Forms {
    pub(super) fn new(settings: &Settings) -> Self {
        let signer = Signer::new(settings.secrets(), SALT);
        Self { signer, secure: settings.cookie_attributes().secure, fresh: KeySource::system() }
    }

    /// The hidden field of a form. The response has to [remember](Self::remember) the visitor.
    pub(super) fn field(&self, here: &Here) -> Markup {
        let token = here.visitor.as_deref().map(|visitor| self.signer.signature(visitor)).unwrap_or_default();
        html! { input type="hidden" name="token" value=(token); }
    }

    /// Whether a form was shown to the visitor who sends it.
    pub(super) fn is_shown(&self, here: &Here, token: &str) -> bool {
        here.visitor.as_ref().is_some_and(|visitor| self.signer.unsign(&format!("{visitor}:{token}")).is_ok())
    }

    /// Gives a visitor a mark who has none, before a form is shown.
    pub(super) fn mark(&self, here: &mut Here) {
        if here.visitor.is_none() {
            // Without randomness there is no mark, and no form counts.
            here.visitor = self.fresh.draw().ok().map(|key| key.as_str().to_owned());
        }
    }

    /// Sets the visitor's cookie.
    pub(super) fn remember(&self, here: &Here, mut response: Response) -> Response {
        let Some(visitor) = &here.visitor else { return response };
        let secure = if self.secure { "; Secure" } else { "" };
        let base = &here.base;
        let path = if base.is_empty() || base.contains(';') { "/" } else { base };
        let cookie = format!("{COOKIE}={visitor}; HttpOnly; Path={path}; SameSite=Strict{secure}");
        if let Ok(cookie) = HeaderValue::from_str(&cookie) {
            response.headers_mut().append(header::SET_COOKIE, cookie);
        }
        response
    }
}
