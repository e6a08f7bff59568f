//! The private directory for the Unix socket of the HTTP server.

use std::fs::{self, DirBuilder, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;

use ring::rand::{SecureRandom, SystemRandom};

use crate::base::limits;

/// A directory that only this user can enter, removed on drop.
pub(super) struct PrivateDirectory(PathBuf);

impl PrivateDirectory {
    pub(super) fn new() -> io::Result<Self> {
        let mut name = [0; 8];
        let filled = SystemRandom::new().fill(&mut name);
        filled.map_err(|_| io::Error::other("cannot read system randomness"))?;
        let name = format!("{PREFIX}{:016x}", u64::from_le_bytes(name));
        let parent = std::env::temp_dir();
        let path = parent.join(name);
        // It fails if anything of that name exists, even a symbolic link.
        DirBuilder::new().mode(0o700).create(&path).map_err(|error| {
            let problem = format!(
                "cannot create a private directory in {}: {error}; set TMPDIR to a directory that \
                 exists and that this user may write",
                parent.display()
            );
            io::Error::new(error.kind(), problem)
        })?;
        let ours = path.clone();
        // On a thread, since connecting to a busy server's socket may block. Without one, the
        // leftovers stay.
        let _ = thread::Builder::new().name("tidy".to_owned()).spawn(move || tidy(&ours));
        Ok(Self(path))
    }

    /// Returns the path for the socket.
    pub(super) fn socket(&self) -> PathBuf {
        self.0.join(SOCKET)
    }
}

impl Drop for PrivateDirectory {
    fn drop(&mut self) {
        remove(&self.socket());
    }
}

/// Removes the socket `socket` and its directory when the process exits without dropping them.
pub fn remove(socket: &Path) {
    // Errors only leave files in a temporary directory.
    let _ = fs::remove_file(socket);
    let _ = socket.parent().map(fs::remove_dir);
}

/// Removes directories that killed processes have left beside `ours`.
fn tidy(ours: &Path) {
    let (Some(folder), Ok(own)) = (ours.parent(), fs::symlink_metadata(ours)) else { return };
    // Where other users could replace the directories, nothing is removed.
    let is_safe =
        fs::metadata(folder).is_ok_and(|m| m.mode() & 0o002 == 0 || m.mode() & 0o1000 != 0);
    if !is_safe {
        return;
    }
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        if is_abandoned(&path, &own) {
            remove(&path.join(SOCKET));
        }
    }
}

/// Returns whether `path` is a directory like `own`, made by this user and this program, with a
/// socket that nobody has listened on for a while.
fn is_abandoned(path: &Path, own: &Metadata) -> bool {
    let number = path.file_name().and_then(|name| name.to_str()?.strip_prefix(PREFIX));
    let is_named =
        number.is_some_and(|n| n.len() == 16 && n.bytes().all(|b| b.is_ascii_hexdigit()));
    let is_like = |found: Metadata| {
        // A younger one may belong to a process that is about to listen.
        let is_old = found
            .modified()
            .is_ok_and(|time| time.elapsed().is_ok_and(|age| age > limits::STALE_SOCKET_AGE));
        is_old && found.is_dir() && (found.uid(), found.mode()) == (own.uid(), own.mode())
    };
    let socket = path.join(SOCKET);
    is_named
        && fs::symlink_metadata(path).is_ok_and(is_like)
        && fs::symlink_metadata(&socket).is_ok_and(|found| found.file_type().is_socket())
        && UnixStream::connect(&socket)
            .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

/// The prefix of the directories' names.
const PREFIX: &str = "graph-relay-";

/// The socket's name in its directory.
const SOCKET: &str = "http";

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::os::unix::net::UnixListener;
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn the_directory_is_private_and_goes_with_its_guard() {
        let directory = PrivateDirectory::new().unwrap();
        let path = directory.0.clone();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        drop(directory);
        assert!(!path.exists());
    }

    #[test]
    fn what_is_certainly_left_of_a_killed_process_is_removed_and_nothing_else() {
        let folder = std::env::temp_dir().join(format!("graph-relay-tidy-{}", std::process::id()));
        DirBuilder::new().mode(0o700).create(&folder).unwrap();
        let make = |number: u64, mode| {
            let path = folder.join(format!("{PREFIX}{number:016x}"));
            DirBuilder::new().mode(mode).create(&path).unwrap();
            path
        };
        let listen = |path: &Path| UnixListener::bind(path.join(SOCKET)).unwrap();
        let age = |path: &Path, age| {
            File::open(path).unwrap().set_modified(SystemTime::now() - age).unwrap();
        };
        let long = limits::STALE_SOCKET_AGE + Duration::from_secs(1);
        let ours = make(0, 0o700);
        let abandoned = make(1, 0o700);
        drop(listen(&abandoned));
        let [young, alive, empty, open, file, other] =
            [(2, 0o700), (3, 0o700), (4, 0o700), (5, 0o755), (6, 0o700), (7, 0o700)]
                .map(|(number, mode)| make(number, mode));
        drop([&young, &open].map(|path| listen(path)));
        let _listener = listen(&alive);
        fs::write(file.join(SOCKET), "precious").unwrap();
        // Another program's directory, going by its name.
        drop(listen(&other));
        let renamed = folder.join("graph-relay-precious");
        fs::rename(&other, &renamed).unwrap();
        let aged = [&ours, &abandoned, &alive, &empty, &open, &file, &renamed];
        aged.into_iter().for_each(|path| age(path, long));
        age(&young, limits::STALE_SOCKET_AGE / 2);
        let link = folder.join(format!("{PREFIX}{:016x}", 8));
        symlink(&renamed, &link).unwrap();
        tidy(&ours);
        assert!(!abandoned.exists());
        let kept = [&ours, &young, &alive, &empty, &open, &file, &renamed, &link];
        assert!(kept.iter().all(|path| path.exists()));
        assert!(renamed.join(SOCKET).exists());
        // Where others could replace a directory, none is removed.
        drop(listen(&make(1, 0o700)));
        age(&abandoned, long);
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
        tidy(&ours);
        assert!(abandoned.exists());
        fs::remove_dir_all(&folder).unwrap();
    }
}
