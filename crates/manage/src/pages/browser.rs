//! The browser of a sandbox, reduced to its cookies: it keeps, sends, refuses and forgets them as browsers do, and says
//! which it did.

use cloakroom::Timestamp;
use cloakroom::core::wire::cookie::http_date;

/// Where the sandbox's site is, for its browser. It is not encrypted, so a `Secure` cookie does not go there.
pub(crate) const HOST: &str = "sandbox.example";

/// A cookie as a browser keeps it.
#[derive(Clone, Debug)]
struct Cookie {
    name: String,
    value: String,
    path: String,
    /// `None` for a cookie that ends with the browser.
    until: Option<Timestamp>,
    /// The attributes as they were sent.
    attributes: String,
}

/// A browser's cookies.
#[derive(Clone, Debug, Default)]
pub(crate) struct Browser {
    cookies: Vec<Cookie>,
}

impl Browser {
    /// The `Cookie` header of a request for `path`, and what the browser held back or had forgotten by then.
    pub(crate) fn cookies_for(&mut self, path: &str, now: Timestamp) -> (Option<String>, Vec<String>) {
        let mut notes = Vec::new();
        self.cookies.retain(|cookie| {
            let stays = cookie.until.is_none_or(|until| now < until);
            if !stays {
                notes.push(format!("The browser had dropped {}, whose time was over.", cookie.name));
            }
            stays
        });
        let mut sent = Vec::new();
        for cookie in &self.cookies {
            if covers(&cookie.path, path) {
                sent.push(format!("{}={}", cookie.name, cookie.value));
            } else {
                notes
                    .push(format!("The browser keeps {} for {}, and does not send it here.", cookie.name, cookie.path));
            }
        }
        ((!sent.is_empty()).then(|| sent.join("; ")), notes)
    }

    /// Takes a `Set-Cookie` header, and says what became of it.
    pub(crate) fn receive(&mut self, header: &str, request_path: &str, now: Timestamp) -> String {
        let (pair, rest) = header.split_once(';').unwrap_or((header, ""));
        let (name, value) = pair.trim().split_once('=').unwrap_or(("", pair.trim()));
        let attributes: Vec<(String, &str)> = rest
            .split(';')
            .map(|attribute| attribute.trim().split_once('=').unwrap_or((attribute.trim(), "")))
            .filter(|(name, _)| !name.is_empty())
            .map(|(name, value)| (name.to_ascii_lowercase(), value))
            .collect();
        let get = |wanted: &str| attributes.iter().rfind(|(name, _)| name == wanted).map(|(_, value)| *value);
        if let Some(why) = refusal(name, &get) {
            return format!("The browser refuses {name}: {why}.");
        }
        let until = match get("max-age").map(|age| age.parse::<i64>()) {
            Some(Ok(seconds)) => now.checked_add_micros(seconds.saturating_mul(1_000_000)).or(Some(Timestamp::MAX)),
            _ => None,
        };
        let known = self.cookies.iter().position(|cookie| cookie.name == name);
        if until.is_some_and(|until| until <= now) {
            return match known {
                Some(place) => {
                    self.cookies.remove(place);
                    format!("The browser drops {name}.")
                }
                None => format!("The browser is told to drop {name}, and has none."),
            };
        }
        let said = match until {
            Some(until) => format!("The browser keeps {name} until {}.", http_date(until)),
            None => format!("The browser keeps {name} until it is closed."),
        };
        let path = get("path").filter(|path| path.starts_with('/')).map(str::to_owned);
        let path = path.unwrap_or_else(|| default_path(request_path));
        let cookie = Cookie { name: name.into(), value: value.into(), path, until, attributes: rest.trim().into() };
        match known {
            Some(place) => self.cookies[place] = cookie,
            None => self.cookies.push(cookie),
        }
        said
    }

    /// Closes the browser and opens it again; says what that cost.
    pub(crate) fn reopen(&mut self) -> Vec<String> {
        let say = |cookie: &Cookie| match cookie.until {
            Some(until) => format!("The browser still has {}, until {}.", cookie.name, http_date(until)),
            None => format!("{} ended with the browser.", cookie.name),
        };
        let mut notes: Vec<String> = self.cookies.iter().map(say).collect();
        if notes.is_empty() {
            notes.push("The browser had no cookie.".to_owned());
        }
        self.cookies.retain(|cookie| cookie.until.is_some());
        notes
    }

    /// The value of a cookie.
    pub(crate) fn cookie(&self, name: &str) -> Option<&str> {
        self.cookies.iter().find(|cookie| cookie.name == name).map(|cookie| cookie.value.as_str())
    }

    /// Each cookie as it was set.
    pub(crate) fn held(&self) -> impl Iterator<Item = String> {
        self.cookies.iter().map(|cookie| format!("{}={}; {}", cookie.name, cookie.value, cookie.attributes))
    }
}

