//! Why a value that somebody has typed is not taken.

use std::error::Error;
use std::fmt::{Display, Formatter, Result};

/// What is wrong with a value that somebody has typed: the rest of a sentence that
/// begins with its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidValue(&'static str);

impl From<&'static str> for InvalidValue {
    fn from(rule: &'static str) -> Self {
        Self(rule)
    }
}

impl Display for InvalidValue {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(self.0)
    }
}

impl Error for InvalidValue {}
