//! As much of HTTP/1.1 as a generator of load needs: one request out, one response with a known length in.

use anyhow::{Context, bail, ensure};

/// A response that has arrived in whole.
#[derive(Debug, PartialEq)]
pub struct Response<'a> {
    /// The status.
    pub status: u16,
    /// The values of its `Set-Cookie` headers.
    pub cookies: Vec<&'a str>,
    /// The body.
    pub body: &'a [u8],
    /// How many bytes all of it takes.
    pub length: usize,
}

/// Reads a response; `None` until all of it is there.
///
/// # Errors
/// If it is none, or says its length in another way than by `Content-Length`.
pub fn response(bytes: &[u8]) -> anyhow::Result<Option<Response<'_>>> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&bytes[..end]).context("a response's head is not text")?;
    let mut lines = head.split("\r\n");
    let first = lines.next().unwrap_or_default();
    ensure!(first.starts_with("HTTP/1.1 "), "this is no response: {first:?}");
    let status = first.get(9..12).and_then(|status| status.parse().ok()).context("a response without a status")?;
    let (mut cookies, mut length) = (Vec::new(), 0);
    for line in lines {
        let Some((name, value)) = line.split_once(':') else { bail!("this is no header: {line:?}") };
        // The length of the name decides most of them.
        match name.len() {
            14 if name.eq_ignore_ascii_case("content-length") => length = value.trim().parse()?,
            10 if name.eq_ignore_ascii_case("set-cookie") => cookies.push(value.trim()),
            17 if name.eq_ignore_ascii_case("transfer-encoding") => bail!("a body of unknown length"),
            _ => {}
        }
    }
    let begin = end + 4;
    let body = bytes.get(begin..begin + length);
    Ok(body.map(|body| Response { status, cookies, body, length: begin + length }))
}

/// The cookies of a browser, by name.
#[derive(Clone, Debug, Default)]
pub struct Cookies(Vec<(String, String)>);

impl Cookies {
    /// Does what a `Set-Cookie` header says, and tells whether anything has changed.
    pub fn set(&mut self, header: &str) -> bool {
        let mut parts = header.split(';').map(str::trim);
        let Some((name, value)) = parts.next().and_then(|pair| pair.split_once('=')) else { return false };
        let removed = value.is_empty() || value == "\"\"" || parts.any(|part| part.eq_ignore_ascii_case("max-age=0"));
        let place = self.0.iter().position(|(known, _)| known == name);
        match place {
            Some(place) if removed => drop(self.0.remove(place)),
            Some(place) if self.0[place].1 != value => value.clone_into(&mut self.0[place].1),
            None if !removed => self.0.push((name.to_owned(), value.to_owned())),
            _ => return false,
        }
        true
    }
}

/// A request, ready to be sent.
pub fn request(method: &str, path: &str, cookies: &Cookies, body: &str) -> Vec<u8> {
    let mut text = format!("{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n");
    for (place, (name, value)) in cookies.0.iter().enumerate() {
        text += if place == 0 { "cookie: " } else { "; " };
        text += &format!("{name}={value}");
    }
    if !cookies.0.is_empty() {
        text += "\r\n";
    }
    if !body.is_empty() {
        text += &format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len());
    }
    (text + "\r\n" + body).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_arrives_in_pieces() {
        let all = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nset-cookie: a=b; Path=/\r\nX: y\r\n\r\nhelloHTTP/1.1 ";
        for end in 0..all.len() - 9 {
            assert_eq!(response(&all[..end]).unwrap(), None, "{end}");
        }
        let whole = response(all).unwrap().unwrap();
        assert_eq!((whole.status, whole.body, whole.length), (200, &b"hello"[..], all.len() - 9));
        assert_eq!(whole.cookies, ["a=b; Path=/"]);
        let empty = response(b"HTTP/1.1 503 No\r\n\r\n").unwrap().unwrap();
        assert_eq!((empty.status, empty.body), (503, &b""[..]));
    }

    #[test]
    fn what_is_no_response_is_an_error() {
        for bytes in
            [&b"SSH-2.0\r\n\r\n"[..], b"HTTP/1.1 2\r\n\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"]
        {
            assert!(response(bytes).is_err());
        }
    }

    #[test]
    fn cookies_are_kept_as_a_browser_keeps_them() {
        let mut cookies = Cookies::default();
        assert!(cookies.set("a=1; Path=/"));
        assert!(!cookies.set("a=1; HttpOnly"));
        assert!(cookies.set("b=2"));
        assert!(cookies.set("a=3"));
        assert!(!cookies.set("store=; Max-Age=0"));
        assert_eq!(
            String::from_utf8(request("GET", "/read", &cookies, "")).unwrap(),
            "GET /read HTTP/1.1\r\nhost: 127.0.0.1\r\ncookie: a=3; b=2\r\n\r\n"
        );
        assert!(cookies.set("a=\"\"; expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0"));
        assert!(cookies.set("b=x; max-age=0"));
        assert_eq!(
            String::from_utf8(request("POST", "/fill", &cookies, "{}")).unwrap(),
            "POST /fill HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
        );
    }
}
