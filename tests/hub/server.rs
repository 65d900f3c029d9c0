//! An HTTP server that does what a test says, right or wrong.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// A request that the server got.
#[derive(Clone, Debug)]
pub struct Request {
    /// Path and query.
    pub path: String,
    headers: Vec<(String, String)>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub fn is_for_a_file(&self) -> bool {
        self.path.contains("/resolve/")
    }
}

/// An answer, and how it is sent.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The length that the header announces, if it is not that of the body.
    pub announced: Option<usize>,
    /// Send chunks, and announce no length.
    pub is_chunked: bool,
    /// End the connection after so many bytes of the body.
    pub cut: Option<usize>,
    /// Be silent for so long in place of ending the connection.
    pub stall: Duration,
    /// Wait so long before each kilobyte.
    pub pace: Duration,
}

impl Reply {
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Reply {
        Reply { status, body: body.into(), ..Reply::default() }
    }

    pub fn header(mut self, name: &str, value: impl Into<String>) -> Reply {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub fn cut(self, after: usize) -> Reply {
        Reply { cut: Some(after), ..self }
    }

    fn send(&self, stream: &mut TcpStream) -> std::io::Result<()> {
        let mut head = format!("HTTP/1.1 {} Test\r\nConnection: close\r\n", self.status);
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += &match self.is_chunked {
            true => "Transfer-Encoding: chunked\r\n\r\n".into(),
            false => format!("Content-Length: {}\r\n\r\n", self.announced.unwrap_or(self.body.len())),
        };
        stream.write_all(head.as_bytes())?;
        for chunk in self.body[..self.cut.unwrap_or(usize::MAX).min(self.body.len())].chunks(1024) {
            thread::sleep(self.pace);
            if self.is_chunked {
                write!(stream, "{:x}\r\n", chunk.len())?;
            }
            stream.write_all(chunk)?;
            if self.is_chunked {
                stream.write_all(b"\r\n")?;
            }
        }
        if self.is_chunked && self.cut.is_none() {
            stream.write_all(b"0\r\n\r\n")?;
        }
        stream.flush()?;
        thread::sleep(self.stall);
        Ok(())
    }
}

/// A running server. It ends with the process.
pub struct Server {
    /// `http://127.0.0.1:PORT`.
    pub address: String,
    log: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    pub fn start(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let log: Arc<Mutex<Vec<Request>>> = Arc::default();
        let (answer, kept) = (Arc::new(answer), Arc::clone(&log));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answer, log) = (Arc::clone(&answer), Arc::clone(&kept));
                thread::spawn(move || serve(stream, &*answer, &log));
            }
        });
        Server { address, log }
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.log.lock().unwrap().clone()
    }

    /// The requests for files.
    pub fn file_requests(&self) -> Vec<Request> {
        self.requests().into_iter().filter(Request::is_for_a_file).collect()
    }
}

fn serve(mut stream: TcpStream, answer: &dyn Fn(&Request) -> Reply, log: &Mutex<Vec<Request>>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let Some(first) = lines.next() else { return };
    let path = first.split(' ').nth(1).unwrap().to_owned();
    let headers = lines.take_while(|line| !line.is_empty());
    let pair = |line: String| {
        let (name, value) = line.split_once(": ").unwrap();
        (name.to_owned(), value.to_owned())
    };
    let request = Request { path, headers: headers.map(pair).collect() };
    log.lock().unwrap().push(request.clone());
    // The client may have gone.
    let _ = answer(&request).send(&mut stream);
}
