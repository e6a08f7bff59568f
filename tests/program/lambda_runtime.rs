//! The program and Lambda's Runtime API: failures, bounds, and the package.

use std::path::Path;
use std::process::Command;

use crate::lambda::{ask, bootstrap, events};
use crate::support::runtime::{FakeRuntime, Framing};
use crate::support::service::{PATIENCE, PROGRAM, Scratch};
use crate::support::*;
use graph_relay::base::limits;
use serde_json::{Value, json};

#[test]
fn a_runtime_api_that_fails_or_is_not_understood_ends_the_process() {
    let heads = [
        ("HTTP/1.1 500 Oops\r\n", "it answered 500 to a request for an invocation"),
        ("HTTP/1.1 403 Forbidden\r\n", "it answered 403 to a request for an invocation"),
        ("HTTP/1.1 200 OK\r\n", "an invocation without a request id"),
        (
            "HTTP/1.1 200 OK\r\nLambda-Runtime-Aws-Request-Id: ../x\r\n",
            "an invocation without a request id",
        ),
        ("SSH-2.0-OpenSSH\r\n", "protocol: http parse fail: invalid HTTP version"),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n",
            "protocol: conflicting content-length headers",
        ),
    ];
    for (head, problem) in heads {
        let runtime = FakeRuntime::start();
        let function = bootstrap(&runtime, "http://127.0.0.1:1", &[]);
        runtime.serve_raw(head);
        let (code, log) = function.end();
        let last = log.lines().last().unwrap();
        let expected = format!("graph-relay: Lambda's Runtime API: {problem}");
        assert_eq!((code, last), (1, &*expected), "{log}");
    }
    // It takes no answer any more.
    let runtime = FakeRuntime::that_takes_answers_with(500);
    let function = bootstrap(&runtime, "http://127.0.0.1:1", &[]);
    runtime.invoke("an-id", &json!({}), PATIENCE, Framing::Length);
    assert_eq!(function.end().0, 1);
    // An answer that is refused is told of, and the next one awaited.
    let runtime = FakeRuntime::that_takes_answers_with(413);
    let function = bootstrap(&runtime, "http://127.0.0.1:1", &[]);
    for (_, event) in events(&ask("POST", "/nowhere")) {
        runtime.invoke("an-id", &event, PATIENCE, Framing::Length);
        runtime.posted();
    }
    runtime.serve_raw("HTTP/1.1 500 Oops\r\n");
    let (_, log) = function.end();
    assert_eq!(log.matches("request=an-id endpoint=unknown status=404").count(), 8, "{log}");
    assert_eq!(log.matches("write_error=413").count(), 8, "{log}");
}

#[test]
fn an_event_and_its_head_have_a_bound() {
    let (_, version) = events(&ask("POST", "/version")).remove(3);
    let event = version.to_string();
    let most = usize::try_from(limits::LAMBDA_EVENT).unwrap();
    let serve = |head: usize, length: usize, chunked: bool| {
        let runtime = FakeRuntime::start();
        let function = bootstrap(&runtime, "http://127.0.0.1:1", &[]);
        let body = format!("{event}{}", " ".repeat(length - event.len()));
        let frame = if chunked { Framing::Chunked } else { Framing::Length };
        runtime.serve_padded(head, &body, frame);
        (runtime, function)
    };
    for (head, length, chunked) in [(limits::LAMBDA_HEAD, most, false), (1_024, most, true)] {
        let (runtime, _function) = serve(head, length, chunked);
        assert_eq!(runtime.posted().error, None, "{head} {length} {chunked}");
    }
    for (head, length, chunked, word) in [
        (limits::LAMBDA_HEAD + 1, event.len(), false, "header is too big"),
        (1_024, most + 1, false, "limit"),
        (1_024, most + 1, true, "limit"),
    ] {
        let (_runtime, function) = serve(head, length, chunked);
        let (code, log) = function.end();
        assert!(code == 1 && log.contains(word), "{head} {length} {chunked}: {log}");
    }
}

#[test]
fn an_answer_is_posted_again_where_the_connection_broke_and_not_after_a_time_out() {
    let (_, version) = events(&ask("POST", "/version")).remove(3);
    let runtime = FakeRuntime::that_breaks_the_first_post();
    let _function = bootstrap(&runtime, "http://127.0.0.1:1", &[]);
    runtime.invoke("an-id", &version, PATIENCE, Framing::Length);
    assert_eq!(runtime.posted().body, runtime.posted().body);
    let runtime = FakeRuntime::that_takes_posts_in_silence();
    let function = bootstrap(&runtime, "http://127.0.0.1:1", &[]);
    runtime.invoke("an-id", &version, PATIENCE, Framing::Length);
    let (code, log) = function.end();
    assert!(code == 1 && log.contains("timeout"), "{log}");
    runtime.posted();
    assert!(runtime.posts.try_recv().is_err(), "it has been posted twice");
}

#[test]
fn the_package_has_the_same_bytes_each_time_and_can_be_invoked() {
    let mut probe = Command::new("python3");
    probe.args(["-c", "import http.server, json, zipfile"]).stderr(std::process::Stdio::null());
    if !probe.status().is_ok_and(|status| status.success()) {
        return program::skip("there is no Python 3 with its whole library");
    }
    let script = |name: &str| format!("{}/contrib/lambda/{name}.py", env!("CARGO_MANIFEST_DIR"));
    let python = |script: String, arguments: &[&Path], environment: &[(&str, &str)]| {
        let mut command = Command::new("python3");
        command.arg(script).args(arguments).envs(environment.iter().copied());
        let output = command.output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    };
    let folder = Scratch::new();
    let pack = |file: &Path, name: &str| {
        let archive = folder.0.join(name);
        assert_eq!(python(script("pack"), &[file, &archive], &[]).0, 0);
        archive
    };
    // Of a small file, for it is about the frame.
    let bytes = |name: &str| std::fs::read(pack(Path::new(&script("pack")), name)).unwrap();
    assert_eq!(bytes("a.zip"), bytes("b.zip"));
    let archive = pack(Path::new(PROGRAM), "lambda.zip");
    let key = [("SECRET_KEY", SECRET_KEY)];
    let (code, printed) = python(script("invoke"), &[&archive], &key);
    let reply: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!((code, &reply["statusCode"]), (0, &json!(200)));
    let version = json!({"version": graph_relay::relay::api::VERSION}).to_string();
    assert_eq!(reply["body"], json!(version));
    let (code, printed) = python(script("invoke"), &[&archive], &[("SECRET_KEY", "short")]);
    assert!(code == 1 && printed.contains("Runtime.Startup"), "{printed}");
}

#[test]
fn outside_lambda_the_command_says_what_it_lacks() {
    let output = Command::new(PROGRAM).arg("lambda").env_clear().output().unwrap();
    let message = "graph-relay: AWS_LAMBDA_RUNTIME_API is not set; the lambda command runs only on \
                   AWS Lambda\n";
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), message);
}
