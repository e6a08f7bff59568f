//! `$filter` of the legacy API: comparisons with string literals, also within the elements of a
//! collection.

use serde_json::Value;

use super::odata_filter::{self, Token};

/// A parsed filter.
#[derive(Debug)]
pub(super) enum Filter {
    And(Box<Self>, Box<Self>),
    Or(Box<Self>, Box<Self>),
    /// A collection, and the condition that one of its elements has to meet.
    Any(&'static str, Box<Self>),
    /// A property and its condition.
    Test(Property, Test),
}

/// A property, and whether its case is folded.
#[derive(Debug)]
pub(super) struct Property {
    path: Vec<String>,
    folded: bool,
}

#[derive(Debug)]
pub(super) enum Test {
    Equals(String),
    Differs(String),
    StartsWith(String),
}

/// The collections of an alert and the properties of their elements.
const COLLECTIONS: [(&str, &[&str]); 6] = [
    ("fileStates", &["name", "path", "riskScore", "fileHash/hashType", "fileHash/hashValue"]),
    ("hostStates", &["fqdn", "netBiosName", "os", "privateIpAddress", "publicIpAddress"]),
    (
        "networkConnections",
        &["destinationAddress", "destinationDomain", "destinationUrl", "sourceAddress"],
    ),
    ("processes", &["name", "path", "commandLine", "fileHash/hashType", "fileHash/hashValue"]),
    ("uriClickSecurityStates", &["uriDomain"]),
    ("userStates", &["accountName", "domainName", "logonIp", "userPrincipalName"]),
];

/// The filterable properties outside the collections.
const PROPERTIES: [&str; 6] =
    ["category", "severity", "status", "title", "vendorInformation/provider", "assignedTo"];

impl Filter {
    /// Parses `text`.
    ///
    /// # Errors
    /// The service's error message.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut parser = Parser { text: odata_filter::Parser::new(text)?, within: None };
        let filter = parser.or()?;
        match parser.text.tokens.pop() {
            None => Ok(filter),
            Some(token) => Err(format!("Syntax error at '{token:?}'.")),
        }
    }

    /// Returns whether `alert`, or an element of one, matches.
    pub(super) fn passes(&self, alert: &Value) -> bool {
        match self {
            Self::And(a, b) => a.passes(alert) && b.passes(alert),
            Self::Or(a, b) => a.passes(alert) || b.passes(alert),
            Self::Any(collection, inner) => {
                let elements = alert.get(collection).and_then(Value::as_array);
                elements.into_iter().flatten().any(|element| inner.passes(element))
            }
            Self::Test(property, test) => property.value(alert).is_some_and(|value| match test {
                Test::Equals(text) => value == *text,
                Test::Differs(text) => value != *text,
                Test::StartsWith(text) => value.starts_with(text),
            }),
        }
    }
}

impl Property {
    fn value(&self, element: &Value) -> Option<String> {
        let text = self.path.iter().try_fold(element, |value, name| value.get(name))?.as_str()?;
        Some(if self.folded { text.to_lowercase() } else { text.to_owned() })
    }
}

struct Parser {
    text: odata_filter::Parser,
    /// The properties of the enclosing collection's elements.
    within: Option<&'static [&'static str]>,
}

impl Parser {
    fn or(&mut self) -> Result<Filter, String> {
        let mut left = self.and()?;
        while self.text.accept("or") {
            left = Filter::Or(Box::new(left), Box::new(self.and()?));
        }
        Ok(left)
    }

    fn and(&mut self) -> Result<Filter, String> {
        let mut left = self.primary()?;
        while self.text.accept("and") {
            left = Filter::And(Box::new(left), Box::new(self.primary()?));
        }
        Ok(left)
    }

    fn primary(&mut self) -> Result<Filter, String> {
        if self.text.tokens.pop_if(|token| *token == Token::Open).is_some() {
            let inner = self.or()?;
            self.close()?;
            return Ok(inner);
        }
        let word = self.text.word()?;
        if let Some(collection) = word.strip_suffix("/any") {
            return self.any(collection);
        }
        if word == "startswith" {
            self.open()?;
            let (property, rest) = self.operand()?;
            let test = Test::StartsWith(self.literal()?);
            self.close()?;
            return match rest.as_str() {
                "," => Ok(Filter::Test(property, test)),
                _ => Err("startswith takes two arguments.".to_owned()),
            };
        }
        self.text.tokens.push(Token::Word(word));
        let (property, rest) = self.operand()?;
        let operator = if rest.is_empty() { self.text.word()? } else { rest };
        let test = match operator.as_str() {
            "eq" => Test::Equals(self.literal()?),
            "ne" => Test::Differs(self.literal()?),
            other => return Err(format!("Unknown operator '{other}'.")),
        };
        Ok(Filter::Test(property, test))
    }

