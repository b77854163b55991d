//! One visitor's connection: plain HTTP/1.1, kept alive, one request at a time. Nothing is sent twice by itself, since
//! a request whose answer is missing may have been carried out.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{COOKIE, HOST, SET_COOKIE};
use hyper::{HeaderMap, Request};
use hyper_util::rt::TokioIo;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::net::TcpStream;

/// The name of the session cookie, on every site.
pub const COOKIE_NAME: &str = "sessionid";

/// How long an answer may take: longer than any freeze, and than the time-outs of any site.
const PATIENCE: Duration = Duration::from_secs(30);

/// Lets this process, and those that it starts, have as many connections as the system gives.
pub fn raise_connection_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Where that is refused, a crowd that finds no connection says so.
    let _ = setrlimit(Resource::Nofile, limit);
}

/// What a response does to the session cookie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetCookie {
    /// Nothing.
    No,
    /// The browser has to forget it.
    Removed,
    /// It has this value now.
    Value(String),
}

/// A response, with its whole body.
#[derive(Clone, Debug)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// What it does to the session cookie.
    pub cookie: SetCookie,
    /// The body.
    pub body: Bytes,
}

/// What became of a request.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It was answered.
    Answered(Response),
    /// There was no connection: it was not carried out.
    Unsent,
    /// The connection broke, or time ran out: nobody knows whether it was carried out.
    Unknown,
}

/// A request that is over.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// When it began, a new connection included.
    pub sent: Instant,
    /// How long it took.
    pub took: Duration,
    /// What became of it.
    pub outcome: Outcome,
}

impl Exchange {
    /// The response, if there was one.
    pub fn response(&self) -> Option<&Response> {
        match &self.outcome {
            Outcome::Answered(response) => Some(response),
            Outcome::Unsent | Outcome::Unknown => None,
        }
    }

    /// The response, if it says that all went well.
    pub fn ok(&self) -> Option<&Response> {
        self.response().filter(|response| response.status == 200)
    }
}

/// A visitor's connection to a site.
#[derive(Debug)]
pub struct Client {
    site: SocketAddr,
    connection: Option<Connection>,
}

type Connection = SendRequest<Empty<Bytes>>;

impl Client {
    /// A client that will connect when it has to.
    pub fn new(site: SocketAddr) -> Self {
        Self { site, connection: None }
    }

    /// Connects, unless that is done, so that a crowd can set out all at once.
    pub async fn connect(&mut self) -> std::io::Result<()> {
        if self.connection.as_ref().is_some_and(|connection| !connection.is_closed()) {
            return Ok(());
        }
        let stream = TcpStream::connect(self.site).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(std::io::Error::other)?;
        tokio::spawn(connection);
        self.connection = Some(sender);
        Ok(())
    }

    /// Asks for a path, with this session cookie.
    pub async fn get(&mut self, path: &str, cookie: Option<&str>) -> Exchange {
        let sent = Instant::now();
        let outcome = match tokio::time::timeout(PATIENCE, self.ready()).await {
            Ok(Some(mut connection)) => {
                let answer = tokio::time::timeout(PATIENCE, exchange(&mut connection, self.site, path, cookie)).await;
                match answer {
                    Ok(Ok(response)) => {
                        self.connection = Some(connection);
                        Outcome::Answered(response)
                    }
                    _ => Outcome::Unknown,
                }
            }
            _ => Outcome::Unsent,
        };
        Exchange { sent, took: sent.elapsed(), outcome }
    }

    /// The connection, if there is one that takes a request.
    async fn ready(&mut self) -> Option<Connection> {
        self.connect().await.ok()?;
        let mut connection = self.connection.take()?;
        connection.ready().await.ok()?;
        Some(connection)
    }
}

async fn exchange(
    connection: &mut Connection,
    site: SocketAddr,
    path: &str,
    cookie: Option<&str>,
) -> hyper::Result<Response> {
    let mut request = Request::get(path).header(HOST, site.to_string());
    if let Some(value) = cookie {
        request = request.header(COOKIE, format!("{COOKIE_NAME}={value}"));
    }
    let response = connection.send_request(request.body(Empty::new()).expect("paths are plain ASCII")).await?;
    let (status, cookie) = (response.status().as_u16(), set_cookie(response.headers()));
    let body = response.into_body().collect().await?.to_bytes();
    Ok(Response { status, cookie, body })
}

/// What the headers of a response do to the session cookie.
fn set_cookie(headers: &HeaderMap) -> SetCookie {
    let texts = headers.get_all(SET_COOKIE).iter().filter_map(|value| value.to_str().ok());
    texts.map(parse_set_cookie).rfind(|cookie| *cookie != SetCookie::No).unwrap_or(SetCookie::No)
}

fn parse_set_cookie(text: &str) -> SetCookie {
    let mut parts = text.split(';').map(str::trim);
    let Some((COOKIE_NAME, value)) = parts.next().and_then(|pair| pair.split_once('=')) else { return SetCookie::No };
    let value = value.trim_matches('"');
    let removed = value.is_empty() || parts.any(|attribute| attribute.eq_ignore_ascii_case("max-age=0"));
    if removed { SetCookie::Removed } else { SetCookie::Value(value.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_are_set_and_removed() {
        for (text, expected) in [
            ("sessionid=abc; Path=/; HttpOnly", SetCookie::Value("abc".to_owned())),
            ("sessionid=\"\"; expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0", SetCookie::Removed),
            ("sessionid=; Path=/; Max-Age=0", SetCookie::Removed),
            ("sessionid=abc; max-age=0", SetCookie::Removed),
            ("other=abc", SetCookie::No),
            ("nonsense", SetCookie::No),
        ] {
            assert_eq!(parse_set_cookie(text), expected, "{text}");
        }
    }
}
