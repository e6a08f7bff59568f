#!/usr/bin/env python3
"""Checks every answer of the relay against a second opinion.

    referee.py BINARY ALERTS.json [--validator validate_ctim.py]

Starts `BINARY demo --alerts ALERTS.json`, asks it for every observable that the
evidence of those alerts holds, and compares the alerts in the answers with what
this file finds by itself: no false hit, no miss. With --validator, every answer
is also checked against CTIM, strictly. Exit status: 0 fine, 1 findings.

It knows the table of places on its own account and shares nothing with the
relay; it needs nothing but Python.
"""
import argparse
import ipaddress
import json
import re
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request

KINDS = ("sha256", "file_name", "file_path", "ip", "domain", "hostname", "url")


def dig(node, path):
    """The values at a path such as `files[].fileDetails.sha256`."""
    if not path:
        return [node] if isinstance(node, str) and node.strip() else []
    head, _, rest = path.partition(".")
    many = head.endswith("[]")
    if not isinstance(node, dict):
        return []
    value = node.get(head[:-2] if many else head)
    items = value if many and isinstance(value, list) else [value]
    return [found for item in items for found in dig(item, rest)]


# Evidence is found by its fields, whatever its type is called.
FILES = ["fileDetails", "imageFile", "parentProcessImageFile", "files[].fileDetails",
         "processes[].imageFile", "processes[].parentProcessImageFile"]
DEVICE_IPS = ["lastIpAddress", "lastExternalIpAddress", "ipInterfaces[]",
              "resourceAccessEvents[].ipAddress", "nics[].ipAddress.ipAddress"]
ACCOUNTS = ["userAccount", "account.userAccount", "processes[].userAccount"]
IPS = DEVICE_IPS + ["host." + path for path in DEVICE_IPS] \
    + [path + ".resourceAccessEvents[].ipAddress" for path in ACCOUNTS] + [
    "ipAddress", "ipAddress.ipAddress", "sourceAddress.ipAddress", "destinationAddress.ipAddress",
    "dnsServerIp.ipAddress", "hostIpAddress.ipAddress", "ipAddresses[].ipAddress",
    "senderIp", "senderIP", "podIp.ipAddress", "pod.podIp.ipAddress",
    "clusterIP.ipAddress", "externalIPs[].ipAddress", "allowedIpAddresses"]
URLS = ["url", "urls[]", "urls[].url", "blobContainer.url", "sourceRef.url", "webUrl", "baseUrl"]
# What stands where a name or an address of a network belongs.
NAMES = ["domainName", "p1Sender.domainName", "p2Sender.domainName", "activeDirectoryDomainName",
         "trustedDomains[].activeDirectoryDomainName"]
REGISTRIES = ["registry", "registry.registry", "image.registry.registry",
              "containers[].image.registry.registry", "pod.containers[].image.registry.registry"]
ADDRESSES = ["p1Sender.emailAddress", "p2Sender.emailAddress", "sender", "senderFromAddress",
             "recipient", "recipientEmailAddress", "recipients[]", "primaryAddress",
             "mailboxPrimaryAddress", "upn"] + [path + ".userPrincipalName" for path in ACCOUNTS]
IMAGES = ["imageId", "image.imageId", "digestImage.imageId", "containers[].image.imageId",
          "pod.containers[].image.imageId"]


def table(evidence, paths):
    return [value for path in paths for value in dig(evidence, path)]


def file_objects(evidence):
    for path in FILES:
        head, _, rest = path.partition(".")
        node = evidence.get(head.rstrip("[]"))
        nodes = (node or []) if head.endswith("[]") else [node]
        for item in nodes:
            found = item.get(rest) if rest and isinstance(item, dict) else item
            if isinstance(found, dict):
                yield found


def host_mentions(device):
    """A device's names, however they are written, and the domains in them."""
    if not isinstance(device, dict):
        return
    names = [re.sub(r":\d+$|\$$", "", name.strip().rpartition("\\")[2])
             for field in ("hostName", "deviceName", "deviceDnsName")
             for name in dig(device, field)]
    for domain in dig(device, "dnsDomain"):
        yield "domain", domain
        if names and not dig(device, "deviceDnsName"):
            names.append(names[0] + "." + domain if "." not in names[0] else names[0])
    for name in names:
        if normal("ip", name):
            yield "ip", name
            continue
        yield "hostname", name
        short, _, domain = name.partition(".")
        if domain:
            yield from (("hostname", short), ("domain", name))
        if "." in domain:
            yield "domain", domain