    /// `collection/any(x: …)`
    fn any(&mut self, collection: &str) -> Result<Filter, String> {
        let known = COLLECTIONS.iter().find(|(name, _)| *name == collection);
        let (name, properties) =
            known.ok_or_else(|| format!("Could not find a property named '{collection}'."))?;
        self.open()?;
        if self.text.word()? != "x:" || self.within.replace(properties).is_some() {
            return Err("A lambda of another form than 'x: …' is not simulated.".to_owned());
        }
        let inner = self.or()?;
        self.within = None;
        self.close()?;
        Ok(Filter::Any(name, Box::new(inner)))
    }

    /// Parses a property, possibly in `tolower(…)`, and the rest of its word.
    fn operand(&mut self) -> Result<(Property, String), String> {
        let word = self.text.word()?;
        let folded = word == "tolower";
        let word = if folded {
            self.open()?;
            self.text.word()?
        } else {
            word
        };
        let (path, mut rest) = match word.strip_suffix(',') {
            Some(path) => (path.to_owned(), ",".to_owned()),
            None => (word, String::new()),
        };
        if folded {
            self.close()?;
            if self.text.accept(",") {
                rest = ",".to_owned();
            }
        }
        let (path, known) = match self.within {
            Some(known) => (path.strip_prefix("x/").unwrap_or_default(), known),
            None => (path.as_str(), &PROPERTIES[..]),
        };
        if !known.contains(&path) {
            return Err(format!("Could not find a property named '{path}'."));
        }
        let path = path.split('/').map(str::to_owned).collect();
        Ok((Property { path, folded }, rest))
    }

    fn literal(&mut self) -> Result<String, String> {
        match self.text.tokens.pop() {
            Some(Token::Text(text)) => Ok(text),
            other => Err(format!("Expected a string, found {other:?}.")),
        }
    }

    fn open(&mut self) -> Result<(), String> {
        self.sign(&Token::Open)
    }

    fn close(&mut self) -> Result<(), String> {
        self.sign(&Token::Close)
    }

    fn sign(&mut self, sign: &Token) -> Result<(), String> {
        match self.text.tokens.pop() {
            Some(token) if token == *sign => Ok(()),
            other => Err(format!("Expected {sign:?}, found {other:?}.")),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn passes_and_refuses_as_documented() {
        let alert = json!({
            "severity": "high",
            "fileStates": [{"name": "O'Brien.exe", "path": "C:\\Temp", "fileHash": {"hashValue": "AB"}}],
            "networkConnections": [
                {"sourceAddress": "10.0.0.1", "destinationAddress": null},
                {"sourceAddress": null, "destinationAddress": "10.0.0.2"},
            ],
        });
        let rows = [
            ("fileStates/any(x: x/name eq 'O''Brien.exe')", Some(true)),
            ("fileStates/any(x: x/name eq 'o''brien.exe')", Some(false)),
            ("fileStates/any(x: tolower(x/name) eq 'o''brien.exe')", Some(true)),
            ("fileStates/any(x: tolower(x/fileHash/hashValue) eq 'ab')", Some(true)),
            ("fileStates/any(x: startswith(tolower(x/path),'c:\\'))", Some(true)),
            ("fileStates/any(x: startswith(x/path,'D:'))", Some(false)),
            (
                "networkConnections/any(x: x/sourceAddress eq '10.0.0.2' or x/destinationAddress eq '10.0.0.2')",
                Some(true),
            ),
            // Both conditions on one element, not on two.
            (
                "networkConnections/any(x: (x/sourceAddress eq '10.0.0.1') and (x/destinationAddress eq '10.0.0.2'))",
                Some(false),
            ),
            ("fileStates/any(x: x/name eq 'a') or severity eq 'high'", Some(true)),
            ("severity ne 'high'", Some(false)),
            // Rejected.
            ("fileStates/any(x: x/name eq 'O'Brien.exe')", None),
            ("fileStates/any(x: x/name eq 'a'", None),
            ("fileStates/any(x: x/name eq a)", None),
            ("fileStates/any(x: x/colour eq 'a')", None),
            ("fileStates/any(x: name eq 'a')", None),
            ("registryKeys/any(x: x/name eq 'a')", None),
            ("fileStates/any(y: y/name eq 'a')", None),
            ("fileStates/any(x: contains(x/name,'a'))", None),
            ("evidence eq 'a'", None),
            ("", None),
        ];
        for (text, expected) in rows {
            let result = Filter::parse(text).map(|filter| filter.passes(&alert));
            assert_eq!(result.ok(), expected, "{text}");
        }
    }
}
