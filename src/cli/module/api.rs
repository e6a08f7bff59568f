//! The requests to XDR's API (IROH), and how its responses are read.

use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::XdrError;
use super::instance::Instance;
use crate::base::cloud::BaseUrl;
use crate::base::credentials::{AccessToken, Secret};
use crate::base::http::{Action, Request, Response, percent_encode};

/// The region of an XDR organisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Region {
    /// North America.
    Us,
    /// Europe.
    Eu,
    /// Asia-Pacific, Japan and China.
    Apjc,
}

impl Region {
    /// Returns the region called `word`.
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "us" => Some(Self::Us),
            "eu" => Some(Self::Eu),
            "apjc" => Some(Self::Apjc),
            _ => None,
        }
    }

    /// Returns the base URL of the region's API.
    pub fn base(self) -> BaseUrl {
        BaseUrl::https(match self {
            Self::Us => "visibility.amp.cisco.com",
            Self::Eu => "visibility.eu.amp.cisco.com",
            Self::Apjc => "visibility.apjc.amp.cisco.com",
        })
    }
}

/// An API client of XDR (Administration, API Clients).
#[derive(Clone, Debug)]
pub struct Client {
    /// Its ID.
    pub id: String,
    /// Its password.
    pub password: Secret,
}

/// A request to the API that needs an access token.
#[derive(Clone, Debug)]
pub enum Call<'a> {
    /// List all modules.
    Instances,
    /// List all module types.
    Types,
    /// Create a module.
    Add(&'a Value),
    /// Update the module with this ID.
    Edit(&'a str, &'a Value),
    /// Delete the module with this ID.
    Remove(&'a str),
}

impl Call<'_> {
    /// Returns the HTTP request.
    pub fn request(&self, base: &BaseUrl, token: AccessToken) -> Request {
        let instance = |id: &str| format!("{INSTANCES}/{}", percent_encode(id));
        let json = |body: &Value| Secret::new(body.to_string());
        let (path, action) = match self {
            Self::Instances => (INSTANCES.to_owned(), Action::Get),
            Self::Types => (TYPES.to_owned(), Action::Get),
            Self::Add(body) => (INSTANCES.to_owned(), Action::PostJson(json(body))),
            Self::Edit(id, patch) => (instance(id), Action::PatchJson(json(patch))),
            Self::Remove(id) => (instance(id), Action::Delete),
        };
        Request { url: base.join(&path), bearer: Some(token), headers: accept(), action }
    }
}

impl fmt::Display for Call<'_> {
    /// Writes the method and the path.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Instances => write!(f, "GET {INSTANCES}"),
            Self::Types => write!(f, "GET {TYPES}"),
            Self::Add(_) => write!(f, "POST {INSTANCES}"),
            Self::Edit(id, _) => write!(f, "PATCH {INSTANCES}/{id}"),
            Self::Remove(id) => write!(f, "DELETE {INSTANCES}/{id}"),
        }
    }
}

/// Returns the request for an access token.
pub fn token_request(base: &BaseUrl, client: &Client) -> Request {
    Request {
        url: base.join("/iroh/oauth2/token"),
        bearer: None,
        headers: accept(),
        action: Action::PostFormBasic {
            client: Secret::new(format!("{}:{}", client.id, client.password.expose())),
            form: "grant_type=client_credentials",
        },
    }
}

/// Returns the access token in a response.
///
/// # Errors
/// When there is none.
pub fn token_of(response: &Response) -> Result<AccessToken, XdrError> {
    #[derive(Deserialize)]
    struct Wire {
        access_token: Box<str>,
    }
    let wire: Wire = read(response, "access token")?;
    // The token becomes a header.
    if wire.access_token.is_empty() || !wire.access_token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(XdrError::Unexpected("access token"));
    }
    Ok(AccessToken::new(wire.access_token))
}

