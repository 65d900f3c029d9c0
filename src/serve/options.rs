//! Options of a server, and its errors.

use std::net::SocketAddr;
use std::time::Duration;

use super::{ApiKey, KeepAlive};

/// Options of a server.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// Host name or address to listen on.
    pub host: String,
    /// Port to listen on; 0: a free one.
    pub port: u16,
    /// Allows another address than this machine's own without a key.
    pub insecure: bool,
    /// Keys of which a request must have one; empty: none is needed.
    pub keys: Vec<ApiKey>,
    /// Further host names by which clients may call the server.
    pub allowed_hosts: Vec<String>,
    /// Origins of other web pages that may call the server, such as `https://chat.example`.
    pub cors_origins: Vec<String>,
    /// The most bytes of a request's body.
    pub max_body: usize,
    /// The most connections at a time.
    pub max_connections: usize,
    /// The time for a request's header, and for its body.
    pub read_timeout: Duration,
    /// The time that running answers have when the server is told to stop.
    pub drain_time: Duration,
    /// Also gives the metrics under llama-server's names.
    pub llama_metrics: bool,
    /// Answers `/slots`.
    pub slots: bool,
    /// Gives thoughts apart from the text where a request has no `reasoning_format`.
    pub thoughts_apart: bool,
    /// Serves the chat page.
    pub page: bool,
    /// The most models of a library that are loaded at a time; 0: as many as fit.
    pub max_models: usize,
    /// The time that a library's model stays loaded after its last answer.
    pub keep_alive: KeepAlive,
    /// Lets clients download models and give them further names.
    pub allow_pull: bool,
    /// Lets clients delete models.
    pub allow_delete: bool,
}

impl Default for ServeOptions {
    fn default() -> ServeOptions {
        ServeOptions {
            host: "127.0.0.1".to_string(),
            port: 8080,
            insecure: false,
            keys: Vec::new(),
            allowed_hosts: Vec::new(),
            cors_origins: Vec::new(),
            max_body: 32 << 20,
            max_connections: 512,
            read_timeout: Duration::from_secs(60),
            drain_time: Duration::from_secs(30),
            llama_metrics: false,
            slots: true,
            thoughts_apart: true,
            page: true,
            max_models: 4,
            keep_alive: KeepAlive::For(Duration::from_secs(300)),
            allow_pull: false,
            allow_delete: false,
        }
    }
}

/// Reason why a server cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The address is not this machine's own, and there is no key.
    #[error("{address} can be reached from other machines, and there is no key: anyone could use the server")]
    Open {
        /// The address.
        address: SocketAddr,
    },
    /// The address cannot be used.
    #[error("cannot listen on {host}:{port}: {source}")]
    Listen {
        /// The host.
        host: String,
        /// The port.
        port: u16,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// The threads of the server cannot be started.
    #[error("cannot start the server's threads: {0}")]
    Threads(std::io::Error),
}
