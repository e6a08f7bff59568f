//! The desired state of a module: a settings file in either format of the `relay` tool, validated
//! and with its placeholders filled in.

use std::fmt;

use serde_json::Value;

use super::placeholders::expand;
use super::xdr::{CUSTOM_RELAY, Lookup, Object};
use crate::base::credentials::Secret;

/// A settings file in the newer format, with its placeholders.
pub struct SettingsFile(Object);

/// The name and type that identify a module: the only key that both a file and XDR know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its name.
    pub name: String,
    /// The ID of its type.
    pub module_type_id: String,
}

/// The desired state of a module.
#[derive(Clone, PartialEq)]
pub struct Definition {
    /// Its name and type.
    pub identity: Identity,
    /// Its visibility: `global`, `org` or `user`.
    pub visibility: String,
    /// Its settings, including the relay's token. `null` means that the setting is to be removed.
    pub(crate) settings: Object,
    /// Other fields: `enabled`, `external_references` and `parent_id`.
    pub(crate) further: Object,
}

impl SettingsFile {
    /// Parses a file in either format. `module_type_id` overrides the one in the file.
    ///
    /// # Errors
    /// What is wrong, without any of the file's contents.
    pub fn parse(text: &str, module_type_id: Option<&str>) -> Result<Self, String> {
        let mut file: Object = serde_json::from_str(text).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            format!("is not a JSON object: see line {line}, column {column}")
        })?;
        if file.contains_key("config") || file.contains_key("record") {
            modernise(&mut file, module_type_id.is_some())?;
        }
        if let Some(id) = module_type_id {
            file.insert("module_type_id".to_owned(), id.into());
        }
        Ok(Self(file))
    }

    /// Returns the module's name and type, with only the name's placeholders filled in.
    ///
    /// # Errors
    /// All problems with them.
    pub fn identity(&self, lookup: Lookup<'_>) -> Result<Identity, Vec<String>> {
        let mut problems = Vec::new();
        let identity = self.read_identity(lookup, &mut problems);
        if problems.is_empty() { Ok(identity) } else { Err(problems) }
    }

    /// Returns the desired state.
    ///
    /// # Errors
    /// All problems, each with the name of its field and without its value.
    pub fn definition(&self, lookup: Lookup<'_>) -> Result<Definition, Vec<String>> {
        let mut problems = Vec::new();
        let identity = self.read_identity(lookup, &mut problems);
        let visibility = self.text("visibility").unwrap_or_default().to_owned();
        if !["global", "org", "user"].contains(&visibility.as_str()) {
            problems.push("visibility must be global, org or user".to_owned());
        }
        let settings = self.0.get("settings").and_then(Value::as_object).cloned();
        let mut settings = settings.unwrap_or_else(|| {
            problems.push("settings must be an object".to_owned());
            Object::new()
        });
        fill_in(&mut settings, lookup, &mut problems);
        problems.extend(complaints(&settings));
        let mut further = Object::new();
        for (key, value) in &self.0 {
            match key.as_str() {
                "name" | "module_type_id" | "visibility" | "settings" => {}
                "enabled" | "external_references" | "parent_id" => {
                    further.insert(key.clone(), value.clone());
                }
                _ => problems.push(format!("{key} is not a field of a module")),
            }
        }
        if problems.is_empty() {
            Ok(Definition { identity, visibility, settings, further })
        } else {
            Err(problems)
        }
    }

    fn read_identity(&self, lookup: Lookup<'_>, problems: &mut Vec<String>) -> Identity {
        let name = expand(self.text("name").unwrap_or_default(), lookup);
        let name = name.unwrap_or_else(|problem| {
            problems.push(format!("name {problem}"));
            "?".to_owned()
        });
        let module_type_id = self.text("module_type_id").unwrap_or_default().to_owned();
        for (field, value) in [("name", &name), ("module_type_id", &module_type_id)] {
            if value.trim().is_empty() {
                problems.push(format!("{field} must be a non-empty string"));
            }
        }
        Identity { name, module_type_id }
    }

    fn text(&self, field: &str) -> Option<&str> {
        self.0.get(field).and_then(Value::as_str)
    }
}

