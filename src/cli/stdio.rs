//! Standard output that reports when its text is lost.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::path::Path;

/// Writes `text` to standard output. A reader that has left, as in `| head`, is no error.
///
/// # Errors
/// When standard output is full or not open for writing.
pub(crate) fn print(text: &str) -> io::Result<()> {
    // `io::stdout` would ignore a descriptor that cannot be written to.
    let mut stdout = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    match stdout.write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}

/// Writes a key or a token, which nobody can have again, to standard output.
///
/// # Errors
/// As for [`print()`], and when standard output was closed (`>&-`).
pub(crate) fn print_secret(text: &str) -> io::Result<()> {
    if was_closed() { Err(io::Error::other("it is closed")) } else { print(text) }
}

/// Returns whether standard output was closed when the program started. Before `main`, the runtime
/// of the standard library replaces it by `/dev/null`, open for reading and writing; a shell's
/// `>/dev/null` is open for writing only. Without `/proc`, returns `false`.
fn was_closed() -> bool {
    let is_null = fs::read_link("/proc/self/fd/1").is_ok_and(|path| path == Path::new("/dev/null"));
    is_null && fs::read_to_string("/proc/self/fdinfo/1").is_ok_and(|info| is_read_write(&info))
}

/// Returns whether the octal flags in `info`, a file of `/proc/self/fdinfo`, include `O_RDWR`.
fn is_read_write(info: &str) -> bool {
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    // `O_ACCMODE` is 3 and `O_RDWR` is 2: the lowest octal digit holds both.
    flags.is_some_and(|flags| flags.trim_end().ends_with(['2', '6']))
}
