//! `rfgraph bench`: tokens per second, beside what the machine's memory allows.

use std::fmt;
use std::num::NonZeroUsize;
use std::time::Instant;

use clap::Args;
use serde::Serialize;

use super::device::setup;
use super::error::CliError;
use super::options::{ModelArg, SessionArgs};
use super::output::{print, print_json};
use super::profile::Profile;
use super::progress::{Progress, Unit, read_ahead};
use crate::cpu::read_bandwidth;
use crate::exec::Bytes;
use crate::model::{CacheLayout, CacheShape, CacheTypes, Model, ModelShape, SequenceId, Session};
use crate::plan::{Place, Plan};
use crate::tensor::DType;
use crate::text::Rng;

/// Measure tokens per second, beside what the machine's memory allows
///
/// Two tests: a prompt of -p tokens (pp), and -n tokens generated one by one (tg), both after -d tokens that
/// are in the cache already. Each is warmed up once and then repeated; the result is the mean with the
/// standard deviation. Tokens are random, and no token is sampled. The rate at which the threads
/// read memory is measured in the same run: generating cannot be faster than reading all weights and the cache
/// once a token, and the share of that limit is the result's own yardstick. It means little for a model that
/// fits into the processor's caches.
///
/// With -v a table shows where the time of one more repetition went, operator by operator.
#[derive(Debug, Args)]
pub(super) struct BenchArgs {
    #[command(flatten)]
    model: ModelArg,
    /// Tokens of the prompt; 0 leaves the test out
    #[arg(short = 'p', long = "prompt-tokens", value_name = "N", default_value_t = 512)]
    prompt: usize,
    /// Tokens to generate; 0 leaves the test out
    #[arg(short = 'n', long = "generate-tokens", value_name = "N", default_value_t = 128)]
    generate: usize,
    /// Tokens in the cache before each test
    #[arg(short = 'd', long, value_name = "N", default_value_t = 0)]
    depth: usize,
    /// Repetitions
    #[arg(short = 'r', long, value_name = "N", default_value = "5")]
    repetitions: NonZeroUsize,
    #[command(flatten)]
    session: SessionArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    model: String,
    bytes: u64,
    parameters: u64,
    /// `cpu`, the GPU's name, or both with a plus between them.
    device: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    instruction_set: Option<String>,
    threads: usize,
    ubatch: usize,
    cache_types: CacheTypes,
    tests: Vec<Test>,
    /// By the CPU's threads, where the CPU alone computes.
    #[serde(skip_serializing_if = "Option::is_none")]
    read_bytes_per_second: Option<f64>,
    /// Of the weights and the cache, for one generated token.
    decode_bytes_per_token: Option<u64>,
    /// Of the rate at which memory is read, while generating.
    decode_share: Option<f64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    profiles: Vec<Profile>,
}

#[derive(Serialize)]
struct Test {
    /// `pp512`, `tg128`, with ` @ d1024` after 1024 tokens.
    name: String,
    tokens: usize,
    depth: usize,
    mean_tokens_per_second: f64,
    standard_deviation: f64,
    tokens_per_second: Vec<f64>,
}

