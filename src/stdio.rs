//! Standard output, whose loss is not to go unnoticed.
//!
//! Before `main`, the standard library opens `/dev/null` in the place of a standard
//! output that is closed (`>&-`), so that a key or a token would be lost without a
//! word. Whether it was closed can only be seen before that.

#![allow(unsafe_code, reason = "the standard library has no way to run something before itself")]

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering};

static WAS_CLOSED: AtomicBool = AtomicBool::new(false);

extern "C" fn look() {
    // SAFETY: no memory is touched, and the descriptor is only asked about.
    let is_closed = unsafe { libc::fcntl(libc::STDOUT_FILENO, libc::F_GETFD) } == -1;
    WAS_CLOSED.store(is_closed, Ordering::Relaxed);
}

// SAFETY: the C library calls what this section lists once, before `main`, with
// arguments that a C function may ignore. `look` needs nothing of the standard
// library that has to be set up first.
#[used]
#[unsafe(link_section = ".init_array")]
static LOOK: extern "C" fn() = look;

/// Writes to standard output. That nobody reads on, as in `| head`, is no failure.
///
/// # Errors
/// When it is closed, full or not for writing.
pub(crate) fn print(text: &str) -> io::Result<()> {
    if WAS_CLOSED.load(Ordering::Relaxed) {
        return Err(io::Error::other("it is closed"));
    }
    // Not by `io::stdout`, which takes a descriptor that cannot be written for one
    // on which everything has been written.
    let mut stdout = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    match stdout.write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}
