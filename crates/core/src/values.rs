//! The data of a session: an ordered dictionary of raw JSON.

mod packed;

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, ErrorKind, Result};
use crate::json::{self, RawJson};

/// Up to so many entries a scan of the list finds a repeated key sooner than a table does.
const SMALL: usize = 16;

/// A session's dictionary: raw JSON text for each key, in order.
///
/// A value is turned into a Rust type when it is asked for. One that nobody sets leaves exactly as it came: integers
/// of thirty digits, `1e22`, `-0.0`, `NaN`, escapes. A clone copies no text. `Debug` shows how many keys there are.
///
/// A cache that Python programs share may hold what JSON has no form for: a `datetime`, a class. Such an item is
/// *opaque*: it counts and has a place, asking for it is an error that names its type, and as long as it is there the
/// dictionary cannot be written, so that what is stored stays as it is.
#[derive(Clone, Default)]
pub struct Values(
    /// None for an empty dictionary, which so allocates nothing. Shared by clones until one of them changes.
    Option<Arc<Table>>,
);

#[derive(Clone, Default)]
struct Table {
    /// What was read: JSON in ASCII, or the [`packed`] form. Bytes, so that only what is asked for is looked at again, and
    /// shared with the payload from which it came.
    source: Bytes,
    entries: Vec<Entry>,
    /// The [`mark`] of each key: nearly every key that is looked for in vain has another mark than all that are there.
    marks: u64,
}

/// One bit of 64 for a key.
pub(crate) fn mark(key: &[u8]) -> u64 {
    let (first, last) = (key.first().copied().unwrap_or(0), key.last().copied().unwrap_or(0));
    1 << ((usize::from(first) + 5 * usize::from(last) + 11 * key.len()) % 64)
}

#[derive(Clone)]
struct Entry {
    /// As Python writes it between quotation marks, so that a key has one spelling, and half a surrogate pair has one
    /// at all.
    key: Text,
    value: Text,
}

/// A part of what was parsed. In less than 4 GiB, half as large as a range is.
#[derive(Clone, Copy)]
pub(crate) struct Span {
    start: u32,
    length: u32,
}

impl Span {
    fn range(self) -> Range<usize> {
        let start = self.start as usize;
        start..start + self.length as usize
    }
}

#[derive(Clone)]
pub(crate) enum Text {
    Source(Span),
    Own(Arc<str>),
    /// A value without a text; what kind it is of.
    Opaque(Arc<str>),
}

fn ascii(source: &[u8]) -> &str {
    std::str::from_utf8(source).expect("the source is ASCII")
}

impl Text {
    /// The part in this range of a text of less than 4 GiB.
    pub(crate) fn source(range: Range<usize>) -> Self {
        Self::Source(Span { start: range.start as u32, length: (range.end - range.start) as u32 })
    }

    fn get<'a>(&'a self, source: &'a [u8]) -> &'a str {
        match self {
            Self::Source(span) => ascii(&source[span.range()]),
            Self::Own(text) => text,
            Self::Opaque(_) => "null",
        }
    }

    fn bytes<'a>(&'a self, source: &'a [u8]) -> &'a [u8] {
        match self {
            Self::Source(span) => &source[span.range()],
            other => other.get(source).as_bytes(),
        }
    }

    /// Whether it is this text.
    fn is(&self, source: &[u8], text: &[u8]) -> bool {
        match self {
            // By far the most differ in length already.
            Self::Source(span) => span.length as usize == text.len() && source[span.range()] == *text,
            Self::Own(own) => own.as_bytes() == text,
            Self::Opaque(_) => text == b"null",
        }
    }
}

impl Entry {
    /// Where the source holds the item as we would write it: `"key":value`.
    fn in_source(&self, source: &[u8]) -> Option<Range<usize>> {
        let (Text::Source(key), Text::Source(value)) = (&self.key, &self.value) else { return None };
        let (key, value) = (key.range(), value.range());
        let start = key.start.checked_sub(1)?;
        let spelled = source[start] == b'"' && value.start == key.end + 2 && source[key.end..value.start] == *b"\":";
        spelled.then_some(start..value.end)
    }
}

impl Table {
    fn position(&self, key: &str) -> Option<usize> {
        if self.marks & mark(key.as_bytes()) == 0 {
            return None;
        }
        position(&self.entries, &self.source, key.as_bytes())
    }
}

