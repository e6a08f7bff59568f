//! `$filter`: conditions joined by `and`, `or`, `not` and parentheses; and the conditions as
//! documented for alerts_v2, comparisons of eight properties. Those of the legacy API are in
//! [`odata_any`](super::odata_any).

use serde_json::Value;

use crate::base::time::Timestamp;

/// A parsed filter of conditions of type `C`.
#[derive(Debug)]
pub(super) enum Filter<C> {
    And(Box<Self>, Box<Self>),
    Or(Box<Self>, Box<Self>),
    Not(Box<Self>),
    If(C),
}

impl<C> Filter<C> {
    /// Parses `text`, of which `condition` parses each condition.
    ///
    /// # Errors
    /// The service's error message.
    pub(super) fn parse(text: &str, condition: &Condition<'_, C>) -> Result<Self, String> {
        let mut parser = Parser::new(text)?;
        let filter = parser.or(condition)?;
        match parser.tokens.last() {
            None => Ok(filter),
            Some(token) => Err(format!("Syntax error at '{token:?}' in '{text}'.")),
        }
    }

    /// Returns whether the filter passes what meets the conditions that `holds` says.
    pub(super) fn passes(&self, holds: &dyn Fn(&C) -> bool) -> bool {
        match self {
            Self::And(a, b) => a.passes(holds) && b.passes(holds),
            Self::Or(a, b) => a.passes(holds) || b.passes(holds),
            Self::Not(inner) => !inner.passes(holds),
            Self::If(condition) => holds(condition),
        }
    }
}

/// Parses a condition.
pub(super) type Condition<'a, C> = dyn Fn(&mut Parser) -> Result<C, String> + 'a;

/// A property, an operator and a literal.
#[derive(Debug)]
pub(super) struct Comparison {
    property: &'static str,
    operator: Operator,
    literal: Literal,
}

#[derive(Clone, Copy, Debug)]
enum Operator {
    Eq,
    Ne,
    Gt,
    Ge,
    Lt,
    Le,
}

#[derive(Debug)]
enum Literal {
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

impl Comparison {
    /// Parses a comparison. Times are read `to_the_second`, or as they are.
    ///
    /// # Errors
    /// The service's error message.
    pub(super) fn parse(parser: &mut Parser, to_the_second: bool) -> Result<Self, String> {
        let name = parser.word()?;
        let found = PROPERTIES.iter().find(|(property, _)| *property == name);
        let (property, is_time) = found
            .ok_or_else(|| format!("Invalid filter clause: property '{name}' is not supported."))?;
        let operator = match parser.word()?.as_str() {
            "eq" => Operator::Eq,
            "ne" => Operator::Ne,
            "gt" => Operator::Gt,
            "ge" => Operator::Ge,
            "lt" => Operator::Lt,
            "le" => Operator::Le,
            other => return Err(format!("Unknown operator '{other}'.")),
        };
        let literal = match parser.tokens.pop() {
            Some(Token::Word(word)) if word == "null" => Literal::Null,
            Some(Token::Word(word)) if *is_time => {
                let time =
                    Timestamp::parse(&word).ok_or_else(|| format!("'{word}' is not a date."))?;
                let second = Timestamp::from_unix_seconds(time.unix_seconds());
                Literal::Time(if to_the_second { second } else { time })
            }
            Some(Token::Text(text)) if !is_time => Literal::Text(text),
            other => return Err(format!("Incompatible types: {property} and {other:?}.")),
        };
        Ok(Self { property, operator, literal })
    }

    /// Returns whether `alert` meets the condition. Alerts without the property do: minimal alerts
    /// must be deliverable.
    pub(super) fn holds(&self, alert: &Value) -> bool {
        let (operator, value) = (self.operator, alert.get(self.property).and_then(Value::as_str));
        match &self.literal {
            Literal::Null => operator.holds(&value.is_some(), &false),
            Literal::Text(text) => operator.holds(&value.unwrap_or_default(), &&**text),
            Literal::Time(time) => {
                let value = value.and_then(Timestamp::parse);
                value.is_none_or(|value| operator.holds(&value, time))
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
                let ends = |c: char| c.is_whitespace() || matches!(c, '(' | ')' | '\'');
                let word = rest.get(..rest.find(ends).unwrap_or(rest.len())).unwrap_or_default();
                (Token::Word(word.to_owned()), word.len())
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

    pub(super) fn or<C>(&mut self, condition: &Condition<'_, C>) -> Result<Filter<C>, String> {
        let mut left = self.and(condition)?;
        while self.accept("or") {
            left = Filter::Or(Box::new(left), Box::new(self.and(condition)?));
        }
        Ok(left)
    }

    fn and<C>(&mut self, condition: &Condition<'_, C>) -> Result<Filter<C>, String> {
        let mut left = self.primary(condition)?;
        while self.accept("and") {
            left = Filter::And(Box::new(left), Box::new(self.primary(condition)?));
        }
        Ok(left)
    }

    fn primary<C>(&mut self, condition: &Condition<'_, C>) -> Result<Filter<C>, String> {
        if self.accept("not") {
            return Ok(Filter::Not(Box::new(self.primary(condition)?)));
        }
        if self.tokens.pop_if(|token| *token == Token::Open).is_some() {
            let inner = self.or(condition)?;
            return self.sign(&Token::Close).map(|()| inner);
        }
        condition(self).map(Filter::If)
    }

    pub(super) fn sign(&mut self, sign: &Token) -> Result<(), String> {
        match self.tokens.pop() {
            Some(token) if token == *sign => Ok(()),
            other => Err(format!("Expected {sign:?}, found {other:?}.")),
        }
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
            let filter = Filter::parse(text, &|parser| Comparison::parse(parser, false));
            let result = filter.map(|filter| filter.passes(&|comparison| comparison.holds(&alert)));
            assert_eq!(result.ok(), expected, "{text}");
        }
    }
}
