//! The tests of a benchmark: prefill and decode of several sequences at once, warmed up and repeated.

use std::ops::Range;
use std::time::Instant;

use super::BenchArgs;
use super::profile::{Profile, Real};
use super::report::Test;
use crate::cli::device::extras;
use crate::cli::error::CliError;
use crate::cli::progress::{Progress, Unit, read_ahead};
use crate::cpu::read_bandwidth;
use crate::exec::HipExecutor;
use crate::model::{CacheLayout, Model, Output, Rewind, Rows, SequenceId, Session};
use crate::plan::{Place, Plan, Step};
use crate::sampling::Rng;

/// The least number of repetitions before the measured ones.
const WARM_UPS: usize = 2;
/// The most, while plans are still being recorded.
const MOST_WARM_UPS: usize = 12;

/// A session with random tokens as its input.
pub(super) struct Bench {
    pub session: Session,
    sequences: Vec<SequenceId>,
    /// Per sequence as many tokens as its context holds, concatenated.
    tokens: Vec<u32>,
    n_ctx: usize,
    depth: usize,
    repetitions: usize,
}

/// The measured work of a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// A prompt of this many tokens in each sequence.
    Prompt(usize),
    /// This many steps of one token in each sequence.
    Generate(usize),
}

impl Work {
    fn tokens(self) -> usize {
        match self {
            Work::Prompt(n) | Work::Generate(n) => n,
        }
    }
}

impl Bench {
    pub fn new(args: &BenchArgs, model: &Model) -> Result<Bench, CliError> {
        let longest = args.prompt.max(args.generate);
        let n_ctx = args.depth.checked_add(longest);
        let too_long = || CliError::Usage("-d with -p or -n is more than can be counted".into());
        let n_ctx = n_ctx.filter(|&n| n <= CacheLayout::MAX_N_CTX).ok_or_else(too_long)?;
        let n_sequences = args.sequences.get();
        let mut options = args.session.options(model, n_ctx)?;
        options.n_sequences = n_sequences;
        read_ahead(model.gguf(), options.device);
        let mut session = Session::with(model, &options, &extras())?;
        let sequences = (0..n_sequences).map(|_| session.open()).collect::<Result<Vec<_>, _>>()?;
        let (mut rng, n_vocab) = (Rng::new(0), model.architecture().shape().n_vocab as u64);
        // Different tokens in each sequence, so that a mixture of experts uses different experts.
        let tokens = (0..n_ctx * n_sequences).map(|_| (rng.next_u64() % n_vocab) as u32).collect();
        let (depth, repetitions) = (args.depth, args.repetitions.get());
        let mut bench = Bench { session, sequences, tokens, n_ctx, depth, repetitions };
        bench.prompts(0..depth)?;
        Ok(bench)
    }

    /// The memory bandwidth, if only the CPU computes.
    pub fn cpu_bandwidth(&mut self) -> Option<f64> {
        match self.session.hip() {
            Some(_) => None,
            None => self.session.cpu().map(|executor| read_bandwidth(executor.pool())),
        }
    }

    /// The GPU, if it computes the whole model.
    pub fn gpu_alone(&mut self) -> Option<&HipExecutor> {
        match self.session.cpu() {
            Some(_) => None,
            None => self.session.hip().map(|executor| &*executor),
        }
    }

    /// The names of the devices in use.
    pub fn device(&mut self) -> String {
        let gpu = self.session.hip().map(|executor| executor.context().name().to_string());
        let cpu = self.session.cpu().map(|_| "cpu".to_string());
        cpu.into_iter().chain(gpu).collect::<Vec<_>>().join(" + ")
    }

    /// Appends these tokens of every sequence in as few steps as possible.
    fn prompts(&mut self, range: Range<usize>) -> Result<(), CliError> {
        if range.is_empty() {
            return Ok(());
        }
        if let [id] = self.sequences[..] {
            self.session.prefill(id, &self.tokens[range])?;
            return Ok(());
        }
        let most = self.session.max_rows();
        let (mut number, mut at) = (0, range.start);
        while number < self.sequences.len() {
            let (mut rows, mut left) = (Vec::new(), most);
            while left > 0 && number < self.sequences.len() {
                let end = range.end.min(at + left);
                let tokens = &self.tokens[number * self.n_ctx..][at..end];
                let want = if end == range.end { Output::Logits } else { Output::Nothing };
                rows.push(Rows::of(self.sequences[number], tokens).want(want));
                left -= end - at;
                (number, at) = if end == range.end { (number + 1, range.start) } else { (number, end) };
            }
            self.session.step(&rows)?;
        }
        Ok(())
    }

    fn generate(&mut self, n: usize) -> Result<(), CliError> {
        let mut next = Vec::with_capacity(self.sequences.len());
        for at in self.depth..self.depth + n {
            let token = |(i, &id): (usize, &SequenceId)| (id, self.tokens[i * self.n_ctx + at]);
            next.clear();
            next.extend(self.sequences.iter().enumerate().map(token));
            self.session.decode(&next)?;
        }
        Ok(())
    }

    fn work(&mut self, work: Work) -> Result<(), CliError> {
        match work {
            Work::Prompt(n) => self.prompts(self.depth..self.depth + n),
            Work::Generate(n) => self.generate(n),
        }
    }

