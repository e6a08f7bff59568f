//! Serves a [`Transport`] over loopback HTTP, so that the real client can call the simulator.
//!
//! For that client only, and not tiny_http, which strands some of several keep-alive connections;
//! the relay opens several.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::base::credentials::{AccessToken, Secret};
use crate::base::http::{Action, Request, Response, Transport};
use crate::base::limits;
use crate::base::time::Timestamp;

/// Serves `transport` on a free port of 127.0.0.1 until the process ends; returns the address.
///
/// # Errors
/// When no port is available.
pub fn serve(transport: Arc<dyn Transport>) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    thread::Builder::new().name("loopback".to_owned()).spawn(move || {
        for stream in listener.incoming().flatten() {
            let transport = Arc::clone(&transport);
            let connection = thread::Builder::new().name("connection".to_owned());
            // If the client has left or no thread can start, there is no response.
            let _ = connection.spawn(move || attend(&stream, address, &*transport));
        }
    })?;
    Ok(address)
}

/// Answers the requests of one connection in turn.
fn attend(stream: &TcpStream, address: SocketAddr, transport: &dyn Transport) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(limits::IDLE_CONNECTION * 2))?;
    let mut reader = BufReader::new(stream);
    while let Some(request) = read(&mut reader, address)? {
        let answer = transport.send(&request, limits::CALL_TIMEOUT);
        let answer = answer.unwrap_or_else(|_| Response { status: 502, ..Response::default() });
        write(stream, &answer)?;
        if request.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
            break;
        }
    }
    Ok(())
}

/// Reads the next request, or `None` at the end.
fn read(reader: &mut BufReader<&TcpStream>, address: SocketAddr) -> io::Result<Option<Request>> {
    let mut head = reader.by_ref().take(HEAD);
    let mut line = String::new();
    if head.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let (Some(method), Some(target)) = (words.next(), words.next()) else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        head.read_line(&mut line)?;
        match line.trim_end().split_once(':') {
            Some((name, value)) => headers.push((name.to_lowercase(), value.trim().to_owned())),
            None => break,
        }
    }
    let header = |name: &str| headers.iter().find(|(header, _)| header == name).map(|(_, v)| v);
    let length = header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    if length > limits::BODY {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let body = String::from_utf8_lossy(&body).into_owned();
    let action = match header("content-type") {
        _ if method == "GET" => Action::Get,
        Some(kind) if kind.starts_with("application/json") => Action::PostReadOnly(body),
        _ => Action::PostForm(Secret::new(body)),
    };
    let bearer = header("authorization").and_then(|value| value.strip_prefix("Bearer "));
    let (url, bearer) = (format!("http://{address}{target}"), bearer.map(AccessToken::new));
    Ok(Some(Request { url, bearer, headers, action }))
}

fn write(mut stream: &TcpStream, response: &Response) -> io::Result<()> {
    let mut head = format!("HTTP/1.1 {} -\r\n", response.status);
    for (name, value) in &response.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if response.header("date").is_none() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        head.push_str(&format!("date: {}\r\n", Timestamp::from_unix_seconds(0).plus(now).http()));
    }
    head.push_str(&format!("content-length: {}\r\n\r\n", response.body.len()));
    stream.write_all(head.as_bytes())?;
    stream.write_all(&response.body)
}

/// The largest head, in bytes: a URL, a token and a margin.
const HEAD: u64 = 64 * 1024;
