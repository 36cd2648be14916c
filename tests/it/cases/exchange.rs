//! Sends the request of a row to a tower service, or as bytes over a socket.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, body::Body};
use http::{HeaderName, HeaderValue, Method, Request, Response, Uri};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tower::{Service, ServiceExt as _};

use crate::cases::expand::{expand, key, latin1};

/// A header line as bytes: name and value.
pub type Line = (Vec<u8>, Vec<u8>);

/// Parses a `headers_json` cell: pairs, with an optional third element that repeats the line.
pub fn lines(value: &Value) -> Result<Vec<Line>, String> {
    let wrong = |what: &Value| format!("{what} is not a list of header lines");
    let mut lines = Vec::new();
    let all = match value {
        Value::Null => &Vec::new(),
        other => other.as_array().ok_or_else(|| wrong(other))?,
    };
    for line in all {
        let parts = line.as_array().ok_or_else(|| wrong(line))?;
        let (name, text, times) = match parts.as_slice() {
            [Value::String(name), Value::String(text)] => (name, text, 1),
            [Value::String(name), Value::String(text), times] => {
                (name, text, times.as_u64().ok_or_else(|| wrong(line))?)
            }
            _ => return Err(wrong(line)),
        };
        let line = (latin1(&expand(name)?)?, latin1(&expand(text)?)?);
        lines.extend((0..times).map(|_| line.clone()));
    }
    Ok(lines)
}

/// Builds the request as a tower service receives it. It is `None` if the `http` crate cannot represent it: hyper's
/// parser builds the same types, so it answers 400 before any service is called.
pub fn request(method: &str, target: &[u8], lines: &[Line]) -> Option<Request<Body>> {
    let mut request = Request::new(Body::empty());
    *request.method_mut() = Method::from_bytes(method.as_bytes()).ok()?;
    *request.uri_mut() = Uri::try_from(target).ok()?;
    for (name, value) in lines {
        let (name, value) = (HeaderName::from_bytes(name).ok()?, HeaderValue::from_bytes(value).ok()?);
        request.headers_mut().append(name, value);
    }
    Some(request)
}

/// A response in a form that can be compared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// The headers, sorted, without those that describe the connection and the time.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Answer {
    fn new(status: u16, headers: impl Iterator<Item = (String, String)>, body: &[u8]) -> Self {
        let mut headers: Vec<_> =
            headers.filter(|(name, _)| !["connection", "content-length", "date"].contains(&name.as_str())).collect();
        headers.sort();
        Self { status, headers, body: String::from_utf8_lossy(body).into_owned() }
    }

    /// Returns the response of the parser to a request that it cannot parse.
    pub fn unreadable() -> Self {
        Self { status: 400, ..Self::default() }
    }

    pub fn has_header(&self, name: &str) -> bool {
        self.headers.iter().any(|(known, _)| known == name)
    }
}

/// Sends a request to a service. A request that could not be built yields a 400.
pub async fn to_service<S>(service: S, request: Option<Request<Body>>) -> Answer
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    let Some(request) = request else { return Answer::unreadable() };
    let (parts, body) = service.oneshot(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let headers = parts.headers.iter().map(|(name, value)| (name.to_string(), format!("{value:?}")));
    Answer::new(parts.status.as_u16(), headers, &body)
}

/// The notes that handlers record when they run.
#[derive(Clone, Default)]
pub struct Seen(Arc<Mutex<Vec<String>>>);

impl Seen {
    pub fn note(&self, what: impl Into<String>) {
        self.0.lock().unwrap().push(what.into());
    }

    /// Removes and returns all notes since the last call.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// Serves a router by hyper's HTTP/1 on a free local port.
pub async fn serve(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// Sends a request as bytes, exactly as the lines are written, and reads the first response.
pub async fn over_the_wire(server: SocketAddr, method: &str, target: &str, lines: &[Line]) -> Result<Answer, String> {
    let find = |wanted: &str| {
        let found = lines.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted.as_bytes()));
        found.map(|(_, value)| String::from_utf8_lossy(value).trim().to_owned())
    };
    let mut bytes = format!("{method} {target} HTTP/1.1\r\n").into_bytes();
    if find("host").is_none() {
        bytes.extend(b"Host: localhost\r\n");
    }
    for (name, value) in lines {
        bytes.extend([name, &b": "[..], value, b"\r\n"].concat());
    }
    let mut body = Vec::new();
    if find("transfer-encoding").is_some() {
        body.extend(b"0\r\n");
        for trailer in find("trailer").iter().flat_map(|names| names.split(',')).map(str::trim) {
            // An announced trailer carries a valid credential, which must be ignored.
            let scheme = if trailer.eq_ignore_ascii_case("authorization") { "Bearer " } else { "" };
            body.extend(format!("{trailer}: {scheme}{}\r\n", key("K1")?).into_bytes());
        }
        body.extend(b"\r\n");
    } else if let Some(length) = find("content-length") {
        body.resize(length.parse().unwrap_or(0), b'x');
    } else if !["GET", "HEAD"].contains(&method) {
        bytes.extend(b"Content-Length: 0\r\n");
    }
    bytes.extend(b"Connection: close\r\n\r\n");
    bytes.extend(body);
    raw(server, &bytes).await
}

/// Sends bytes, reads until the server closes, and returns the first response.
pub async fn raw(server: SocketAddr, bytes: &[u8]) -> Result<Answer, String> {
    let mut stream = TcpStream::connect(server).await.map_err(|error| error.to_string())?;
    let (mut reader, mut writer) = stream.split();
    let mut answer = Vec::new();
    // A server that refuses early may close while the bytes are still being written, so only its response counts.
    let exchange = async { tokio::join!(writer.write_all(bytes), reader.read_to_end(&mut answer)) };
    let _ = timeout(Duration::from_secs(10), exchange).await;
    parse(&answer).ok_or_else(|| format!("no answer but {:?}", String::from_utf8_lossy(&answer)))
}

fn parse(answer: &[u8]) -> Option<Answer> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers = lines.filter_map(|line| line.split_once(':'));
    // The value is quoted as the `Debug` of `HeaderValue` prints it, so that it can be compared with the responses of
    // a service.
    let headers = headers.map(|(name, value)| (name.to_lowercase(), format!("{:?}", value.trim())));
    Some(Answer::new(status, headers, &answer[end + 4..]))
}
