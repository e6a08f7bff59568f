//! Raises the listen backlog of a socket, and limits the arenas of glibc's allocator.
//!
//! The standard library listens with a backlog of 128 and cannot be configured. Under load it fills
//! up, and a client whose connection is dropped retries only after a second.
//!
//! One of three files that may hold unsafe code (`tests/house.rs`): `libc` is in the tree already,
//! so a crate that wraps this call would be one more.

#![allow(unsafe_code, reason = "the standard library has no call for it")]

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use graph_relay::limits;

/// Raises the backlog of the listening socket `listener` to [`limits::BACKLOG`].
pub(crate) fn widen(listener: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no memory is touched, and the descriptor stays open while it is borrowed. On a
    // listening socket this changes the backlog only.
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
