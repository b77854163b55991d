//! A visitor: a browser reduced to its cookie jar, and the answers it gets.

use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use ureq::Agent;
use ureq::http::HeaderValue;

use super::json::Json;
use super::site::Site;

/// An answer.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// Every header, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Reply {
    /// All values of a header.
    pub fn header(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str()).collect()
    }

    /// The cookies it sets or removes.
    pub fn cookies(&self) -> Vec<SetCookie> {
        self.header("set-cookie").into_iter().map(SetCookie::parse).collect()
    }

    /// The same, if it is a success; a failure of the test with all of it if not.
    #[track_caller]
    pub fn ok(self) -> Reply {
        assert_eq!(self.status, 200, "{self:#?}");
        self
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Json {
        Json::parse(&self.body).unwrap_or_else(|problem| panic!("{problem}: {self:#?}"))
    }

    /// A member of the JSON in the body.
    #[track_caller]
    pub fn member(&self, name: &str) -> Json {
        self.json().get(name).unwrap_or_else(|| panic!("no {name:?} in {self:#?}")).clone()
    }
}

/// A `Set-Cookie` header taken apart.
#[derive(Clone, Debug)]
pub struct SetCookie {
    /// The cookie's name.
    pub name: String,
    /// Its value as it stands there.
    pub value: String,
    /// Its attributes in order; flags have an empty value.
    pub attributes: Vec<(String, String)>,
}

impl SetCookie {
    fn parse(header: &str) -> SetCookie {
        let pair = |part: &str| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            (name.trim().to_owned(), value.trim().to_owned())
        };
        let mut parts = header.split(';').map(pair);
        let (name, value) = parts.next().expect("split gives at least one part");
        SetCookie { name, value, attributes: parts.collect() }
    }

    /// An attribute by name.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// `Max-Age` in seconds.
    pub fn max_age(&self) -> Option<i64> {
        self.attribute("max-age").map(|seconds| seconds.parse().expect("Max-Age is a number"))
    }

    /// Whether it outlives the browser.
    pub fn is_persistent(&self) -> bool {
        self.attribute("max-age").is_some() || self.attribute("expires").is_some()
    }
}

struct Cookie {
    name: String,
    value: String,
    persistent: bool,
}

/// What asks one site: its connections stay open between requests, and are its own, since sites are killed here.
pub fn agent() -> Agent {
    Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_idle_connections_per_host(16)
        .timeout_global(Some(Duration::from_secs(60)))
        .build()
        .new_agent()
}

/// Somebody with a browser.
#[derive(Default)]
pub struct Visitor {
    jar: Vec<Cookie>,
}

impl Visitor {
    /// A browser that never was here.
    pub fn new() -> Visitor {
        Visitor::default()
    }

    /// A second browser with a copy of this one's cookies.
    pub fn copy(&self) -> Visitor {
        let mut copy = Visitor::new();
        for Cookie { name, value, .. } in &self.jar {
            copy.put(name, value);
        }
        copy
    }

    /// The value of a cookie.
    pub fn cookie(&self, name: &str) -> Option<&str> {
        self.jar.iter().find(|cookie| cookie.name == name).map(|cookie| cookie.value.as_str())
    }

    /// The session cookie under its usual name.
    #[track_caller]
    pub fn session(&self) -> String {
        self.cookie("sessionid").expect("a session cookie").to_owned()
    }

    /// Puts a cookie into the jar.
    pub fn put(&mut self, name: &str, value: &str) {
        self.jar.retain(|cookie| cookie.name != name);
        self.jar.push(Cookie { name: name.to_owned(), value: value.to_owned(), persistent: true });
    }

    /// Closes the browser and opens it again: cookies without a lifetime are gone.
    pub fn restart_browser(&mut self) {
        self.jar.retain(|cookie| cookie.persistent);
    }

    /// Asks for a page and keeps the cookies of the answer.
    #[track_caller]
    pub fn get(&mut self, site: &Site, page: &str, query: &[(&str, &str)]) -> Reply {
        self.try_get(site, page, query).unwrap_or_else(|problem| panic!("{page} {query:?}: {problem}\n{}", site.log()))
    }

    /// The same, where the site may be gone.
    pub fn try_get(&mut self, site: &Site, page: &str, query: &[(&str, &str)]) -> Result<Reply, ureq::Error> {
        let cookies: Vec<String> = self.jar.iter().map(|cookie| format!("{}={}", cookie.name, cookie.value)).collect();
        let header = if cookies.is_empty() { None } else { Some(cookies.join("; ").into_bytes()) };
        let reply = send(site, page, query, header.as_deref())?;
        for cookie in reply.cookies() {
            self.jar.retain(|known| known.name != cookie.name);
            // Max-Age wins over the date; here both always say the same.
            if cookie.max_age().is_none_or(|age| age > 0) {
                let persistent = cookie.is_persistent();
                self.jar.push(Cookie { name: cookie.name, value: cookie.value, persistent });
            }
        }
        Ok(reply)
    }

    /// Asks with a `Cookie` header made by hand, whatever the jar holds, and keeps nothing.
    #[track_caller]
    pub fn get_with(&self, site: &Site, page: &str, query: &[(&str, &str)], cookie: &[u8]) -> Reply {
        send(site, page, query, Some(cookie)).unwrap_or_else(|problem| panic!("{page}: {problem}\n{}", site.log()))
    }
}

/// Asks without a jar.
fn send(site: &Site, page: &str, query: &[(&str, &str)], cookie: Option<&[u8]>) -> Result<Reply, ureq::Error> {
    let encode = |text| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let pairs: Vec<String> = query.iter().map(|(k, v)| format!("{}={}", encode(k), encode(v))).collect();
    let mut request = site.agent().get(format!("{}/{page}?{}", site.address(), pairs.join("&")));
    if let Some(cookie) = cookie {
        request = request.header("cookie", HeaderValue::from_bytes(cookie).expect("a header's bytes"));
    }
    let mut response = request.call()?;
    let read = |(name, value): (&ureq::http::HeaderName, &HeaderValue)| {
        (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    let headers = response.headers().iter().map(read).collect();
    let body = response.body_mut().with_config().limit(u64::MAX).read_to_string()?;
    Ok(Reply { status: response.status().as_u16(), headers, body })
}