    /// Rewinds the sequences to `depth` tokens.
    fn back_to_depth(&mut self) -> Result<(), CliError> {
        for (number, &id) in self.sequences.iter().enumerate() {
            if let Rewind::RecomputeFrom(held) = self.session.rewind(id, self.depth)?
                && held < self.depth
            {
                let tokens = &self.tokens[number * self.n_ctx..][held..self.depth];
                self.session.prefill(id, tokens)?;
            }
        }
        Ok(())
    }

    /// Rewinds to `depth` tokens and does the work once; returns the seconds.
    pub fn once(&mut self, work: Work) -> Result<f64, CliError> {
        self.back_to_depth()?;
        let start = Instant::now();
        self.work(work)?;
        Ok(start.elapsed().as_secs_f64())
    }

    /// Repeats the work until no more plans are recorded.
    fn warm_up(&mut self, work: Work) -> Result<(), CliError> {
        for run in 1..=MOST_WARM_UPS {
            let before = self.session.hip().map(|executor| executor.unsteady_runs());
            self.once(work)?;
            let is_steady = before == self.session.hip().map(|executor| executor.unsteady_runs());
            if run >= WARM_UPS && is_steady {
                break;
            }
        }
        Ok(())
    }

    pub fn measure(&mut self, work: Work) -> Result<Test, CliError> {
        let mut progress = Progress::new("measuring", Unit::Runs, self.repetitions + 1);
        self.warm_up(work)?;
        let tokens = work.tokens() * self.sequences.len();
        let mut rates = Vec::with_capacity(self.repetitions);
        for run in 1..=self.repetitions {
            progress.set(run);
            rates.push(tokens as f64 / self.once(work)?);
        }
        let (mean, deviation) = mean_and_deviation(&rates);
        Ok(Test {
            name: self.name(work),
            tokens: work.tokens(),
            sequences: self.sequences.len(),
            depth: self.depth,
            mean_tokens_per_second: mean,
            standard_deviation: deviation,
            tokens_per_second: rates,
        })
    }

    fn name(&self, work: Work) -> String {
        let kind = match work {
            Work::Prompt(n) => format!("pp{n}"),
            Work::Generate(n) => format!("tg{n}"),
        };
        let sequences = match self.sequences.len() {
            1 => String::new(),
            n => format!(" x{n}"),
        };
        let depth = if self.depth > 0 { format!(" @ d{}", self.depth) } else { String::new() };
        format!("{kind}{sequences}{depth}")
    }

    /// The time of each step in one more repetition, which is timed as a whole too, next to the time of `test`. Steps are timed from here on, so all
    /// other measurements must come first.
    pub fn profile(&mut self, work: Work, test: &Test) -> Result<Profile, CliError> {
        self.back_to_depth()?;
        self.session.start_timing();
        let start = Instant::now();
        self.work(work)?;
        let repetition = start.elapsed().as_secs_f64();
        let tokens = (test.tokens * test.sequences) as f64;
        let untimed = tokens / test.mean_tokens_per_second;
        let real = Real { repetition, untimed, on_gpu: self.session.hip().is_some() };
        Ok(Profile::of(test.name.clone(), &self.session.timed_plans()?, real))
    }

    /// Bytes that a step of one token per sequence must read, after such a test: the weights, and the keys and values
    /// of the previous tokens, on average `depth` plus half of the test's own.
    pub fn decode_bytes(&mut self, generated: usize) -> Result<u64, CliError> {
        let weights: u64 = self.session.last_plans()?.iter().map(|(plan, _)| weight_bytes(plan)).sum();
        let token = self.session.bytes_per_token()? * self.sequences.len() as u64;
        Ok(weights + token * (2 * self.depth + generated).div_ceil(2) as u64)
    }

    /// Operations per prompt token of the products with weights, after such a test.
    pub fn prompt_flops(&self) -> Result<f64, CliError> {
        let plans = self.session.last_plans()?;
        let flops: u64 = plans.iter().flat_map(|(plan, _)| &plan.steps).filter_map(product_flops).sum();
        let rows =
            plans.iter().find_map(|(plan, _)| Some(plan.input("tokens")?.1.operand.desc.shape.elements()));
        Ok(flops as f64 / rows.unwrap_or(1).max(1) as f64)
    }
}

fn product_flops(step: &Step) -> Option<u64> {
    let reads_weight = step.inputs.iter().any(|input| matches!(input.place, Place::Weight(_)));
    reads_weight.then_some(step.cost.flops)
}

/// Bytes of weights that a run reads. A step reads at most its cost: of a table, only some rows.
fn weight_bytes(plan: &Plan) -> u64 {
    let step_bytes = |step: &Step| {
        let weights = step.inputs.iter().filter(|input| matches!(input.place, Place::Weight(_)));
        weights.map(|weight| weight.desc.extent() as u64).sum::<u64>().min(step.cost.bytes)
    };
    plan.steps.iter().map(step_bytes).sum()
}

/// The mean and the sample standard deviation (divisor n - 1).
fn mean_and_deviation(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (mean, if values.len() < 2 { 0.0 } else { (squares / (n - 1.0)).sqrt() })
}

#[cfg(test)]
mod tests {
    use super::mean_and_deviation;

    #[test]
    fn deviation_divides_by_n_minus_one() {
        assert_eq!(mean_and_deviation(&[5.0]), (5.0, 0.0));
        assert_eq!(mean_and_deviation(&[1.0, 3.0, 2.0]), (2.0, 1.0));
    }
}