impl Definition {
    /// Returns the request body that creates the module.
    pub fn body(&self) -> Value {
        let mut body = self.further.clone();
        // In a new module there is nothing for `null` to remove.
        let mut settings = self.settings.clone();
        settings.retain(|_, value| !value.is_null());
        body.retain(|_, value| !value.is_null());
        body.insert("name".to_owned(), self.identity.name.clone().into());
        body.insert("module_type_id".to_owned(), self.identity.module_type_id.clone().into());
        body.insert("visibility".to_owned(), self.visibility.clone().into());
        body.insert("settings".to_owned(), settings.into());
        body.into()
    }

    /// Returns the strings that must be withheld wherever they occur.
    pub fn secrets(&self) -> Vec<Secret> {
        let hidden = self.settings.iter().filter(|(key, _)| *key != "url" && *key != "auth-type");
        hidden.filter_map(|(_, value)| value.as_str()).map(Secret::new).collect()
    }
}

impl fmt::Debug for Definition {
    /// Omits the settings, which include the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Definition {{ {:?} }}", self.identity)
    }
}

/// Converts the older format: `config` is now `settings`, `record` is now the type, and tags no
/// longer exist.
fn modernise(file: &mut Object, has_type: bool) -> Result<(), String> {
    let record = file.remove("record");
    if !has_type && record.is_some_and(|record| record != FIRST_RECORD) {
        return Err(format!(
            "has a record other than {FIRST_RECORD}, whose type is unknown; give it with \
             --module-type-id"
        ));
    }
    file.remove("tags");
    if let Some(config) = file.remove("config") {
        file.insert("settings".to_owned(), config);
    }
    file.entry("module_type_id").or_insert_with(|| CUSTOM_RELAY.into());
    file.entry("visibility").or_insert_with(|| "org".into());
    Ok(())
}

/// Fills in the strings directly in `settings`, as the `relay` tool did.
fn fill_in(settings: &mut Object, lookup: Lookup<'_>, problems: &mut Vec<String>) {
    for (key, value) in settings {
        if let Value::String(text) = value {
            match expand(text, lookup) {
                Ok(expanded) => *text = expanded,
                Err(problem) => problems.push(format!("settings.{key} {problem}")),
            }
        }
    }
}

fn complaints(settings: &Object) -> Vec<String> {
    let mut complaints = Vec::new();
    let url = settings.get("url").and_then(Value::as_str).unwrap_or_default();
    let host = url.strip_prefix("https://").unwrap_or_default();
    // XDR sends the token to this URL, so it must be encrypted. The URL is displayed, so it must
    // hold no credentials.
    if host.is_empty() || !url.bytes().all(|b| b.is_ascii_graphic() && b != b'@') {
        complaints
            .push("settings.url must begin with https:// and contain no credentials".to_owned());
    }
    let apis = settings.get("supported-apis").and_then(Value::as_array);
    let known = |api: &Value| api.as_str().is_some_and(|api| SUPPORTED_APIS.contains(&api));
    if !apis.is_some_and(|apis| !apis.is_empty() && apis.iter().all(known)) {
        let all = SUPPORTED_APIS.join(", ");
        complaints.push(format!("settings.supported-apis must be a list with some of {all}"));
    }
    complaints
}

/// XDR's names for the relay's endpoints.
const SUPPORTED_APIS: [&str; 6] = [
    "health",
    "deliberate/observables",
    "observe/observables",
    "refer/observables",
    "respond/observables",
    "respond/trigger",
];