fn position(entries: &[Entry], source: &[u8], key: &[u8]) -> Option<usize> {
    entries.iter().position(|entry| entry.key.is(source, key))
}

/// Gathers the entries of a dictionary whose text is `source`.
struct Gatherer<'a> {
    source: &'a [u8],
    entries: Vec<Entry>,
    marks: u64,
    /// Where each key stands, once there are many.
    places: Option<HashMap<Vec<u8>, usize>>,
}

impl<'a> Gatherer<'a> {
    fn new(source: &'a [u8], capacity: usize) -> Self {
        Self { source, entries: Vec::with_capacity(capacity), marks: 0, places: None }
    }

    /// Adds an entry; of a repeated key, the first place and the last value count.
    #[inline]
    fn push(&mut self, key: Range<usize>, plain: bool, value: Range<usize>) {
        let mark = mark(&self.source[key.clone()]);
        if plain && self.marks & mark == 0 && self.entries.len() < SMALL {
            // As nearly all are: certainly none of those that are there.
            self.marks |= mark;
            self.entries.push(Entry { key: Text::source(key), value: Text::source(value) });
        } else {
            self.push_any(key, plain, Text::source(value));
        }
    }

    #[inline(never)]
    fn push_any(&mut self, key: Range<usize>, plain: bool, value: Text) {
        let source = self.source;
        let own = match plain {
            true => None,
            false => match json::canonical(ascii(&source[key.clone()])) {
                Cow::Borrowed(_) => None,
                Cow::Owned(text) => Some(text),
            },
        };
        let text = own.as_ref().map_or(&source[key.clone()], |text| text.as_bytes());
        if let Some(place) = self.place(text) {
            self.entries[place].value = value;
            return;
        }
        let key = own.map_or(Text::source(key), |text| Text::Own(text.into()));
        self.entries.push(Entry { key, value });
    }

    /// Where a key stands already. If it does not, it is taken to stand next.
    fn place(&mut self, key: &[u8]) -> Option<usize> {
        let next = self.entries.len();
        let seen = self.marks & mark(key) != 0;
        self.marks |= mark(key);
        if next < SMALL {
            return if seen { position(&self.entries, self.source, key) } else { None };
        }
        let known = self.entries.iter().map(|entry| entry.key.bytes(self.source).to_owned());
        let places = self.places.get_or_insert_with(|| known.zip(0..).collect());
        let place = places.get(key).copied();
        if place.is_none() {
            places.insert(key.to_owned(), next);
        }
        place
    }
}

impl Values {
    fn source(&self) -> &[u8] {
        self.0.as_deref().map_or(&[], |table| &table.source)
    }

    /// How long the text was that this was read from, in bytes: about what it takes to write it.
    pub(crate) fn read_length(&self) -> usize {
        self.source().len()
    }

    /// How many bytes it takes, about.
    pub(crate) fn size(&self) -> usize {
        let own = |text: &Text| match text {
            Text::Source(_) => 0,
            Text::Own(text) | Text::Opaque(text) => text.len(),
        };
        let entries = self.entries().iter().map(|entry| size_of::<Entry>() + own(&entry.key) + own(&entry.value));
        self.source().len() + entries.sum::<usize>()
    }

    fn entries(&self) -> &[Entry] {
        self.0.as_deref().map_or(&[], |table| &table.entries)
    }

    /// To be changed: no other clone sees that.
    fn table(&mut self) -> &mut Table {
        Arc::make_mut(self.0.get_or_insert_default())
    }

    /// An empty dictionary.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads what Django or we wrote: one JSON object.
    ///
    /// Bytes are characters, as in Django (latin-1): what a foreign writer put there in raw UTF-8 comes out garbled
    /// here as it does there. Of a repeated key, the first place and the last value count.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupted`] if the text is not JSON as Python reads it, another value than an object, or 4 GiB long.
    pub fn parse(json: Vec<u8>) -> Result<Self> {
        Self::parse_shared(json.into())
    }

    /// As [`parse`](Self::parse), of bytes that others hold too: they are not copied.
    pub(crate) fn parse_shared(json: Bytes) -> Result<Self> {
        // As nearly all are.
        if json.is_ascii() {
            return Self::parse_ascii(Some(json));
        }
        Self::parse_ascii(json::ascii_from_latin1(json.into()).map(Bytes::from))
    }

