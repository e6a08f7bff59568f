//! Kusto, as far as needed to recognise the relay's queries: a complete lexer and a parser of the
//! lists at the beginning. The rest is not interpreted but compared token by token.

/// A token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// A name, a number or a timespan.
    Word(String),
    /// A string literal.
    Text(String),
    /// Anything else.
    Sign(char),
}

/// A parsed query.
#[derive(Debug)]
pub(super) struct Query {
    /// `let name = dynamic([...]);`
    pub(super) lists: Vec<(String, Vec<String>)>,
    /// The remaining tokens.
    pub(super) rest: Vec<Token>,
}

impl Query {
    /// Parses `text`.
    ///
    /// # Errors
    /// The service's error message.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut rest = tokens(text)?;
        rest.reverse();
        let mut lists = Vec::new();
        while let Some(list) = list(&mut rest) {
            lists.push(list?);
        }
        rest.reverse();
        Ok(Self { lists, rest })
    }

    /// Returns the values of the list called `name`.
    pub(super) fn list(&self, name: &str) -> &[String] {
        let found = self.lists.iter().find(|(list, _)| list == name);
        found.map(|(_, values)| values.as_slice()).unwrap_or_default()
    }

    /// If the remaining tokens match `pattern`, returns the values at each `NUMBER`, which may be
    /// timespans.
    pub(super) fn matches(&self, pattern: &str) -> Option<Vec<u64>> {
        let pattern = tokens(pattern).ok()?;
        let mut numbers = Vec::new();
        for (expected, token) in pattern.iter().zip(&self.rest) {
            match (expected, token) {
                (Token::Word(word), Token::Word(number)) if word == "NUMBER" => {
                    numbers.push(number.trim_end_matches('s').parse().ok()?);
                }
                _ if expected == token => {}
                _ => return None,
            }
        }
        (pattern.len() == self.rest.len()).then_some(numbers)
    }
}

/// Parses the next statement if it is a list. Tokens are in reverse.
fn list(rest: &mut Vec<Token>) -> Option<Result<(String, Vec<String>), String>> {
    let ahead: Vec<&Token> = rest.iter().rev().take(4).collect();
    let [Token::Word(word), Token::Word(name), Token::Sign('='), Token::Word(kind)] = *ahead else {
        return None;
    };
    let (true, name) = (word == "let" && kind == "dynamic", name.clone()) else {
        return None;
    };
    rest.truncate(rest.len() - 4);
    Some(values(rest).map(|values| (name, values)))
}

/// `(["a","b"]);`
fn values(rest: &mut Vec<Token>) -> Result<Vec<String>, String> {
    let mut expect = |sign: char| match rest.pop() {
        Some(Token::Sign(found)) if found == sign => Ok(()),
        other => Err(format!("Syntax error: expected '{sign}', found {other:?}.")),
    };
    expect('(')?;
    expect('[')?;
    let mut values = Vec::new();
    loop {
        match rest.pop() {
            Some(Token::Text(text)) => values.push(text),
            Some(Token::Sign(']')) if values.is_empty() => break,
            other => return Err(format!("Syntax error: unexpected {other:?} in a list.")),
        }
        match rest.pop() {
            Some(Token::Sign(',')) => {}
            Some(Token::Sign(']')) => break,
            other => return Err(format!("Syntax error: unexpected {other:?} in a list.")),
        }
    }
    match (rest.pop(), rest.pop()) {
        (Some(Token::Sign(')')), Some(Token::Sign(';'))) => Ok(values),
        other => Err(format!("Syntax error: unexpected {other:?} after a list.")),
    }
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            c if c.is_whitespace() => {}
            '/' if chars.peek() == Some(&'/') => while chars.next_if(|c| *c != '\n').is_some() {},
            '@' if chars.next_if_eq(&'"').is_some() => tokens.push(verbatim(&mut chars)?),
            '"' => tokens.push(quoted(&mut chars)?),
            c if is_word(c) => {
                let mut word = String::from(c);
                while let Some(c) = chars.next_if(|c| is_word(*c)) {
                    word.push(c);
                }
                tokens.push(Token::Word(word));
            }
            sign => tokens.push(Token::Sign(sign)),
        }
    }
    Ok(tokens)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

type Chars<'a> = std::iter::Peekable<std::str::Chars<'a>>;

/// Reads the rest of a literal with backslash escapes.
fn quoted(chars: &mut Chars<'_>) -> Result<Token, String> {
    let mut text = String::new();
    loop {
        match chars.next() {
            Some('"') => return Ok(Token::Text(text)),
            Some('\\') => text.push(escaped(chars)?),
            Some(c) if c != '\n' && c != '\r' => text.push(c),
            _ => return Err("Syntax error: unterminated string literal.".to_owned()),
        }
    }
}

fn escaped(chars: &mut Chars<'_>) -> Result<char, String> {
    let bad = || "Syntax error: bad escape in a string literal.".to_owned();
    match chars.next() {
        Some(c @ ('\\' | '"' | '\'')) => Ok(c),
        Some('n') => Ok('\n'),
        Some('r') => Ok('\r'),
        Some('t') => Ok('\t'),
        Some('u') => {
            let digits: String = chars.take(4).collect();
            let code = u32::from_str_radix(&digits, 16).map_err(|_| bad())?;
            char::from_u32(code).filter(|_| digits.len() == 4).ok_or_else(bad)
        }
        _ => Err(bad()),
    }
}

/// Reads the rest of a literal in which quotes are doubled.
fn verbatim(chars: &mut Chars<'_>) -> Result<Token, String> {
    let mut text = String::new();
    loop {
        match chars.next() {
            Some('"') if chars.next_if_eq(&'"').is_some() => text.push('"'),
            Some('"') => return Ok(Token::Text(text)),
            Some(c) => text.push(c),
            None => return Err("Syntax error: unterminated string literal.".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_and_the_rest_is_recognised() {
        let text = "let a = dynamic([\"x\\\"\\\\\\u00e9\",\"// no comment\"]);\n\
                    let b = dynamic([]);\nlet near = T | where X > ago(60s) // comment\n";
        let query = Query::parse(text).unwrap();
        assert_eq!(query.list("a"), ["x\"\\é", "// no comment"]);
        assert_eq!(query.list("b"), [""; 0]);
        assert_eq!(query.matches("let near=T|where X>ago(NUMBER)"), Some(vec![60]));
        assert_eq!(query.matches("let near=T|where X>ago(NUMBER)|take 1"), None);
        assert_eq!(query.matches("let near=T|where Y>ago(NUMBER)"), None);
    }

    #[test]
    fn what_is_quoted_badly_is_refused() {
        for list in ["\"", "\"a\" \"b\"", "\"a\"b\"", "\"\\x\"", "\"a\nb\"", "a", "\"\\u12\"", ","]
        {
            let text = format!("let a = dynamic([{list}]);\nT");
            assert!(Query::parse(&text).is_err(), "{list}");
        }
    }
}
