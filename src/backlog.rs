//! Raises the listen backlog of a socket.
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
