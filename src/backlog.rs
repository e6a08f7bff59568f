//! Room for clients that have not been taken yet.
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
