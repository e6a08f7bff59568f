//! The HTTP events of AWS Lambda: API Gateway (both payload formats), function URLs and load
//! balancers.
//!
//! Described in "Working with AWS Lambda proxy integrations for HTTP APIs" (both formats) and
//! "Lambda functions as targets" (load balancers).

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::{Deserialize, Serialize};

use crate::base::error::InvalidArgument;
use crate::base::http::reason;
use crate::base::limits;

/// An HTTP request parsed from an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpEvent {
    /// The method, in capitals.
    pub method: String,
    /// The path, which may begin with a stage or a base path.
    pub path: String,
    /// The body, or why it could not be read.
    pub body: Result<Vec<u8>, InvalidArgument>,
    headers: Vec<(String, String)>,
    gateway: EventSource,
}

/// The sender of the event, which determines the format of the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EventSource {
    /// API Gateway, payload format 1.0.
    Rest,
    /// API Gateway, payload format 2.0, or a function URL.
    Http,
    /// A load balancer.
    Balancer,
}

/// The event is not an HTTP request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotHttp;

impl fmt::Display for NotHttp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the event is no HTTP request")
    }
}

impl std::error::Error for NotHttp {}

impl HttpEvent {
    /// Parses an event.
    ///
    /// # Errors
    /// When it has none of the formats.
    pub fn parse(event: &[u8]) -> Result<Self, NotHttp> {
        let event: Event = serde_json::from_slice(event).map_err(|_| NotHttp)?;
        let headers = event.headers();
        let body = event.body();
        let context = event.request_context.unwrap_or_default();
        let (gateway, method, path) = match (context.elb, context.http) {
            (Some(_), _) => (EventSource::Balancer, event.http_method, event.path),
            (None, Some(http)) => (EventSource::Http, Some(http.method), event.raw_path),
            (None, None) => (EventSource::Rest, event.http_method, event.path),
        };
        let (Some(method), Some(path)) = (method, path) else {
            return Err(NotHttp);
        };
        Ok(Self { method, path, body, headers, gateway })
    }

    /// Returns the first header of this name, ignoring case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// Returns how many bytes the body may take when quoted in the reply.
    pub const fn max_bytes(&self) -> usize {
        let whole = match self.gateway {
            EventSource::Rest | EventSource::Http => limits::LAMBDA_REPLY,
            EventSource::Balancer => limits::BALANCER_REPLY,
        };
        whole - limits::LAMBDA_REPLY_FRAME
    }

    /// Returns the reply document for a response.
    pub fn reply(&self, status: u16, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
        let text = std::str::from_utf8(body).map(str::to_owned);
        let is_base64_encoded = text.is_err();
        let balancer = self.gateway == EventSource::Balancer;
        let reply = Reply {
            status_code: status,
            status_description: balancer.then(|| format!("{status} {}", reason(status))),
            headers: headers.iter().copied().collect(),
            // A load balancer reads one map or the other, depending on a setting that is not in the
            // event; API Gateway would merge the two.
            multi_value_headers: balancer
                .then(|| headers.iter().map(|(name, value)| (*name, [*value])).collect()),
            body: text.unwrap_or_else(|_| BASE64.encode(body)),
            is_base64_encoded,
        };
        // Strings and numbers always have a JSON form.
        serde_json::to_vec(&reply).unwrap_or_default()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    http_method: Option<String>,
    path: Option<String>,
    raw_path: Option<String>,
    headers: Option<BTreeMap<String, Option<String>>>,
    multi_value_headers: Option<BTreeMap<String, Option<Vec<String>>>>,
    body: Option<String>,
    is_base64_encoded: Option<bool>,
    request_context: Option<Context>,
}

#[derive(Default, Deserialize)]
struct Context {
    elb: Option<serde::de::IgnoredAny>,
    http: Option<Http>,
}

#[derive(Deserialize)]
struct Http {
    method: String,
}

impl Event {
    /// Returns all headers, those with several values first: the single-value map has only their
    /// last value, where HTTP takes the first.
    fn headers(&self) -> Vec<(String, String)> {
        let several = self.multi_value_headers.iter().flatten();
        let several = several.flat_map(|(name, values)| {
            values.iter().flatten().map(|value| (name.clone(), value.clone()))
        });
        let single = self.headers.iter().flatten();
        let single = single.filter_map(|(name, value)| Some((name.clone(), value.clone()?)));
        several.chain(single).collect()
    }

    /// Returns the body; a missing one is empty.
    fn body(&self) -> Result<Vec<u8>, InvalidArgument> {
        let text = self.body.as_deref().unwrap_or_default();
        let body = if self.is_base64_encoded == Some(true) {
            BASE64.decode(text).map_err(|_| InvalidArgument::BodyIncomplete)?
        } else {
            text.as_bytes().to_vec()
        };
        if body.len() > limits::BODY {
            return Err(InvalidArgument::BodyTooLarge);
        }
        Ok(body)
    }
}

/// In the order of AWS's documentation.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Reply<'a> {
    status_code: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_description: Option<String>,
    headers: BTreeMap<&'a str, &'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    multi_value_headers: Option<BTreeMap<&'a str, [&'a str; 1]>>,
    body: String,
    is_base64_encoded: bool,
}

