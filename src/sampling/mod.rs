//! Choosing the next token from logits: one sampler per file.
//!
//! A [`Sampler`] is a chain: the logit bias, the stages of [`SamplerParams::order`], the draw. A stage's file has its
//! settings with their names, ranges and help, its implementation, and its test against a reference in plain f64. The
//! table below has a line per stage; [`Stage`], the fields of [`SamplerParams`], the command line's options and the
//! tests follow from it. [`Mirostat`] replaces all stages but temperature.
//!
//! Stages implement `stage` and work on `candidates`; `table` expands the lines of the table into types; `parameter`
//! describes a setting; `history` records the text and rewinds it; `sampler` is the chain. [`TokenLogprobs`] reports
//! the log-probabilities of tokens.
//!
//! This folder works on logits and a `Tokenizer`'s bytes. It knows no session, no model and no device.

mod candidates;
mod dry;
mod error;
mod history;
mod logprobs;
mod min_p;
mod mirostat;
mod parameter;
mod params;
mod penalties;
mod rng;
mod sampler;
mod stage;
mod table;
mod temperature;
mod top_k;
mod top_n_sigma;
mod top_p;
mod typical_p;
mod xtc;

pub use candidates::Candidate;
pub use error::{ParamError, SampleError};
pub use logprobs::TokenLogprobs;
pub use mirostat::Mirostat;
pub use parameter::{Parameter, Range, Value};
pub use rng::Rng;
pub use sampler::{Needs, Sampler};

table::samplers! {
    penalties: Penalties,
    dry: Dry,
    top_n_sigma: TopNSigma,
    top_k: TopK,
    typical_p: TypicalP,
    top_p: TopP,
    min_p: MinP,
    xtc: Xtc,
    temperature: Temperature,
}

#[cfg(test)]
mod tests;
