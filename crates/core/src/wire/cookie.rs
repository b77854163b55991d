//! Set-Cookie and the removal cookie, as Django writes them, and the Cookie header, as Django reads it.
//!
//! Django goes through Python's `http.cookies`: the attributes stand in alphabetical order of that module's names,
//! `expires` in lower case, odd characters of a value as octal escapes in double quotes. The Cookie header is hostile
//! input: any bytes are read, nothing panics, and a value may unquote to any character whatever.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt::Write;

use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::key::{self, SessionKey};
use crate::wire::digits::Digits;
use crate::wire::expiry::put_digits;

/// The attributes of a session cookie, from the `SESSION_COOKIE_*` settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CookieAttributes {
    /// The cookie's name, `SESSION_COOKIE_NAME`.
    pub name: String,
    /// `SESSION_COOKIE_DOMAIN`; `None` or empty leaves the attribute out.
    pub domain: Option<String>,
    /// `SESSION_COOKIE_PATH`; empty leaves the attribute out. Written as given, without escaping.
    pub path: String,
    /// `SESSION_COOKIE_SECURE`.
    pub secure: bool,
    /// `SESSION_COOKIE_HTTPONLY`.
    pub http_only: bool,
    /// `SESSION_COOKIE_SAMESITE`: `Lax`, `Strict` or `None` (the word) in any case, written as given; `None` (the
    /// option) or empty leaves the attribute out.
    pub same_site: Option<String>,
}

impl Default for CookieAttributes {
    /// Django's defaults: `sessionid`, no domain, path `/`, not secure, HTTP only, `SameSite=Lax`.
    fn default() -> Self {
        Self {
            name: "sessionid".into(),
            domain: None,
            path: "/".into(),
            secure: false,
            http_only: true,
            same_site: Some("Lax".into()),
        }
    }
}

/// Writes `Set-Cookie` values. Built once; everything that does not change from cookie to cookie is prepared.
#[derive(Clone, Debug)]
pub struct CookieWriter {
    name: String,
    /// `; Domain=D`, or nothing.
    domain: String,
    http_only: bool,
    /// `; Path=P; SameSite=S; Secure`, as far as configured.
    tail: String,
    removal: String,
}

impl CookieWriter {
    /// A writer of cookies with these attributes.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] if the name is none that a cookie can have, if SameSite is a word other than
    /// `Lax`, `Strict` and `None`, or if an attribute has a character that would end it or the header.
    pub fn new(attributes: &CookieAttributes) -> Result<Self> {
        check_name(&attributes.name)?;
        let domain = attributes.domain.as_deref().unwrap_or("");
        let same_site = attributes.same_site.as_deref().unwrap_or("");
        check_attribute("SESSION_COOKIE_DOMAIN", domain)?;
        check_attribute("SESSION_COOKIE_PATH", &attributes.path)?;
        if !(same_site.is_empty() || is_same_site(same_site)) {
            return Err(configuration(format!(
                "SESSION_COOKIE_SAMESITE is {same_site:?}: it must be \"Lax\", \"Strict\" or \"None\", or false to leave \
                 the attribute out"
            )));
        }
        let attribute = |name, value: &str| if value.is_empty() { String::new() } else { format!("; {name}={value}") };
        let domain = attribute("Domain", domain);
        let place = attribute("Path", &attributes.path) + &attribute("SameSite", same_site);

        // Browsers refuse to replace such a cookie by one without Secure, so Django adds it when deleting, and only
        // there; SESSION_COOKIE_SECURE itself plays no part in it.
        let must_be_secure = attributes.name.starts_with("__Secure-")
            || attributes.name.starts_with("__Host-")
            || same_site.eq_ignore_ascii_case("none");
        let removal = format!(
            "{}=\"\"{domain}; expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0{place}{}",
            attributes.name,
            if must_be_secure { "; Secure" } else { "" },
        );
        Ok(Self {
            name: attributes.name.clone(),
            domain,
            http_only: attributes.http_only,
            tail: if attributes.secure { place + "; Secure" } else { place },
            removal,
        })
    }

