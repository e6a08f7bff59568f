//! Quoting for Kusto queries. Text from a request enters a query only as a [`Literal`]; the rest of
//! a query is constant text.

use std::fmt::{self, Write as _};

/// A string literal in double quotes. Quotes and backslashes are escaped with a backslash, control
/// characters and line separators as `\uXXXX`, which means the same in Kusto as in the JSON of a
/// `dynamic` literal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Literal(String);

impl Literal {
    /// Quotes `text`.
    pub fn new(text: &str) -> Self {
        let mut literal = String::with_capacity(text.len() + 2);
        literal.push('"');
        for c in text.chars() {
            match c {
                '"' | '\\' => {
                    literal.push('\\');
                    literal.push(c);
                }
                // Some parsers take U+2028 and U+2029 for line ends.
                c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => {
                    // Writing to a string cannot fail; all of these are below U+10000.
                    let _ = write!(literal, "\\u{:04X}", u32::from(c));
                }
                c => literal.push(c),
            }
        }
        literal.push('"');
        Self(literal)
    }

    /// Returns its size in bytes, including the quotes.
    pub const fn size(&self) -> usize {
        self.0.len()
    }
}

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Returns `let name = dynamic(["a","b"]);`.
pub fn let_list(name: &'static str, values: &[Literal]) -> String {
    let values: Vec<String> = values.iter().map(Literal::to_string).collect();
    format!("let {name} = dynamic([{}]);\n", values.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::quoting_tests::{NASTY, Pasted};

    /// Parses a Kusto string literal, by its grammar only.
    fn read(text: &str) -> Option<String> {
        let mut rest = text.strip_prefix('"')?.strip_suffix('"')?.chars();
        let mut value = String::new();
        while let Some(c) = rest.next() {
            match c {
                '"' => return None,
                c if c.is_control() => return None,
                '\\' => match rest.next()? {
                    c @ ('"' | '\\') => value.push(c),
                    'u' => {
                        let digits: String = rest.by_ref().take(4).collect();
                        value.push(char::from_u32(u32::from_str_radix(&digits, 16).ok()?)?);
                    }
                    _ => return None,
                },
                c => value.push(c),
            }
        }
        Some(value)
    }

    #[test]
    fn whatever_is_quoted_is_read_back() {
        let random = Pasted::new(12).take(2_000);
        for value in NASTY.into_iter().map(str::to_owned).chain(random) {
            let literal = Literal::new(&value).to_string();
            assert_eq!(read(&literal).as_ref(), Some(&value), "{value:?}");
            // A `dynamic` literal is JSON, so the text has to be valid JSON too.
            assert_eq!(serde_json::from_str::<String>(&literal).ok().as_ref(), Some(&value));
        }
    }

    #[test]
    fn a_list_is_a_dynamic_array() {
        let values = [Literal::new("a"), Literal::new("\"]); drop \\")];
        assert_eq!(
            let_list("names", &values),
            "let names = dynamic([\"a\",\"\\\"]); drop \\\\\"]);\n"
        );
        assert_eq!(let_list("names", &[]), "let names = dynamic([]);\n");
    }
}
