//! Lenient JSON parsing.
//!
//! A field of the wrong type is treated as missing and affects nothing else. Each of these types
//! accepts any JSON value.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{
    DeserializeOwned, Deserializer, Error, IgnoredAny, IntoDeserializer, MapAccess, SeqAccess,
    Visitor,
};

/// A non-empty string, or nothing.
#[derive(Debug, Default, Clone)]
pub(crate) struct Text(pub(crate) Option<Arc<str>>);

/// A string, or the string that matters in an object: some types of evidence nest another piece of
/// evidence where others have text.
#[derive(Debug, Default, Clone)]
pub(crate) struct Inner(pub(crate) Option<Arc<str>>);

/// The sender of a message: an object with an address and a domain, or only the address.
#[derive(Debug, Default, Clone)]
pub(crate) struct Sender {
    pub(crate) address: Option<Arc<str>>,
    pub(crate) domain: Option<Arc<str>>,
}

/// The elements of an array. A string or an object is an array of one; any other value is empty.
#[derive(Debug)]
pub(crate) struct List<T>(pub(crate) Vec<T>);

/// An object, or nothing.
#[derive(Debug)]
pub(crate) struct Object<T>(pub(crate) Option<Box<T>>);

impl<T> Default for List<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Default for Object<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl List<Text> {
    /// Returns the strings in the list.
    pub(crate) fn texts(self) -> Vec<Arc<str>> {
        self.0.into_iter().filter_map(|text| text.0).collect()
    }
}

/// Implements the visitor methods for scalars as "no value".
macro_rules! nothing {
    ($value:expr; $($visit:ident: $type:ty),*) => {
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("anything")
        }
        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok($value)
        }
        $(fn $visit<E>(self, _: $type) -> Result<Self::Value, E> {
            Ok($value)
        })*
    };
}

/// Implements the visitor methods for arrays and objects as "no value".
macro_rules! nothing_inside {
    (seq) => {
        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            Ok(Self::Value::default())
        }
    };
    (map) => {
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            Ok(Self::Value::default())
        }
    };
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text;
    nothing!(Text(None); visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64);
    nothing_inside!(seq);
    nothing_inside!(map);

    fn visit_str<E>(self, text: &str) -> Result<Text, E> {
        Ok(Text((!text.trim().is_empty()).then(|| text.into())))
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextVisitor)
    }
}

struct InnerVisitor;

impl<'de> Visitor<'de> for InnerVisitor {
    type Value = Inner;
    nothing!(Inner(None); visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64);
    nothing_inside!(seq);

    fn visit_str<E>(self, text: &str) -> Result<Inner, E> {
        Ok(Inner((!text.trim().is_empty()).then(|| text.into())))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Inner, A::Error> {
        let mut found = None;
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            if matches!(key.as_ref(), "ipAddress" | "url" | "registry") {
                found = map.next_value::<Text>()?.0;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(Inner(found))
    }
}

impl<'de> Deserialize<'de> for Inner {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(InnerVisitor)
    }
}

struct SenderVisitor;

impl<'de> Visitor<'de> for SenderVisitor {
    type Value = Sender;
    nothing!(Sender::default();
             visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64);
    nothing_inside!(seq);

    fn visit_str<E>(self, text: &str) -> Result<Sender, E> {
        Ok(Sender { address: Some(text.into()), domain: None })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Sender, A::Error> {
        let mut sender = Sender::default();
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            match key.as_ref() {
                "emailAddress" => sender.address = map.next_value::<Text>()?.0,
                "domainName" => sender.domain = map.next_value::<Text>()?.0,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(sender)
    }
}

impl<'de> Deserialize<'de> for Sender {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SenderVisitor)
    }
}

struct ListVisitor<T>(PhantomData<T>);

impl<'de, T: DeserializeOwned> Visitor<'de> for ListVisitor<T> {
    type Value = List<T>;
    nothing!(List(Vec::new()); visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64);

