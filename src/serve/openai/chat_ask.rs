//! The facts that both forms of a chat's answer need: its request, and the names that they use.

use crate::serve::ask::Ask;
use crate::serve::parts::View;

/// The task of a chat's request.
pub(super) struct ChatAsk {
    pub ask: Ask,
    pub n: usize,
    pub view: View,
    pub streams: bool,
    pub include_usage: bool,
    pub return_progress: bool,
    pub timings_per_token: bool,
}

/// The server's version, as clients expect it.
pub(in crate::serve) fn fingerprint() -> &'static str {
    concat!("rfgraph-", env!("CARGO_PKG_VERSION"))
}

/// The id of a call: the model's own, or one that no other call has.
pub(super) fn call_id(id: &str, choice: usize, n: usize, own: Option<&str>) -> String {
    let made = || format!("call_{}_{choice}_{n}", id.trim_start_matches("chatcmpl-"));
    own.map_or_else(made, str::to_owned)
}
