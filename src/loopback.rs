//! Serves a [`Transport`] over loopback HTTP: how the simulator becomes a host
//! that the real client can call.

use std::io::{Cursor, Read as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::thread;

use tiny_http::{Header, Method, Response, Server, StatusCode};

use crate::credentials::Secret;
use crate::http::{self, Action, Transport};
use crate::limits;

/// Serves `transport` on a free port of 127.0.0.1 until the process ends, and
/// returns the address.
///
/// # Errors
/// When no port can be had.
pub fn serve(transport: Arc<dyn Transport>) -> std::io::Result<SocketAddr> {
    let server = Server::http((Ipv4Addr::LOCALHOST, 0)).map_err(std::io::Error::other)?;
    let address = server.server_addr().to_ip();
    let address = address.ok_or_else(|| std::io::Error::other("not an IP address"))?;
    thread::Builder::new().name("loopback".to_owned()).spawn(move || {
        for mut request in server.incoming_requests() {
            let answer = read(&mut request, address).and_then(|request| {
                transport.send(&request, limits::CALL_TIMEOUT).map_err(|_| 502)
            });
            // A client that has gone needs no answer.
            let _ = request.respond(response(answer));
        }
    })?;
    Ok(address)
}

/// The request in the form of a [`Transport`]; the status to refuse it with
/// otherwise.
fn read(request: &mut tiny_http::Request, address: SocketAddr) -> Result<http::Request, u16> {
    let headers = request.headers().iter().map(|header| {
        (header.field.as_str().as_str().to_ascii_lowercase(), header.value.as_str().to_owned())
    });
    let headers: Vec<(String, String)> = headers.collect();
    let bearer = headers.iter().find(|(name, _)| name == "authorization");
    let bearer = bearer.and_then(|(_, value)| value.strip_prefix("Bearer ")).map(Secret::new);
    let mut body = String::new();
    let mut bounded = request.as_reader().take(u64::try_from(limits::BODY).unwrap_or(u64::MAX));
    bounded.read_to_string(&mut body).map_err(|_| 400_u16)?;
    let action = match request.method() {
        Method::Get => Action::Get,
        Method::Post => Action::PostForm(Secret::new(body)),
        _ => return Err(405),
    };
    Ok(http::Request { url: format!("http://{address}{}", request.url()), bearer, headers, action })
}

fn response(answer: Result<http::Response, u16>) -> Response<Cursor<Vec<u8>>> {
    let answer =
        answer.unwrap_or_else(|status| http::Response { status, ..http::Response::default() });
    let headers = answer.headers.iter();
    let headers = headers
        .filter_map(|(name, value)| Header::from_bytes(name.as_bytes(), value.as_bytes()).ok());
    let length = answer.body.len();
    let headers = headers.collect();
    let status = StatusCode(answer.status);
    Response::new(status, headers, Cursor::new(answer.body), Some(length), None)
        .with_chunked_threshold(usize::MAX)
}