    /// The cookie's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The `Set-Cookie` value that gives the client `value`.
    ///
    /// `lifetime` is the age in seconds (it may be zero or negative) and the moment the cookie ends; without it, the
    /// cookie lives until the browser closes.
    pub fn set(&self, value: &str, lifetime: Option<(i64, Timestamp)>) -> String {
        let value = match is_all_bare(value.as_bytes()) {
            true => Cow::Borrowed(value),
            false => Cow::Owned(quoted(value)),
        };
        self.set_as(value.as_bytes(), lifetime)
    }

    /// [`set`](Self::set) with a session's key.
    pub(crate) fn set_key(&self, key: &SessionKey, lifetime: Option<(i64, Timestamp)>) -> String {
        match key.is_storable() || is_all_bare(key.as_bytes()) {
            true => self.set_as(key.as_bytes(), lifetime),
            false => self.set(key.as_str(), lifetime),
        }
    }

    /// With a value as it is to be written.
    fn set_as(&self, value: &[u8], lifetime: Option<(i64, Timestamp)>) -> String {
        const EXPIRES: &[u8] = b"; expires=";
        const HTTP_ONLY: &[u8] = b"; HttpOnly";
        const MAX_AGE: &[u8] = b"; Max-Age=";
        let lifetime = lifetime
            .map(|(age, expires)| (Digits::new::<10>(age < 0, age.unsigned_abs().into()), http_date_bytes(expires)));
        let lifetime_length = lifetime
            .as_ref()
            .map_or(0, |(age, expires)| EXPIRES.len() + expires.len() + MAX_AGE.len() + age.as_bytes().len());
        let http_only = if self.http_only { HTTP_ONLY } else { b"" };
        let fixed_length = self.name.len() + "=".len() + self.domain.len() + http_only.len() + self.tail.len();
        let length = fixed_length + value.len() + lifetime_length;
        // Bytes, which are looked at once when all are there; without room to spare, a header takes them as they are.
        let mut text = Vec::with_capacity(length);
        text.extend_from_slice(self.name.as_bytes());
        text.push(b'=');
        text.extend_from_slice(value);
        text.extend_from_slice(self.domain.as_bytes());
        if let Some((_, expires)) = &lifetime {
            text.extend_from_slice(EXPIRES);
            text.extend_from_slice(expires);
        }
        text.extend_from_slice(http_only);
        if let Some((age, _)) = &lifetime {
            text.extend_from_slice(MAX_AGE);
            text.extend_from_slice(age.as_bytes());
        }
        text.extend_from_slice(self.tail.as_bytes());
        debug_assert_eq!(text.len(), length);
        String::from_utf8(text).expect("texts, one after another")
    }

    /// The `Set-Cookie` value that makes the client drop the cookie.
    pub fn removal(&self) -> &str {
        &self.removal
    }
}

/// The first octets of an HTTP date, by weekday of 1970-01-01 and after.
const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// A moment as `Wed, 16 May 2035 08:53:58 GMT`, the fraction of a second cut off.
///
/// A moment outside the years 1 to 9999 is written as the first or last of them.
pub fn http_date(time: Timestamp) -> String {
    String::from_utf8_lossy(&http_date_bytes(time)).into_owned()
}

/// [`http_date`] in ASCII. Sessions that are saved in the same second mostly end in the same second.
fn http_date_bytes(time: Timestamp) -> [u8; 29] {
    thread_local! {
        static LAST: Cell<(i64, [u8; 29])> = const { Cell::new((0, *b"Thu, 01 Jan 1970 00:00:00 GMT")) };
    }
    let secs = time.clamp(Timestamp::MIN, Timestamp::MAX).as_secs();
    let (last, date) = LAST.get();
    if last == secs {
        return date;
    }
    let date = written_date(secs);
    LAST.set((secs, date));
    date
}

/// On its own, since a date that is at hand would otherwise be copied byte by byte.
#[inline(never)]
fn written_date(secs: i64) -> [u8; 29] {
    let days = secs.div_euclid(86_400);
    let clock = secs.rem_euclid(86_400);
    let (year, month, day) = super::expiry::civil_from_days(days);
    let mut date = *b"Thu, 01 Jan 1970 00:00:00 GMT";
    put_digits(&mut date, 5, day);
    put_digits(&mut date, 12, year / 100);
    put_digits(&mut date, 14, year);
    put_digits(&mut date, 17, clock / 3600);
    put_digits(&mut date, 20, clock / 60 % 60);
    put_digits(&mut date, 23, clock % 60);
    date[..3].copy_from_slice(WEEKDAYS[days.rem_euclid(7) as usize].as_bytes());
    date[8..11].copy_from_slice(MONTHS[month as usize - 1].as_bytes());
    date
}

