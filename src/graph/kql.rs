//! Kusto queries. What an analyst has pasted gets into one as a [`Literal`] and
//! in no other way: the rest of a query is text of this program.

use std::fmt::{self, Write as _};

/// A string literal in double quotes. Quote and backslash are escaped by a
/// backslash, and whatever is no character to print as `\uXXXX`, so that it means
/// the same to Kusto as in the JSON of a `dynamic` literal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Literal(String);

impl Literal {
    /// The literal that means `text`.
    pub fn new(text: &str) -> Self {
        let mut literal = String::with_capacity(text.len() + 2);
        literal.push('"');
        for c in text.chars() {
            match c {
                '"' | '\\' => {
                    literal.push('\\');
                    literal.push(c);
                }
                // U+2028 and U+2029 end a line for some readers.
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

    /// Bytes of it, the quotes included.
    pub const fn size(&self) -> usize {
        self.0.len()
    }
}

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `let name = dynamic(["a","b"]);`
pub fn let_list(name: &'static str, values: &[Literal]) -> String {
    let values: Vec<String> = values.iter().map(Literal::to_string).collect();
    format!("let {name} = dynamic([{}]);\n", values.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::literals::{NASTY, Pasted};

    /// What `text` means as a Kusto string literal, by its grammar alone.
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
            // And as JSON, which is what a `dynamic` literal holds.
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
