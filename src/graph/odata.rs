//! OData filters. Text from a request enters a filter only as a [`Literal`]; the rest of a filter
//! is constant text.

use std::fmt;

use crate::base::http::percent_encode;

/// A string literal: in single quotes, with each quote inside doubled (OData 4.01 ABNF, `string`).
/// Nothing else is special, not even the backslash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Literal(String);

impl Literal {
    /// Quotes `text`.
    pub fn new(text: &str) -> Self {
        Self(format!("'{}'", text.replace('\'', "''")))
    }
}

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A condition on alerts, or on an element `x` of one of their collections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter(String);

impl Filter {
    /// `property` equals `value`.
    pub fn equals(property: &'static str, value: &Literal) -> Self {
        Self(format!("{property} eq {value}"))
    }

    /// `property` starts with `value`.
    pub fn starts_with(property: &'static str, value: &Literal) -> Self {
        Self(format!("startswith({property},{value})"))
    }

    /// At least one of `conditions` holds; `None` if there are none.
    pub fn any_of(conditions: impl IntoIterator<Item = Self>) -> Option<Self> {
        let texts: Vec<String> = conditions.into_iter().map(|filter| filter.0).collect();
        (!texts.is_empty()).then(|| Self(texts.join(" or ")))
    }

    /// This condition or `other` holds.
    #[must_use]
    pub fn or(self, other: &Self) -> Self {
        Self(format!("{} or {}", self.0, other.0))
    }

    /// Both conditions hold. Each may consist of several joined by `or`.
    #[must_use]
    pub fn and(self, other: &Self) -> Self {
        Self(format!("({}) and ({})", self.0, other.0))
    }

    /// The condition holds for an element of `collection`.
    #[must_use]
    pub fn within(self, collection: &'static str) -> Self {
        Self(format!("{collection}/any(x: {})", self.0))
    }

    /// Returns the filter percent-encoded as a query option. This is the only place that encodes a
    /// filter.
    pub fn encoded(&self) -> String {
        percent_encode(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::quoting_tests::{NASTY, Pasted};

    /// Parses an OData string literal, by its grammar only.
    fn read(text: &str) -> Option<String> {
        let mut rest = text.strip_prefix('\'')?.strip_suffix('\'')?.chars();
        let mut value = String::new();
        while let Some(c) = rest.next() {
            if c == '\'' && rest.next() != Some('\'') {
                return None;
            }
            value.push(c);
        }
        Some(value)
    }

    #[test]
    fn whatever_is_quoted_is_read_back() {
        let random = Pasted::new(11).take(2_000);
        for value in NASTY.into_iter().map(str::to_owned).chain(random) {
            let literal = Literal::new(&value).to_string();
            assert_eq!(read(&literal).as_ref(), Some(&value), "{value:?}");
        }
    }

    #[test]
    fn a_filter_is_what_the_grammar_wants() {
        let name = |value: &str| Filter::equals("x/name", &Literal::new(value));
        let either = Filter::any_of([name("a"), name("O'Brien.exe")]).unwrap();
        let text = "fileStates/any(x: x/name eq 'a' or x/name eq 'O''Brien.exe')";
        assert_eq!(either.clone().within("fileStates"), Filter(text.to_owned()));
        let begins = Filter::starts_with("x/path", &Literal::new("/tmp/"));
        let both = "(x/name eq 'a' or x/name eq 'O''Brien.exe') and (startswith(x/path,'/tmp/'))";
        assert_eq!(either.and(&begins).0, both);
        assert_eq!(
            name("a&b#c%41+d é").encoded(),
            "x%2Fname%20eq%20%27a%26b%23c%2541%2Bd%20%C3%A9%27"
        );
        assert_eq!(Filter::any_of([]), None);
    }
}
