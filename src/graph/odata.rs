//! OData filters. What an analyst has pasted gets into one as a [`Literal`] and
//! in no other way: the rest of a filter is made of the words of this program.

use std::fmt;

use crate::http::percent_encode;

/// A string literal: in quotes, with every quote in it doubled (OData 4.01 ABNF,
/// `string`). Nothing else is special there, the backslash included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Literal(String);

impl Literal {
    /// The literal that means `text`.
    pub fn new(text: &str) -> Self {
        Self(format!("'{}'", text.replace('\'', "''")))
    }
}

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A condition on alerts, or on one element of a collection of theirs, which is
/// called `x`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter(String);

impl Filter {
    /// That `property` is `value`.
    pub fn equals(property: &'static str, value: &Literal) -> Self {
        Self(format!("{property} eq {value}"))
    }

    /// That `property` begins with `value`.
    pub fn starts_with(property: &'static str, value: &Literal) -> Self {
        Self(format!("startswith({property},{value})"))
    }

    /// That one of `conditions` holds; of none, nothing.
    pub fn any_of(conditions: impl IntoIterator<Item = Self>) -> Option<Self> {
        let texts: Vec<String> = conditions.into_iter().map(|filter| filter.0).collect();
        (!texts.is_empty()).then(|| Self(texts.join(" or ")))
    }

    /// That it or `other` holds.
    #[must_use]
    pub fn or(self, other: &Self) -> Self {
        Self(format!("{} or {}", self.0, other.0))
    }

    /// That both hold, each of which may be several conditions joined by `or`.
    #[must_use]
    pub fn and(self, other: &Self) -> Self {
        Self(format!("({}) and ({})", self.0, other.0))
    }

    /// That it holds for an element of `collection`.
    #[must_use]
    pub fn within(self, collection: &'static str) -> Self {
        Self(format!("{collection}/any(x: {})", self.0))
    }

    /// As the value of a query option. This is the one place where a filter is
    /// percent-encoded, and it is encoded once.
    pub fn encoded(&self) -> String {
        percent_encode(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::literals::{NASTY, Pasted};

    /// What `text` means as an OData string literal, by the grammar alone.
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
