//! Parses URLs as a server does.

/// The parts of a URL.
pub(super) struct Target<'a> {
    /// Scheme and host.
    pub(super) origin: &'a str,
    /// The segments of the path, still encoded.
    pub(super) path: Vec<&'a str>,
    query: Vec<(String, String)>,
}

impl<'a> Target<'a> {
    /// Parses `url`; returns `None` if it is not absolute or badly encoded.
    pub(super) fn parse(url: &'a str) -> Option<Self> {
        let host = url.find("://")? + 3;
        let end = url.get(host..)?.find('/')? + host;
        let (origin, rest) = url.split_at_checked(end)?;
        // A fragment never reaches a server.
        let rest = rest.split('#').next()?;
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        Some(Self {
            origin,
            path: path.trim_start_matches('/').split('/').collect(),
            query: pairs.map(pair).collect::<Option<_>>()?,
        })
    }

    /// Returns the query option called `name`.
    pub(super) fn option(&self, name: &str) -> Option<&str> {
        let found = self.query.iter().find(|(option, _)| option == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Returns the names of all query options.
    pub(super) fn options(&self) -> impl Iterator<Item = &str> {
        self.query.iter().map(|(name, _)| name.as_str())
    }
}

/// Parses one pair of a form or query.
pub(super) fn pair(text: &str) -> Option<(String, String)> {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    Some((decode(name)?, decode(value)?))
}

/// Percent-decodes `text`, with `+` as a space; returns `None` if the result is not UTF-8.
pub(super) fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            b'+' => b' ',
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}