def host_of(url):
    try:
        return urllib.parse.urlsplit(url if "://" in url else "//" + url).hostname or ""
    except ValueError:
        return ""


def mail_domain(address):
    inner = re.search(r"<([^<>]*)>$", address.strip())
    return (inner[1] if inner else address).rpartition("@")[2] if "@" in address else ""


def named(name):
    return ("ip" if normal("ip", name) else "domain", name)


def full_paths(details):
    path, name = details.get("filePath"), details.get("fileName")
    if path:
        yield path
    if path and name:
        yield full_path(path, name)


def full_path(path, name):
    separator = "/" if "/" in path and "\\" not in path else "\\"
    return path.rstrip("/\\") + separator + name


def mentions(evidence):
    """All (kind, value) in one piece of evidence."""
    kind = str(evidence.get("@odata.type", "")).rsplit(".", 1)[-1]
    found = []
    for details in file_objects(evidence):
        found += [("sha256", v) for v in dig(details, "sha256")]
        found += [("file_name", v) for v in dig(details, "fileName")]
        found += [("file_path", v) for v in full_paths(details)]
    hashes = [evidence] + (evidence.get("fileHashes") or [])
    found += [("sha256", h["value"]) for h in hashes if h.get("algorithm") == "sha256"]
    if kind == "blobEvidence":
        found += [("file_name", v) for v in dig(evidence, "name")]
    found += [("ip", v) for v in table(evidence, IPS)]
    found += [("url", v) for v in table(evidence, URLS)]
    found += [named(host_of(v)) for v in table(evidence, URLS)]
    found += [named(v) for v in table(evidence, NAMES)]
    found += [named(mail_domain(v)) for v in table(evidence, ADDRESSES)]
    found += [named(v) for path in ACCOUNTS for v in dig(evidence, path + ".domainName") if "." in v]
    found += [("domain", v) for v in table(evidence, REGISTRIES) if "." in v]
    for image in table(evidence, IMAGES):
        registry, slash, _ = image.partition("/")
        found += [("domain", registry.split(":")[0])] if slash and "." in registry else []
        found += [("sha256", image.rpartition(":")[2])]
    found += list(host_mentions(evidence)) + list(host_mentions(evidence.get("host")))
    pairs = [(dig(evidence, name) or [""])[0].split(";") for name in ("clusterBy", "clusterByValue")]
    for name, value in zip(*pairs):
        cluster = {"SenderIp": ("ip", value), "P1SenderDomain": ("domain", value),
                   "P2SenderDomain": ("domain", value), "NormalizedUrl": ("url", value)}
        found += [cluster[name.strip()]] if name.strip() in cluster else []
        found += [named(host_of(value))] if name.strip() == "NormalizedUrl" else []
    return {(k, same) for k, v in found if (same := normal(k, v)) is not None}


def legacy_files(alert):
    for state in (alert.get("fileStates") or []) + (alert.get("processes") or []):
        name, path = state.get("name"), state.get("path")
        if name:
            yield "file_name", name
        if path:
            yield "file_path", path
        if name and path and normal("file_name", re.split(r"[\\/]", path)[-1]) != normal("file_name", name):
            yield "file_path", full_path(path, name)
        if (state.get("fileHash") or {}).get("hashType") == "sha256":
            yield "sha256", state["fileHash"]["hashValue"]


def legacy_mentions(alert):
    """All (kind, value) in an alert of the legacy API that it can be asked for."""
    found = list(legacy_files(alert))
    tables = {
        "hostStates": [("hostname", "netBiosName"), ("hostname", "fqdn"), ("domain", "fqdn"),
                       ("ip", "privateIpAddress"), ("ip", "publicIpAddress")],
        "networkConnections": [("ip", "sourceAddress"), ("ip", "destinationAddress"),
                               ("domain", "destinationDomain"), ("url", "destinationUrl")],
        "userStates": [("ip", "logonIp")],
        "uriClickSecurityStates": [("domain", "uriDomain")],
    }
    for collection, rows in tables.items():
        for state in alert.get(collection) or []:
            found += [(kind, state[name]) for kind, name in rows if state.get(name)]
            if state.get("fqdn"):
                found.append(("hostname", state["fqdn"].split(".")[0]))
    return {(k, same) for k, v in found if (same := normal(k, v)) is not None}


def all_mentions(alert):
    if "vendorInformation" in alert:
        return legacy_mentions(alert)
    pieces = alert.get("evidence") or []
    return set().union(*(mentions(piece) for piece in pieces if isinstance(piece, dict)))


