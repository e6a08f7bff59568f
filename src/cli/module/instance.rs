//! A module as it exists in XDR.

use std::fmt;

use serde::Deserialize;
use serde_json::Value;

use super::settings_file::{Definition, Identity};
use super::xdr::{Object, masked};

/// A module as it exists in XDR. Fields that this program does not use are kept unchanged.
#[derive(Clone, Deserialize)]
#[serde(try_from = "Object")]
pub struct Instance {
    /// Its ID.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The ID of its type.
    pub module_type_id: String,
    rest: Object,
}

impl TryFrom<Object> for Instance {
    type Error = &'static str;

    fn try_from(mut rest: Object) -> Result<Self, Self::Error> {
        let mut take = |name: &str| match rest.remove(name) {
            Some(Value::String(text)) => Ok(text),
            _ => Err("a module lacks an id, a name or a type"),
        };
        let (id, name, module_type_id) = (take("id")?, take("name")?, take("module_type_id")?);
        Ok(Self { id, name, module_type_id, rest })
    }
}

impl Instance {
    /// Returns whether the module has this name and type.
    pub fn is(&self, identity: &Identity) -> bool {
        self.name == identity.name && self.module_type_id == identity.module_type_id
    }

    /// Returns whether it is enabled, if XDR reports that.
    pub fn enabled(&self) -> Option<bool> {
        self.rest.get("enabled").and_then(Value::as_bool)
    }

    /// Returns its visibility, if XDR reports it.
    pub fn visibility(&self) -> Option<&str> {
        self.rest.get("visibility").and_then(Value::as_str)
    }

    /// Returns its fields, with secrets hidden.
    pub fn display(&self) -> Value {
        let mut all = self.rest.clone();
        all.insert("id".to_owned(), self.id.clone().into());
        all.insert("name".to_owned(), self.name.clone().into());
        all.insert("module_type_id".to_owned(), self.module_type_id.clone().into());
        masked(&all.into())
    }

    /// Returns the smallest change that produces the desired state, empty if there is none.
    /// Settings that the file does not name stay as they are.
    pub fn patch(&self, definition: &Definition) -> Object {
        let mut patch = Object::new();
        let Identity { name, module_type_id } = &definition.identity;
        if *name != self.name {
            patch.insert("name".to_owned(), name.clone().into());
        }
        if *module_type_id != self.module_type_id {
            patch.insert("module_type_id".to_owned(), module_type_id.clone().into());
        }
        patch.extend(changes(&definition.further, Some(&self.rest)));
        let current = self.rest.get("settings").and_then(Value::as_object);
        let settings = changes(&definition.settings, current);
        if !settings.is_empty() {
            patch.insert("settings".to_owned(), settings.into());
        }
        patch
    }
}

impl fmt::Debug for Instance {
    /// Omits the settings, which include the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Instance {{ {}, {:?} }}", self.id, self.name)
    }
}

/// Returns the members of `wanted` that differ in `current`. A missing member equals `null`.
fn changes(wanted: &Object, current: Option<&Object>) -> Object {
    let is_so = |key: &str, value: &Value| {
        current.and_then(|current| current.get(key)).unwrap_or(&Value::Null) == value
    };
    let changed = wanted.iter().filter(|(key, value)| !is_so(key, value));
    changed.map(|(key, value)| (key.clone(), value.clone())).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::settings_file::SettingsFile;
    use super::*;

    fn definition(file: &Value) -> Definition {
        let file = SettingsFile::parse(&file.to_string(), None).unwrap();
        file.definition(&|_| Ok(None)).unwrap()
    }

    #[test]
    fn a_patch_holds_what_differs_and_nothing_else() {
        let file = json!({
            "name": "Graph", "module_type_id": "t", "visibility": "org", "enabled": true,
            "settings": {
                "url": "https://relay.example", "supported-apis": ["health"], "token": "new",
                "gone": null,
            },
        });
        let same = json!({
            "id": "1", "name": "Graph", "module_type_id": "t", "visibility": "user",
            "enabled": true, "org_id": "o",
            "settings": {
                "url": "https://relay.example", "supported-apis": ["health"], "token": "new",
                "added-by-xdr": 1,
            },
        });
        let rows = [
            // Neither the visibility nor what the file does not name counts.
            ("/id", json!("2"), json!({})),
            ("/name", json!("Other"), json!({"name": "Graph"})),
            ("/module_type_id", json!("u"), json!({"module_type_id": "t"})),
            ("/enabled", json!(false), json!({"enabled": true})),
            ("/settings/token", json!("old"), json!({"settings": {"token": "new"}})),
            ("/settings/token", json!(null), json!({"settings": {"token": "new"}})),
            (
                "/settings/supported-apis",
                json!(["health", "observe/observables"]),
                json!({"settings": {"supported-apis": ["health"]}}),
            ),
            (
                "/settings",
                json!({"gone": 1, "token": "new"}),
                json!({"settings": {
                    "url": "https://relay.example", "supported-apis": ["health"], "gone": null,
                }}),
            ),
        ];
        for (pointer, value, expected) in rows {
            let mut current = same.clone();
            *current.pointer_mut(pointer).unwrap() = value;
            let current: Instance = serde_json::from_value(current).unwrap();
            assert_eq!(Value::from(current.patch(&definition(&file))), expected, "{pointer}");
        }
    }

    #[test]
    fn an_instance_shows_all_but_its_token() {
        let value = json!({"id": "1", "name": "n", "module_type_id": "t", "enabled": false,
            "visibility": "org", "settings": {"url": "https://r.example", "token": "hunter2"}});
        let instance: Instance = serde_json::from_value(value).unwrap();
        assert_eq!(instance.display()["settings"]["token"], "[secret]");
        assert_eq!(instance.display()["id"], "1");
        assert_eq!((instance.enabled(), instance.visibility()), (Some(false), Some("org")));
        assert!(!format!("{instance:?}").contains("hunter2"));
    }
}
