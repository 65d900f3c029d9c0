//! Options for keys, hosts, origins and limits of the server.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::cli::error::CliError;
use crate::cli::text::read_file;
use crate::serve::{ApiKey, ServeOptions};

/// Keys, hosts, origins and limits.
#[derive(Debug, Args)]
#[command(next_help_heading = "Access")]
pub(super) struct AccessArgs {
    /// Key that clients must send. May be repeated. Other users of this machine can see it: better a file
    #[arg(long, value_name = "KEY", value_delimiter = ',')]
    api_key: Vec<String>,
    /// File with a key per line; `NAME:KEY` names it in the log
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    /// Listen on any address without a key: everyone who can reach it can use the server
    #[arg(long)]
    insecure: bool,
    /// Further host name by which clients call the server. May be repeated
    #[arg(long, value_name = "HOST", value_delimiter = ',')]
    allowed_host: Vec<String>,
    /// Origin whose web pages may call the server, such as `https://chat.example`. May be repeated
    #[arg(long, alias = "cors-origins", value_name = "ORIGIN", value_delimiter = ',')]
    cors_origin: Vec<String>,
    /// Connections at a time
    #[arg(long, value_name = "N", default_value_t = 512)]
    max_connections: usize,
    /// Largest body of a request in MiB
    #[arg(long, value_name = "MIB", default_value_t = 32)]
    max_body: usize,
    /// Time that running answers have when the server is told to stop, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    drain: u64,
    /// Also give the metrics under llama-server's names
    #[arg(long)]
    llama_metrics: bool,
    /// Do not answer /slots
    #[arg(long)]
    no_slots: bool,
    /// Do not serve the page
    #[arg(long, alias = "no-webui")]
    no_ui: bool,
}

impl AccessArgs {
    fn keys(&self) -> Result<Vec<ApiKey>, CliError> {
        let mut keys: Vec<ApiKey> = Vec::new();
        let given = self.api_key.iter().filter(|key| !key.is_empty());
        keys.extend(given.enumerate().map(|(i, key)| ApiKey::new(format!("key {}", i + 1), key)));
        let Some(path) = &self.api_key_file else { return Ok(keys) };
        let text = read_file(path)?;
        for (i, line) in text.lines().map(str::trim).enumerate() {
            match line.split_once(':') {
                _ if line.is_empty() || line.starts_with('#') => {}
                Some((name, key)) if !key.is_empty() => keys.push(ApiKey::new(name, key)),
                _ => keys.push(ApiKey::new(format!("line {}", i + 1), line)),
            }
        }
        if keys.is_empty() {
            return Err(CliError::Input(format!("{} has no key", path.display())));
        }
        Ok(keys)
    }

    /// The server's options, on its own port and address.
    pub(super) fn options(&self) -> Result<ServeOptions, CliError> {
        Ok(ServeOptions {
            insecure: self.insecure,
            keys: self.keys()?,
            allowed_hosts: self.allowed_host.clone(),
            cors_origins: self.cors_origin.clone(),
            max_body: self.max_body << 20,
            max_connections: self.max_connections,
            drain_time: Duration::from_secs(self.drain),
            llama_metrics: self.llama_metrics,
            slots: !self.no_slots,
            page: !self.no_ui,
            ..ServeOptions::default()
        })
    }
}
