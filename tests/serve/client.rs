//! A server with the demo model, and a client that speaks plain HTTP/1.1.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::LazyLock;
use std::time::Duration;

use rfgraph::serve::{Loaded, ModelNames, ServeOptions, Server};
use rfgraph::{Engine, EngineOptions, Model, SamplerParams, SessionOptions};
use serde_json::Value;

/// The server that most tests share.
pub static SHARED: LazyLock<SocketAddr> = LazyLock::new(|| {
    let server = start(ServeOptions::default(), engine_options());
    let address = server.address();
    // It serves until the process ends.
    std::mem::forget(server);
    address
});

pub fn engine_options() -> EngineOptions {
    let session = SessionOptions {
        n_ctx: 512,
        n_sequences: 32,
        n_tokens: Some(32 * 128),
        deterministic: true,
        ..SessionOptions::default()
    };
    EngineOptions { session, ..EngineOptions::default() }
}

/// A server on a free port.
pub fn start(options: ServeOptions, engine: EngineOptions) -> Server {
    let server = Server::start(ServeOptions { port: 0, ..options }).unwrap();
    let model = Model::demo().unwrap();
    let engine =
        Engine::start(&model, EngineOptions { on_step: Some(server.on_step("demo")), ..engine }).unwrap();
    let names = ModelNames { id: "demo".into(), aliases: vec!["little".into()] };
    server.set_model(Ok(Loaded::new(engine, names, SamplerParams::default())));
    server
}

/// A response.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The body as JSON; asserts the status.
    #[track_caller]
    pub fn json(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// The data of the events of a stream.
    #[track_caller]
    pub fn events(&self) -> Vec<Value> {
        assert_eq!(self.status, 200, "{}", self.body);
        let data = self.body.split("\n\n").filter_map(|event| event.strip_prefix("data: "));
        data.filter(|data| *data != "[DONE]").map(|data| serde_json::from_str(data).unwrap()).collect()
    }
}

/// A connection that is kept.
pub struct Connection {
    reader: BufReader<TcpStream>,
}

impl Connection {
    pub fn open(address: SocketAddr) -> Connection {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.set_nodelay(true).unwrap();
        Connection { reader: BufReader::new(stream) }
    }

    pub fn write(&mut self, bytes: &[u8]) {
        self.reader.get_mut().write_all(bytes).unwrap();
    }

    /// Sends a request whole. `headers` are lines with their ends.
    pub fn send(&mut self, method: &str, path: &str, headers: &str, body: &str) {
        let host = if headers.to_ascii_lowercase().contains("host:") { "" } else { "Host: localhost\r\n" };
        let length = body.len();
        let text =
            format!("{method} {path} HTTP/1.1\r\n{host}{headers}Content-Length: {length}\r\n\r\n{body}");
        self.write(text.as_bytes());
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        assert!(self.reader.read_line(&mut line).unwrap() > 0, "the server closed the connection");
        line.trim_end().to_string()
    }

    /// Reads a response's status and headers.
    pub fn head(&mut self) -> Response {
        let status = self.line().split(' ').nth(1).unwrap().parse().unwrap();
        let mut headers = Vec::new();
        loop {
            let line = self.line();
            let Some((name, value)) = line.split_once(':') else { break };
            headers.push((name.trim().to_string(), value.trim().to_string()));
        }
        Response { status, headers, body: String::new() }
    }

    /// Reads a piece of a chunked body; empty at its end.
    pub fn chunk(&mut self) -> String {
        let length = usize::from_str_radix(&self.line(), 16).unwrap();
        let mut bytes = vec![0; length + 2];
        self.reader.read_exact(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    /// Reads a whole response.
    pub fn receive(&mut self) -> Response {
        let mut response = self.head();
        if response.header("transfer-encoding") == Some("chunked") {
            loop {
                let chunk = self.chunk();
                if chunk.is_empty() {
                    break;
                }
                response.body.push_str(&chunk);
            }
        } else if let Some(length) = response.header("content-length") {
            let mut bytes = vec![0; length.parse().unwrap()];
            self.reader.read_exact(&mut bytes).unwrap();
            response.body = String::from_utf8(bytes).unwrap();
        }
        response
    }
}

/// Sends one request and reads its response.
pub fn request(address: SocketAddr, method: &str, path: &str, headers: &str, body: &str) -> Response {
    let mut connection = Connection::open(address);
    connection.send(method, path, headers, body);
    connection.receive()
}

pub fn get(path: &str) -> Response {
    request(*SHARED, "GET", path, "", "")
}

pub fn post(path: &str, body: &Value) -> Response {
    post_to(*SHARED, path, body)
}

pub fn post_to(address: SocketAddr, path: &str, body: &Value) -> Response {
    request(address, "POST", path, JSON, &body.to_string())
}

/// The header of a JSON body.
pub const JSON: &str = "Content-Type: application/json\r\n";