/// Whether the text is a value of the SameSite attribute, in any case.
pub(crate) fn is_same_site(text: &str) -> bool {
    ["lax", "strict", "none"].iter().any(|word| text.eq_ignore_ascii_case(word))
}

/// What stands in a name, or in a value without quotes: the characters of an HTTP token, and the colon.
fn is_bare(byte: u8) -> bool {
    const BARE: [bool; 256] = {
        let mut bare = [false; 256];
        let mut byte = 0;
        while byte < 128 {
            bare[byte] = (byte as u8).is_ascii_alphanumeric();
            byte += 1;
        }
        let (others, mut at) = (b"!#$%&'*+-.^_`|~:", 0);
        while at < others.len() {
            bare[others[at] as usize] = true;
            at += 1;
        }
        bare
    };
    BARE[usize::from(byte)]
}

/// Names of attributes, which a cookie cannot have.
const RESERVED: [&str; 9] =
    ["expires", "path", "comment", "domain", "max-age", "secure", "httponly", "version", "samesite"];

/// Whether a cookie can have this name.
///
/// # Errors
/// [`ErrorKind::Configuration`], with what is wrong.
pub(crate) fn check_name(name: &str) -> Result<()> {
    if name.is_empty() {
        return Err(configuration("SESSION_COOKIE_NAME is empty: a cookie needs a name, Django's is \"sessionid\""));
    }
    if let Some(odd) = name.chars().find(|c| !c.is_ascii() || !is_bare(*c as u8)) {
        return Err(configuration(format!(
            "SESSION_COOKIE_NAME is {name:?}: a cookie's name cannot contain {odd:?}; use letters, digits, '-', '_', '.'"
        )));
    }
    if RESERVED.iter().any(|reserved| name.eq_ignore_ascii_case(reserved)) {
        return Err(configuration(format!(
            "SESSION_COOKIE_NAME is {name:?}, which is the name of a cookie attribute: choose another"
        )));
    }
    Ok(())
}

/// Whether the text can stand in a `Set-Cookie` attribute without ending it, the header, or the response's head.
///
/// # Errors
/// [`ErrorKind::Configuration`], naming `setting`.
pub(crate) fn check_attribute(setting: &str, text: &str) -> Result<()> {
    match text.chars().find(|&c| c == ';' || c.is_ascii_control()) {
        None => Ok(()),
        Some(odd) => Err(configuration(format!(
            "{setting} is {text:?}: it cannot contain {odd:?}, which would end the cookie's attribute or the header"
        ))),
    }
}

fn configuration(message: impl Into<Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Configuration, message)
}

/// Whether a value can stand without quotes. Looks at all of it in any case, which takes less than to stop early.
fn is_all_bare(value: &[u8]) -> bool {
    !value.is_empty() && value.iter().fold(true, |bare, byte| bare & is_bare(*byte))
}

/// A value in quotes, with escapes where it needs them.
fn quoted(value: &str) -> String {
    let mut text = String::with_capacity(value.len() + 16);
    text.push('"');
    for c in value.chars() {
        match c {
            '"' | '\\' => {
                text.push('\\');
                text.push(c);
            }
            ',' | ';' | '\0'..='\x1f' | '\x7f'..='\u{ff}' => {
                let _ = write!(text, "\\{:03o}", c as u32);
            }
            _ => text.push(c),
        }
    }
    text.push('"');
    text
}

/// The value of the cookie `name` in a request's `Cookie` headers, as Django over WSGI sees it; `None` if there is no
/// such cookie.
///
/// The last of several cookies of the name counts. Several header lines, as HTTP/2 sends them, count as one. Bytes
/// that are not UTF-8 become U+FFFD. Nothing is allocated unless the value needs decoding.
pub fn find<'a>(headers: impl Iterator<Item = &'a [u8]>, name: &str) -> Option<Cow<'a, str>> {
    let mut found = None;
    for header in headers {
        let here = match std::str::from_utf8(header) {
            Ok(header) => last_value(header, name).map(Cow::Borrowed),
            Err(_) => last_value(&String::from_utf8_lossy(header), name).map(|value| Cow::Owned(value.to_owned())),
        };
        found = here.or(found);
    }
    Some(match found? {
        Cow::Borrowed(value) => unquote(strip(value)),
        Cow::Owned(value) => Cow::Owned(unquote(strip(&value)).into_owned()),
    })
}

