//! Graph's error response, which may be JSON in several forms, HTML from a gateway, or empty.

use serde::Deserialize;

use super::lenient::{Object, Text};
use crate::base::error::{GraphError, sanitized};
use crate::base::http::Response;

/// Parses an error response.
pub fn parse(response: &Response) -> GraphError {
    let document: Document = serde_json::from_slice(&response.body).unwrap_or_default();
    let error = document.error.0.unwrap_or_default();
    let text = |text: Text| text.0.map(|text| sanitized(&text)).unwrap_or_default();
    GraphError { status: response.status, code: text(error.code), message: text(error.message) }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Document {
    error: Object<Inside>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Inside {
    code: Text,
    message: Text,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_the_body_is_there_is_a_problem() {
        let long = "x".repeat(1_000);
        let rows: &[(&str, &str, &str)] = &[
            (
                r#"{"error":{"code":"Forbidden","message":"Missing application roles."}}"#,
                "Forbidden",
                "Missing application roles.",
            ),
            (r#"{"error":{"code":"UnknownError","message":""}}"#, "UnknownError", ""),
            (r#"{"error":{"code":null,"message":7}}"#, "", ""),
            (r#"{"error":"invalid_client"}"#, "", ""),
            ("<html>502 Bad Gateway</html>", "", ""),
            ("", "", ""),
            ("[]", "", ""),
            ("{\"error\":{\"message\":\"a\\nb\\u0007\"}}", "", "a b"),
        ];
        for (body, code, message) in rows {
            let problem = parse(&Response {
                status: 403,
                body: body.as_bytes().to_vec(),
                ..Response::default()
            });
            assert_eq!((problem.code.as_str(), problem.message.as_str()), (*code, *message));
        }
        let body = format!(r#"{{"error":{{"message":"{long}"}}}}"#).into_bytes();
        let problem = parse(&Response { status: 500, body, ..Response::default() });
        assert_eq!(problem.message.len(), 200 + "…".len());
    }
}