/// Events written by hand may lack the padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::response::quoted_length;
    use serde_json::{Value, json};

    fn parse(event: &Value) -> Result<HttpEvent, NotHttp> {
        HttpEvent::parse(event.to_string().as_bytes())
    }

    fn rest() -> Value {
        json!({"httpMethod": "POST", "path": "/health", "requestContext": {}})
    }

    #[test]
    fn each_sender_names_method_and_path_in_its_own_way() {
        let rows = [
            rest(),
            json!({"version": "1.0", "httpMethod": "POST", "path": "/health", "body": null,
                "headers": null, "multiValueHeaders": null, "requestContext": {"stage": "dev"}}),
            json!({"version": "2.0", "rawPath": "/health", "rawQueryString": "",
                "requestContext": {"http": {"method": "POST", "path": "/other"}}}),
            json!({"httpMethod": "POST", "path": "/health", "headers": {}, "body": "",
                "requestContext": {"elb": {"targetGroupArn": "arn"}}}),
        ];
        for event in rows {
            let call = parse(&event).unwrap();
            assert_eq!((&*call.method, &*call.path), ("POST", "/health"), "{event}");
            assert_eq!(call.body, Ok(Vec::new()), "{event}");
            assert_eq!(call.header("Authorization"), None);
        }
    }

    #[test]
    fn what_is_no_http_request_is_none() {
        for event in [
            json!({}),
            json!([]),
            json!({"httpMethod": "GET"}),
            json!({"path": "/health"}),
            json!({"Records": [{"eventSource": "aws:s3"}]}),
            json!({"rawPath": "/", "requestContext": {"http": {}}}),
            json!({"source": "aws.events", "detail-type": "Scheduled Event"}),
        ] {
            assert_eq!(parse(&event).err(), Some(NotHttp), "{event}");
        }
        assert_eq!(HttpEvent::parse(b"").err(), Some(NotHttp));
    }

    #[test]
    fn a_header_is_found_in_any_case_and_either_map_and_the_first_value_counts() {
        let rows = [
            json!({"headers": {"AUTHORIZATION": "first"}}),
            json!({"headers": {"authorization": "first", "x": null}, "multiValueHeaders": {}}),
            json!({"multiValueHeaders": {"Authorization": ["first", "last"], "x": null}}),
            json!({"headers": {"Authorization": "last"},
                "multiValueHeaders": {"authorization": ["first", "last"]}}),
        ];
        for maps in rows {
            let mut event = rest();
            event.as_object_mut().unwrap().extend(maps.as_object().unwrap().clone());
            assert_eq!(parse(&event).unwrap().header("Authorization"), Some("first"), "{maps}");
        }
    }

    #[test]
    fn a_body_comes_as_text_or_in_base64_and_has_a_bound() {
        let body = |text: &str, encoded: Value| {
            let mut event = rest();
            event["body"] = json!(text);
            event["isBase64Encoded"] = encoded;
            parse(&event).unwrap().body
        };
        assert_eq!(body("é", json!(false)), Ok("é".as_bytes().to_vec()));
        assert_eq!(body("w6k=", json!(null)), Ok(b"w6k=".to_vec()));
        for text in ["w6k=", "w6k"] {
            assert_eq!(body(text, json!(true)), Ok("é".as_bytes().to_vec()));
        }
        assert_eq!(body("not base64", json!(true)), Err(InvalidArgument::BodyIncomplete));
        let most = vec![b' '; limits::BODY];
        assert_eq!(body(&BASE64.encode(&most), json!(true)), Ok(most.clone()));
        let over = [&most[..], b" "].concat();
        assert_eq!(body(&BASE64.encode(&over), json!(true)), Err(InvalidArgument::BodyTooLarge));
        let over = String::from_utf8(over).unwrap();
        assert_eq!(body(&over, json!(false)), Err(InvalidArgument::BodyTooLarge));
    }

    #[test]
    fn each_sender_gets_the_answer_in_its_own_form() {
        let headers = [("Content-Type", "application/json"), ("Allow", "POST")];
        let reply = |event: Value, body: &[u8]| -> Value {
            let call = parse(&event).unwrap();
            serde_json::from_slice(&call.reply(405, &headers, body)).unwrap()
        };
        let single = json!({"Content-Type": "application/json", "Allow": "POST"});
        let plain = json!({"statusCode": 405, "headers": single, "body": "{\"a\":\"é\"}",
            "isBase64Encoded": false});
        let http = json!({"rawPath": "/", "requestContext": {"http": {"method": "GET"}}});
        let body = "{\"a\":\"é\"}".as_bytes();
        assert_eq!(reply(rest(), body), plain);
        assert_eq!(reply(http, body), plain);
        let balancer = json!({"httpMethod": "GET", "path": "/", "requestContext": {"elb": {}}});
        let mut expected = plain;
        expected["statusDescription"] = json!("405 Method Not Allowed");
        expected["multiValueHeaders"] =
            json!({"Content-Type": ["application/json"], "Allow": ["POST"]});
        assert_eq!(reply(balancer, body), expected);
        let binary = reply(rest(), &[0xff]);
        assert_eq!((&binary["body"], &binary["isBase64Encoded"]), (&json!("/w=="), &json!(true)));
    }

    #[test]
    fn a_body_that_fills_the_room_makes_a_reply_within_the_bound() {
        let balancer = json!({"httpMethod": "GET", "path": "/", "requestContext": {"elb": {}}});
        for (event, bound) in [(rest(), limits::LAMBDA_REPLY), (balancer, limits::BALANCER_REPLY)] {
            let call = parse(&event).unwrap();
            let mut body = r#"{"a":"é\\"}"#.repeat(call.max_bytes() / 18);
            body.push_str(&" ".repeat(call.max_bytes() - quoted_length(body.as_bytes())));
            assert_eq!(quoted_length(body.as_bytes()), call.max_bytes());
            let headers = [("Content-Type", "application/json"), ("Retry-After", "1")];
            let length = call.reply(503, &headers, body.as_bytes()).len();
            assert!((bound - limits::LAMBDA_REPLY_FRAME..=bound).contains(&length), "{length}");
        }
    }
}
