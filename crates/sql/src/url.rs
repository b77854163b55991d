//! Reading `DATABASE_URL`.

/// A URL in three parts.
pub(crate) struct Url<'a> {
    /// What stands before the first colon.
    pub(crate) scheme: &'a str,
    /// What stands between that and the first question mark.
    pub(crate) rest: &'a str,
    query: &'a str,
}

impl<'a> Url<'a> {
    pub(crate) fn split(url: &'a str) -> Self {
        let (scheme, rest) = url.split_once(':').unwrap_or((url, ""));
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        Self { scheme, rest, query }
    }

    /// The options after the question mark: names, and values as they are written.
    pub(crate) fn parameters(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let pairs = self.query.split('&').filter(|pair| !pair.is_empty());
        pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")))
    }
}

/// Text with its `%` sequences resolved; `None` if one is broken, or the result is not UTF-8.
pub(crate) fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                let (high, low) = (digit()?, digit()?);
                (high * 16 + low) as u8
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}
