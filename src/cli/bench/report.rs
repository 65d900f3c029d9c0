//! The results as a table and as JSON.

use std::fmt;

use serde::Serialize;

use super::profile::Profile;
use crate::exec::Bytes;
use crate::model::CacheTypes;

/// The results.
#[derive(Serialize)]
pub(super) struct Report {
    pub model: String,
    pub bytes: u64,
    pub parameters: u64,
    /// `cpu`, the GPU's name, or both joined by a plus.
    pub device: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instruction_set: Option<String>,
    pub threads: usize,
    pub ubatch: usize,
    pub cache_types: CacheTypes,
    pub tests: Vec<Test>,
    /// Memory bandwidth of the CPU's threads or of the GPU, if it computes alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_bytes_per_second: Option<f64>,
    /// Rate of F16 matrix products of the GPU, if it computes alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matrix_flops_per_second: Option<f64>,
    /// Bytes of weights and caches that one step of one token per sequence reads.
    pub decode_bytes_per_step: Option<u64>,
    /// Share of the memory bandwidth in decode.
    pub decode_share: Option<f64>,
    /// Operations of the products with weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_flops_per_token: Option<f64>,
    /// Share of the matrix rate in prefill.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_share: Option<f64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<Profile>,
}

/// The result of one test.
#[derive(Serialize)]
pub(super) struct Test {
    /// `pp512`, `tg128`; with ` x32` for 32 sequences at once, ` @ d1024` after 1024 tokens.
    pub name: String,
    /// Tokens of each sequence.
    pub tokens: usize,
    pub sequences: usize,
    pub depth: usize,
    /// Rates of all sequences together.
    pub mean_tokens_per_second: f64,
    pub standard_deviation: f64,
    pub tokens_per_second: Vec<f64>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millions = self.parameters as f64 / 1e6;
        writeln!(f, "| model | size | parameters | device | threads | ubatch | test | tokens/s |")?;
        writeln!(f, "| --- | ---: | ---: | --- | ---: | ---: | --- | ---: |")?;
        for test in &self.tests {
            let device = match &self.instruction_set {
                Some(isa) => format!("{} ({isa})", self.device),
                None => self.device.clone(),
            };
            write!(f, "| {} | {} | {millions:.2} M | {device} | ", self.model, Bytes(self.bytes))?;
            let Test { name, mean_tokens_per_second: mean, standard_deviation: deviation, .. } = test;
            writeln!(f, "{} | {} | {name} | {mean:.2} ± {deviation:.2} |", self.threads, self.ubatch)?;
        }
        self.shares(f)?;
        self.profiles.iter().try_for_each(|profile| write!(f, "\n{profile}"))
    }
}

impl Report {
    fn shares(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(rate) = self.read_bytes_per_second {
            writeln!(f, "\nmemory is read at {:.1} GB/s", rate / 1e9)?;
        }
        if let (Some(bytes), Some(share)) = (self.decode_bytes_per_step, self.decode_share) {
            let (mib, percent) = (Bytes(bytes), share * 100.0);
            let what = match self.tests.last().map_or(1, |test| test.sequences) {
                1 => "a generated token reads".into(),
                n => format!("a step of {n} generated tokens reads"),
            };
            writeln!(f, "{what} {mib} of weights and cache: {percent:.0} % of that rate")?;
        }
        if let Some(rate) = self.matrix_flops_per_second {
            writeln!(f, "F16 matrices are multiplied at {:.1} TFLOP/s", rate / 1e12)?;
        }
        if let (Some(flops), Some(share)) = (self.prompt_flops_per_token, self.prompt_share) {
            let (giga, percent) = (flops / 1e9, share * 100.0);
            writeln!(
                f,
                "a prompt's token is {giga:.2} GFLOP of products with weights: {percent:.0} % of that rate"
            )?;
        }
        Ok(())
    }
}