/// Why a browser does not take such a cookie from an unencrypted site at [`HOST`].
fn refusal<'a>(name: &str, get: &impl Fn(&str) -> Option<&'a str>) -> Option<String> {
    let domain = get("domain").map(|domain| domain.trim_start_matches('.').to_ascii_lowercase());
    match domain {
        Some(domain) if domain != HOST && !HOST.ends_with(&format!(".{domain}")) => {
            Some(format!("its domain is {domain}, and this site is {HOST}"))
        }
        _ if get("secure").is_some() => Some(format!("it is Secure, and http://{HOST} is not encrypted")),
        _ if name.starts_with("__Host-") || name.starts_with("__Secure-") => {
            Some("a cookie of such a name has to be Secure".to_owned())
        }
        _ if get("samesite").is_some_and(|value| value.eq_ignore_ascii_case("none")) => {
            Some("SameSite=None is for Secure cookies only".to_owned())
        }
        _ => None,
    }
}

/// Whether a cookie of this path goes along with a request (RFC 6265, section 5.1.4).
fn covers(cookie: &str, request: &str) -> bool {
    let request = request.split('?').next().unwrap_or(request);
    request.strip_prefix(cookie).is_some_and(|rest| rest.is_empty() || cookie.ends_with('/') || rest.starts_with('/'))
}

/// The path of a cookie that names none: the directory of the request.
fn default_path(request: &str) -> String {
    let request = request.split('?').next().unwrap_or(request);
    match request.rfind('/') {
        Some(0) | None => "/".to_owned(),
        Some(last) => request[..last].to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_000);
    const LATER: Timestamp = Timestamp::from_secs(1_061);

    fn after(header: &str) -> (Browser, String) {
        let mut browser = Browser::default();
        let said = browser.receive(header, "/assign", NOW);
        (browser, said)
    }

    #[test]
    fn a_cookie_lives_as_long_as_it_says() {
        let (mut browser, said) = after("sessionid=abc; HttpOnly; Max-Age=60; Path=/; SameSite=Lax");
        assert_eq!(said, "The browser keeps sessionid until Thu, 01 Jan 1970 00:17:40 GMT.");
        assert_eq!(browser.cookies_for("/retrieve?key=a", NOW), (Some("sessionid=abc".to_owned()), vec![]));
        browser.reopen();
        assert_eq!(browser.cookie("sessionid"), Some("abc"));
        let (sent, notes) = browser.cookies_for("/", LATER);
        assert_eq!((sent, notes.len(), browser.cookie("sessionid")), (None, 1, None));
    }

    #[test]
    fn a_cookie_without_an_age_ends_with_the_browser() {
        let (mut browser, said) = after("sessionid=abc; HttpOnly; Path=/");
        assert_eq!(said, "The browser keeps sessionid until it is closed.");
        assert_eq!(browser.cookies_for("/", LATER).0.as_deref(), Some("sessionid=abc"));
        assert_eq!(browser.reopen(), ["sessionid ended with the browser."]);
        assert_eq!(browser.cookies_for("/", LATER).0, None);
    }

    #[test]
    fn a_removal_removes() {
        let (mut browser, _) = after("sessionid=abc; Path=/");
        let said =
            browser.receive("sessionid=\"\"; expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0; Path=/", "/", NOW);
        assert_eq!((said.as_str(), browser.cookie("sessionid")), ("The browser drops sessionid.", None));
    }

    #[test]
    fn what_a_browser_refuses() {
        for (header, refused) in [
            ("a=1; Secure", true),
            ("a=1; Domain=example.org", true),
            ("a=1; Domain=sandbox.example", false),
            ("a=1; Domain=.example", false),
            ("a=1; Domain=box.example", true),
            ("a=1; SameSite=None", true),
            ("__Host-a=1; Path=/", true),
            ("a=1; SameSite=Strict; HttpOnly", false),
        ] {
            let (browser, said) = after(header);
            assert_eq!(
                (browser.cookie("a").is_none(), said.contains("refuses")),
                (refused, refused),
                "{header}: {said}"
            );
        }
    }

    #[test]
    fn paths() {
        for (cookie, request, sent) in [
            ("/", "/assign", true),
            ("/shop", "/shop", true),
            ("/shop", "/shop/cart?a=/", true),
            ("/shop", "/shopping", false),
            ("/shop/", "/shop", false),
            ("/assign", "/retrieve", false),
        ] {
            assert_eq!(covers(cookie, request), sent, "{cookie} {request}");
        }
        assert_eq!([default_path("/a/b?c=/d"), default_path("/a"), default_path("/")], ["/a", "/", "/"]);
    }
}
