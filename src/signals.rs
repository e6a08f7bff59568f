//! SIGTERM and SIGINT, taken by a thread that waits for them.
//!
//! One of three files that may hold unsafe code (`tests/house.rs`). The standard library has no signals; the crates that
//! wrap them are three more than the `libc` that is in the tree already.

#![allow(unsafe_code, reason = "signals have no safe interface without further crates")]

use std::io;
use std::mem::MaybeUninit;

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
