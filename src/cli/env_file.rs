//! Parses files of environment variables as systemd does (`EnvironmentFile=`, systemd.exec(5)), and
//! reports what systemd would silently drop or misread.

/// The contents of a file.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct EnvFile {
    /// Names and values, as systemd would set them.
    pub variables: Vec<(String, String)>,
    /// Problems; each begins with its line number.
    pub problems: Vec<String>,
}

/// Parses the text of a file.
pub fn parse(text: &str) -> EnvFile {
    let mut file = EnvFile::default();
    let without_mark = text.strip_prefix('\u{feff}');
    if without_mark.is_some() {
        let problem = "line 1: the file begins with a byte order mark, which systemd reads as \
                       part of the first name; save it as UTF-8 without one";
        file.problems.push(problem.to_owned());
    }
    let mut rest = Cursor { rest: without_mark.unwrap_or(text), line: 1 };
    while let Some(c) = rest.rest.chars().next() {
        match c {
            c if c.is_ascii_whitespace() => {
                rest.next();
            }
            '#' | ';' => {
                rest.line();
            }
            _ => file.assignment(&mut rest),
        }
    }
    file
}

impl EnvFile {
    /// Parses one assignment, which may span lines.
    fn assignment(&mut self, rest: &mut Cursor<'_>) {
        let number = rest.line;
        let mut add = |problem: &str| self.problems.push(format!("line {number}: {problem}"));
        let end = rest.rest.find(['\n', '\r', '=']).unwrap_or(rest.rest.len());
        let (name, after) = rest.rest.split_at(end);
        let name = name.trim_end();
        if !after.starts_with('=') {
            add("there is no =, so systemd ignores the line; write NAME=value");
            rest.line();
            return;
        }
        rest.skip(end + 1);
        let (value, slip) = value(rest);
        if let Some(slip) = slip {
            add(slip);
        }
        if name.starts_with("export ") {
            add("systemd ignores a line that begins with export; write NAME=value");
        } else if !is_name(name) {
            add("the text before = is not a valid variable name, so systemd ignores the line");
        } else {
            self.variables.push((name.to_owned(), value));
        }
    }
}

fn is_name(name: &str) -> bool {
    let is_part = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    name.bytes().all(is_part) && !name.starts_with(|c: char| c.is_ascii_digit()) && !name.is_empty()
}

/// Parses the value up to the end of its line, and returns a mistake in it. Quotes count at the
/// beginning of a value and directly after a closing quote.
fn value(rest: &mut Cursor<'_>) -> (String, Option<&'static str>) {
    let mut value = String::new();
    let mut was_quoted = false;
    loop {
        match rest.next() {
            None | Some('\n' | '\r') => return (value, None),
            Some(quote @ ('"' | '\'')) => {
                was_quoted = true;
                if !quoted(rest, quote, &mut value) {
                    return (
                        value,
                        Some("a quote is not closed, so the value extends to the end of the file"),
                    );
                }
            }
            Some(c) if c.is_ascii_whitespace() => {}
            Some(c) => {
                let begin = value.len();
                let mut next = Some(c);
                while let Some(c) = next.filter(|c| !matches!(c, '\n' | '\r')) {
                    match c {
                        '\\' => value.extend(rest.next().filter(|c| *c != '\n')),
                        c => value.push(c),
                    }
                    next = rest.next();
                }
                value.truncate(value.trim_end().len());
                let slip = "text after the closing quote becomes part of the value; put a \
                            comment on a line of its own";
                return (value, (was_quoted && begin > 0).then_some(slip));
            }
        }
    }
}

/// Parses the contents of quotes; returns whether they are closed.
fn quoted(rest: &mut Cursor<'_>, quote: char, value: &mut String) -> bool {
    while let Some(c) = rest.next() {
        match (c, quote) {
            (c, quote) if c == quote => return true,
            ('\\', '"') => match rest.next() {
                Some('\n') | None => {}
                Some(c @ ('"' | '\\' | '`' | '$')) => value.push(c),
                Some(c) => value.extend(['\\', c]),
            },
            (c, _) => value.push(c),
        }
    }
    false
}

/// The unread text, and the number of its first line.
struct Cursor<'a> {
    rest: &'a str,
    line: usize,
}

impl<'a> Cursor<'a> {
    fn next(&mut self) -> Option<char> {
        let c = self.rest.chars().next()?;
        self.skip(c.len_utf8());
        Some(c)
    }

    /// Returns the rest of the line.
    fn line(&mut self) -> &'a str {
        let end = self.rest.find('\n').map_or(self.rest.len(), |end| end + 1);
        self.skip(end)
    }

    fn skip(&mut self, bytes: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(bytes);
        self.line += taken.matches('\n').count();
        self.rest = rest;
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_systemd_reads_them() {
        // As described in systemd.exec(5) and parsed by src/basic/env-file.c.
        let rows = [
            ("A=b", "b"),
            ("A = b ", "b"),
            ("A=", ""),
            ("A=\"b c\"", "b c"),
            ("A='b \"c\" \\d'", "b \"c\" \\d"),
            ("A=\"b\\\"c\\d\\$\"", "b\"c\\d$"),
            ("A=b\\\nc", "bc"),
            ("A=b\\c", "bc"),
            ("A=b'c'", "b'c'"),
            ("A='b' 'c'", "bc"),
            ("A='b\nc'", "b\nc"),
            ("A=b # c", "b # c"),
            ("# x\n; y\n\n  A=b\r\n", "b"),
        ];
        for (text, expected) in rows {
            let variables = vec![("A".to_owned(), expected.to_owned())];
            assert_eq!(parse(text), EnvFile { variables, problems: Vec::new() }, "{text:?}");
        }
    }

    #[test]
    fn what_systemd_would_drop_or_misread_is_told_with_its_line() {
        let rows = [
            ("\u{feff}A=b", "line 1: the file begins with a byte order mark", 1),
            ("\nexport A=b", "line 2: systemd ignores a line that begins with export", 0),
            ("# x\nA b", "line 2: there is no =", 0),
            ("A-B=c", "line 1: the text before = is not a valid variable name", 0),
            ("1=c", "line 1: the text before = is not a valid variable name", 0),
            ("X=1\nA=\"b\nB=c", "line 2: a quote is not closed", 2),
            ("A=\"b\" # c", "line 1: text after the closing quote", 1),
        ];
        for (text, problem, variables) in rows {
            let file = parse(text);
            assert_eq!((file.problems.len(), file.variables.len()), (1, variables), "{file:?}");
            assert!(file.problems[0].starts_with(problem), "{file:?}");
        }
    }
}
