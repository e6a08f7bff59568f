#!/usr/bin/env python3
"""Invokes a packed function once, without AWS: invoke.py ZIP [METHOD PATH [BODY]]

It unpacks the file as Lambda does, is the Runtime API that `bootstrap` asks, and
prints what the function answers to an HTTP request (POST /version unless said
otherwise). The environment is passed on, so SECRET_KEY has to be set; a TOKEN in
it is sent as the bearer token.
"""
import json
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from http.server import BaseHTTPRequestHandler, HTTPServer

archive, *request = sys.argv[1:]
method, path, body = (*request, *("POST", "/version", "")[len(request) :])
event = {
    "version": "2.0",
    "rawPath": path,
    "rawQueryString": "",
    "headers": {"authorization": f"Bearer {os.environ['TOKEN']}"} if "TOKEN" in os.environ else {},
    "requestContext": {"stage": "$default", "http": {"method": method, "path": path}},
    "body": body,
    "isBase64Encoded": False,
}


class RuntimeApi(BaseHTTPRequestHandler):
    """Hands out the one event, and prints what becomes of it."""

    protocol_version = "HTTP/1.1"
    outcome = None
    done = False

    def do_GET(self):
        if self.outcome:
            # It asks for the next one, so it has written its log. It is ended while it
            # waits, as Lambda does; a closed connection it would report as a failure.
            function.kill()
            function.wait()
            RuntimeApi.done = self.close_connection = True
            return
        data = json.dumps(event).encode()
        self.send_response(200)
        self.send_header("Lambda-Runtime-Aws-Request-Id", "0")
        self.send_header("Lambda-Runtime-Deadline-Ms", str(int((time.time() + 30) * 1000)))
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_POST(self):
        outcome = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        RuntimeApi.outcome = (self.path, outcome)
        self.send_response(202)
        self.send_header("Content-Length", "0")
        self.end_headers()
        self.close_connection = True

    def log_message(self, *_):
        pass


with tempfile.TemporaryDirectory() as folder, HTTPServer(("127.0.0.1", 0), RuntimeApi) as server:
    with zipfile.ZipFile(archive) as packed:
        mode = packed.getinfo("bootstrap").external_attr >> 16
        packed.extract("bootstrap", folder)
    os.chmod(f"{folder}/bootstrap", mode & 0o777)
    environment = dict(os.environ, AWS_LAMBDA_RUNTIME_API=f"127.0.0.1:{server.server_port}")
    function = subprocess.Popen([f"{folder}/bootstrap"], env=environment, cwd=folder)
    server.timeout = 30
    while not RuntimeApi.done and function.poll() is None:
        server.handle_request()
    function.kill()
    function.wait()

if RuntimeApi.outcome is None:
    sys.exit("the function did not answer")
where, outcome = RuntimeApi.outcome
print(json.dumps(outcome, indent=2))
sys.exit(0 if where.endswith("/response") else 1)
