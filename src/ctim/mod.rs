//! CTIM documents, and how an alert becomes a sighting.

pub mod schema;
pub mod sighting;

pub(crate) mod observable;
pub(crate) mod relations;
pub(crate) mod targets;
