//! Logging, as set by `-v` and `RFGRAPH_LOG`.

use std::io;

use tracing_subscriber::EnvFilter;

use super::error::eprintln_quietly;

/// Logs to standard error: warnings by default; `-v` adds information, `-vv` details, `-vvv` everything. `RFGRAPH_LOG`
/// takes precedence.
pub(super) fn start(verbose: u8) {
    let level = match verbose {
        0 => "warn",
        1 => "info",
        2 => "debug",
        _ => "trace",
    };
    let (filter, complaint) = match std::env::var("RFGRAPH_LOG") {
        Ok(text) if !text.is_empty() => match EnvFilter::try_new(&text) {
            Ok(filter) => (filter, None),
            Err(error) => (EnvFilter::new(level), Some(error)),
        },
        _ => (EnvFilter::new(level), None),
    };
    let terminal = io::IsTerminal::is_terminal(&io::stderr());
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(terminal)
        .without_time()
        .finish();
    // Not `init`: that would also show what the crate `log` is given, and there ureq writes whole requests, with the token
    // of HF_TOKEN and signed addresses.
    let complaint = match tracing::subscriber::set_global_default(subscriber) {
        Ok(()) => complaint,
        Err(error) => {
            eprintln_quietly(&format!("nothing is logged: {error}"));
            None
        }
    };
    if let Some(error) = complaint {
        tracing::warn!("RFGRAPH_LOG is ignored: {error}");
    }
}
