//! The edges of XDR's graph: how the evidence of an alert relates to the searched observable and to
//! each other.

use std::sync::Arc;

use crate::alerts::alert::{Alert, Entity, Evidence, File, Message, Process};
use crate::alerts::observable::{self, Kind};
use crate::alerts::value::url;
use crate::base::limits;
use crate::ctim::schema::{Observable, ObservableType as T, Relation};
use crate::ctim::targets::{Host, host_name, user};

/// Returns the relations in `alert`, those of the searched observable first.
pub(crate) fn relations<'a>(
    asked: &observable::Observable,
    shown: &[Observable<'a>],
    alert: &'a Alert,
    hosts: &[Host<'a>],
    origin: &'a str,
) -> Vec<Relation<'a>> {
    let [searched, ..] = shown else { return Vec::new() };
    let relations = Vec::with_capacity(ROOM);
    let mut graph = RelationBuilder { asked, searched, hosts, origin, relations, near: 0 };
    for host in hosts {
        graph.host(host);
    }
    for evidence in &alert.evidence {
        graph.evidence(evidence);
    }
    graph.registry(alert);
    graph.tie_in();
    graph.relations.truncate(limits::RELATIONS);
    graph.relations
}

/// Initial capacity; most alerts have fewer relations.
const ROOM: usize = 10;

struct RelationBuilder<'g, 'a> {
    asked: &'g observable::Observable,
    searched: &'g Observable<'a>,
    hosts: &'g [Host<'a>],
    origin: &'a str,
    /// Distinct relations, up to the limit.
    relations: Vec<Relation<'a>>,
    /// How many relations involve the searched observable. They come first.
    near: usize,
}

impl<'a> RelationBuilder<'_, 'a> {
    /// Adds an edge if both ends are known and differ.
    fn add(
        &mut self,
        source: Option<Observable<'a>>,
        relation: &'static str,
        related: Option<Observable<'a>>,
    ) {
        let (Some(source), Some(related)) = (source, related) else {
            return;
        };
        let (source, related) = (self.as_asked(source), self.as_asked(related));
        if source == related {
            return;
        }
        let is_near = source == *self.searched || related == *self.searched;
        let (near, far) = self.relations.split_at(self.near);
        let known = if is_near { near } else { far };
        // The field that differs most often is compared first.
        let is_same = |other: &Relation<'_>| {
            other.related == related && other.source == source && other.relation == relation
        };
        if known.len() >= limits::RELATIONS || known.iter().any(is_same) {
            return;
        }
        let relation = Relation { origin: self.origin, relation, source, related };
        if is_near {
            self.relations.insert(self.near, relation);
            self.near += 1;
        } else {
            self.relations.push(relation);
        }
    }

    /// Replaces a node that equals the searched observable by it, so that the graph shows one node.
    fn as_asked(&self, node: Observable<'a>) -> Observable<'a> {
        let kind = match node.kind() {
            kind if kind != self.searched.kind() => None,
            T::Ip | T::Ipv6 => Some(Kind::Ip),
            T::Sha256 => Some(Kind::Sha256),
            T::FileName => Some(Kind::FileName),
            T::FilePath => Some(Kind::FilePath),
            T::Domain => Some(Kind::Domain),
            T::Hostname => Some(Kind::Hostname),
            T::Url => Some(Kind::Url),
            _ => None,
        };
        let same = kind.is_some_and(|kind| self.asked.is(kind, node.value()));
        if same { self.searched.clone() } else { node }
    }

    fn evidence(&mut self, evidence: &'a Evidence) {
        match &evidence.entity {
            Entity::File(file) => self.file(file),
            Entity::Process(process) => self.process(process),
            Entity::User(account) => {
                let host = self.only_host();
                self.add(user(account), "Related_To", host);
            }
            Entity::Mailbox { address, account } => {
                self.add(user(account), "Related_To", node(T::Email, address.as_ref()));
            }
            Entity::Logon { host, account } => {
                let account = account.as_ref().and_then(user);
                self.add(account, "Related_To", host.as_deref().and_then(host_name));
            }
            Entity::Message(message) => self.message(message),
            Entity::Ip(address) => {
                let host = self.only_host();
                let relation = if is_peer(evidence) { "Connected_To" } else { "Related_To" };
                self.add(host, relation, node(T::Ip, Some(address)));
            }
            Entity::Url(url) => {
                let host = self.only_host();
                self.url(url);
                self.add(host, "Related_To", node(T::Url, Some(url)));
            }
            Entity::Dns { name, addresses, .. } => {
                for address in addresses {
                    self.add(place(name.as_ref()), "Resolved_To", node(T::Ip, Some(address)));
                }
            }
            Entity::Connection { source, destination, domain, urls } => {
                let source = || node(T::Ip, source.as_ref());
                self.add(source(), "Connected_To", node(T::Ip, destination.as_ref()));
                self.add(source(), "Connected_To", place(domain.as_ref()));
                for url in urls {
                    self.url(url);
                    self.add(source(), "Connected_To", node(T::Url, Some(url)));
                }
            }
            Entity::Device(_)
            | Entity::Directory(_)
            | Entity::Registry(_)
            | Entity::Resource(_) => {}
        }
    }

    /// Adds a host's names and addresses.
    fn host(&mut self, host: &Host<'a>) {
        let domain = host.dns_name.and_then(|name| Observable::new(T::Domain, name));
        self.add(domain, "FQDN_Of", host.name.clone());
        for address in &host.addresses {
            self.add(host.name.clone(), "Resolved_To", Some(address.clone()));
        }
        // A public address usually belongs to a gateway, not to the host.
        let external = host.external_address.and_then(|ip| Observable::new(T::Ip, ip));
        self.add(host.name.clone(), "Related_To", external);
        for mac in &host.macs {
            self.add(Some(mac.clone()), "Related_To", host.addresses.first().cloned());
        }
    }

    fn file(&mut self, file: &'a File) {
        let hash = hash(file);
        let name = node(T::FileName, file.name.as_ref());
        let path = whole_path(file);
        self.add(name.clone(), "File_Name_Of", hash.clone());
        self.add(path.clone(), "File_Path_Of", hash.clone());
        let host = self.host_of(file);
        if hash.is_some() {
            self.add(hash, "Related_To", host);
        } else {
            self.add(path.or(name), "Related_To", host);
        }
    }

    fn process(&mut self, process: &'a Process) {
        self.file(&process.image);
        if let Some(parent) = &process.parent {
            self.file(parent);
            self.add(image(parent), "Parent_Of", image(&process.image));
        }
        let name = node(T::ProcessName, process.image.name.as_ref());
        self.add(name, "Used_By", process.account.as_ref().and_then(user));
    }

    fn message(&mut self, message: &'a Message) {
        let id = node(T::EmailMessageid, message.id.as_ref());
        let subject = node(T::EmailSubject, message.subject.as_ref());
        self.add(subject, "Characterizes", id.clone());
        for sender in &message.senders {
            let sender = node(T::Email, Some(sender));
            self.add(id.clone(), "Sent_By", sender.clone());
            self.add(sender.clone(), "Sent_From", node(T::Ip, message.sender_ip.as_ref()));
            for recipient in &message.recipients {
                self.add(sender.clone(), "Sent_To", node(T::Email, Some(recipient)));
            }
        }
        for recipient in &message.recipients {
            self.add(id.clone(), "Received_By", node(T::Email, Some(recipient)));
        }
        for url in &message.urls {
            self.url(url);
            self.add(node(T::Url, Some(url)), "Contained_Within", id.clone());
        }
        for file in &message.files {
            self.file(file);
            self.add(image(file), "Attached_To", id.clone());
        }
    }

    fn url(&mut self, url: &'a str) {
        let mut host = None;
        url::each_host(url, &mut |name| {
            let node = || Observable::new(T::Ip, name).or_else(|| Observable::new(T::Domain, name));
            host = host.take().or_else(|| Some(node()?.into_owned()));
        });
        self.add(Observable::new(T::Url, url), "Contains", host);
    }

    /// Adds registry keys. If the alert has exactly one process, it is taken to have modified them.
    fn registry(&mut self, alert: &'a Alert) {
        let mut processes = alert.evidence.iter().filter_map(|e| match &e.entity {
            Entity::Process(process) => Some(image(&process.image)),
            _ => None,
        });
        let only = processes.next().flatten().filter(|_| processes.next().is_none());
        for evidence in &alert.evidence {
            if let Entity::Registry(key) = &evidence.entity {
                let key = node(T::RegistryKey, Some(key));
                self.add(only.clone(), "Modified_Properties_Of", key.clone());
                let host = self.only_host();
                self.add(key, "Related_To", host);
            }
        }
    }

    /// Connects the searched observable to the graph if nothing else has.
    fn tie_in(&mut self) {
        if self.near > 0 {
            return;
        }
        let host = self.only_host();
        let other = host.or_else(|| self.relations.first().map(|first| first.source.clone()));
        self.add(Some(self.searched.clone()), "Related_To", other);
    }

    /// Returns the host, if there is exactly one.
    fn only_host(&self) -> Option<Observable<'a>> {
        match self.hosts {
            [host] => host.name.clone(),
            _ => None,
        }
    }

    /// Returns the host that a file is on.
    fn host_of(&self, file: &File) -> Option<Observable<'a>> {
        let id = file.device_id.as_deref();
        let named = self.hosts.iter().find(|host| host.id.is_some() && host.id == id);
        named.and_then(|host| host.name.clone()).or_else(|| self.only_host())
    }
}

