//! `rfgraph bench`: tokens per second, compared with the rates of the machine's memory and matrix units.
//!
//! `work` has the tests, `ceilings` a GPU's own rates, `profile` the times by operator, `report` the output.

mod ceilings;
mod profile;
mod report;
mod work;

use std::num::NonZeroUsize;

use ceilings::Ceilings;
use clap::Args;
use report::Report;
use work::{Bench, Work};

use super::error::CliError;
use super::options::{ModelArg, SessionArgs, one_or_more};
use super::output::{print, print_json};
use super::trace::TraceArg;

/// Measure tokens per second and compare with the memory bandwidth
///
/// Two tests: prefill of a prompt of -p tokens (pp) and decode of -n tokens one by one (tg), both with -d tokens
/// already in the KV cache. With -s both have several sequences at once: prompts share batches, each step decodes one
/// token of every sequence, and rates count the tokens of all. Each test is warmed up, at least twice and until no plan
/// is recorded any more, and then repeated; the result is the mean and the standard deviation. Tokens are random; none
/// is sampled.
///
/// The memory bandwidth is measured in the same run: decode reads all weights and the caches once per step, so bandwidth
/// bounds its speed, and the result is also printed as a share of that bound. The share means little for a model that
/// fits into the processor's caches. On a GPU, prompts are compared with the measured rate of F16 matrix products.
///
/// With -v, one more repetition is timed operator by operator and printed as a table. A GPU's steps are timed one by one
/// for it, which takes longer than the work itself; both times are printed. With --trace, one more repetition is
/// written as a timeline.
#[derive(Debug, Args)]
pub(super) struct BenchArgs {
    #[command(flatten)]
    model: ModelArg,
    /// Prompt tokens; 0 skips the test
    #[arg(short = 'p', long = "prompt-tokens", value_name = "N", default_value_t = 512)]
    prompt: usize,
    /// Tokens to generate; 0 skips the test
    #[arg(short = 'n', long = "generate-tokens", value_name = "N", default_value_t = 128)]
    generate: usize,
    /// Tokens in the KV cache of each sequence before each test
    #[arg(short = 'd', long, value_name = "N", default_value_t = 0)]
    depth: usize,
    /// Sequences at once
    #[arg(short = 's', long, value_name = "N", default_value = "1", value_parser = one_or_more)]
    sequences: NonZeroUsize,
    /// Repetitions
    #[arg(short = 'r', long, value_name = "N", default_value = "5", value_parser = one_or_more)]
    repetitions: NonZeroUsize,
    #[command(flatten)]
    session: SessionArgs,
    #[command(flatten)]
    trace: TraceArg,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &BenchArgs, profile: bool) -> Result<(), CliError> {
    if args.prompt == 0 && args.generate == 0 {
        return Err(CliError::Usage("-p 0 and -n 0 leave nothing to measure".into()));
    }
    let model = args.model.open()?;
    let trace = args.trace.file(&model)?;
    let mut bench = Bench::new(args, &model)?;
    let mut bandwidth = bench.cpu_bandwidth();
    let (mut tests, mut prompt_flops, mut decode_bytes) = (Vec::new(), None, None);
    if args.prompt > 0 {
        let work = Work::Prompt(args.prompt);
        tests.push((work, bench.measure(work)?));
        prompt_flops = Some(bench.prompt_flops()?);
    }
    if args.generate > 0 {
        let work = Work::Generate(args.generate);
        tests.push((work, bench.measure(work)?));
        decode_bytes = Some(bench.decode_bytes(args.generate)?);
    }
    // The machine may have been busy during the first measurement.
    bandwidth = bandwidth.zip(bench.cpu_bandwidth()).map(|(first, second)| first.max(second));
    let ceilings = bench.gpu_alone().and_then(|executor| {
        let measured = Ceilings::measure(executor);
        measured.inspect_err(|error| tracing::warn!("the GPU's own rates were not measured: {error}")).ok()
    });
    bandwidth = bandwidth.or(ceilings.map(|rates| rates.read_bytes_per_second));
    let matrix_rate = ceilings.map(|rates| rates.matrix_flops_per_second);
    let rate = |wanted: fn(&Work) -> bool| {
        let test = tests.iter().find(|(work, _)| wanted(work));
        test.map(|(_, test)| test.mean_tokens_per_second)
    };
    let steps = rate(|work| matches!(work, Work::Generate(_))).map(|rate| rate / args.sequences.get() as f64);
    let decode_rate = steps.zip(decode_bytes).map(|(steps, bytes)| steps * bytes as f64);
    let prompt_rate = rate(|work| matches!(work, Work::Prompt(_))).zip(prompt_flops);
    let prompt_rate = prompt_rate.map(|(tokens, flops)| tokens * flops);
    let share = |found: Option<f64>, most: Option<f64>| found.zip(most).map(|(found, most)| found / most);
    let profiles = match profile {
        true => tests.iter().map(|(work, test)| bench.profile(*work, test)).collect::<Result<_, _>>()?,
        false => Vec::new(),
    };
    if let Some(trace) = trace {
        trace.start(&mut bench.session);
        tests.iter().try_for_each(|(work, _)| bench.once(*work).map(drop))?;
        trace.finish(&bench.session, &args.model)?;
    }
    let gguf = model.gguf();
    let report = Report {
        model: args.model.label(),
        bytes: gguf.tensor_bytes(),
        parameters: gguf.parameters(),
        device: bench.device(),
        instruction_set: bench.session.cpu().map(|executor| executor.isa().to_string()),
        threads: args.session.threads().get(),
        ubatch: bench.session.ubatch(),
        cache_types: args.session.cache_types(),
        read_bytes_per_second: bandwidth,
        matrix_flops_per_second: matrix_rate,
        decode_bytes_per_step: decode_bytes,
        decode_share: share(decode_rate, bandwidth),
        prompt_flops_per_token: prompt_flops.filter(|_| matrix_rate.is_some()),
        prompt_share: share(prompt_rate, matrix_rate),
        tests: tests.into_iter().map(|(_, test)| test).collect(),
        profiles,
    };
    if args.json { print_json(&report) } else { print(&report) }
}