pub(super) fn run(args: &BenchArgs, profile: bool) -> Result<(), CliError> {
    if args.prompt == 0 && args.generate == 0 {
        return Err(CliError::Usage("-p 0 and -n 0 leave nothing to measure".into()));
    }
    let model = args.model.open()?;
    let mut bench = Bench::new(args, &model)?;
    let mut bandwidth = bench.bandwidth();
    let (mut tests, mut profiles) = (Vec::new(), Vec::new());
    let (mut decode_bytes, mut decode_share) = (None, None);
    if args.prompt > 0 {
        tests.push(bench.measure("pp", args.prompt, Bench::prefill)?);
    }
    if args.generate > 0 {
        let test = bench.measure("tg", args.generate, Bench::generate)?;
        decode_bytes = Some(bench.decode_bytes(args.generate)?);
        tests.push(test);
    }
    // The machine may have been busy the first time.
    bandwidth = bandwidth.zip(bench.bandwidth()).map(|(first, second)| first.max(second));
    if let (Some(bytes), Some(test), Some(bandwidth)) = (decode_bytes, tests.last(), bandwidth) {
        decode_share = Some(test.mean_tokens_per_second * bytes as f64 / bandwidth);
    }
    if profile {
        let tests: [(_, _, Work); 2] =
            [("pp", args.prompt, Bench::prefill), ("tg", args.generate, Bench::generate)];
        for (kind, tokens, work) in tests.into_iter().filter(|(_, tokens, _)| *tokens > 0) {
            profiles.push(bench.profile(kind, tokens, work)?);
        }
    }
    let gguf = model.gguf();
    let report = Report {
        model: args.model.label(),
        bytes: gguf.tensors().iter().map(|info| info.bytes as u64).sum(),
        parameters: gguf.tensors().iter().map(|info| info.shape.elements() as u64).sum(),
        device: bench.device(),
        instruction_set: bench.session.cpu().map(|executor| executor.isa().to_string()),
        threads: args.session.threads().get(),
        ubatch: args.session.ubatch(),
        cache_types: args.session.cache_types(),
        tests,
        read_bytes_per_second: bandwidth,
        decode_bytes_per_token: decode_bytes,
        decode_share,
        profiles,
    };
    if args.json { print_json(&report) } else { print(&report) }
}

/// A session with tokens to feed it.
struct Bench {
    session: Session,
    sequence: SequenceId,
    shape: ModelShape,
    cache_types: CacheTypes,
    tokens: Vec<u32>,
    depth: usize,
    repetitions: usize,
}

/// What a test does once, after `depth` tokens.
type Work = fn(&mut Bench, usize) -> Result<(), CliError>;

impl Bench {
    fn new(args: &BenchArgs, model: &Model) -> Result<Bench, CliError> {
        let longest = args.prompt.max(args.generate);
        let n_ctx = args.depth.checked_add(longest);
        let too_long = || CliError::Usage("-d with -p or -n is more than can be counted".into());
        let n_ctx = n_ctx.filter(|&n| n <= CacheLayout::MAX_N_CTX).ok_or_else(too_long)?;
        let shape = model.architecture().shape();
        let options = args.session.options(n_ctx)?;
        read_ahead(model.gguf(), options.device);
        let mut session = Session::with(model, &options, &setup())?;
        let sequence = session.open()?;
        let mut rng = Rng::new(0);
        let tokens: Vec<u32> = (0..n_ctx).map(|_| (rng.next_u64() % shape.n_vocab as u64) as u32).collect();
        if args.depth > 0 {
            session.prefill(sequence, &tokens[..args.depth])?;
        }
        let (cache_types, repetitions) = (args.session.cache_types(), args.repetitions.get());
        Ok(Bench { session, sequence, shape, cache_types, tokens, depth: args.depth, repetitions })
    }

    /// The rate at which memory is read, where only the CPU computes.
    fn bandwidth(&mut self) -> Option<f64> {
        match self.session.hip() {
            Some(_) => None,
            None => self.session.cpu().map(|executor| read_bandwidth(executor.pool())),
        }
    }

    /// What computes.
    fn device(&mut self) -> String {
        let gpu = self.session.hip().map(|executor| executor.context().name().to_string());
        let cpu = self.session.cpu().map(|_| "cpu".to_string());
        cpu.into_iter().chain(gpu).collect::<Vec<_>>().join(" + ")
    }

    fn prefill(&mut self, n: usize) -> Result<(), CliError> {
        self.session.prefill(self.sequence, &self.tokens[self.depth..self.depth + n])?;
        Ok(())
    }

    fn generate(&mut self, n: usize) -> Result<(), CliError> {
        for &token in &self.tokens[self.depth..self.depth + n] {
            self.session.decode(&[(self.sequence, token)])?;
        }
        Ok(())
    }

    /// Goes back to `depth` tokens and does the work once more; gives its seconds.
    fn once(&mut self, tokens: usize, work: Work) -> Result<f64, CliError> {
        self.session.truncate(self.sequence, self.depth)?;
        let start = Instant::now();
        work(self, tokens)?;
        Ok(start.elapsed().as_secs_f64())
    }

