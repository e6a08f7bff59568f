//! The alert, the observable, when one mentions the other, and the index in memory.

pub mod alert;
pub mod index;
pub mod matching;
pub mod names;
pub mod observable;

pub(crate) mod packed;
pub(crate) mod postings;
pub(crate) mod value;
