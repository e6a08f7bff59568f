//! Cisco XDR's side: how the module that calls the relay is described, found, created, updated and
//! deleted.
//!
//! The API is IROH's (`/iroh/iroh-int`), whose description is the source of every field here. The
//! settings files are those of the `relay` tool.

use serde_json::{Map, Value};

use crate::base::credentials::Secret;

/// Looks up the value of a placeholder, normally in the environment. An error means that the value
/// cannot be read.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Result<Option<Secret>, String>;

/// A JSON object.
pub(crate) type Object = Map<String, Value>;

/// The type of the module that calls a custom relay, in every region.
pub const CUSTOM_RELAY: &str = "a14ae422-01b6-5013-9876-695ff1b0ebe0";

/// A module type for this relay, for organisations that may create their own: the body of `POST
/// /iroh/iroh-int/module-type`. Each module has a URL and a token, as with Cisco's "Generic
/// Serverless Relay".
pub const MODULE_TYPE: &str = include_str!("module_type.json");

/// The default settings file: the example of the `relay` tool.
pub const BUILT_IN: &str = include_str!("relay_settings.json");

/// Returns `settings` for display. Anything not known to be harmless is hidden, such as the
/// module's token.
pub fn masked(body: &Value) -> Value {
    let mut body = body.clone();
    let settings = body.get_mut("settings").and_then(Value::as_object_mut);
    for (key, value) in settings.into_iter().flatten() {
        let shown = matches!(key.as_str(), "url" | "auth-type" | "supported-apis");
        if !shown && !value.is_null() {
            *value = Value::from("[secret]");
        }
    }
    body
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_known_to_be_harmless_is_hidden() {
        let body = json!({"name": "n", "settings": {
            "url": "https://relay.example", "auth-type": "bearer", "supported-apis": ["health"],
            "token": "hunter2", "authorization-header": "Bearer hunter2", "custom": ["hunter2"],
            "gone": null,
        }});
        let shown = json!({"name": "n", "settings": {
            "url": "https://relay.example", "auth-type": "bearer", "supported-apis": ["health"],
            "token": "[secret]", "authorization-header": "[secret]", "custom": "[secret]",
            "gone": null,
        }});
        assert_eq!(masked(&body), shown);
        assert_eq!(masked(&json!({"name": "n"})), json!({"name": "n"}));
    }

    #[test]
    fn the_module_type_has_the_fields_that_xdr_takes_and_serves_what_the_relay_does() {
        let document: Object = serde_json::from_str(MODULE_TYPE).unwrap();
        for required in ["title", "default_name"] {
            assert!(document[required].is_string(), "{required}");
        }
        let keys: Vec<&Value> =
            document["configuration_spec"].as_array().unwrap().iter().map(|f| &f["key"]).collect();
        assert_eq!(keys, ["url", "token"]);
        assert_eq!(document["properties"]["auth-type"], "bearer");
        let apis = document["properties"]["supported-apis"].as_array().unwrap();
        assert_eq!(apis, &["health", "observe/observables"]);
    }
}
