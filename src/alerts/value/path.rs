//! File names and paths.

use std::borrow::Cow;

use super::{Reading, is_nothing, trim, unicode};

/// Reads a file name. Windows ignores case, and dots and blanks at the end.
pub(crate) fn name(text: &str) -> Option<Reading<'_>> {
    let shown = Some(trim(text)).filter(|text| !is_nothing(text))?;
    let normal = match unicode::fold(shown) {
        Cow::Borrowed(text) => Cow::Borrowed(without_end(text)),
        Cow::Owned(text) => Cow::Owned(without_end(&text).to_owned()),
    };
    Some(Reading { shown: shown.into(), normal })
}

/// Reads a path. On a Windows path (one with `\` or a drive) case is ignored, `/` equals `\`,
/// doubled separators (some providers send them even after JSON decoding) are merged, and a
/// trailing separator, `.`, `..` and the prefix `\\?\` are resolved. On other paths case counts,
/// and `..` stays, which may follow a link.
pub(crate) fn path(text: &str) -> Option<Reading<'_>> {
    let shown = Some(trim(text)).filter(|text| !is_nothing(text))?;
    let drive = matches!(shown.as_bytes(), [letter, b':', ..] if letter.is_ascii_alphabetic());
    let normal = if drive || shown.contains('\\') { windows(shown).into() } else { unix(shown) };
    Some(Reading { shown: shown.into(), normal })
}

/// Returns the last component of `text` if it has several.
pub(crate) fn last(text: &str) -> Option<&str> {
    let (_, last) = trim(text).rsplit_once(['/', '\\'])?;
    Some(last).filter(|last| !last.is_empty())
}

fn windows(path: &str) -> String {
    let folded = unicode::fold(path);
    let path = [r"\\?\", r"\\.\", r"\??\"]
        .iter()
        .find_map(|prefix| folded.strip_prefix(prefix))
        .unwrap_or(&folded);
    let (path, is_share) = match path.strip_prefix(r"unc\") {
        Some(rest) if path.len() < folded.len() => (rest, true),
        _ => (path, false),
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split(['\\', '/']) {
        match part {
            "" | "." => {}
            ".." if parts.len() > 1 && parts.last() != Some(&"..") => {
                parts.pop();
            }
            ".." => parts.push(part),
            part => parts.push(without_end(part)),
        }
    }
    let root = if is_share || path.starts_with(['\\', '/']) { "\\" } else { "" };
    if parts.is_empty() && root.is_empty() {
        return path.to_owned();
    }
    format!("{root}{}", parts.join("\\"))
}

fn unix(path: &str) -> Cow<'_, str> {
    let is_plain = path.is_ascii() && !path.contains("//") && !path.contains("/./");
    if is_plain && !path.ends_with("/.") {
        let short = path.trim_end_matches('/');
        return Cow::Borrowed(if short.is_empty() { path } else { short });
    }
    let parts = path.split('/').filter(|part| !matches!(*part, "" | "."));
    let root = if path.starts_with('/') { "/" } else { "" };
    let joined = format!("{root}{}", parts.collect::<Vec<_>>().join("/"));
    Cow::Owned(unicode::compose(joined.chars()))
}

/// Returns `part` without the dots and blanks at its end, unless it has nothing else.
fn without_end(part: &str) -> &str {
    let kept = part.trim_end_matches(['.', ' ']);
    if kept.is_empty() { part } else { kept }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_one_form() {
        let rows = [
            (r"C:\Windows\System32\", r"c:\windows\system32"),
            (r"c:\\windows\\SYSTEM32", r"c:\windows\system32"),
            ("C:/Windows/notepad.exe", r"c:\windows\notepad.exe"),
            (r"C:\Windows\.\a.exe", r"c:\windows\a.exe"),
            (r"C:\Windows\x\..\a.exe", r"c:\windows\a.exe"),
            (r"C:\..\..\a.exe", r"c:\..\..\a.exe"),
            (r".\", r".\"),
            (r"\\?\C:\a.exe", r"c:\a.exe"),
            (r"\??\C:\a.exe", r"c:\a.exe"),
            (r"\\?\UNC\srv\share\a.exe", r"\srv\share\a.exe"),
            (r"\\srv\share\a.exe", r"\srv\share\a.exe"),
            (r"\\\\srv\\share\\a.exe", r"\srv\share\a.exe"),
            (r"C:\Temp.\a.exe.", r"c:\temp\a.exe"),
            (r"C:\", "c:"),
            ("C:\\E\u{301}t\u{e9}\\ΟΔΟΣ", "c:\\été\\οδοσ"),
            ("C:\\Οδος", "c:\\οδοσ"),
            (r"unc\a", r"unc\a"),
            ("/usr/sbin/", "/usr/sbin"),
            ("/usr//sbin/./Crond", "/usr/sbin/Crond"),
            ("/usr/sbin/../x", "/usr/sbin/../x"),
            ("/Users/Rene\u{301}", "/Users/René"),
            ("/", "/"),
            ("//", "/"),
            ("%TEMP%", "%TEMP%"),
        ];
        for (text, normal) in rows {
            assert_eq!(path(text).unwrap().normal, normal, "{text}");
            assert_eq!(path(normal).unwrap().normal, normal, "{text}");
        }
        assert_eq!((path("****"), path(" "), path("n/a")), (None, None, None));
    }

    #[test]
    fn a_file_name_has_one_form() {
        let rows = [
            ("EVIL.exe", "evil.exe"),
            ("evil.exe.", "evil.exe"),
            ("ΟΔΟΣ.txt", "οδοσ.txt"),
            ("οδος", "οδοσ"),
            ("re\u{301}sume\u{301}.DOC", "résumé.doc"),
            ("...", "..."),
        ];
        for (text, normal) in rows {
            assert_eq!(name(text).unwrap().normal, normal, "{text}");
        }
        assert_eq!(last(r"C:\T\e.exe"), Some("e.exe"));
        assert_eq!((last("e.exe"), last(r"C:\T\")), (None, None));
    }
}
