//! Decides what to do about a module before anything is done.

use serde_json::Value;

use super::instance::Instance;
use super::settings_file::{Definition, Identity};

/// The action to take.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub enum Plan {
    /// Create the module with this body.
    Add(Value),
    /// Update it.
    Edit {
        /// Its ID.
        id: String,
        /// The changes.
        patch: Value,
    },
    /// Delete it.
    Remove {
        /// Its ID.
        id: String,
    },
    /// Do nothing.
    Nothing(Reason),
}

/// Why there is nothing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It exists already.
    Exists,
    /// It does not exist.
    Missing,
    /// It is up to date.
    Unchanged,
    /// Several modules match; their IDs.
    Ambiguous(Vec<String>),
}

/// Plans to create the module.
pub fn add(definition: &Definition, instances: &[Instance]) -> Plan {
    if instances.iter().any(|instance| instance.is(&definition.identity)) {
        return Plan::Nothing(Reason::Exists);
    }
    Plan::Add(definition.body())
}

/// Plans to update the module.
pub fn edit(definition: &Definition, found: Result<&Instance, Reason>) -> Plan {
    match found {
        Err(reason) => Plan::Nothing(reason),
        Ok(instance) => {
            let patch = instance.patch(definition);
            if patch.is_empty() {
                return Plan::Nothing(Reason::Unchanged);
            }
            Plan::Edit { id: instance.id.clone(), patch: patch.into() }
        }
    }
}

/// Plans to delete the module.
pub fn remove(found: Result<&Instance, Reason>) -> Plan {
    match found {
        Err(reason) => Plan::Nothing(reason),
        Ok(instance) => Plan::Remove { id: instance.id.clone() },
    }
}

/// Returns the module that matches.
///
/// # Errors
/// When none or several match.
pub fn find<'a>(identity: &Identity, instances: &'a [Instance]) -> Result<&'a Instance, Reason> {
    let found: Vec<&Instance> = instances.iter().filter(|i| i.is(identity)).collect();
    match *found {
        [] => Err(Reason::Missing),
        [one] => Ok(one),
        _ => Err(Reason::Ambiguous(found.iter().map(|instance| instance.id.clone()).collect())),
    }
}

/// Returns the module with this ID.
///
/// # Errors
/// When there is none.
pub fn find_by_id<'a>(id: &str, instances: &'a [Instance]) -> Result<&'a Instance, Reason> {
    instances.iter().find(|instance| instance.id == id).ok_or(Reason::Missing)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::settings_file::SettingsFile;
    use super::*;

    fn definition() -> Definition {
        let file = json!({"name": "Graph", "module_type_id": "t", "visibility": "org", "settings":
            {"url": "https://relay.example", "supported-apis": ["health"]}});
        let file = SettingsFile::parse(&file.to_string(), None).unwrap();
        file.definition(&|_| Ok(None)).unwrap()
    }

    fn instance(id: &str, name: &str, module_type_id: &str) -> Instance {
        let mut body = definition().body();
        body["id"] = id.into();
        body["name"] = name.into();
        body["module_type_id"] = module_type_id.into();
        serde_json::from_value(body).unwrap()
    }

    #[test]
    fn what_is_done_depends_on_what_is_there() {
        let ours = definition();
        // One with the same name and another type, and one with the same type and another name.
        let others = vec![instance("1", "Graph", "u"), instance("2", "Other", "t")];
        let mut one = others.clone();
        one.push(instance("3", "Graph", "t"));
        let mut two = one.clone();
        two.push(instance("4", "Graph", "t"));
        let ids = || Reason::Ambiguous(vec!["3".to_owned(), "4".to_owned()]);

        assert_eq!(add(&ours, &others), Plan::Add(ours.body()));
        assert_eq!(add(&ours, &one), Plan::Nothing(Reason::Exists));
        assert_eq!(add(&ours, &two), Plan::Nothing(Reason::Exists));

        let find = |instances| find(&ours.identity, instances);
        assert_eq!(edit(&ours, find(&others)), Plan::Nothing(Reason::Missing));
        assert_eq!(edit(&ours, find(&one)), Plan::Nothing(Reason::Unchanged));
        assert_eq!(edit(&ours, find(&two)), Plan::Nothing(ids()));
        let renamed = Plan::Edit { id: "2".to_owned(), patch: json!({"name": "Graph"}) };
        assert_eq!(edit(&ours, find_by_id("2", &two)), renamed);

        assert_eq!(remove(find(&others)), Plan::Nothing(Reason::Missing));
        assert_eq!(remove(find(&one)), Plan::Remove { id: "3".to_owned() });
        assert_eq!(remove(find(&two)), Plan::Nothing(ids()));
        assert_eq!(remove(find_by_id("4", &two)), Plan::Remove { id: "4".to_owned() });
        assert_eq!(remove(find_by_id("9", &two)), Plan::Nothing(Reason::Missing));
    }
}
