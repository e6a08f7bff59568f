#!/usr/bin/env python3
"""Proves that a program needs nothing of the machine that it runs on.

    prove.py PROGRAM TARGET

1. It is a program for TARGET that names no interpreter and no library (ELF), and
   is at most 4 MiB.
2. In a directory that holds nothing but it, resolv.conf, hosts and the
   certificate of an authority made for the occasion, as nobody and with that
   directory for its root, it looks something up by TLS, with one name from hosts
   and one from a name server; and it trusts nobody without that certificate.
   This part needs root, openssl, and a machine that can run it.
"""

import http.server
import json
import os
import pathlib
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading

# By the first part of a Rust target.
MACHINES = {"x86_64": 62, "aarch64": 183}
SIZE = 4 * 1024 * 1024
# A loopback address of its own, so that no name server of the machine has it.
NAME_SERVER = ("127.53.0.53", 53)
BY_HOSTS, BY_DNS = "login.prove.test", "graph.prove.test"
ALERT = {
    "id": "1",
    "title": "Looked up from nowhere",
    "createdDateTime": "2026-01-01T00:00:00Z",
    "evidence": [
        {"@odata.type": "#microsoft.graph.security.ipEvidence", "ipAddress": "203.0.113.77"}
    ],
}


def main(program, target):
    size = os.path.getsize(program)
    require(size <= SIZE, f"{size} bytes are more than {SIZE}")
    require_static(pathlib.Path(program).read_bytes(), target.split("-")[0])
    print(f"static, {size} bytes")
    if os.geteuid() != 0:
        print("not proved for want of root: the look-up with nothing around it")
        return
    if not can_run(program):
        print(f"not proved, since this machine runs no program for {target}: the look-up")
        return
    with tempfile.TemporaryDirectory() as folder:
        prove_alone(program, pathlib.Path(folder))


def can_run(program):
    try:
        return subprocess.run([program, "help"], capture_output=True).returncode == 0
    except OSError:
        # An executable for another machine.
        return False


def require(condition, complaint):
    if not condition:
        sys.exit(f"prove.py: {complaint}")


def require_static(elf, machine):
    """By the program headers: no PT_INTERP, and no DT_NEEDED in PT_DYNAMIC. A
    program that can be moved in memory has the latter also if it is static."""
    require(elf[:6] == b"\x7fELF\x02\x01", "this is no ELF program of 64 bits")
    require(machine in MACHINES, f"what the ELF number of {machine} is, is not known here")
    found = struct.unpack_from("<H", elf, 18)[0]
    require(found == MACHINES[machine], f"it is for another machine (ELF {found}) than {machine}")
    (start,) = struct.unpack_from("<Q", elf, 32)
    length, count = struct.unpack_from("<HH", elf, 54)
    for at in range(start, start + length * count, length):
        kind, _, offset, _, _, size = struct.unpack_from("<IIQQQQ", elf, at)
        require(kind != 3, "it names an interpreter")
        if kind == 2:
            tags = [struct.unpack_from("<q", elf, offset + n)[0] for n in range(0, size, 16)]
            require(1 not in tags, "it names a library")


def prove_alone(program, folder):
    root, keys = folder / "root", folder / "keys"
    (root / "etc").mkdir(parents=True)
    keys.mkdir()
    shutil.copy(program, root / "graph-relay")
    (root / "etc/resolv.conf").write_text(f"nameserver {NAME_SERVER[0]}\n")
    (root / "etc/hosts").write_text(f"127.0.0.1 {BY_HOSTS}\n")
    make_authority(keys)
    shutil.copy(keys / "authority.pem", root / "authority.pem")
    for path in [folder, root, root / "etc"]:
        path.chmod(0o755)

    asked = serve_names()
    port = serve_microsoft(keys)
    environment = {
        "AZURE_TENANT_ID": "prove.test",
        "AZURE_CLIENT_ID": "0a7e2b9c-51d4-4d0e-8c3f-6e1b7a9d2f40",
        "AZURE_CLIENT_SECRET": "nothing",
        "RELAY_LOGIN_URL": f"https://{BY_HOSTS}:{port}",
        "RELAY_GRAPH_URL": f"https://{BY_DNS}:{port}",
        "RELAY_LOOKBACK": "3650d",
    }
    trusting = look_up(root, {**environment, "SSL_CERT_FILE": "/authority.pem"})
    require(trusting.returncode == 0, f"the look-up failed: {trusting.stderr}")
    sightings = json.loads(trusting.stdout)
    require(len(sightings) == 1 and ALERT["title"] in trusting.stdout, "it found something else")
    require(BY_DNS in asked, "it did not ask the name server")
    distrusting = look_up(root, environment)
    require(distrusting.returncode == 1, "it trusts an authority that nobody knows")
    require("certificate" in distrusting.stderr, f"another failure: {distrusting.stderr}")
    print("looked up by TLS with nothing around it, names from hosts and by DNS")


def look_up(root, environment):
    command = ["chroot", "--userspec=65534:65534", root, "/graph-relay", "observe", "ip"]
    return subprocess.run(
        [*command, "203.0.113.77"],
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def make_authority(keys):
    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=keys, check=True, capture_output=True)

    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    openssl(
        "req", "-x509", *curve, "-subj", "/CN=prove", "-days", "2",
        "-keyout", "authority.key", "-out", "authority.pem",
    )  # fmt: skip
    names = f"subjectAltName=DNS:{BY_HOSTS},DNS:{BY_DNS}\nbasicConstraints=CA:FALSE\n"
    (keys / "names").write_text(names)
    openssl("req", *curve, "-subj", "/CN=server", "-keyout", "server.key", "-out", "server.csr")
    openssl(
        "x509", "-req", "-in", "server.csr", "-CA", "authority.pem", "-CAkey", "authority.key",
        "-CAcreateserial", "-days", "2", "-extfile", "names", "-out", "server.pem",
    )  # fmt: skip


def serve_names():
    """A name server that knows one name, and tells which it was asked for."""
    asked = set()
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(NAME_SERVER)

    def serve():
        while True:
            question, client = server.recvfrom(512)
            labels, at = [], 12
            while question[at]:
                labels.append(question[at + 1 : at + 1 + question[at]].decode())
                at += 1 + question[at]
            asked.add(".".join(labels))
            (kind,) = struct.unpack_from(">H", question, at + 1)
            known = labels == BY_DNS.split(".") and kind == 1
            head = struct.pack(">HHHHH", 0x8180, 1, int(known), 0, 0)
            record = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 60, 4) + bytes([127, 0, 0, 1])
            body = question[12 : at + 5] + (record if known else b"")
            server.sendto(question[:2] + head + body, client)

    threading.Thread(target=serve, daemon=True).start()
    return asked


class Microsoft(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer({"access_token": "a-token", "expires_in": 3599})

    def do_GET(self):
        self.answer({"value": [ALERT]})

    def answer(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def serve_microsoft(keys):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(keys / "server.pem", keys / "server.key")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Microsoft)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *_: None
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


if __name__ == "__main__":
    main(*sys.argv[1:])