/// The custom relay's name in the older format.
const FIRST_RECORD: &str = "relay-module.module/RelayModule+Custom+CS";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn environment(name: &str) -> Result<Option<Secret>, String> {
        Ok(match name {
            "NAME" => Some(Secret::new("Graph")),
            "URL" => Some(Secret::new("https://relay.example")),
            "JWT" => Some(Secret::new("a.b.c")),
            _ => None,
        })
    }

    fn defined(file: &Value, type_id: Option<&str>) -> Result<Definition, Vec<String>> {
        let file = SettingsFile::parse(&file.to_string(), type_id).map_err(|p| vec![p])?;
        file.definition(&environment)
    }

    fn later() -> Value {
        serde_json::from_str(super::super::xdr::BUILT_IN).unwrap()
    }

    #[test]
    fn both_generations_of_the_file_say_the_same() {
        let settings = json!({
            "url": "${URL}", "auth-type": "authorization-header",
            "authorization-header": "Bearer ${JWT}",
            "supported-apis": ["health", "observe/observables"],
        });
        let first = json!({
            "tags": ["default"], "name": "${NAME}", "config": settings, "record": FIRST_RECORD,
        });
        let expected = json!({
            "name": "Graph", "module_type_id": CUSTOM_RELAY, "visibility": "org",
            "settings": {
                "url": "https://relay.example", "auth-type": "authorization-header",
                "authorization-header": "Bearer a.b.c",
                "supported-apis": ["health", "observe/observables"],
            },
        });
        assert_eq!(defined(&later(), None).unwrap().body(), expected);
        assert_eq!(defined(&first, None).unwrap().body(), expected);
        let typed = defined(&first, Some("other")).unwrap().identity.module_type_id;
        assert_eq!(typed, "other");
    }

    #[test]
    fn what_a_module_may_have_besides_is_kept_and_null_makes_nothing() {
        let mut file = later();
        file["enabled"] = json!(false);
        file["parent_id"] = json!(null);
        file["settings"]["extra"] = json!({"deep": "${URL}"});
        file["settings"]["gone"] = json!(null);
        let body = defined(&file, None).unwrap().body();
        assert_eq!(body["enabled"], false);
        assert!(body.get("parent_id").is_none() && body["settings"].get("gone").is_none());
        // No deeper, as in the `relay` tool.
        assert_eq!(body["settings"]["extra"], json!({"deep": "${URL}"}));
    }

    #[test]
    fn what_is_wrong_with_a_file_is_told_by_field() {
        let rows: [(&str, Value, &str); 12] = [
            ("/name", json!(""), "name must be a non-empty string"),
            ("/name", json!("$NAMES"), "name needs NAMES, which is not set"),
            ("/module_type_id", json!(null), "module_type_id must be a non-empty string"),
            ("/visibility", json!("all"), "visibility must be global, org or user"),
            ("/settings/url", json!("http://relay.example"), "settings.url must begin with https"),
            ("/settings/url", json!("https://u:p@relay.example"), "settings.url must begin with"),
            ("/settings/url", json!("https://"), "settings.url must begin with https"),
            ("/settings/auth-type", json!("$"), "settings.auth-type has a $ without a name"),
            ("/settings/authorization-header", json!("Bearer $JTW"), "settings.authorization-head"),
            ("/settings/supported-apis", json!([]), "settings.supported-apis must be a list with"),
            (
                "/settings/supported-apis",
                json!(["x"]),
                "settings.supported-apis must be a list with",
            ),
            ("/settings/supported-apis", json!("health"), "settings.supported-apis must be"),
        ];
        for (pointer, value, expected) in rows {
            let mut file = later();
            *file.pointer_mut(pointer).unwrap() = value;
            let problems = defined(&file, None).unwrap_err();
            assert_eq!(problems.len(), 1, "{problems:?}");
            assert!(problems[0].starts_with(expected), "{problems:?}");
        }
        let mut file = later();
        file["nmae"] = json!("x");
        assert_eq!(defined(&file, None).unwrap_err(), ["nmae is not a field of a module"]);
        let record = json!({"name": "x", "record": "other"});
        assert!(defined(&record, None).unwrap_err()[0].starts_with("has a record other than"));
        // All problems are reported at once.
        assert_eq!(defined(&json!({}), None).unwrap_err().len(), 6);
        for text in ["", "[]", "{", "\"hunter2\""] {
            let problem = SettingsFile::parse(text, None).err().unwrap();
            assert!(problem.starts_with("is not a JSON object: see line 1"), "{problem}");
        }
    }

    #[test]
    fn to_find_a_module_nothing_but_its_name_is_filled_in() {
        let file = SettingsFile::parse(super::super::xdr::BUILT_IN, None).unwrap();
        let name_alone = |name: &str| Ok((name == "NAME").then(|| Secret::new("Graph")));
        let identity =
            Identity { name: "Graph".to_owned(), module_type_id: CUSTOM_RELAY.to_owned() };
        assert_eq!(file.identity(&name_alone), Ok(identity));
        assert_eq!(file.definition(&name_alone).unwrap_err().len(), 3);
    }

    #[test]
    fn a_definition_does_not_show_its_token() {
        let definition = defined(&later(), None).unwrap();
        assert!(!format!("{definition:?}").contains("a.b.c"));
        assert_eq!(definition.secrets(), [Secret::new("Bearer a.b.c")]);
    }
}
