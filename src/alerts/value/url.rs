//! URLs, as browsers, mail gateways and people write them.

use std::borrow::Cow;

use super::{address, host, is_hidden, is_nothing, list, percent, refang, trim};

/// A URL that has been read. It has one or two normal forms (see [`Url::forms`]).
pub(crate) struct Url<'a> {
    /// The URL as it is shown, without a scheme if it has none.
    text: Cow<'a, str>,
    scheme: Option<String>,
    /// The host as written, without brackets.
    host: String,
    /// User, host, port, path and query in normal form; the port if it is not the scheme's own.
    base: String,
}

/// Reads a URL, or returns `None` if `text` is none: without a host, or a scheme without `//`.
pub(crate) fn read(text: &str) -> Option<Url<'_>> {
    let text = clean(text)?;
    let (scheme, after) = split_scheme(&text);
    let scheme = scheme.map(str::to_ascii_lowercase);
    let end = after.find(['/', '?', '#', '\\']).unwrap_or(after.len());
    let (authority, rest) = after.split_at(end);
    let (user, place) = match authority.rsplit_once('@') {
        Some((user, place)) => (Some(user), place),
        None => (None, authority),
    };
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (place, None),
    };
    if port.is_some_and(|port| !port.bytes().all(|b| b.is_ascii_digit())) {
        return None;
    }
    let bare = scheme.is_none();
    let (host, normal_host) = match host {
        "" if scheme.as_deref() == Some("file") && rest.len() > 1 => (String::new(), String::new()),
        host => read_host(host)?,
    };
    // `mailto:a@b.example` is a scheme that this program does not know.
    if bare && (user.is_some() || port == Some("") || is_bare_word(&host, port, rest)) {
        return None;
    }
    let mut base = String::with_capacity(authority.len() + rest.len() + 8);
    if let Some(user) = user {
        percent::push_normal(&mut base, user);
        base.push('@');
    }
    base.push_str(&normal_host);
    let own = default_port(scheme.as_deref());
    if let Some(port) = port.filter(|port| !port.is_empty() && Some(*port) != own) {
        base.push(':');
        base.push_str(port);
    }
    let end = rest.find(['?', '#']).unwrap_or(rest.len());
    let (path, query) = rest.split_at(end);
    let path = path.replace('\\', "/");
    percent::push_normal(&mut base, path.strip_suffix('/').unwrap_or(&path));
    percent::push_normal(&mut base, &query.replace("&amp;", "&"));
    Some(Url { scheme, host, base, text })
}

