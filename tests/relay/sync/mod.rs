//! How the index of a tenant is kept up to date, and what is said when it is
//! not.

mod clock;
mod contradictions;
mod credentials;
mod failures;
mod freshness;
mod paging;
mod recrawl;
mod slow;

use crate::support::*;
use serde_json::Value;

const IP: &str = "203.0.113.77";
const HIT: [(&str, &str); 1] = [("ip", IP)];

/// One alert an hour, newest first, all with the same address.
fn hourly(count: usize) -> Vec<Value> {
    let one = |n: usize| {
        let (day, hour) = (20 - n / 24, 23 - n % 24);
        alert(&format!("a{n:03}"), &format!("2026-11-{day:02}T{hour:02}:00:00.1234567Z"), IP)
    };
    (0..count).map(one).collect()
}
