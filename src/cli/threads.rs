//! How many threads this process may have, and what that leaves for clients.
//!
//! tiny_http panics when it cannot start a thread, so clients are never given those
//! that it needs. Limits on tasks, processes and address space differ in where they
//! are and whom they count; where one is low, trying to start threads meets them all.

use std::fs;
use std::path::Path;
use std::sync::RwLock;
use std::thread;
use std::time::{Duration, Instant};

use crate::base::limits;
use crate::server::ServeSettings;
use crate::server::front_end::Limits;
use crate::server::os;

use crate::cli::Failure;
use crate::cli::serve::ADMIN;

/// The bounds of both listeners.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounded {
    pub(crate) relay: Limits,
    pub(crate) admin: Limits,
}

/// Fits the bounds of a relay, whose requests have `timeout` to be answered, to the
/// threads that can be started now.
///
/// # Errors
/// When threads or memory do not suffice for a few clients.
pub(crate) fn bounds(
    settings: &ServeSettings,
    has_admin: bool,
    timeout: Duration,
) -> Result<Bounded, Failure> {
    let usual = Bounded {
        relay: Limits::new(settings.workers, timeout),
        admin: Limits::new(ADMIN.workers, timeout),
    };
    // Not touched, so that it takes address space alone.
    let mut memory = Vec::<u8>::new();
    let bytes =
        limits::UNSENT + usize::try_from(limits::GRAPH_RESPONSE_BYTES).unwrap_or(usize::MAX);
    memory.try_reserve_exact(bytes).map_err(|_| {
        Failure::new(format!("{} MiB of memory cannot be had; raise ulimit -v", bytes >> 20))
    })?;
    let admin = if has_admin { limits::ADMIN_THREADS } else { 0 };
    let fixed = settings.workers + limits::THREADS + admin;
    let most = fixed + usual.relay.connections + 2 * usual.relay.in_flight;
    let threads = if is_limited(most) { available(most) } else { most };
    fit(usual, fixed, threads).map_err(|least| {
        Failure::new(format!(
            "cannot start enough threads: {threads} of at least {least} (RELAY_WORKERS={}); lower \
             RELAY_WORKERS, or raise TasksMax=, ulimit -u or ulimit -v",
            settings.workers
        ))
    })
}

/// Leaves `fixed` of `threads` alone. A request takes three: its client's, one of
/// tiny_http's until its head is read, and one more worker while it waits for Microsoft.
///
/// # Errors
/// How many threads there have to be.
fn fit(usual: Bounded, fixed: usize, threads: usize) -> Result<Bounded, usize> {
    let Bounded { mut relay, mut admin } = usual;
    if threads >= fixed + relay.connections + 2 * relay.in_flight {
        return Ok(usual);
    }
    let spare = threads.saturating_sub(fixed);
    relay.in_flight = relay.in_flight.min(spare / 3);
    relay.connections = relay.connections.min(spare - 2 * relay.in_flight);
    if relay.in_flight < limits::CLIENTS_LEAST {
        return Err(fixed + 3 * limits::CLIENTS_LEAST);
    }
    (admin.in_flight, admin.connections) = (ADMIN.workers, ADMIN.workers);
    Ok(Bounded { relay, admin })
}

/// Whether a limit may leave fewer than `most` threads. The user's other programs count too, so
/// one of several times as many may.
fn is_limited(most: usize) -> bool {
    let lowest = os::limit("Max processes").into_iter().chain(task_limit()).min();
    os::limit(os::ADDRESS_SPACE).is_some() || lowest.is_some_and(|lowest| lowest < 4 * most)
}

/// The lowest limit on the tasks of this process's control group and of those above it.
fn task_limit() -> Option<usize> {
    let lowest = |line: &str| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        let root = match controllers {
            "" => "/sys/fs/cgroup",
            "pids" => "/sys/fs/cgroup/pids",
            _ => return None,
        };
        let group = [root, path].concat();
        let files = Path::new(&group).ancestors().map(|group| group.join("pids.max"));
        files.filter_map(|file| fs::read_to_string(file).ok()?.trim().parse().ok()).min()
    };
    fs::read_to_string("/proc/self/cgroup").ok()?.lines().filter_map(lowest).min()
}

/// How many threads can be started now, up to `most`. All are gone when it returns.
fn available(most: usize) -> usize {
    let before = running();
    let gate = RwLock::new(());
    let closed = gate.write();
    let started = thread::scope(|scope| {
        let wait = || drop(gate.read());
        let start = |_: &usize| thread::Builder::new().spawn_scoped(scope, wait).is_ok();
        let started = (0..most).take_while(start).count();
        drop(closed);
        started
    });
    // The kernel still counts a thread that has done its work, until it has removed it.
    let deadline = Instant::now() + limits::THREADS_GONE;
    while running() > before && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(1));
    }
    started
}

/// How many threads the kernel counts.
fn running() -> usize {
    fs::read_dir("/proc/self/task").map_or(0, Iterator::count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_leave_threads_for_the_relay() {
        let timeout = Duration::from_secs(25);
        let usual = Bounded { relay: Limits::new(4, timeout), admin: Limits::new(2, timeout) };
        let (fixed, least) = (20, 20 + 3 * limits::CLIENTS_LEAST);
        let enough = fixed + usual.relay.connections + 2 * usual.relay.in_flight;
        let fitted = |threads| {
            let fitted = fit(usual, fixed, threads)?;
            Ok((fitted.relay.in_flight, fitted.relay.connections, fitted.admin.connections))
        };
        let all = (usual.relay.in_flight, limits::CONNECTIONS, limits::CONNECTIONS);
        assert_eq!(fitted(enough), Ok(all));
        assert_eq!(fitted(enough - 1), Ok((all.0, all.1 - 1, ADMIN.workers)));
        let few = (limits::CLIENTS_LEAST, limits::CLIENTS_LEAST, ADMIN.workers);
        assert_eq!(fitted(least), Ok(few));
        assert_eq!(fitted(least - 1), Err(least));
        assert_eq!(fitted(0), Err(least));
    }

    #[test]
    fn threads_are_counted_up_to_a_number() {
        assert_eq!(available(7), 7);
    }
}