impl<'a> Url<'a> {
    /// Returns the URL with a scheme, like a browser `http` if it has none, and with everything
    /// percent-encoded that CTIM would reject.
    pub(crate) fn into_shown(self) -> Cow<'a, str> {
        let is_odd = |c: char| c.is_whitespace() || is_hidden(c);
        if self.scheme.is_some() && !self.text.contains(is_odd) {
            return self.text;
        }
        let mut shown = String::with_capacity(self.text.len() + 7);
        if self.scheme.is_none() {
            shown.push_str("http://");
        }
        for c in self.text.chars() {
            if is_odd(c) {
                percent::encode(c.encode_utf8(&mut [0; 4]).bytes(), &mut shown);
            } else {
                shown.push(c);
            }
        }
        Cow::Owned(shown)
    }

    /// Calls `each` with the forms under which the URL is found. A form is the scheme, or nothing
    /// if there is none, or `*` for one that is not of the web; and the base.
    pub(crate) fn forms(&self, each: &mut dyn FnMut(&str)) {
        let base = &self.base;
        match self.scheme.as_deref() {
            Some(scheme) => {
                each(&format!("{scheme}://{base}"));
                if !matches!(scheme, "http" | "https") {
                    each(&format!("*://{base}"));
                }
            }
            None => {
                each(&format!("://{base}"));
                // `bad.example:443` is https, unless somebody says http.
                if let Some((scheme, base)) = self.implied() {
                    each(&format!("{scheme}://{base}"));
                }
            }
        }
    }

    /// Returns the forms of the URLs that equal this one: those with its scheme or none; those with
    /// any scheme if it has none.
    pub(crate) fn equals(&self) -> Vec<String> {
        let any =
            |base: &str| ["", "http", "https", "*"].map(|scheme| format!("{scheme}://{base}"));
        let Some(scheme) = self.scheme.as_deref() else {
            let mut equals = any(&self.base).to_vec();
            if let Some((scheme, base)) = self.implied() {
                equals.extend([format!("{scheme}://{base}"), format!("://{base}")]);
            }
            return equals;
        };
        vec![format!("{scheme}://{}", self.base), format!("://{}", self.base)]
    }

    /// Returns what a URL without a scheme means if its port is that of a scheme.
    fn implied(&self) -> Option<(&'static str, String)> {
        if self.scheme.is_some() {
            return None;
        }
        let end = self.base.find(['/', '?', '#']).unwrap_or(self.base.len());
        let (place, rest) = self.base.split_at(end);
        ["http", "https"].into_iter().find_map(|scheme| {
            let place = place.strip_suffix(default_port(Some(scheme))?)?.strip_suffix(':')?;
            Some((scheme, format!("{place}{rest}")))
        })
    }

    /// Returns the URL as tables may write it: with and without a scheme, its host in Unicode and
    /// in the letters of DNS.
    pub(crate) fn spellings(&self) -> Vec<String> {
        let (_, typed) = split_scheme(&self.text);
        let mut places = vec![typed.trim_end_matches('/').to_owned(), self.base.clone()];
        if let Some(name) = host::domain(&self.host)
            && let Some(ascii) = host::to_ascii(&name.normal)
        {
            places.push(self.base.replacen(&*name.normal, &ascii, 1));
        }
        places.extend(self.implied().map(|(_, base)| base));
        let schemes = match self.scheme.as_deref() {
            Some(scheme) => vec![scheme],
            None => vec!["http", "https"],
        };
        let with = |place: &String| schemes.iter().map(|s| format!("{s}://{place}")).collect();
        let mut spellings: Vec<String> = places.iter().flat_map::<Vec<_>, _>(with).collect();
        spellings.extend(places);
        spellings
    }
}

/// Calls `each` with every URL in `text`: the URL itself, the one inside it if it is a Safe Link,
/// and those of a list.
pub(crate) fn each(text: &str, each: &mut dyn FnMut(Url<'_>)) {
    let whole = read(text);
    let is_url = whole.is_some();
    if let Some(url) = whole {
        let inner = url.wrapped();
        each(url);
        inner.as_deref().and_then(read).into_iter().for_each(&mut *each);
    }
    let Some(parts) = list(text) else { return };
    // In one URL with a blank or a comma, only the first part begins with a scheme.
    let has_scheme = |part: &&str| split_scheme(part).0.is_some();
    if !is_url || parts.clone().filter(has_scheme).count() > 1 {
        parts.filter_map(read).for_each(each);
    }
}

/// Calls `each` with the host of every URL in `text`, and of the address in a `mailto:`.
pub(crate) fn each_host(text: &str, each_host: &mut dyn FnMut(&str)) {
    let mail =
        trim(text).split_at_checked(7).filter(|(head, _)| head.eq_ignore_ascii_case("mailto:"));
    if let Some((_, rest)) = mail {
        let mail = rest.split('?').next().unwrap_or_default();
        return mail.rsplit_once('@').into_iter().for_each(|(_, host)| each_host(host));
    }
    each(text, &mut |url| {
        if !url.host.is_empty() {
            each_host(&url.host);
        }
    });
}

impl Url<'_> {
    /// Returns the URL that Microsoft's Safe Links has put into this one.
    fn wrapped(&self) -> Option<String> {
        let (_, of) = self.host.split_once('.')?;
        if !of.get(..21)?.eq_ignore_ascii_case("safelinks.protection.") {
            return None;
        }
        let (_, query) = self.text.split_once('?')?;
        let value = query.split(['&', ';']).find_map(|pair| pair.strip_prefix("url="))?;
        Some(percent::decode(value))
    }
}

