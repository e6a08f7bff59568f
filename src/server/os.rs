//! System calls that have no safe interface: the one file with unsafe code.
//!
//! The standard library has no signals, no listen backlog other than 128, and no
//! descriptors by number. The crates that wrap these calls would be several more
//! than the `libc` that is in the tree already. `tests/architecture.rs` holds that
//! there is no unsafe code elsewhere.

#![allow(unsafe_code, reason = "no safe interface without further crates")]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::base::limits;

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
    if limit(ADDRESS_SPACE).is_some() {
        // SAFETY: no memory is touched, and there is no other thread yet. Where it
        // fails, arenas are as many as before.
        unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
    }
}

/// The resource limit of this process that `/proc/self/limits` calls `name`, if there is one.
pub(crate) fn limit(name: &str) -> Option<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// The name of `ulimit -v`.
pub(crate) const ADDRESS_SPACE: &str = "Max address space";

/// The signals that ask a process to end, blocked in every thread.
pub(crate) struct Signals(libc::sigset_t);

impl Signals {
    /// Blocks them. To be called before any thread is started, because threads
    /// inherit what is blocked.
    pub(crate) fn block() -> io::Result<Self> {
        let mut set = MaybeUninit::uninit();
        // SAFETY: `sigemptyset` initialises the set that it is given, and the
        // others are given an initialised one. The pointers are valid for the
        // calls; the old mask is not asked for.
        let (set, result) = unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            libc::sigaddset(set.as_mut_ptr(), libc::SIGTERM);
            libc::sigaddset(set.as_mut_ptr(), libc::SIGINT);
            let set = set.assume_init();
            (set, libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()))
        };
        if result == 0 { Ok(Self(set)) } else { Err(io::Error::from_raw_os_error(result)) }
    }

    /// Waits for one of them.
    pub(crate) fn wait(&self) -> &'static str {
        let mut signal = 0;
        // SAFETY: the set is initialised, and both pointers are valid for the
        // call.
        while unsafe { libc::sigwait(&raw const self.0, &raw mut signal) } != 0 {}
        if signal == libc::SIGINT { "SIGINT" } else { "SIGTERM" }
    }
}

/// The first descriptor that systemd hands over (`SD_LISTEN_FDS_START`).
const FIRST_SOCKET: RawFd = 3;

/// The socket that systemd opened for this process, which by `LISTEN_PID` is ours
/// alone. It can be had once.
pub(crate) fn inherited_socket() -> io::Result<OwnedFd> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::SeqCst) {
        return Err(io::Error::other("it has been taken already"));
    }
    // SAFETY: no memory is touched. The call fails where there is no such descriptor;
    // otherwise children no longer inherit it.
    if unsafe { libc::fcntl(FIRST_SOCKET, libc::F_SETFD, libc::FD_CLOEXEC) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open, and nobody else owns it: systemd gave it to this process,
    // and this is reached once.
    Ok(unsafe { OwnedFd::from_raw_fd(FIRST_SOCKET) })
}

/// Makes the inherited descriptor one of `other`'s socket, so that `accept` on it
/// fails. The inherited socket itself stays as it is, for the next process.
pub(crate) fn replace_inherited_socket(other: BorrowedFd<'_>) {
    // SAFETY: no memory is touched. The descriptor stays open and has the same owner,
    // who closes it when it has stopped accepting, which is after this.
    unsafe { libc::dup3(other.as_raw_fd(), FIRST_SOCKET, libc::O_CLOEXEC) };
}