/// Whether the session's cookie is in a request's `Cookie` headers, and the key that it presents: [`find`] and
/// [`SessionKey::presented`], at less cost in the usual case.
#[inline]
pub(crate) fn find_key<'a>(mut headers: impl Iterator<Item = &'a [u8]>, name: &str) -> (bool, Option<SessionKey>) {
    match (headers.next(), headers.next()) {
        (None, _) => (false, None),
        (Some(only), None) => find_key_in(only, name),
        (first, second) => presented(find(first.into_iter().chain(second).chain(headers), name)),
    }
}

#[inline]
fn find_key_in(header: &[u8], name: &str) -> (bool, Option<SessionKey>) {
    match key_at_end(header, name.as_bytes()) {
        Some(key) => (true, Some(SessionKey::drawn(key))),
        None => find_key_closely(header, name),
    }
}

#[inline(never)]
fn find_key_closely(header: &[u8], name: &str) -> (bool, Option<SessionKey>) {
    match find_plain(header, name.as_bytes()) {
        Ok(value) => (value.is_some(), value.and_then(SessionKey::presented_ascii)),
        Err(Unusual) => presented(find(std::iter::once(header), name)),
    }
}

fn presented(value: Option<Cow<'_, str>>) -> (bool, Option<SessionKey>) {
    (value.is_some(), value.as_deref().and_then(SessionKey::presented))
}

/// The key of the usual form that stands at the header's end, as it does when its cookie is the only one or the newest:
/// so the rest of the header need not be looked at.
fn key_at_end<'a>(header: &'a [u8], name: &[u8]) -> Option<&'a [u8; SessionKey::GENERATED_LENGTH]> {
    let (before, key) = header.split_last_chunk()?;
    let before = before.strip_suffix(b"=")?.strip_suffix(name)?;
    (matches!(before, [] | [.., b';'] | [.., b';', b' ']) && key::is_drawn(key)).then_some(key)
}

/// A header, or a value in it, that has to be looked at more closely.
struct Unusual;

/// The value of a cookie as it stands in the header, if nothing about it is unusual: no quotation marks, no blanks
/// where none are expected, and ASCII alone.
fn find_plain<'a>(header: &'a [u8], name: &[u8]) -> Result<Option<&'a [u8]>, Unusual> {
    let mut rest = header;
    loop {
        // The last cookie of the name counts.
        let semicolon = last_semicolon(rest);
        let part = &rest[semicolon.map_or(0, |at| at + 1)..];
        match part.strip_prefix(b" ").unwrap_or(part) {
            [] => {}
            part @ [b'!'..=b'~', ..] => {
                // A name that starts otherwise is another one.
                if let Some(part) = part.strip_prefix(name) {
                    let Some((b'=', value)) = part.split_first() else { return Err(Unusual) };
                    let plain = matches!(value, [b'!' | b'#'..=b'~', .., b'!'..=b'~']) && value.is_ascii();
                    return if plain { Ok(Some(value)) } else { Err(Unusual) };
                }
            }
            _ => return Err(Unusual),
        }
        let Some(semicolon) = semicolon else { return Ok(None) };
        rest = &rest[..semicolon];
    }
}

fn last_semicolon(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::MAX / 255;
    const TOPS: u64 = ONES << 7;
    let mut end = bytes.len();
    // Eight bytes at a time: the top bit of each that is a semicolon, and of no other.
    while let Some(chunk) = bytes[..end].last_chunk::<8>() {
        let word = u64::from_le_bytes(*chunk) ^ (ONES * b';' as u64);
        let found = !(((word & !TOPS) + !TOPS) | word) & TOPS;
        if found != 0 {
            return Some(end - 1 - (found.leading_zeros() / 8) as usize);
        }
        end -= 8;
    }
    bytes[..end].iter().rposition(|&byte| byte == b';')
}

