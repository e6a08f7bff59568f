//! Any text as a literal of OData and of Kusto: what is quoted is read back, by
//! the grammar alone, and nothing of it stands outside the quotes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use graph_relay::graph::kql;
use graph_relay::graph::odata;

fuzz_target!(|text: &str| {
    let literal = odata::Literal::new(text).to_string();
    let inside = literal.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')).unwrap();
    assert_eq!(inside.replace("''", ""), text.replace('\'', ""));
    assert_eq!(inside.matches('\'').count(), 2 * text.matches('\'').count());
    assert_eq!(inside.replace("''", "'"), text);

    let literal = kql::Literal::new(text).to_string();
    assert_eq!(serde_json::from_str::<String>(&literal).unwrap(), text);
    assert!(!literal.chars().any(char::is_control));
});
