//! What a source of alerts has found.

use crate::alerts::index::Hits;
use crate::sources::warning::Warning;

/// The result of a look-up in an alert source.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lookup {
    /// The alerts that mention each observable, in request order.
    pub hits: Vec<Hits>,
    /// Warnings: why alerts may be missing.
    pub warnings: Vec<Warning>,
}
