#!/usr/bin/env python3
"""Writes the inputs that fuzzing starts from, made of the project's fixtures."""

import json
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parent.parent
CORPUS = ROOT / "fuzz" / "corpus"


def write(target, seeds):
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds):
        (folder / f"seed-{number}").write_text(seed, newline="")
    print(f"{target}: {number + 1} seeds")


def strings(path):
    """The string literals of a Rust file, with the escapes that matter undone."""
    text = (ROOT / path).read_text()
    for raw, plain in re.findall(r'r#"(.*?)"#|"((?:[^"\\]|\\.)*)"', text, re.S):
        plain = re.sub(r"\\\n\s*", "", plain)
        for escape, meant in ((r"\r", "\r"), (r"\n", "\n"), (r"\"", '"')):
            plain = plain.replace(escape, meant)
        yield raw or plain


alerts = json.loads((ROOT / "src/simulator/tenant.json").read_text())
link = "https://graph.microsoft.com/v1.0/security/alerts_v2?$skiptoken=x"
pages = [json.dumps({"value": [alert], "@odata.nextLink": link}) for alert in alerts]
write("alerts_v2_page", pages + [json.dumps({"value": alerts[:3]})])

tests = list(strings("src/relay/jwt.rs"))
tokens = [text for text in tests if text.startswith("eyJ")]
write("jwt", tokens + ["Bearer " + text for text in tokens] + [t for t in tests if "{" in t])

bodies = [text for text in strings("src/relay/request_body.rs") if text.startswith(("[", "{"))]
write("request_body", bodies)

times = [text for text in strings("src/base/time.rs") if re.search(r"\d", text)]
write("retry_after", ["120", "2.128"] + times + [time + "\n" + time for time in times])

modulus = next(text for text in tests if re.fullmatch(r"[A-Za-z0-9_-]{342}", text))
key = {"kty": "RSA", "kid": "k", "use": "sig", "alg": "RS256", "n": modulus, "e": "AQAB"}
other = {"kty": "EC", "kid": "e", "crv": "P-256", "x": "AA", "y": "AA"}
write("jwks", [json.dumps({"keys": keys}) for keys in ([key], [other, key], [])])

heads = [text for text in strings("src/server/front_end/request_head.rs") if "HTTP/1" in text]
write("framing", [text.replace("|", "\r\n") + "\r\n\r\n" for text in heads])

nasty = ["O'Brien.exe", "a&b#c%41+d.exe", "x' or severity ne '", 'say "hi"', "C:\\x\\y", "\u2028é\t"]
write("literals", nasty)

old = {
    "id": "a",
    "title": "t",
    "severity": "high",
    "createdDateTime": "2026-11-20T08:00:00Z",
    "vendorInformation": {"provider": "IPC", "vendor": "Microsoft"},
    "fileStates": [{"name": "a.exe", "path": "C:\\x\\a.exe", "fileHash": {"hashType": "sha256", "hashValue": "ab" * 32}}],
    "hostStates": [{"netBiosName": "WS-1", "fqdn": "ws-1.example", "privateIpAddress": "10.0.0.1"}],
    "networkConnections": [{"destinationAddress": "203.0.113.7", "destinationUrl": "bad.example/x", "urlParameters": "q=1"}],
}
write("legacy_page", [json.dumps({"value": [old]}), json.dumps({"value": [dict(old, fileStates=None), 7]})])

headers = {"authorization": "Bearer x", "content-type": "application/json"}
rest = {"httpMethod": "POST", "path": "/health", "headers": headers, "body": "e30=", "isBase64Encoded": True}
url = {"version": "2.0", "rawPath": "/dev/health", "headers": headers, "body": "{}", "requestContext": {"stage": "dev", "http": {"method": "POST", "path": "/health"}}}
balancer = dict(rest, requestContext={"elb": {"targetGroupArn": "x"}}, multiValueHeaders={"authorization": ["Bearer x"]})
write("lambda_event", [json.dumps(event) for event in (rest, url, balancer)])
