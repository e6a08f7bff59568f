//! What is installed and packed: all that its documents refer to is there, and they
//! agree with it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::program::scratch;

fn install(program: &str, to: &Path) -> (bool, String) {
    let output = Command::new("sh")
        .args([&format!("{}/contrib/dist/install.sh", env!("CARGO_MANIFEST_DIR")), program])
        .args([to.to_str().unwrap(), "/usr/local"])
        .output()
        .unwrap();
    (output.status.success(), String::from_utf8(output.stderr).unwrap())
}

/// The documents in `folder`, with their text.
fn documents(folder: &Path) -> Vec<(PathBuf, String)> {
    let entries = [folder.to_owned(), folder.join("docs")];
    let paths = entries.iter().flat_map(|folder| fs::read_dir(folder).unwrap());
    let paths = paths.map(|entry| entry.unwrap().path());
    let paths = paths.filter(|path| path.extension().is_some_and(|e| e == "md"));
    paths.map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

/// What is at each place of `text` where `start` is, up to a character that is in no path.
fn after<'a>(text: &'a str, start: &'a str) -> impl Iterator<Item = &'a str> {
    text.match_indices(start).map(|(at, _)| {
        let rest = &text[at..];
        let is_path = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
        rest.split(|c| !is_path(c)).next().unwrap_or_default().trim_end_matches(['.', '/'])
    })
}

#[test]
fn what_the_packed_documents_refer_to_is_packed_with_them() {
    let to = scratch("package");
    assert_eq!(install(env!("CARGO_BIN_EXE_graph-relay"), &to), (true, String::new()));
    let packed = to.join("usr/local/share/doc/graph-relay");
    let documents = documents(&packed);
    assert!(documents.len() > 10, "{documents:?}");
    for (path, text) in &documents {
        for (_, rest) in text.match_indices("](").map(|(at, _)| text.split_at(at + 2)) {
            let link = rest.split([')', '#']).next().unwrap();
            let found = link.contains("://") || path.with_file_name(link).exists();
            assert!(found, "{}: {link}", path.display());
        }
        // Not what would have to be built, nor the installed copies.
        let named = ["contrib/", "docs/", "examples/"].into_iter().flat_map(|s| after(text, s));
        for name in named {
            let found = packed.join(name).exists();
            assert!(found, "{} names {name}", path.display());
        }
        for name in after(text, "/usr/local/").filter(|name| *name != "/usr/local") {
            let found = to.join(name.trim_start_matches('/')).exists();
            assert!(found, "{} names {name}", path.display());
        }
    }
    fs::remove_dir_all(&to).unwrap();
}

#[test]
fn nothing_is_installed_that_has_not_been_built() {
    let to = scratch("unbuilt");
    let (installed, said) = install("target/nowhere/graph-relay", &to);
    assert!(!installed && said.contains("make build"), "{said}");
    assert!(!to.exists());
}

#[test]
fn there_is_one_socket_for_the_proxy_and_one_version() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |name: &str| (root.join(name), fs::read_to_string(root.join(name)).unwrap());
    let unit = read("contrib/systemd/graph-relay.socket").1;
    let socket = unit.lines().find_map(|line| line.strip_prefix("ListenStream=")).unwrap();
    let mut texts = documents(root);
    texts.extend(["contrib/nginx/graph-relay.conf", "contrib/systemd/graph-relay.env"].map(read));
    let mut named = 0;
    for (path, text) in &texts {
        for name in after(text, "/run/") {
            // The directory of the service, where machines ask; no proxy gets there.
            assert!(
                [socket, "/run/graph-relay/admin"].contains(&name),
                "{}: {name}",
                path.display()
            );
            named += 1;
        }
        for name in after(text, "graph-relay-0.") {
            let version = concat!("graph-relay-", env!("CARGO_PKG_VERSION"), "-");
            assert!(name.starts_with(version), "{}: {name}", path.display());
            named += 1;
        }
    }
    assert!(named > 5);
    let service = read("contrib/systemd/graph-relay.service").1;
    let group = |text: &str, name| {
        text.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned).unwrap()
    };
    assert_eq!(group(&service, "Group="), group(&unit, "SocketGroup="));
}
