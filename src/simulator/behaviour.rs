//! In what Microsoft varies with time and tenant.

use std::time::Duration;

/// Behaviour in which the real Graph varies with time and tenant.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Behaviour {
    /// The largest page; a larger `$top` is silently reduced to it.
    pub page: usize,
    /// Whether and how an incomplete page links to the next.
    pub links: Links,
    /// Whether alerts are repeated: every fifth row of a list stands there twice.
    pub repeats: bool,
    /// Whether the times in a filter are read to the second.
    pub whole_seconds: bool,
    /// What becomes of responses with more bytes than this.
    pub large_pages: Option<(usize, LargePages)>,
    /// Whether some evidence comes with a type that is new, missing, or in another case.
    pub unknown_evidence: bool,
    /// Whether responses have a `Date`.
    pub date: bool,
    /// How the undocumented `$orderby` is handled.
    pub order: Order,
    /// The lifetime of a token.
    pub token_lifetime: Duration,
    /// Whether the hunting evidence table holds SHA-256, which is rare.
    pub hunting_sha256: bool,
    /// Whether the tenant is licensed for the device tables.
    pub device_tables: bool,
    /// Whether batches are accepted.
    pub batches: bool,
}

/// How pages of alerts_v2 link to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Links {
    /// There are none.
    Never,
    /// Every incomplete page has one.
    Always,
    /// Every third incomplete page has none.
    LeftOut,
    /// Every incomplete page has one that is empty.
    Empty,
    /// The first page links to itself, and no other has a link.
    ToItself,
    /// Every incomplete page has one, which is refused after this long.
    ShortLived(Duration),
}

/// What becomes of a response that is too large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LargePages {
    /// It is not ready in time.
    TimeOut,
    /// Graph gives up with this status.
    Fail(u16),
    /// It is larger than a client reads.
    Exceed,
}

/// How `$orderby` is handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Order {
    /// It is applied.
    Honoured,
    /// It is ignored: the newest come first.
    Ignored,
    /// It is rejected with 400.
    Refused,
    /// It is turned round.
    Reversed,
    /// It is ignored: the alerts come in no order.
    Shuffled,
}

impl Default for Behaviour {
    /// Returns the behaviour of alerts_v2 as last observed: `$orderby` applied, no link, pages of
    /// 1,000.
    fn default() -> Self {
        Self {
            page: 1_000,
            links: Links::Never,
            repeats: false,
            whole_seconds: false,
            large_pages: None,
            unknown_evidence: false,
            date: true,
            order: Order::Honoured,
            token_lifetime: Duration::from_secs(3_599),
            hunting_sha256: false,
            device_tables: true,
            batches: true,
        }
    }
}

impl Behaviour {
    /// Cuts pages at this many rows.
    #[must_use]
    pub const fn with_page(self, page: usize) -> Self {
        Self { page, ..self }
    }

    /// Links from a page to the next so.
    #[must_use]
    pub const fn with_links(self, links: Links) -> Self {
        Self { links, ..self }
    }

    /// Repeats rows, or not.
    #[must_use]
    pub const fn with_repeats(self, repeats: bool) -> Self {
        Self { repeats, ..self }
    }

    /// Reads times to the second, or as they are.
    #[must_use]
    pub const fn with_whole_seconds(self, whole_seconds: bool) -> Self {
        Self { whole_seconds, ..self }
    }

    /// Treats responses with more bytes than this so.
    #[must_use]
    pub const fn with_large_pages(self, bytes: usize, fate: LargePages) -> Self {
        Self { large_pages: Some((bytes, fate)), ..self }
    }

    /// Has evidence of unknown types, or not.
    #[must_use]
    pub const fn with_unknown_evidence(self, unknown_evidence: bool) -> Self {
        Self { unknown_evidence, ..self }
    }

    /// Dates its responses, or not.
    #[must_use]
    pub const fn with_date(self, date: bool) -> Self {
        Self { date, ..self }
    }

    /// Treats `$orderby` so.
    #[must_use]
    pub const fn with_order(self, order: Order) -> Self {
        Self { order, ..self }
    }

    /// Issues tokens that last this long.
    #[must_use]
    pub const fn with_token_lifetime(self, token_lifetime: Duration) -> Self {
        Self { token_lifetime, ..self }
    }

    /// Has SHA-256 in hunting, or not.
    #[must_use]
    pub const fn with_hunting_sha256(self, hunting_sha256: bool) -> Self {
        Self { hunting_sha256, ..self }
    }

    /// Has the tables of devices, or not.
    #[must_use]
    pub const fn with_device_tables(self, device_tables: bool) -> Self {
        Self { device_tables, ..self }
    }

    /// Takes batches, or not.
    #[must_use]
    pub const fn with_batches(self, batches: bool) -> Self {
        Self { batches, ..self }
    }
}