    fn visit_str<E: Error>(self, text: &str) -> Result<List<T>, E> {
        T::deserialize(text.into_deserializer()).map(|one| List(vec![one]))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<List<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(|one| List(vec![one]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<List<T>, A::Error> {
        let mut list = Vec::new();
        while let Some(element) = seq.next_element()? {
            list.push(element);
        }
        Ok(List(list))
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ListVisitor(PhantomData))
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: DeserializeOwned> Visitor<'de> for ObjectVisitor<T> {
    type Value = Object<T>;
    nothing!(Object(None); visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64,
             visit_str: &str);
    nothing_inside!(seq);

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(|object| Object(Some(Box::new(object))))
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ObjectVisitor(PhantomData))
    }
}

/// Replaces lone surrogates in `json` by U+FFFD. They occur when a title is cut in the middle of an
/// emoji.
pub(crate) fn without_lone_surrogates(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    let mut rest = json;
    while let Some(at) = rest.find('\\') {
        let (plain, escape) = rest.split_at(at);
        text.push_str(plain);
        let length = match (code_unit(escape), escape.get(6..).and_then(code_unit)) {
            (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => 12,
            (Some(0xD800..=0xDFFF), _) => {
                text.push_str("\\ufffd");
                rest = escape.get(6..).unwrap_or_default();
                continue;
            }
            (Some(_), _) => 6,
            // An escape such as `\\`: the escaped character does not start another one.
            (None, _) => 1 + escape.chars().nth(1).map_or(0, char::len_utf8),
        };
        let (whole, after) = escape.split_at_checked(length).unwrap_or((escape, ""));
        text.push_str(whole);
        rest = after;
    }
    text + rest
}

/// Returns the code unit of an escape such as `\ud83d` at the start of `text`.
fn code_unit(text: &str) -> Option<u32> {
    u32::from_str_radix(text.strip_prefix("\\u")?.get(..4)?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, Deserialize)]
    #[serde(default)]
    struct Probe {
        text: Text,
        list: List<Text>,
        object: Object<Self>,
    }

    #[test]
    fn a_field_of_any_type_costs_itself_and_nothing_else() {
        let values = ["null", "true", "1", "-1", "1.5", "\"s\"", "\"\"", "[]", "[1,[2],{}]", "{}"];
        for value in values {
            let json =
                format!(r#"{{"text":{value},"list":{value},"object":{value},"other":{value}}}"#);
            let probe: Probe = serde_json::from_str(&json).unwrap();
            assert_eq!(probe.text.0.is_some(), value == "\"s\"", "{value}");
            let items = match value {
                "[1,[2],{}]" => 3,
                "\"s\"" | "\"\"" | "{}" => 1,
                _ => 0,
            };
            assert_eq!(probe.list.0.len(), items, "{value}");
            assert_eq!(probe.object.0.is_some(), value == "{}", "{value}");
        }
    }

    #[test]
    fn strings_and_elements_that_are_what_they_should_be_are_kept() {
        let json = r#"{"text":"a","list":["b",null,"",3,"c"],"object":{"text":"d"}}"#;
        let probe: Probe = serde_json::from_str(json).unwrap();
        assert_eq!(probe.text.0.as_deref(), Some("a"));
        let list: Vec<_> = probe.list.texts();
        assert_eq!(list.iter().map(AsRef::as_ref).collect::<Vec<&str>>(), ["b", "c"]);
        assert_eq!(probe.object.0.unwrap().text.0.as_deref(), Some("d"));
    }

    #[test]
    fn halves_of_a_pair_are_replaced_and_nothing_else() {
        let rows = [
            (r#""a \ud83d b""#, r#""a \ufffd b""#),
            (r#""\ud83d\ude00""#, r#""\ud83d\ude00""#),
            (r#""\ude00\ud83d""#, r#""\ufffd\ufffd""#),
            (r#""\ud83d\ud83d\ude00""#, r#""\ufffd\ud83d\ude00""#),
            (r#""\\ud83d \u0041 \n \"""#, r#""\\ud83d \u0041 \n \"""#),
            (r#""\ud8""#, r#""\ud8""#),
            ("é\\é\\", "é\\é\\"),
            ("", ""),
        ];
        for (json, expected) in rows {
            assert_eq!(without_lone_surrogates(json), expected, "{json}");
        }
    }
}