fn last_value<'a>(header: &'a str, name: &str) -> Option<&'a str> {
    header.rsplit(';').find_map(|part| value_of(part, name))
}

/// What stands after the `=` in a part of the header, if the part is a cookie of this name.
fn value_of<'a>(part: &'a str, name: &str) -> Option<&'a str> {
    let part = part.strip_prefix(' ').unwrap_or(part);
    let (key, value) = match part.strip_prefix(name).and_then(|rest| rest.strip_prefix('=')) {
        Some(value) => (name, value),
        None => part.split_once('=').unwrap_or(("", part)),
    };
    (strip(key) == name && !(name.is_empty() && strip(value).is_empty())).then_some(value)
}

/// All cookies of a `Cookie` header, in the order of Django's dictionary: a repeated name keeps its first place and
/// takes its last value.
pub fn parse(header: &str) -> Vec<(String, String)> {
    let mut cookies: Vec<(String, String)> = Vec::new();
    let mut places = std::collections::HashMap::new();
    for part in header.split(';') {
        let (key, value) = part.split_once('=').unwrap_or(("", part));
        let (key, value) = (strip(key), strip(value));
        if key.is_empty() && value.is_empty() {
            continue;
        }
        let value = unquote(value).into_owned();
        match places.get(key) {
            Some(&place) => {
                let (_, old): &mut (String, String) = &mut cookies[place];
                *old = value;
            }
            None => {
                places.insert(key, cookies.len());
                cookies.push((key.to_owned(), value));
            }
        }
    }
    cookies
}