    /// As [`parse`](Self::parse) for what was written and is read as UTF-8.
    pub(crate) fn parse_utf8(json: Vec<u8>) -> Result<Self> {
        Self::parse_ascii(json::ascii_from_utf8(json).map(Bytes::from))
    }

    fn parse_ascii(source: Option<Bytes>) -> Result<Self> {
        let source = source.filter(|source| u32::try_from(source.len()).is_ok()).ok_or_else(|| {
            let what = "malformed JSON: an escape that does not exist, bytes that are no text, or 4 GiB of them";
            Error::new(ErrorKind::Corrupted, what)
        })?;
        let mut gatherer = Gatherer::new(&source, SMALL);
        json::split_object(&source, |key, value| gatherer.push(key.span, key.plain, value))?;
        let Gatherer { entries, marks, .. } = gatherer;
        Ok(Self(Some(Arc::new(Table { source, entries, marks }))))
    }

    /// Puts a dictionary together: the places of its keys in `source`, where they are spelled as Python does, and its values.
    pub(crate) fn from_spans(source: Vec<u8>, spans: Vec<(Range<usize>, Text)>) -> Self {
        let source = Bytes::from(source);
        let mut gatherer = Gatherer::new(&source, spans.len());
        spans.into_iter().for_each(|(key, value)| gatherer.push_any(key, true, value));
        let Gatherer { entries, marks, .. } = gatherer;
        Self(Some(Arc::new(Table { source, entries, marks })))
    }

    /// Takes a dictionary as we write it: where the quotation mark of each key and, in turn, each value start in `source`.
    pub(crate) fn from_starts(source: Vec<u8>, starts: &[u32]) -> Self {
        let source = Bytes::from(source);
        let mut gatherer = Gatherer::new(&source, starts.len() / 2);
        let (entries, _) = starts.as_chunks();
        let ends = entries.iter().skip(1).map(|[next, _]| *next as usize).chain([source.len()]);
        for ([key, value], end) in entries.iter().zip(ends) {
            let (key, value) = (*key as usize, *value as usize);
            gatherer.push(key + 1..value - 2, true, value..end - 1);
        }
        let Gatherer { entries, marks, .. } = gatherer;
        Self(Some(Arc::new(Table { source, entries, marks })))
    }

    /// Checks that no item is opaque, as every writer of a stored form has to do first.
    ///
    /// # Errors
    /// [`ErrorKind::Unrepresentable`], with the item's key and its type.
    pub fn check_writable(&self) -> Result<()> {
        let opaque = self.entries().iter().find_map(|entry| match &entry.value {
            Text::Opaque(type_name) => Some((entry, type_name)),
            _ => None,
        });
        let Some((entry, type_name)) = opaque else { return Ok(()) };
        let key = json::unescape_lossy(entry.key.get(self.source()));
        let message = format!(
            "the session's item {key:?} holds a Python {type_name}, which cannot be written here: the session can be \
             read, and is left as it stands, until that item is removed or set to something else"
        );
        Err(Error::new(ErrorKind::Unrepresentable, message))
    }

    /// Appends the dictionary as Python's `json.dumps(data, separators=(",", ":"))` writes it.
    ///
    /// # Errors
    /// As [`check_writable`](Self::check_writable).
    pub fn write_json(&self, out: &mut Vec<u8>) -> Result<()> {
        self.check_writable()?;
        self.write_text(out);
        Ok(())
    }

