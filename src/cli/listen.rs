//! Checks whether the configured addresses are free, and explains errors of listening.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use crate::base::limits;
use crate::cli::config::{self, Config, Environment};
use crate::server::Address;

use crate::cli::Failure;
use crate::cli::systemd::{self, ObserveRequest};
use crate::cli::threads;
use crate::server::Listener;

/// Binds the addresses of `config` for a moment; returns notes for the user.
///
/// An address on which a relay answers already, as beside a running service, is no error. Under
/// systemd nothing is tried: `serve` follows at once, and with socket activation these addresses
/// are not used.
///
/// # Errors
/// The error that `serve` would report.
pub(crate) fn check(environment: &Environment, config: &Config) -> Result<Vec<String>, Failure> {
    if systemd::is_direct_child(environment) {
        return Ok(Vec::new());
    }
    let timeout = config.relay.request_timeout;
    let bounds = threads::bounds(&config.serve, config.admin.is_some(), timeout)?;
    let bind = |address: &Address, bounds| Listener::bind(address, bounds).map(Listener::release);
    let main = Some((&config.address, "RELAY_LISTEN", bounds.relay, ObserveRequest::Watchdog));
    let admin = config.admin.as_ref();
    let admin =
        admin.map(|address| (address, "RELAY_ADMIN_LISTEN", bounds.admin, ObserveRequest::Livez));
    let (mut notes, mut problems) = (Vec::new(), Vec::new());
    for (address, variable, bounds, question) in main.into_iter().chain(admin) {
        let Err(error) = bind(address, bounds) else { continue };
        let is_relay = error.kind() == ErrorKind::AddrInUse
            && systemd::ask(address, question, limits::CHECK_PROBE).is_ok();
        if is_relay {
            let variable = origin(environment, variable);
            notes.push(format!(
                "a running graph-relay is listening on {} ({variable})",
                shown(address)
            ));
        } else {
            problems.push(problem(address, &origin(environment, variable), &error));
        }
    }
    if problems.is_empty() {
        return Ok(notes);
    }
    Err(Failure { text: config::lines(&problems), code: 1 })
}

/// Returns the error of `serve` when it cannot listen on `address`, set by `variable`.
pub(crate) fn failure(
    environment: &Environment,
    address: &Address,
    variable: &str,
) -> impl FnOnce(io::Error) -> Failure {
    let (address, variable) = (address.clone(), origin(environment, variable));
    move |error| Failure::new(problem(&address, &variable, &error))
}

/// Explains why `address`, set by `origin`, cannot be listened on.
pub(crate) fn problem(address: &Address, origin: &str, error: &io::Error) -> String {
    // An error that is not the system's contains its own remedy.
    let remedy = error.raw_os_error().and_then(|_| match address {
        Address::Tcp(address) => tcp_remedy(*address, error.kind()),
        Address::Unix(path) => unix_remedy(path, error.kind()),
    });
    let remedy = remedy.map(|remedy| format!(": {remedy}")).unwrap_or_default();
    format!("cannot listen on {} ({origin}): {error}{remedy}", shown(address))
}

fn origin(environment: &Environment, variable: &str) -> String {
    match environment.get(variable) {
        Some(_) => variable.to_owned(),
        None => format!("the default of {variable}"),
    }
}

fn shown(address: &Address) -> String {
    match address {
        Address::Tcp(address) => address.to_string(),
        Address::Unix(path) => format!("unix:{}", path.display()),
    }
}

fn tcp_remedy(address: SocketAddr, kind: ErrorKind) -> Option<String> {
    Some(match kind {
        ErrorKind::AddrInUse => {
            let holder = match holder(address) {
                Some((name, process)) => format!("{name} (process {process}) listens there"),
                None => {
                    "another program is listening there; `sudo ss -ltnp` shows which".to_owned()
                }
            };
            format!("{holder}; stop it, or choose another port")
        }
        ErrorKind::PermissionDenied if address.port() < 1024 => {
            "ports below 1024 require root or CAP_NET_BIND_SERVICE; choose another port and put a \
             proxy in front of it"
                .to_owned()
        }
        ErrorKind::AddrNotAvailable => {
            "this machine has no such address; `ip address` lists its addresses".to_owned()
        }
        _ => return None,
    })
}

fn unix_remedy(path: &Path, kind: ErrorKind) -> Option<String> {
    let directory = path.parent().unwrap_or(path).display();
    let is_socket = fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    Some(match kind {
        ErrorKind::NotFound => {
            format!("{directory} does not exist; create it, or set RuntimeDirectory= in systemd")
        }
        ErrorKind::NotADirectory => format!("{directory} is not a directory"),
        ErrorKind::PermissionDenied => format!("this user may not create files in {directory}"),
        ErrorKind::ReadOnlyFilesystem => {
            format!("{directory} is read-only here; choose a path in /run/graph-relay")
        }
        ErrorKind::AddrInUse if is_socket => {
            "another program is listening there; `sudo ss -lxp` shows which; stop it, or choose \
             another path"
                .to_owned()
        }
        ErrorKind::AddrInUse => {
            "a file that is not a socket is in the way; move it, or choose another path".to_owned()
        }
        _ => return None,
    })
}

/// Returns the name and ID of the process that listens on the port of `address`, if this user may
/// see it (proc_net(5), proc_pid_fd(5)).
fn holder(address: SocketAddr) -> Option<(String, u32)> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(fs::read_to_string);
    let inode = tables.iter().flatten().find_map(|table| {
        table.lines().skip(1).find_map(|line| {
            let columns: Vec<&str> = line.split_whitespace().collect();
            let (local, state, inode) = (columns.get(1)?, columns.get(3)?, columns.get(9)?);
            let (ip, port) = local.split_once(':')?;
            let is_port = u16::from_str_radix(port, 16).is_ok_and(|port| port == address.port());
            let is_ip = ip.bytes().all(|b| b == b'0')
                || address.ip().is_unspecified()
                || ip == hexadecimal(address.ip());
            (is_port && is_ip && *state == LISTENING).then(|| (*inode).to_owned())
        })
    })?;
    let link = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc")
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    for process in processes {
        let Ok(descriptors) = fs::read_dir(format!("/proc/{process}/fd")) else { continue };
        let mut links = descriptors.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
        if links.any(|found| found.as_os_str() == link.as_str()) {
            let name = fs::read_to_string(format!("/proc/{process}/comm")).ok()?;
            return Some((name.trim().to_owned(), process));
        }
    }
    None
}

/// Formats an address as in the kernel's tables: 32-bit words in native byte order.
fn hexadecimal(ip: IpAddr) -> String {
    let octets = match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let word = |word: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(word));
    octets.as_chunks().0.iter().copied().map(word).collect()
}

/// `TCP_LISTEN` in the kernel's tables.
const LISTENING: &str = "0A";
