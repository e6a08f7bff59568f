//! What the system is told about clients that wait, and the allocator about memory.
//!
//! The standard library listens with room for 128, and has no way to ask for more. In
//! a crowd that is soon full, and a client that finds no room is heard only when its
//! system tries again, after a second.
//!
//! One of three files that may hold unsafe code (`tests/house.rs`). A crate that wraps
//! this call would be one more than the `libc` that is in the tree already.

#![allow(unsafe_code, reason = "the standard library has no call for it")]

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use graph_relay::limits;

/// Gives `listener`, which listens already, room for [`limits::BACKLOG`] clients.
pub(crate) fn widen(listener: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no memory is touched, and the descriptor is open for as long as it is
    // borrowed. Of a socket that listens this changes the room, and nothing else.
    let result = unsafe { libc::listen(listener.as_raw_fd(), limits::BACKLOG) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Has all threads allocate from one arena where address space is limited
/// (`ulimit -v`), of which glibc would reserve 64 MiB for each further one. To be
/// called before any thread is started.
pub(crate) fn limit_arenas() {
    #[cfg(target_env = "gnu")]
    if is_address_space_limited() {
        // SAFETY: no memory is touched, and there is no other thread yet. Where it
        // fails, arenas are as many as before.
        unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
    }
}

#[cfg(target_env = "gnu")]
fn is_address_space_limited() -> bool {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let mut lines = limits.lines().filter_map(|line| line.strip_prefix("Max address space"));
    lines.any(|line| !line.trim_start().starts_with("unlimited"))
}