    /// [`write_json`](Self::write_json) into bytes of its own, without the check: an opaque item becomes `null`.
    pub(crate) fn json_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.source().len() + 64);
        self.write_text(&mut out);
        out
    }

    fn write_text(&self, out: &mut Vec<u8>) {
        let source = self.source();
        out.reserve(source.len() + 64);
        out.push(b'{');
        // Where neighbours stand in the source as we would write them, all of them are copied at once.
        let mut run = 0..0;
        for entry in self.entries() {
            let item = entry.in_source(source);
            if let Some(item) = &item
                && run.end + 1 == item.start
                && !run.is_empty()
                && source[run.end] == b','
            {
                run.end = item.end;
                continue;
            }
            out.extend_from_slice(&source[std::mem::take(&mut run)]);
            if out.last() != Some(&b'{') {
                out.push(b',');
            }
            match item {
                Some(item) => run = item,
                None => {
                    out.push(b'"');
                    out.extend_from_slice(entry.key.bytes(source));
                    out.extend_from_slice(b"\":");
                    out.extend_from_slice(entry.value.bytes(source));
                }
            }
        }
        out.extend_from_slice(&source[run]);
        out.push(b'}');
    }

    /// The dictionary as JSON text, to look at: an opaque item shows as `null`.
    ///
    /// What is to be stored is made by [`write_json`](Self::write_json).
    pub fn to_json(&self) -> String {
        String::from_utf8(self.json_bytes()).expect("keys and values are ASCII")
    }

    /// The JSON text of an item; `null` for an opaque one.
    pub fn get_raw(&self, key: &str) -> Option<&str> {
        self.position(&escaped(key)).map(|at| self.entries()[at].value.get(self.source()))
    }

    /// As [`get_raw`](Self::get_raw), but an opaque item is an error of [`ErrorKind::Type`].
    pub(crate) fn readable(&self, key: &str) -> Result<Option<&str>> {
        self.readable_escaped(key, &escaped(key))
    }

    /// As [`readable`](Self::readable) for a key that needs no escape.
    pub(crate) fn readable_plain(&self, key: &str) -> Result<Option<&str>> {
        self.readable_escaped(key, key)
    }

    /// Whether this and `other` are clones, and neither was changed since.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Some(table), Some(other)) => Arc::ptr_eq(table, other),
            (table, other) => table.is_none() && other.is_none(),
        }
    }

    fn readable_escaped(&self, key: &str, escaped: &str) -> Result<Option<&str>> {
        let Some(at) = self.position(escaped) else { return Ok(None) };
        match &self.entries()[at].value {
            Text::Opaque(type_name) => Err(Error::new(
                ErrorKind::Type,
                format!("the session's item {key:?} holds a Python {type_name}, which cannot be read here"),
            )),
            text => Ok(Some(text.get(self.source()))),
        }
    }

    /// The type of an opaque item; `None` for any other, and if there is none.
    pub fn opaque_type(&self, key: &str) -> Option<&str> {
        match &self.entries()[self.position(&escaped(key))?].value {
            Text::Opaque(type_name) => Some(type_name),
            _ => None,
        }
    }

    /// Puts an opaque item in: something that is stored, and of which only the type is known, such as
    /// `datetime.datetime`. A key that is there already keeps its place.
    pub fn insert_opaque(&mut self, key: &str, type_name: &str) {
        self.set(&escaped(key), Text::Opaque(type_name.into()));
    }

    /// An item as a Rust type; `None` if there is none.
    ///
    /// # Errors
    /// [`ErrorKind::Type`] if the item is something else than a `T`; the message never contains the value.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        self.readable(key)?.map(|raw| json::item(key, raw)).transpose()
    }

    /// Sets an item. A key that is there already keeps its place.
    ///
    /// # Errors
    /// [`ErrorKind::Unrepresentable`] if the value cannot be written as JSON; see [`json::to_string`].
    pub fn insert<T: Serialize + ?Sized>(&mut self, key: &str, value: &T) -> Result<()> {
        let value = RawJson::new(value).map_err(|refused| {
            Error::new(ErrorKind::Unrepresentable, format!("the session's item {key:?} cannot be set: {refused}"))
        })?;
        self.insert_raw(key, value);
        Ok(())
    }

    /// Sets an item to a JSON value. A key that is there already keeps its place.
    pub fn insert_raw(&mut self, key: &str, value: RawJson) {
        self.insert_escaped(&escaped(key), value);
    }

    /// As [`insert_raw`](Self::insert_raw) for a key as it stands in JSON between its quotation marks: the only way to
    /// set a key that holds half a surrogate pair.
    pub(crate) fn insert_escaped(&mut self, key: &str, value: RawJson) {
        self.set(key, Text::Own(value.into_shared()));
    }

    fn set(&mut self, key: &str, value: Text) {
        let table = self.table();
        match table.position(key) {
            Some(at) => table.entries[at].value = value,
            None => {
                table.marks |= mark(key.as_bytes());
                table.entries.push(Entry { key: Text::Own(key.into()), value });
            }
        }
    }

    /// Removes an item and returns it; an opaque one as `null`.
    pub fn remove(&mut self, key: &str) -> Option<RawJson> {
        let at = self.position(&escaped(key))?;
        let table = self.table();
        Some(match table.entries.remove(at).value {
            Text::Own(text) => RawJson::from_shared(text),
            source @ Text::Source(_) => RawJson::from_valid(source.get(&table.source)),
            Text::Opaque(_) => RawJson::from_valid("null"),
        })
    }

    /// Whether there is an item under the key.
    pub fn contains_key(&self, key: &str) -> bool {
        self.position(&escaped(key)).is_some()
    }

    /// How many items there are.
    pub fn len(&self) -> usize {
        self.entries().len()
    }

    /// Whether there is no item.
    pub fn is_empty(&self) -> bool {
        self.entries().is_empty()
    }

    /// Removes all items.
    pub fn clear(&mut self) {
        *self = Self::new();
    }

    /// The keys in order. Half a surrogate pair in a key, which no `str` can hold, shows as U+FFFD.
    pub fn keys(&self) -> impl Iterator<Item = Cow<'_, str>> {
        self.iter().map(|(key, _)| key)
    }

    /// The keys, as in [`keys`](Self::keys), and the JSON text of their values.
    pub fn iter(&self) -> impl Iterator<Item = (Cow<'_, str>, &str)> {
        self.iter_escaped().map(|(key, value)| (json::unescape_lossy(key), value))
    }

    /// The keys as they stand in JSON between quotation marks, and the JSON text of their values; all of it ASCII.
    pub fn iter_escaped(&self) -> impl Iterator<Item = (&str, &str)> {
        let source = self.source();
        self.entries().iter().map(move |entry| (entry.key.get(source), entry.value.get(source)))
    }

    /// As [`iter_escaped`](Self::iter_escaped) without looking at the bytes.
    pub(crate) fn iter_bytes(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let source = self.source();
        self.entries().iter().map(move |entry| (entry.key.bytes(source), entry.value.bytes(source)))
    }

    fn position(&self, key: &str) -> Option<usize> {
        self.0.as_ref()?.position(key)
    }
}

impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Values({} keys)", self.len())
    }
}

/// A key as it stands in JSON between its quotation marks.
fn escaped(key: &str) -> Cow<'_, str> {
    if !json::needs_escape(key) {
        return Cow::Borrowed(key);
    }
    let mut out = String::with_capacity(key.len() + 16);
    json::escape(&mut out, key);
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(json: &str) -> Values {
        Values::parse(json.into()).unwrap()
    }

    #[test]
    fn what_json_cannot_hold_stays_where_it_is() {
        let mut values = parsed(r#"{"a":1,"b":2}"#);
        values.insert_opaque("a", "datetime.date");
        values.insert_opaque("é", "uuid.UUID");
        assert_eq!((values.len(), values.contains_key("é"), values.opaque_type("é")), (3, true, Some("uuid.UUID")));
        assert_eq!(values.keys().collect::<Vec<_>>(), ["a", "b", "é"]);
        assert_eq!((values.get::<u8>("b").unwrap(), values.opaque_type("b")), (Some(2), None));
        let error = values.get::<Option<u8>>("a").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Type);
        assert!(error.to_string().contains("\"a\"") && error.to_string().contains("datetime.date"), "{error}");
        assert_eq!(values.to_json(), r#"{"a":null,"b":2,"\u00e9":null}"#);
        let refused = |values: &Values| values.write_json(&mut Vec::new()).unwrap_err();
        assert_eq!(refused(&values).kind(), ErrorKind::Unrepresentable);
        values.insert("a", &1).unwrap();
        let error = refused(&values).to_string();
        assert!(error.contains("\"é\"") && error.contains("uuid.UUID"), "{error}");
        assert_eq!(values.remove("é").unwrap().as_str(), "null");
        values.write_json(&mut Vec::new()).unwrap();
        values.insert_opaque("a", "set");
        values.clear();
        values.check_writable().unwrap();
    }

    #[test]
    fn untouched_values_leave_as_they_came() {
        let json =
            r#"{"i":123456789012345678901234567890,"f":1e22,"z":-0.0,"n":NaN,"s":"\u00e9\ud800\/","l":[ 1 , {}]}"#;
        let mut values = parsed(json);
        assert_eq!(values.to_json(), json);
        values.insert("new", &"é").unwrap();
        values.insert("f", &1.0).unwrap();
        values.remove("z").unwrap();
        assert_eq!(
            values.to_json(),
            r#"{"i":123456789012345678901234567890,"f":1.0,"n":NaN,"s":"\u00e9\ud800\/","l":[ 1 , {}],"new":"\u00e9"}"#
        );
    }

    #[test]
    fn keys_have_one_spelling() {
        let values = parsed("{\"\\u0061\":1,\"a\":2,\"\\u00E9\":3,\"\x7f\":4,\"\\/\":5,\"\\ud800\":6}");
        assert_eq!(values.to_json(), r#"{"a":2,"\u00e9":3,"\u007f":4,"/":5,"\ud800":6}"#);
        assert_eq!(values.get::<u8>("é").unwrap(), Some(3));
        assert_eq!(values.get_raw("\u{7f}"), Some("4"));
        assert_eq!(values.keys().collect::<Vec<_>>(), ["a", "é", "\u{7f}", "/", "\u{fffd}"]);
        assert!(!values.contains_key("\u{fffd}"));
    }

    #[test]
    fn a_repeated_key_keeps_its_first_place_and_last_value() {
        assert_eq!(parsed(r#"{"a":1,"b":2,"a":3}"#).to_json(), r#"{"a":3,"b":2}"#);
        let many: Vec<String> = (0..100).map(|n| format!("\"{}\":{n}", n % 40)).collect();
        let values = parsed(&format!("{{{}}}", many.join(",")));
        assert_eq!(values.len(), 40);
        assert_eq!(values.get_raw("0"), Some("80"));
        assert_eq!(values.get_raw("39"), Some("79"));
        assert_eq!(values.keys().next().as_deref(), Some("0"));
    }

    #[test]
    fn bytes_are_latin1() {
        assert_eq!(Values::parse(b"{\"a\":\"\xe9\xff\"}".to_vec()).unwrap().to_json(), r#"{"a":"\u00e9\u00ff"}"#);
        assert_eq!(Values::parse("{\"é\":1}".into()).unwrap().get::<u8>("Ã©").unwrap(), Some(1));
        for bad in [
            &b"{\"a\":\xe9}"[..],
            b"{\"a\":\"\\\xe9\"}",
            b"\xef\xbb\xbf{}",
            b"\xa0{}",
            b"{}\0",
            b"[]",
            b"null",
            b"1",
            b"",
            b"{",
        ] {
            assert_eq!(Values::parse(bad.to_vec()).unwrap_err().kind(), ErrorKind::Corrupted, "{bad:?}");
        }
    }

    #[test]
    fn errors_name_the_key_and_never_the_value() {
        let mut values = parsed(r#"{"pin":"hunter2","l":[1]}"#);
        let error = values.get::<i64>("pin").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Type);
        let message = error.to_string();
        assert!(message.contains("\"pin\"") && message.contains("text") && message.contains("i64"), "{message}");
        assert!(!format!("{error:?}").contains("hunter2"));
        assert!(values.get::<String>("l").unwrap_err().to_string().contains("a list"));
        let error = values.insert("bad", &HashMap::from([([1], 2)])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unrepresentable);
        assert!(error.to_string().contains("\"bad\""));
        assert_eq!(format!("{values:?}"), "Values(2 keys)");
        assert_eq!(values.get::<i64>("absent").unwrap(), None);
        values.clear();
        assert!(values.is_empty() && values.to_json() == "{}");
    }

    proptest! {
        #[test]
        fn dictionaries_come_back(items in prop::collection::vec((any::<String>(), any::<Option<(i64, String)>>()), 0..40)) {
            let mut values = Values::new();
            for (key, value) in &items {
                values.insert(key, value).unwrap();
            }
            let back = parsed(&values.to_json());
            prop_assert_eq!(back.to_json(), values.to_json());
            for (key, value) in back.iter() {
                prop_assert_eq!(values.get_raw(&key), Some(value));
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = Values::parse(bytes.clone());
            bytes.splice(0..0, *b"{\"a\":\"");
            bytes.extend(b"\"}");
            if let Ok(values) = Values::parse(bytes) {
                let json = values.to_json();
                prop_assert_eq!(parsed(&json).to_json(), json);
            }
        }
    }
}