/// Returns `text` as a browser would begin to read it: without what surrounds it, with `//` after
/// the scheme, and without marks against clicking.
fn clean(text: &str) -> Option<Cow<'_, str>> {
    let text = trim(text);
    let text = text.strip_prefix('<').and_then(|text| text.strip_suffix('>')).unwrap_or(text);
    // Some logs name the field.
    let field = text.split_once('=').filter(|(name, url)| {
        ["uri", "url"].iter().any(|known| name.eq_ignore_ascii_case(known)) && url.contains(':')
    });
    let text = field.map_or(text, |(_, url)| trim(url));
    let text = text.strip_prefix("//").unwrap_or(text);
    if is_nothing(text) {
        return None;
    }
    let mut text = Cow::Borrowed(text);
    // Browsers drop these wherever they stand.
    if text.contains(['\t', '\r', '\n']) {
        text = Cow::Owned(text.replace(['\t', '\r', '\n'], ""));
    }
    let end = text.find("://").map_or(0, |at| at + 3);
    let place = text.get(end..).and_then(|rest| rest.split(['/', '?', '#']).next());
    if text.get(..3).is_some_and(|head| head.eq_ignore_ascii_case("hxx"))
        || refang(place.unwrap_or_default()) != place.unwrap_or_default()
        || text.contains("[:]")
        || text.contains("[://]")
    {
        text = Cow::Owned(refang(&text).into_owned());
    }
    if let Some((written, after)) = text.split_once(':')
        && let Some(scheme) = web_scheme(written)
    {
        let place = after.trim_start_matches(['/', '\\']);
        let written = if written.eq_ignore_ascii_case(scheme) { written } else { scheme };
        let usual = format!("{written}://{place}");
        if usual != text {
            text = Cow::Owned(usual);
        }
    }
    Some(text)
}

/// Returns the scheme that `text` means, if it is one whose slashes browsers add.
fn web_scheme(text: &str) -> Option<&'static str> {
    let schemes = [("http", "hxxp"), ("https", "hxxps"), ("ftp", "fxp")];
    let is = |(plain, marked): &(&str, &str)| {
        text.eq_ignore_ascii_case(plain) || text.eq_ignore_ascii_case(marked)
    };
    schemes.into_iter().find(is).map(|(plain, _)| plain)
}

/// Splits a URL at `://` into scheme and rest.
pub(crate) fn split_scheme(url: &str) -> (Option<&str>, &str) {
    // A byte search, because the separator is near the start.
    let end = url.as_bytes().windows(3).position(|three| three == b"://");
    let parts = end.and_then(|end| Some((url.get(..end)?, url.get(end + 3..)?)));
    match parts {
        Some((scheme, rest)) if is_scheme(scheme) => (Some(scheme), rest),
        _ => (None, url),
    }
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
}

/// Returns the host as written, without brackets, and in normal form.
fn read_host(text: &str) -> Option<(String, String)> {
    let plain = if text.contains('%') { percent::decode(text) } else { text.to_owned() };
    let is_address = plain.starts_with(|c: char| c.is_ascii_digit() || c == '[');
    if let Some(ip) = address::read(&plain).filter(|_| is_address) {
        let bare = plain.trim_start_matches('[').trim_end_matches(']').to_owned();
        let normal = if ip.is_ipv6() { format!("[{ip}]") } else { ip.to_string() };
        return Some((bare, normal));
    }
    let normal = host::domain(&plain)?.normal.into_owned();
    Some((plain, normal))
}

/// Returns whether a text without a scheme is a word rather than a URL: a name without a dot that
/// nothing follows.
fn is_bare_word(host: &str, port: Option<&str>, rest: &str) -> bool {
    let is_name =
        host.contains(['.', ':', '。', '．', '｡']) || host.eq_ignore_ascii_case("localhost");
    !is_name && port.is_none() && rest.len() < 2
}

