#!/usr/bin/env python3
"""Prints the bill of materials of the program as CycloneDX 1.5 JSON.

    sbom.py TARGET EPOCH

What is linked in is what Cargo resolves for TARGET without development
dependencies; build scripts and procedural macros are marked as excluded. The
same sources and EPOCH (seconds since 1970) make the same bytes.
"""

import datetime
import hashlib
import json
import subprocess
import sys
import tomllib


def main(target, epoch):
    command = ["cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", target]
    metadata = json.loads(subprocess.check_output(command))
    with open("Cargo.lock", "rb") as file:
        locked = tomllib.load(file)["package"]
    hashes = {(p["name"], p["version"]): p["checksum"] for p in locked if "checksum" in p}
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    root = metadata["resolve"]["root"]
    linked = closure(root, nodes, packages, {None})
    needed = closure(root, nodes, packages, {None, "build"}, macros=True)
    components = [component(packages[i], hashes, i in linked) for i in needed if i != root]
    bom = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": "",
        "version": 1,
        "metadata": {
            "timestamp": datetime.datetime.fromtimestamp(epoch, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": {**component(packages[root], hashes, True), "type": "application"},
        },
        "components": sorted(components, key=lambda c: c["bom-ref"]),
        "dependencies": dependencies(needed, nodes, packages),
    }
    # Not at random, so that the same sources have the same bill.
    digest = bytearray(hashlib.sha256(json.dumps(bom, sort_keys=True).encode()).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x80
    digest[8] = digest[8] & 0x3F | 0x80
    text = digest.hex()
    bom["serialNumber"] = f"urn:uuid:{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
    print(json.dumps(bom, indent=1, sort_keys=True))


def closure(root, nodes, packages, kinds, macros=False):
    """What `root` needs by edges of these kinds; through macros only if asked."""
    found, ahead = set(), [root]
    while ahead:
        package = ahead.pop()
        if package in found or is_macro(packages[package]) and not macros:
            continue
        found.add(package)
        for edge in nodes[package]["deps"]:
            if any(kind["kind"] in kinds for kind in edge["dep_kinds"]):
                ahead.append(edge["pkg"])
    return found


def is_macro(package):
    return any("proc-macro" in target["kind"] for target in package["targets"])


def reference(package):
    return f"pkg:cargo/{package['name']}@{package['version']}"


def component(package, hashes, is_linked):
    entry = {
        "type": "library",
        "bom-ref": reference(package),
        "name": package["name"],
        "version": package["version"],
        "purl": reference(package),
        "scope": "required" if is_linked else "excluded",
    }
    if package["license"]:
        # An older way to write OR, which SPDX does not know.
        entry["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
    checksum = hashes.get((package["name"], package["version"]))
    if checksum:
        entry["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    return entry


def dependencies(needed, nodes, packages):
    def needs(package):
        edges = nodes[package]["deps"]
        kept = [e["pkg"] for e in edges if any(k["kind"] in (None, "build") for k in e["dep_kinds"])]
        return sorted({reference(packages[p]) for p in kept if p in needed})

    entries = [{"ref": reference(packages[p]), "dependsOn": needs(p)} for p in needed]
    return sorted(entries, key=lambda entry: entry["ref"])


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
