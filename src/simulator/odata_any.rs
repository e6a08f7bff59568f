//! `$filter` of the legacy API: comparisons with string literals, also within the elements of a
//! collection.

use serde_json::Value;

use super::odata_filter::{Filter, Parser, Token};

/// A condition of an alert.
#[derive(Debug)]
pub(super) enum Condition {
    /// A collection, and the filter that one of its elements has to pass.
    Any(&'static str, Filter<(Property, Test)>),
    /// A property and its condition.
    Test((Property, Test)),
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

impl Condition {
    /// Parses a condition.
    ///
    /// # Errors
    /// The service's error message.
    pub(super) fn parse(parser: &mut Parser) -> Result<Self, String> {
        let word = parser.word()?;
        if let Some(collection) = word.strip_suffix("/any") {
            return any(parser, collection);
        }
        parser.tokens.push(Token::Word(word));
        test(parser, None).map(Self::Test)
    }

    /// Returns whether `alert` meets it.
    pub(super) fn holds(&self, alert: &Value) -> bool {
        match self {
            Self::Any(collection, inner) => {
                let elements = alert.get(collection).and_then(Value::as_array);
                let meets = |element: &Value| inner.passes(&|test| meets(test, element));
                elements.into_iter().flatten().any(meets)
            }
            Self::Test(test) => meets(test, alert),
        }
    }
}

fn meets((property, test): &(Property, Test), element: &Value) -> bool {
    property.value(element).is_some_and(|value| match test {
        Test::Equals(text) => value == *text,
        Test::Differs(text) => value != *text,
        Test::StartsWith(text) => value.starts_with(text),
    })
}

impl Property {
    fn value(&self, element: &Value) -> Option<String> {
        let text = self.path.iter().try_fold(element, |value, name| value.get(name))?.as_str()?;
        Some(if self.folded { text.to_lowercase() } else { text.to_owned() })
    }
}

/// `collection/any(x: …)`
fn any(parser: &mut Parser, collection: &str) -> Result<Condition, String> {
    let known = COLLECTIONS.iter().find(|(name, _)| *name == collection);
    let (name, properties) =
        known.ok_or_else(|| format!("Could not find a property named '{collection}'."))?;
    parser.sign(&Token::Open)?;
    if parser.word()? != "x:" {
        return Err("A lambda of another form than 'x: …' is not simulated.".to_owned());
    }
    let inner = parser.or(&|parser| test(parser, Some(properties)))?;
    parser.sign(&Token::Close)?;
    Ok(Condition::Any(name, inner))
}

/// `property eq 'text'`, `property ne 'text'` or `startswith(property,'text')`; `within` are the
/// properties of the enclosing collection's elements.
fn test(parser: &mut Parser, within: Option<&[&str]>) -> Result<(Property, Test), String> {
    if parser.accept("startswith") {
        parser.sign(&Token::Open)?;
        let (property, rest) = operand(parser, within)?;
        let test = Test::StartsWith(literal(parser)?);
        parser.sign(&Token::Close)?;
        return match rest.as_str() {
            "," => Ok((property, test)),
            _ => Err("startswith takes two arguments.".to_owned()),
        };
    }
    let (property, rest) = operand(parser, within)?;
    let operator = if rest.is_empty() { parser.word()? } else { rest };
    match operator.as_str() {
        "eq" => Ok((property, Test::Equals(literal(parser)?))),
        "ne" => Ok((property, Test::Differs(literal(parser)?))),
        other => Err(format!("Unknown operator '{other}'.")),
    }
}

/// Parses a property, possibly in `tolower(…)`, and the rest of its word.
fn operand(parser: &mut Parser, within: Option<&[&str]>) -> Result<(Property, String), String> {
    let folded = parser.accept("tolower");
    if folded {
        parser.sign(&Token::Open)?;
    }
    let word = parser.word()?;
    let (path, mut rest) = match word.strip_suffix(',') {
        Some(path) => (path, ","),
        None => (word.as_str(), ""),
    };
    if folded {
        parser.sign(&Token::Close)?;
        if parser.accept(",") {
            rest = ",";
        }
    }
    let (path, known) = match within {
        Some(known) => (path.strip_prefix("x/").unwrap_or_default(), known),
        None => (path, &PROPERTIES[..]),
    };
    if !known.contains(&path) {
        return Err(format!("Could not find a property named '{path}'."));
    }
    let path = path.split('/').map(str::to_owned).collect();
    Ok((Property { path, folded }, rest.to_owned()))
}

fn literal(parser: &mut Parser) -> Result<String, String> {
    match parser.tokens.pop() {
        Some(Token::Text(text)) => Ok(text),
        other => Err(format!("Expected a string, found {other:?}.")),
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
            let filter = Filter::parse(text, &Condition::parse);
            let result = filter.map(|filter| filter.passes(&|condition| condition.holds(&alert)));
            assert_eq!(result.ok(), expected, "{text}");
        }
    }
}