/// Returns the modules in a response. A malformed one is an error: skipped, it might be created a
/// second time.
///
/// # Errors
/// When the response is not a list of modules.
pub fn instances_of(response: &Response) -> Result<Vec<Instance>, XdrError> {
    read(response, "list of modules")
}

/// A module type.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ModuleType {
    /// Its ID.
    pub id: String,
    /// Its title.
    pub title: String,
}

/// Returns the module types in a response.
///
/// # Errors
/// When the response is not a list of types.
pub fn types_of(response: &Response) -> Result<Vec<ModuleType>, XdrError> {
    read(response, "list of types")
}

fn read<T: DeserializeOwned>(response: &Response, expected: &'static str) -> Result<T, XdrError> {
    serde_json::from_slice(&response.body).map_err(|_| XdrError::Unexpected(expected))
}

fn accept() -> Vec<(String, String)> {
    vec![("accept".to_owned(), "application/json".to_owned())]
}

const INSTANCES: &str = "/iroh/iroh-int/module-instance";
const TYPES: &str = "/iroh/iroh-int/module-type";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_call_is_the_request_of_the_apis_description() {
        let base = Region::Eu.base();
        let body = json!({"name": "n"});
        let rows = [
            (Call::Instances, "GET /iroh/iroh-int/module-instance", "Get"),
            (Call::Types, "GET /iroh/iroh-int/module-type", "Get"),
            (Call::Add(&body), "POST /iroh/iroh-int/module-instance", "PostJson([secret])"),
            (
                Call::Edit("1", &body),
                "PATCH /iroh/iroh-int/module-instance/1",
                "PatchJson([secret])",
            ),
            (Call::Remove("1"), "DELETE /iroh/iroh-int/module-instance/1", "Delete"),
        ];
        for (call, line, action) in rows {
            let request = call.request(&base, AccessToken::new("t"));
            let path = line.split(' ').nth(1).unwrap();
            assert_eq!(request.url, format!("https://visibility.eu.amp.cisco.com{path}"));
            assert_eq!(call.to_string(), line);
            assert_eq!(format!("{:?}", request.action), action);
        }
        let odd = Call::Remove("../x?y").request(&base, AccessToken::new("t"));
        assert!(odd.url.ends_with("/module-instance/..%2Fx%3Fy"), "{}", odd.url);
    }

    #[test]
    fn a_token_is_asked_for_by_name_and_password_and_read_strictly() {
        let client = Client { id: "client-1".to_owned(), password: Secret::new("hunter2") };
        let request = token_request(&Region::Us.base(), &client);
        assert_eq!(request.url, "https://visibility.amp.cisco.com/iroh/oauth2/token");
        let Action::PostFormBasic { client, form } = request.action else {
            unreachable!("it is a form");
        };
        assert_eq!((client.expose(), form), ("client-1:hunter2", "grant_type=client_credentials"));

        let answer = |body: &str| {
            token_of(&Response { status: 200, body: body.into(), ..Response::default() })
        };
        assert_eq!(answer(r#"{"access_token":"t","expires_in":600}"#), Ok(AccessToken::new("t")));
        for body in ["", "{}", r#"{"access_token":""}"#, r#"{"access_token":"a\nb"}"#] {
            assert_eq!(answer(body), Err(XdrError::Unexpected("access token")), "{body}");
        }
    }

    #[test]
    fn a_list_with_a_module_that_cannot_be_read_is_no_list() {
        let answer = |body: &str| {
            instances_of(&Response { status: 200, body: body.into(), ..Response::default() })
        };
        let one = r#"{"id":"1","name":"n","module_type_id":"t"}"#;
        assert_eq!(answer(&format!("[{one}]")).unwrap().len(), 1);
        for body in ["", "{}", r#"[{"id":"1"}]"#, r#"{"data":[]}"#] {
            assert_eq!(
                answer(body).unwrap_err(),
                XdrError::Unexpected("list of modules"),
                "{body}"
            );
        }
    }
}
