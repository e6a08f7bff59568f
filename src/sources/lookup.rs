//! What a source of alerts has found.

use crate::alerts::index::Hits;
use crate::sources::warning::Shortfall;

/// The result of a look-up in an alert source.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found {
    /// The alerts that mention each observable, in request order.
    pub hits: Vec<Hits>,
    /// Warnings: why alerts may be missing.
    pub shortfalls: Vec<Shortfall>,
}