def normal(kind, value):
    """The form in which two values are the same, None if it is none at all."""
    value = value.strip()
    if kind == "sha256":
        return value.lower() if re.fullmatch("[0-9a-fA-F]{64}", value) else None
    if kind == "ip":
        try:
            address = ipaddress.ip_address(value.split("%")[0])
        except ValueError:
            return None
        return str(getattr(address, "ipv4_mapped", None) or address)
    if kind == "file_path":
        if "\\" in value or re.match("[A-Za-z]:", value):
            return re.sub(r"[\\/]+", r"\\", value).rstrip("\\").lower()
        return value.rstrip("/")
    if kind == "domain" and normal("ip", value):
        return None
    if kind == "url":
        return value
    value = value.lower().rstrip(".")
    if kind in ("domain", "hostname") and not all(value.split(".")):
        return None
    return value or None


class Relay:
    """A demo over a file of alerts."""

    def __init__(self, binary, alerts, source):
        self.process = subprocess.Popen(
            [binary, "demo", "--alerts", alerts, "--source", source, "--listen", "127.0.0.1:0"],
            stdout=subprocess.PIPE, text=True)
        for line in self.process.stdout:
            if match := re.match(r"curl -s (\S+)", line):
                self.url = match[1]
            if match := re.search(r"Bearer ([\w.-]+)", line):
                self.token = match[1]
                return
        sys.exit("the demo did not start")

    def ask(self, observables):
        body = json.dumps([{"type": k, "value": v} for k, v in observables]).encode()
        request = urllib.request.Request(
            self.url, body, {"Authorization": "Bearer " + self.token})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def stop(self):
        self.process.terminate()
        return self.process.wait(timeout=60)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("alerts")
    parser.add_argument("--source", default="alerts_v2")
    parser.add_argument("--validator")
    parser.add_argument("--shape-only", action="store_true",
                        help="validate the answers, whatever is found")
    args = parser.parse_args()
    with open(args.alerts, encoding="utf-8") as file:
        alerts = json.load(file)
    expected = {}
    for alert in alerts:
        if not isinstance(alert, dict) or not alert.get("id"):
            continue
        for mention in all_mentions(alert):
            expected.setdefault(mention, set()).add(alert["id"])
    # What no alert mentions, among it parts and extensions of what they do.
    absent = [("ip", "192.0.2.254"), ("domain", "example.invalid"), ("sha256", "0" * 64)]
    for kind, value in list(expected):
        absent += [(kind, value + "x"), (kind, value[1:])]
    questions = list(expected) + [q for q in absent if q not in expected and normal(*q) == q[1]]

    findings, answers, codes = [], [], []
    # The legacy API is asked once for each, at Microsoft's rate: a relay that has
    # just been started may ask at once.
    share = 100 if args.source == "legacy" else len(questions)
    for start in range(0, len(questions), share):
        relay = Relay(args.binary, args.alerts, args.source)
        for kind, value in questions[start:start + share]:
            answer = relay.ask([(kind, value)])
            answers.append(answer)
            docs = answer.get("data", {}).get("sightings", {}).get("docs", [])
            got = [doc["external_ids"][0] for doc in docs]
            want = expected.get((kind, value), set())
            if args.shape_only:
                continue
            if set(got) != want or len(got) != len(set(got)):
                findings.append(f"{kind} {value}: {sorted(got)}, not {sorted(want)}")
            # What the legacy API is said to leave out, and to be, in every answer, and
            # evidence that neither of the two can read.
            errors = [error for error in answer.get("errors", [])
                      if "RELAY_ALERT_SOURCE=legacy" not in error["message"]
                      and not error["message"].startswith("Some evidence of")]
            if errors:
                findings.append(f"{kind} {value}: {errors}")
        if args.source != "legacy":
            answers.append(relay.ask(questions[:1000]))
        codes.append(relay.stop())
    findings += [f"the demo ended with {code}" for code in codes if code != 0]
    if args.validator:
        with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
            file.writelines(json.dumps(answer) + "\n" for answer in answers)
            file.flush()
            checked = subprocess.run(
                [sys.executable, args.validator, "--strict", "--kind", "observe_response",
                 file.name], capture_output=True, text=True, check=False)
        if checked.returncode != 0:
            findings += checked.stdout.splitlines()[:40] + checked.stderr.splitlines()
        else:
            print(checked.stdout.strip())
    kinds = {kind: sum(1 for k, _ in expected if k == kind) for kind in KINDS}
    print(f"{args.alerts}: {len(questions)} questions, {len(expected)} of them with an answer "
          f"({', '.join(f'{n} {k}' for k, n in kinds.items())}), {len(findings)} findings")
    print("\n".join(findings))
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