/// Returns whether an address is known to be the remote end of a connection.
fn is_peer(evidence: &Evidence) -> bool {
    let peer = |role: &str| matches!(role, "destination" | "commandAndControl" | "attacker");
    evidence.roles.iter().any(|role| peer(role))
}

fn node(kind: T, value: Option<&Arc<str>>) -> Option<Observable<'_>> {
    Observable::new(kind, value?)
}

/// Returns what stands where a domain name belongs, and may be an address.
fn place(name: Option<&Arc<str>>) -> Option<Observable<'_>> {
    node(T::Ip, name).or_else(|| node(T::Domain, name))
}

/// Returns the full path of a file. Some providers send it in place of the directory; a directory
/// is hardly ever called `evil.exe`.
fn whole_path(file: &File) -> Option<Observable<'_>> {
    let (path, name) = (file.path.as_deref(), file.name.as_deref());
    let last = path.and_then(|path| path.rsplit(['/', '\\']).next());
    let is_whole = match (last, name) {
        (Some(last), Some(name)) => name.contains('.') && last.eq_ignore_ascii_case(name),
        _ => true,
    };
    if is_whole {
        return node(T::FilePath, file.path.as_ref());
    }
    let path = file.full_path()?;
    Observable::new(T::FilePath, &path).map(Observable::into_owned)
}

/// Returns the strongest hash of a file.
fn hash(file: &File) -> Option<Observable<'_>> {
    node(T::Sha256, file.sha256.as_ref())
        .or_else(|| node(T::Sha1, file.sha1.as_ref()))
        .or_else(|| node(T::Md5, file.md5.as_ref()))
}

/// Returns the image of a process: by hash if possible, so that it can be looked up further.
fn image(file: &File) -> Option<Observable<'_>> {
    hash(file).or_else(|| node(T::FileName, file.name.as_ref()))
}