    fn measure(&mut self, kind: &str, tokens: usize, work: Work) -> Result<Test, CliError> {
        let mut progress = Progress::new("measuring", Unit::Runs, self.repetitions + 1);
        self.once(tokens, work)?;
        let mut rates = Vec::with_capacity(self.repetitions);
        for run in 1..=self.repetitions {
            progress.set(run);
            rates.push(tokens as f64 / self.once(tokens, work)?);
        }
        let (mean, deviation) = mean_and_deviation(&rates);
        Ok(Test {
            name: self.name(kind, tokens),
            tokens,
            depth: self.depth,
            mean_tokens_per_second: mean,
            standard_deviation: deviation,
            tokens_per_second: rates,
        })
    }

    fn name(&self, kind: &str, tokens: usize) -> String {
        let depth = if self.depth > 0 { format!(" @ d{}", self.depth) } else { String::new() };
        format!("{kind}{tokens}{depth}")
    }

    /// The plan of the last batch, and the time of each of its steps.
    fn profile(&mut self, kind: &str, tokens: usize, work: Work) -> Result<Profile, CliError> {
        self.session.truncate(self.sequence, self.depth)?;
        self.session.start_timing();
        work(self, tokens)?;
        let name = self.name(kind, tokens);
        Ok(Profile::of(name, &self.session.last_plans()?))
    }

    /// What one generated token must read: the weights, and the keys and values of the tokens before it,
    /// which are `depth` and half of the test's own on average.
    fn decode_bytes(&mut self, generated: usize) -> Result<u64, CliError> {
        let weights: u64 = self.session.last_plans()?.iter().map(|(plan, _)| weight_bytes(plan)).sum();
        let CacheTypes { k, v } = self.cache_types;
        let layer_bytes = |layer: &CacheShape| {
            let row = |dtype: DType, n: usize| dtype.row_bytes(n).unwrap_or(0);
            layer.n_head_kv * (row(k, layer.head_dim_k) + row(v, layer.head_dim_v))
        };
        let token: usize = self.shape.layers.iter().map(layer_bytes).sum();
        Ok(weights + (token * (2 * self.depth + generated + 1) / 2) as u64)
    }
}

/// Bytes of weights that a run reads. A step reads no more than it costs: of a table, only some rows.
fn weight_bytes(plan: &Plan) -> u64 {
    let step_bytes = |step: &crate::plan::Step| {
        let weights = step.inputs.iter().filter(|input| matches!(input.place, Place::Weight(_)));
        weights.map(|weight| weight.desc.extent() as u64).sum::<u64>().min(step.cost.bytes)
    };
    plan.steps.iter().map(step_bytes).sum()
}

/// The mean, and the standard deviation of a sample (over n - 1).
fn mean_and_deviation(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (mean, if values.len() < 2 { 0.0 } else { (squares / (n - 1.0)).sqrt() })
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millions = self.parameters as f64 / 1e6;
        writeln!(f, "| model | size | parameters | device | threads | test | tokens/s |")?;
        writeln!(f, "| --- | ---: | ---: | --- | ---: | --- | ---: |")?;
        for test in &self.tests {
            let device = match &self.instruction_set {
                Some(isa) => format!("{} ({isa})", self.device),
                None => self.device.clone(),
            };
            write!(f, "| {} | {} | {millions:.2} M | {device} | ", self.model, Bytes(self.bytes))?;
            let Test { name, mean_tokens_per_second: mean, standard_deviation: deviation, .. } = test;
            writeln!(f, "{} | {name} | {mean:.2} ± {deviation:.2} |", self.threads)?;
        }
        if let Some(rate) = self.read_bytes_per_second {
            writeln!(f, "\nmemory is read at {:.1} GB/s", rate / 1e9)?;
        }
        if let (Some(bytes), Some(share)) = (self.decode_bytes_per_token, self.decode_share) {
            let (mib, percent) = (Bytes(bytes), share * 100.0);
            writeln!(f, "a generated token reads {mib} of weights and cache: {percent:.0} % of that rate")?;
        }
        self.profiles.iter().try_for_each(|profile| write!(f, "\n{profile}"))
    }
}

#[cfg(test)]
mod tests {
    use super::mean_and_deviation;

    #[test]
    fn the_deviation_is_that_of_a_sample() {
        assert_eq!(mean_and_deviation(&[5.0]), (5.0, 0.0));
        assert_eq!(mean_and_deviation(&[1.0, 3.0, 2.0]), (2.0, 1.0));
    }
}
