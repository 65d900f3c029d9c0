//! llama-server's own interface: one file per route or pair of routes; `absent` answers for those that this server lacks.
//!
//! It knows the shared parts of `serve`, and takes prompts, constraints and log-probabilities from `openai`, as
//! llama-server reads them alike in both.

pub(super) mod absent;
pub(super) mod completion;
mod completion_answer;
mod completion_ask;
pub(super) mod completion_settings;
pub(super) mod embedding;
pub(super) mod infill;
pub(super) mod props;
pub(super) mod slots;
pub(super) mod tokens;
