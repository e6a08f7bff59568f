//! `$filter` as documented for alerts_v2: comparisons of eight properties, joined by `and`, `or`,
//! `not` and parentheses.

use serde_json::Value;

use crate::base::time::Timestamp;

/// A parsed filter.
#[derive(Debug)]
pub(super) enum Filter {
    And(Box<Self>, Box<Self>),
    Or(Box<Self>, Box<Self>),
    Not(Box<Self>),
    /// Property, operator and literal.
    Compare(&'static str, Operator, Literal),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Operator {
    Eq,
    Ne,
    Gt,
    Ge,
    Lt,
    Le,
}

#[derive(Debug)]
pub(super) enum Literal {
    Text(String),
    Time(Timestamp),
    Null,
}

/// The documented properties, and whether each is a time.
const PROPERTIES: [(&str, bool); 8] = [
    ("assignedTo", false),
    ("classification", false),
    ("determination", false),
    ("createdDateTime", true),
    ("lastUpdateDateTime", true),
    ("severity", false),
    ("serviceSource", false),
    ("status", false),
];

impl Filter {
    /// Parses `text`.
    ///
    /// # Errors
    /// The service's error message.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut parser = Parser::new(text)?;
        let filter = parser.or()?;
        match parser.tokens.last() {
            None => Ok(filter),
            Some(token) => Err(format!("Syntax error at '{token:?}' in '{text}'.")),
        }
    }

    /// Returns whether `alert` matches. Alerts without the property match: minimal alerts must be
    /// deliverable.
    pub(super) fn passes(&self, alert: &Value) -> bool {
        match self {
            Self::And(a, b) => a.passes(alert) && b.passes(alert),
            Self::Or(a, b) => a.passes(alert) || b.passes(alert),
            Self::Not(inner) => !inner.passes(alert),
            Self::Compare(property, operator, literal) => {
                let value = alert.get(property).and_then(Value::as_str);
                match literal {
                    Literal::Null => operator.holds(&value.is_some(), &false),
                    Literal::Text(text) => operator.holds(&value.unwrap_or_default(), &&**text),
                    Literal::Time(time) => value
                        .and_then(Timestamp::parse)
                        .is_none_or(|value| operator.holds(&value, time)),
                }
            }
        }
    }
}

impl Operator {
    fn holds<T: Ord>(self, a: &T, b: &T) -> bool {
        match self {
            Self::Eq => a == b,
            Self::Ne => a != b,
            Self::Gt => a > b,
            Self::Ge => a >= b,
            Self::Lt => a < b,
            Self::Le => a <= b,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Open,
    Close,
    Word(String),
    Text(String),
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, length) = match first {
            '(' => (Token::Open, 1),
            ')' => (Token::Close, 1),
            '\'' => quoted(rest).ok_or_else(|| format!("Unterminated string in '{text}'."))?,
            _ => {
                let end = rest.find(|c: char| c.is_whitespace() || matches!(c, '(' | ')' | '\''));
                let end = end.unwrap_or(rest.len());
                (
                    Token::Word(
                        rest.chars()
                            .take_while(|c| !matches!(c, '(' | ')' | '\'') && !c.is_whitespace())
                            .collect(),
                    ),
                    end,
                )
            }
        };
        tokens.push(token);
        rest = rest.get(length..).unwrap_or_default().trim_start();
    }
    Ok(tokens)
}

/// Returns a string literal, in which quotes are doubled, and its length.
fn quoted(text: &str) -> Option<(Token, usize)> {
    let mut value = String::new();
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if c != '\'' {
            value.push(c);
        } else if chars.next_if(|(_, next)| *next == '\'').is_some() {
            value.push('\'');
        } else {
            return Some((Token::Text(value), at + 1));
        }
    }
    None
}

/// Tokens in reverse, so that the next one is the last.
pub(super) struct Parser {
    pub(super) tokens: Vec<Token>,
}

impl Parser {
    /// # Errors
    /// The service's error message, when `text` has invalid tokens.
    pub(super) fn new(text: &str) -> Result<Self, String> {
        let mut tokens = tokens(text)?;
        tokens.reverse();
        Ok(Self { tokens })
    }

