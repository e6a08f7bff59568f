//! Values and primitives that every room may use: time, errors, limits, credentials, HTTP as data, the
//! log, metrics, and what threads share.

pub mod cloud;
pub mod credentials;
pub mod error;
pub mod http;
pub mod limits;
pub mod log;
pub mod metrics;
pub mod time;
pub mod uuid;

pub(crate) mod error_display;
pub(crate) mod error_text;
pub(crate) mod invalid_value;
pub(crate) mod parallel;
pub(crate) mod semaphore;
pub(crate) mod single_flight;
pub(crate) mod system_clock;
pub(crate) mod thread;
pub(crate) mod timestamp;
