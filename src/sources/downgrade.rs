//! A simpler way of asking that Microsoft has forced.

use std::sync::Mutex;

use crate::base::limits;
use crate::base::single_flight::lock;
use crate::base::time::Now;

/// Whether a simpler way of asking is in use, because Microsoft refused the better one. It lapses
/// after a while: one odd answer may have been the cause.
#[derive(Debug, Default)]
pub(crate) struct Downgrade(Mutex<Option<Now>>);

impl Downgrade {
    /// Begins it. Returns whether it was not in use before.
    pub(crate) fn begin(&self, now: Now) -> bool {
        let is_new = !self.lasts(now);
        *lock(&self.0) = Some(now);
        is_new
    }

    /// Returns whether it is in use.
    pub(crate) fn lasts(&self, now: Now) -> bool {
        lock(&self.0).is_some_and(|begun| now.since(begun) < limits::DOWNGRADE)
    }
}