fn default_port(scheme: Option<&str>) -> Option<&'static str> {
    match scheme {
        Some("http" | "ws") => Some("80"),
        Some("https" | "wss") => Some("443"),
        Some("ftp") => Some("21"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(text: &str) -> Vec<String> {
        let mut hosts = Vec::new();
        each_host(text, &mut |host| hosts.push(host.to_owned()));
        hosts
    }

    #[test]
    fn a_url_is_shown_as_it_was_written() {
        let rows = [
            ("https://Bad.Example/Path", Some("https://Bad.Example/Path")),
            ("uri=https://a.example/click?x=1", Some("https://a.example/click?x=1")),
            ("hxxps://a[.]example/x[.]html", Some("https://a.example/x.html")),
            ("a[.]example", Some("http://a.example")),
            ("a.example/path", Some("http://a.example/path")),
            (r"https:\\a.example\x", Some(r"https://a.example\x")),
            ("https:/a.example/x", Some("https://a.example/x")),
            ("//a.example/x", Some("http://a.example/x")),
            ("<https://a.example/x>", Some("https://a.example/x")),
            ("https://a.example/a b", Some("https://a.example/a%20b")),
            ("https://a.example/\tx", Some("https://a.example/x")),
            ("https://a.example/\u{202e}x", Some("https://a.example/%E2%80%AEx")),
            ("https://a.example/?p=1&amp;r=2", Some("https://a.example/?p=1&amp;r=2")),
            ("https://a.example/%zz\"{é}", Some("https://a.example/%zz\"{é}")),
            ("https://a.example:99999/x", Some("https://a.example:99999/x")),
            ("http://intranet/x", Some("http://intranet/x")),
            ("corp/a b", Some("http://corp/a%20b")),
            ("a.example:443", Some("http://a.example:443")),
            ("localhost", Some("http://localhost")),
            ("tcp://203.0.113.9:443", Some("tcp://203.0.113.9:443")),
            ("file:///C:/x.exe", Some("file:///C:/x.exe")),
            ("https://user:pw@a.example/x", Some("https://user:pw@a.example/x")),
            ("mailto:b@a.example", None),
            ("javascript:alert(1)", None),
            ("data:text/html;base64,AAAA", None),
            ("about:blank", None),
            (r"C:\x.exe", None),
            (r"\\srv\share", None),
            ("https://", None),
            ("file:///", None),
            ("uri=https", None),
            ("https://a..example/x", None),
            ("https://*.a.example/", None),
            ("*.a.example", None),
            (".a.example", None),
            ("https://a.example:x/y", None),
            ("https://[::1/x", None),
            ("\u{202e}https://a.example", None),
            ("[https://a.example](https://a.example)", None),
            ("{\"url\":\"https://a.example\"}", None),
            ("evil", None),
            ("not a url at all", None),
            ("N/A", None),
            ("-", None),
            ("", None),
        ];
        for (text, expected) in rows {
            let url = read(text);
            assert_eq!(url.map(Url::into_shown).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn a_text_may_hold_several_urls_or_a_safe_link() {
        let all = |text| {
            let mut all = Vec::new();
            each(text, &mut |url| all.push(url.into_shown().into_owned()));
            all
        };
        assert_eq!(
            all("www.a.example, www.b.example"),
            ["http://www.a.example", "http://www.b.example"]
        );
        let two = "https://a.example/x;https://b.example/y";
        assert_eq!(all(two)[1..], ["https://a.example/x", "https://b.example/y"]);
        assert_eq!(all("https://a.example/a b, c"), ["https://a.example/a%20b,%20c"]);
        let safe = "https://eur01.safelinks.protection.outlook.com/?url=https%3A%2F%2Fa.example%2Fx&data=05";
        assert_eq!(all(safe), [safe, "https://a.example/x"]);
    }

    #[test]
    fn the_host_of_a_url_is_a_name_or_an_address() {
        let rows: [(&str, &[&str]); 9] = [
            ("https://Bad.Example:8443/x", &["Bad.Example"]),
            ("bad.example/x", &["bad.example"]),
            ("http://user:pass@bad.example", &["bad.example"]),
            ("http://127.0.0.1:80/1.exe", &["127.0.0.1"]),
            ("http://[2001:db8::1]:80/", &["2001:db8::1"]),
            ("https://a17%2Eexample/x", &["a17.example"]),
            ("mailto:bob@bad.example?subject=x", &["bad.example"]),
            ("file:///C:/x", &[]),
            ("///", &[]),
        ];
        for (url, expected) in rows {
            assert_eq!(hosts(url), expected, "{url}");
        }
    }
}
