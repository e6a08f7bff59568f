//! nginx with the configuration that is shipped, moved to addresses and paths
//! where it may run for a test.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A running nginx, which ends with this.
pub(crate) struct Nginx {
    child: Child,
    pub(crate) address: SocketAddr,
    directory: PathBuf,
}

/// Where nginx is, if it is installed.
pub(crate) fn installed() -> Option<PathBuf> {
    let directories = std::env::var("PATH").unwrap_or_default();
    let directories = directories.split(':').chain(["/usr/sbin", "/usr/local/sbin"]);
    directories.map(|directory| Path::new(directory).join("nginx")).find(|path| path.exists())
}

impl Nginx {
    /// Starts `program` in front of the relay that listens on `socket`.
    pub(crate) fn start(program: &Path, socket: &Path) -> Self {
        let shipped = fs::read_to_string(
            Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/nginx/graph-relay.conf"),
        )
        .unwrap();
        // Free a moment ago; nobody else is likely to take it.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut server = shipped;
        for (from, to) in [
            ("unix:/run/graph-relay.socket", format!("unix:{}", socket.display())),
            ("listen 443 ssl;", format!("listen {address};")),
            ("ssl_certificate /etc/ssl/relay.example.pem;", String::new()),
            ("ssl_certificate_key /etc/ssl/private/relay.example.key;", String::new()),
        ] {
            assert!(server.contains(from), "the configuration has no {from}");
            server = server.replace(from, &to);
        }
        let directory = super::program::scratch(&format!("nginx-{}", address.port()));
        fs::create_dir_all(&directory).unwrap();
        let at = |name: &str| directory.join(name).display().to_string();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {};", at(kind)))
            .concat();
        let whole = format!(
            "daemon off; pid {}; error_log {} warn; worker_processes 1;\n\
             events {{ worker_connections 2048; }}\n\
             http {{ access_log off; {temporary}\n{server}\n}}\n",
            at("pid"),
            at("error.log"),
        );
        // As root, the workers are somebody else, who may not reach the socket.
        let user = if directory_is_roots(&directory) { "user root;\n" } else { "" };
        fs::write(directory.join("nginx.conf"), format!("{user}{whole}")).unwrap();
        let child = Command::new(program)
            .args(["-p", &at(""), "-c", &at("nginx.conf"), "-e", &at("error.log")])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let nginx = Self { child, address, directory };
        let start = Instant::now();
        while TcpStream::connect(address).is_err() {
            let log = || fs::read_to_string(nginx.directory.join("error.log")).unwrap_or_default();
            assert!(start.elapsed() < Duration::from_secs(20), "nginx does not start: {}", log());
            std::thread::yield_now();
        }
        nginx
    }
}

fn directory_is_roots(directory: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata(directory).unwrap().uid() == 0
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // The master ends its workers.
        super::program::kill("TERM", &self.child);
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}
