//! Graph's error response, which may be JSON in several forms or empty, and what is no response of
//! Microsoft's at all.

use serde::Deserialize;

use super::lenient::{Object, Text};
use crate::base::error::{Error, ForeignAnswer, GraphError, sanitized};
use crate::base::http::Response;

/// Returns the error of a response that is not a success, or not Microsoft's.
pub fn error(response: &Response) -> Error {
    match response.status {
        // A gateway of Microsoft's own may say so in HTML.
        429 | 500.. => Error::Graph(parse(response)),
        400..=499 if !is_html(response) => Error::Graph(parse(response)),
        _ => Error::Intercepted(foreign(response)),
    }
}

/// Returns whether the body is a JSON object, by its first character: Microsoft's always is.
pub fn is_object(response: &Response) -> bool {
    response.body.trim_ascii_start().starts_with(b"{")
}

fn is_html(response: &Response) -> bool {
    response.body.trim_ascii_start().starts_with(b"<")
}

/// Describes a response that is not Microsoft's: its media type and a page's title, but nothing
/// else of its body, which may hold anything.
pub(super) fn foreign(response: &Response) -> ForeignAnswer {
    let body = response.body.trim_ascii();
    let media_type = response.header("content-type").unwrap_or("no media type");
    let media_type = media_type.split(';').next().unwrap_or_default().trim();
    let what = match (body, title(body), response.header("location")) {
        (_, _, Some(location)) => {
            let host = location.split_once("://").map_or(location, |(_, rest)| rest);
            format!("a redirect to {}", host.split(['/', '?', '#']).next().unwrap_or_default())
        }
        (_, Some(title), _) => format!("{media_type}, titled \"{title}\""),
        (b"", ..) => "an empty body".to_owned(),
        (b"null" | b"[]", ..) => format!("{media_type}, {}", String::from_utf8_lossy(body)),
        _ => media_type.to_owned(),
    };
    ForeignAnswer { status: response.status, what: sanitized(&what) }
}

/// Returns the first words of an HTML page's title.
fn title(body: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(body.get(..TITLE_WITHIN).unwrap_or(body));
    let begin = text.to_ascii_lowercase().find("<title")?;
    let rest = text.get(begin..)?.split_once('>')?.1;
    let title: Vec<&str> = rest.split('<').next()?.split_whitespace().take(TITLE_WORDS).collect();
    Some(title.join(" ")).filter(|title| !title.is_empty())
}

/// Bytes of a page in which its title is looked for.
const TITLE_WITHIN: usize = 4 * 1024;
/// Words of a title that are shown.
const TITLE_WORDS: usize = 8;

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
    fn what_is_not_microsofts_is_described_and_nothing_else_of_it_is_shown() {
        let page = "<!DOCTYPE html>\n<HTML><head><Title class=x>\n Sign in  to\nContoso</title>";
        type Row<'a> = (u16, &'a str, &'a [(&'a str, &'a str)], &'a str);
        let rows: &[Row<'_>] = &[
            (
                200,
                page,
                &[("content-type", "text/html; charset=utf-8")],
                "text/html, titled \"Sign in to Contoso\"",
            ),
            (200, "<html>hunter2", &[("content-type", "text/html")], "text/html"),
            (200, "hunter2", &[], "no media type"),
            (200, "[]", &[("content-type", "application/json")], "application/json, []"),
            (200, " null ", &[("content-type", "application/json")], "application/json, null"),
            (204, "", &[], "an empty body"),
            (302, "", &[("location", "https://login.example/x?token=hunter2")], "login.example"),
            (403, page, &[], "no media type, titled"),
        ];
        for (status, body, headers, expected) in rows {
            let headers = headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
            let body = body.as_bytes().to_vec();
            let response = Response { status: *status, headers, body };
            assert!(*status == 403 || !is_object(&response));
            let message = error(&response).message();
            assert!(message.contains(expected), "{message}");
            assert!(message.contains(&format!("(HTTP {status})")), "{message}");
            assert!(!message.contains("hunter2"), "{message}");
        }
    }

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