/// What Python's `str.strip` removes: Unicode's white space, and four separators which Unicode does not count.
fn is_blank(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

fn strip(text: &str) -> &str {
    match text.as_bytes() {
        // Nearly always.
        [b'!'..=b'~', .., b'!'..=b'~'] => text,
        _ => text.trim_matches(is_blank),
    }
}

/// The value without its quotes and escapes, if it is quoted.
fn unquote(value: &str) -> Cow<'_, str> {
    let Some(inner) = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return Cow::Borrowed(value);
    };
    if !inner.contains('\\') {
        return Cow::Borrowed(inner);
    }
    let mut text = String::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(place) = rest.find('\\') {
        text.push_str(&rest[..place]);
        let escaped = &rest[place + 1..];
        match *escaped.as_bytes() {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] => {
                text.push(char::from((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0')));
                rest = &escaped[3..];
            }
            // Python's pattern for "a backslash and any character" does not match a newline.
            [] | [b'\n', ..] => {
                text.push('\\');
                rest = escaped;
            }
            _ => {
                let next = escaped.chars().next().map_or(0, char::len_utf8);
                text.push_str(&escaped[..next]);
                rest = &escaped[next..];
            }
        }
    }
    text.push_str(rest);
    Cow::Owned(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one<'a>(header: &'a str, name: &str) -> Option<Cow<'a, str>> {
        find(std::iter::once(header.as_bytes()), name)
    }

    #[test]
    fn attributes_stand_in_djangos_order() {
        let attributes = CookieAttributes {
            name: "sid".into(),
            domain: Some("example.org".into()),
            path: "/app/".into(),
            secure: true,
            http_only: true,
            same_site: Some("Strict".into()),
        };
        let writer = CookieWriter::new(&attributes).unwrap();
        assert_eq!(
            writer.set("abc", Some((-5, Timestamp::from_micros(1_999_999)))),
            "sid=abc; Domain=example.org; expires=Thu, 01 Jan 1970 00:00:01 GMT; HttpOnly; Max-Age=-5; Path=/app/; \
             SameSite=Strict; Secure"
        );
        assert_eq!(
            writer.removal(),
            "sid=\"\"; Domain=example.org; expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0; Path=/app/; \
             SameSite=Strict"
        );
        assert_eq!(
            CookieWriter::new(&CookieAttributes::default()).unwrap().set("", None),
            "sessionid=\"\"; HttpOnly; Path=/; SameSite=Lax"
        );
    }

    #[test]
    fn what_would_end_the_header_is_refused() {
        for bad in ["a\r\nSet-Cookie: x=y", "a;b", "a\nb", "a\0b"] {
            for attributes in [
                CookieAttributes { name: bad.into(), ..Default::default() },
                CookieAttributes { domain: Some(bad.into()), ..Default::default() },
                CookieAttributes { path: bad.into(), ..Default::default() },
                CookieAttributes { same_site: Some(bad.into()), ..Default::default() },
            ] {
                let error = CookieWriter::new(&attributes).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Configuration, "{attributes:?}");
            }
        }
    }

    #[test]
    fn dates_at_the_ends_of_the_calendar() {
        assert_eq!(http_date(Timestamp::MIN), "Mon, 01 Jan 0001 00:00:00 GMT");
        assert_eq!(http_date(Timestamp::MAX), "Fri, 31 Dec 9999 23:59:59 GMT");
        assert_eq!(http_date(Timestamp::from_micros(i64::MAX)), http_date(Timestamp::MAX));
        assert_eq!(http_date(Timestamp::from_micros(-1)), "Wed, 31 Dec 1969 23:59:59 GMT");
    }

    #[test]
    fn the_last_cookie_of_a_name_counts_over_all_header_lines() {
        let lines: [&[u8]; 2] = [b"sessionid=first; a=b", b"sessionid = second ;c"];
        assert_eq!(find(lines.into_iter(), "sessionid").as_deref(), Some("second"));
        assert_eq!(find(lines.into_iter(), "b"), None);
        assert_eq!(one("sessionid=", "sessionid").as_deref(), Some(""));
        assert_eq!(one("sessionid", "sessionid"), None);
        assert_eq!(one("\u{a0}sessionid\u{2003}=\u{85}x\x1f", "sessionid").as_deref(), Some("x"));
    }

    #[test]
    fn the_usual_cookie_is_borrowed() {
        assert!(matches!(one("a=b; sessionid=6u1t8qdn", "sessionid"), Some(Cow::Borrowed("6u1t8qdn"))));
        assert!(matches!(one("sessionid=\"6u1t8qdn\"", "sessionid"), Some(Cow::Borrowed("6u1t8qdn"))));
    }

    #[test]
    fn broken_utf8_and_escapes() {
        let header: &[u8] = b"sessionid=\"\xff\\073\\\"\\\n\\400\"";
        assert_eq!(find(std::iter::once(header), "sessionid").as_deref(), Some("\u{fffd};\"\\\n400"));
        assert_eq!(one("sessionid=\"", "sessionid").as_deref(), Some("\""));
        assert_eq!(one("sessionid=\"\\\"", "sessionid").as_deref(), Some("\\"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_as_one_parser_does(bytes in proptest::collection::vec(
            prop_oneof![Just(b';'), Just(b'='), Just(b'"'), Just(b'\\'), Just(b'a'), Just(b' '), Just(b'1'), any::<u8>()],
            0..60,
        )) {
            let all = parse(&String::from_utf8_lossy(&bytes));
            for name in ["", "a", "a1", "1"] {
                let expected = all.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
                let found = find(std::iter::once(&bytes[..]), name);
                prop_assert_eq!(found.as_deref(), expected);
                let key = found.as_deref().and_then(SessionKey::presented);
                prop_assert_eq!(find_key(std::iter::once(&bytes[..]), name), (found.is_some(), key));
            }
        }

        /// The short way to the key is no other than the long one.
        #[test]
        fn a_key_is_found_as_any_cookie_is(
            headers in proptest::collection::vec(
                "([ \t]{0,2}(sid|sid2|si|s|x)[ ]?=?([a-z0-9]{32}|[a-z0-9\" é]{0,42});?){0,4}",
                0..3,
            ),
        ) {
            let all = || headers.iter().map(String::as_bytes);
            let found = find(all(), "sid");
            let key = found.as_deref().and_then(SessionKey::presented);
            prop_assert_eq!(find_key(all(), "sid"), (found.is_some(), key));
        }

        #[test]
        fn a_quoted_value_reads_back(value in "\\PC*|[ -~]{0,20}|[\\x00-\\xff]{0,8}") {
            let writer = CookieWriter::new(&CookieAttributes { name: "c".into(), ..Default::default() }).unwrap();
            let text = writer.set(&value, None);
            prop_assert!(!text.contains(['\r', '\n', '\0']));
            let pair = text.split("; HttpOnly").next().unwrap();
            prop_assert_eq!(unquote(strip(pair.strip_prefix("c=").unwrap())), value);
        }
    }
}
