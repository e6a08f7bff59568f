//! Starts threads where the system may have none to spare for a moment.

use std::io;
use std::sync::{Arc, Mutex};
use std::thread;

use crate::base::limits;
use crate::base::single_flight::lock;

/// Starts a thread called `name`, with a stack of `stack` bytes if given. Tries again for a
/// moment: threads that have just ended still count, and others end soon.
///
/// # Errors
/// When no thread can be started; `work` is dropped then.
pub(crate) fn spawn(
    name: &'static str,
    stack: Option<usize>,
    work: impl FnOnce() + Send + 'static,
) -> io::Result<()> {
    let work = Arc::new(Mutex::new(Some(work)));
    let attempt = || {
        let builder = thread::Builder::new().name(name.to_owned());
        let builder = stack.into_iter().fold(builder, thread::Builder::stack_size);
        let work = Arc::clone(&work);
        let run = move || {
            let work = lock(&work).take();
            if let Some(work) = work {
                work();
            }
        };
        builder.spawn(run).map(drop)
    };
    retried(attempt).map_err(|error| {
        let problem = format!(
            "cannot start the thread \"{name}\": {error}; lower RELAY_WORKERS, or raise TasksMax=, \
             ulimit -u or ulimit -v"
        );
        io::Error::new(error.kind(), problem)
    })
}

fn retried(attempt: impl Fn() -> io::Result<()>) -> io::Result<()> {
    for _ in 1..limits::THREAD_ATTEMPTS {
        if attempt().is_ok() {
            return Ok(());
        }
        thread::sleep(limits::THREAD_PAUSE);
    }
    attempt()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn a_thread_that_cannot_be_started_is_tried_so_often() {
        for (failures, succeeds) in
            [(limits::THREAD_ATTEMPTS - 1, true), (limits::THREAD_ATTEMPTS, false)]
        {
            let attempts = Cell::new(0);
            let result = retried(|| {
                attempts.set(attempts.get() + 1);
                let failed = attempts.get() <= failures;
                if failed { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
            });
            assert_eq!((result.is_ok(), attempts.get()), (succeeds, limits::THREAD_ATTEMPTS));
        }
    }

    #[test]
    fn it_has_the_name_and_does_the_work_or_says_what_to_raise() {
        let (sender, named) = channel();
        let work = move || sender.send(thread::current().name().map(str::to_owned)).unwrap();
        spawn("of-this-test", Some(limits::CLIENT_STACK), work).unwrap();
        assert_eq!(named.recv().unwrap().as_deref(), Some("of-this-test"));
        // No address space is that large.
        let error = spawn("too-large", Some(1 << 60), || {}).unwrap_err().to_string();
        assert!(error.starts_with("cannot start the thread \"too-large\": "), "{error}");
        assert!(
            error.ends_with("; lower RELAY_WORKERS, or raise TasksMax=, ulimit -u or ulimit -v")
        );
    }
}