    fn or(&mut self) -> Result<Filter, String> {
        let mut left = self.and()?;
        while self.accept("or") {
            left = Filter::Or(Box::new(left), Box::new(self.and()?));
        }
        Ok(left)
    }

    fn and(&mut self) -> Result<Filter, String> {
        let mut left = self.primary()?;
        while self.accept("and") {
            left = Filter::And(Box::new(left), Box::new(self.primary()?));
        }
        Ok(left)
    }

    fn primary(&mut self) -> Result<Filter, String> {
        if self.accept("not") {
            return Ok(Filter::Not(Box::new(self.primary()?)));
        }
        if self.tokens.pop_if(|token| *token == Token::Open).is_some() {
            let inner = self.or()?;
            let closed = self.tokens.pop_if(|token| *token == Token::Close);
            return closed.map(|_| inner).ok_or_else(|| "Missing ')'.".to_owned());
        }
        self.comparison()
    }

    fn comparison(&mut self) -> Result<Filter, String> {
        let name = self.word()?;
        let found = PROPERTIES.iter().find(|(property, _)| *property == name);
        let (property, is_time) = found
            .ok_or_else(|| format!("Invalid filter clause: property '{name}' is not supported."))?;
        let operator = match self.word()?.as_str() {
            "eq" => Operator::Eq,
            "ne" => Operator::Ne,
            "gt" => Operator::Gt,
            "ge" => Operator::Ge,
            "lt" => Operator::Lt,
            "le" => Operator::Le,
            other => return Err(format!("Unknown operator '{other}'.")),
        };
        let literal = match self.tokens.pop() {
            Some(Token::Word(word)) if word == "null" => Literal::Null,
            Some(Token::Word(word)) if *is_time => Literal::Time(
                Timestamp::parse(&word).ok_or_else(|| format!("'{word}' is not a date."))?,
            ),
            Some(Token::Text(text)) if !is_time => Literal::Text(text),
            other => return Err(format!("Incompatible types: {property} and {other:?}.")),
        };
        Ok(Filter::Compare(property, operator, literal))
    }

    pub(super) fn word(&mut self) -> Result<String, String> {
        match self.tokens.pop() {
            Some(Token::Word(word)) => Ok(word),
            other => Err(format!("Expected a word, found {other:?}.")),
        }
    }

    pub(super) fn accept(&mut self, word: &str) -> bool {
        let is = |token: &mut Token| matches!(token, Token::Word(next) if next == word);
        self.tokens.pop_if(is).is_some()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn passes_and_refuses_as_documented() {
        let alert = json!({"createdDateTime": "2026-11-20T08:00:00.5Z", "severity": "high",
                           "status": "new", "assignedTo": "O'Brien", "classification": null});
        let rows = [
            ("createdDateTime ge 2026-11-20T08:00:00.5Z", Some(true)),
            ("createdDateTime gt 2026-11-20T08:00:00.5Z", Some(false)),
            ("createdDateTime le 2026-11-20T08:00:00.4999999Z", Some(false)),
            ("severity eq 'high' and status ne 'new'", Some(false)),
            ("severity eq 'low' or not (status eq 'resolved')", Some(true)),
            ("severity eq 'low' or severity eq 'high' and status eq 'resolved'", Some(false)),
            ("assignedTo eq 'O''Brien'", Some(true)),
            ("classification eq null", Some(true)),
            ("lastUpdateDateTime ge 2026-11-20T08:00:00Z", Some(true)),
            // Rejected.
            ("title eq 'x'", None),
            ("evidence/any(e: e/x eq 'y')", None),
            ("severity eq high", None),
            ("createdDateTime ge '2026-11-20T08:00:00Z'", None),
            ("createdDateTime ge yesterday", None),
            ("assignedTo eq 'O'Brien'", None),
            ("severity eq 'high' and", None),
            ("(severity eq 'high'", None),
            ("severity eq 'high')", None),
            ("", None),
        ];
        for (text, expected) in rows {
            let result = Filter::parse(text).map(|filter| filter.passes(&alert));
            assert_eq!(result.ok(), expected, "{text}");
        }
    }
}
