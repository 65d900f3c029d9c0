//! `rfgraph perplexity`: perplexity of a model on a text, and its KL divergence from another model.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufReader, BufWriter};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use clap::Args;
use serde::Serialize;

use super::device::extras;
use super::error::CliError;
use super::interrupt::{Second, listen};
use super::options::{ModelArg, SessionArgs};
use super::output::{print, print_json};
use super::output_file::{Unfinished, refuse_target};
use super::progress::{Progress, Unit, read_ahead};
use super::remedies::with_options;
use super::text::read_file;
use crate::model::{Model, Session};
use crate::quantize::perplexity::{
    BaseError, BaseHeader, BaseReader, BaseWriter, Chunks, Divergences, Likelihood, LogProbs, Summary,
};
use crate::text::EncodeOptions;

/// Default chunk size in tokens: that of other tools, so that results are comparable.
const DEFAULT_CTX: usize = 512;

/// Measure perplexity and KL divergence on a text
///
/// The text is split into chunks of -c tokens. Each chunk is computed on its own with the model's BOS token in front,
/// and the tokens of its second half are scored. Perplexity is the exponential of their mean negative log-likelihood;
/// the number after ± is its standard error. Lower is better; compare only numbers of the same text, chunk size and
/// tokenizer.
///
/// To measure the loss of quantization, run --save-logits with the original file, then --kl-base with the quantized
/// one.
#[derive(Debug, Args)]
pub(super) struct PerplexityArgs {
    #[command(flatten)]
    model: ModelArg,
    /// Text file; `-` is standard input. Optional with --kl-base, whose file holds the tokens
    #[arg(short, long, value_name = "FILE", required_unless_present = "kl_base")]
    file: Option<PathBuf>,
    /// Chunk size in tokens [default: 512, or that of the --kl-base file]
    #[arg(short = 'c', long = "ctx", value_name = "CTX")]
    ctx: Option<usize>,
    /// Write the log-probabilities of all tokens to a file, 2 bytes each, for --kl-base
    #[arg(long, value_name = "LOGITS", conflicts_with = "kl_base")]
    save_logits: Option<PathBuf>,
    /// Compare with the log-probabilities in a file written by --save-logits
    #[arg(long, value_name = "LOGITS")]
    kl_base: Option<PathBuf>,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    session: SessionArgs,
}

#[derive(Serialize)]
struct Report {
    model: String,
    n_ctx: usize,
    chunks: usize,
    /// Number of scored tokens.
    tokens: usize,
    /// Mean in nats.
    mean_negative_log_likelihood: Summary,
    perplexity: Summary,
    #[serde(skip_serializing_if = "Option::is_none")]
    base: Option<BaseReport>,
}

/// Comparison with the base; divergences in nats.
#[derive(Serialize)]
struct BaseReport {
    perplexity: Summary,
    perplexity_ratio: Summary,
    mean_kl: Summary,
    median_kl: f64,
    kl_99_percent: f64,
    max_kl: f64,
    same_top_token: Summary,
    mean_p_difference: Summary,
    rms_p_difference: Summary,
}

/// Further use of the logits.
enum LogitsUse {
    Nothing,
    Save(BaseWriter<BufWriter<File>>, Unfinished),
    Compare(Box<Compare>),
}

struct Compare {
    base: BaseReader<BufReader<File>>,
    probs: LogProbs,
    found: Divergences,
}

pub(super) fn run(args: &PerplexityArgs) -> Result<(), CliError> {
    let model = args.model.open()?;
    let n_vocab = model.architecture().shape().n_vocab;
    if let Some(target) = &args.save_logits {
        let text = args.file.as_deref().filter(|path| *path != Path::new("-"));
        refuse_target("--save-logits", target, model.gguf().paths().chain(text))?;
    }
    let compare = args.kl_base.as_deref().map(open_base).transpose()?;
    let chunks = chunks(args, &model, compare.as_ref().map(BaseReader::header))?;
    let options = args.session.options(&model, chunks.n_ctx())?;
    read_ahead(model.gguf(), options.device);
    let mut session = Session::with(&model, &options, &extras())?;
    let mut beside = match (compare, &args.save_logits) {
        (Some(base), _) => {
            let (probs, found) = (LogProbs::default(), Divergences::default());
            LogitsUse::Compare(Box::new(Compare { base, probs, found }))
        }
        (None, Some(path)) => {
            let (unfinished, file) =
                Unfinished::create(path).map_err(|error| failed("write", path)(error.into()))?;
            let header = BaseHeader { chunks: chunks.clone(), n_vocab };
            let writer = BaseWriter::new(BufWriter::new(file), &header).map_err(failed("write", path))?;
            LogitsUse::Save(writer, unfinished)
        }
        (None, None) => LogitsUse::Nothing,
    };
    let likelihood = score(args, &chunks, &mut session, &mut beside)?;
    let base = match beside {
        LogitsUse::Nothing => None,
        LogitsUse::Save(writer, unfinished) => {
            let out = writer.finish().map_err(|error| at_base(args, error))?;
            unfinished.finish(out.get_ref()).map_err(|error| at_base(args, error.into()))?;
            None
        }
        LogitsUse::Compare(compare) => Some(BaseReport::of(&compare.found)),
    };
    let report = Report {
        model: args.model.label(),
        n_ctx: chunks.n_ctx(),
        chunks: chunks.count(),
        tokens: likelihood.count(),
        mean_negative_log_likelihood: likelihood.nll(),
        perplexity: likelihood.perplexity(),
        base,
    };
    if args.json { print_json(&report) } else { print(report.text()) }
}

/// Computes and scores all chunks.
fn score(
    args: &PerplexityArgs,
    chunks: &Chunks,
    session: &mut Session,
    beside: &mut LogitsUse,
) -> Result<Likelihood, CliError> {
    let sequence = session.open()?;
    let stop = listen(Second::Exits);
    let mut progress = Progress::new("perplexity", Unit::Tokens, chunks.tokens().len());
    let (mut likelihood, mut probs, mut result) = (Likelihood::default(), LogProbs::default(), Ok(()));
    for i in 0..chunks.count() {
        // Returns, so that an unfinished file is removed.
        if stop.load(Ordering::Relaxed) {
            return Err(CliError::Interrupted);
        }
        chunks.score(session, sequence, i, |logits, token| {
            probs.set_logits(logits);
            likelihood.add(&probs, token);
            if result.is_ok() {
                result = beside.take(logits, &probs, token);
            }
        })?;
        std::mem::replace(&mut result, Ok(())).map_err(|error| at_base(args, error))?;
        progress.set((i + 1) * chunks.n_ctx());
        tracing::info!(chunk = i + 1, of = chunks.count(), perplexity = likelihood.perplexity().value);
    }
    Ok(likelihood)
}

impl LogitsUse {
    fn take(&mut self, logits: &[f32], probs: &LogProbs, token: u32) -> Result<(), BaseError> {
        match self {
            LogitsUse::Nothing => Ok(()),
            LogitsUse::Save(writer, _) => writer.row(logits, -probs.of(token)),
            LogitsUse::Compare(compare) => {
                let base_nll = compare.base.row(&mut compare.probs)?;
                compare.found.add(&compare.probs, base_nll, probs, token);
                Ok(())
            }
        }
    }
}

/// Adds the path of the logits file to its error.
fn at_base(args: &PerplexityArgs, error: BaseError) -> CliError {
    match (&args.kl_base, &args.save_logits) {
        (Some(path), _) => failed("read", path)(error),
        (None, Some(path)) => failed("write", path)(error),
        (None, None) => CliError::Input(with_options(&error, error.remedies())),
    }
}

fn failed(verb: &'static str, path: &Path) -> impl Fn(BaseError) -> CliError {
    move |error| match error {
        BaseError::Io(source) => CliError::Path { verb, path: path.to_owned(), source },
        other => CliError::Input(format!("{}: {}", path.display(), with_options(&other, other.remedies()))),
    }
}

fn open_base(path: &Path) -> Result<BaseReader<BufReader<File>>, CliError> {
    let open = || {
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        Ok((file, len))
    };
    let (file, len) = open().map_err(|error: io::Error| failed("read", path)(error.into()))?;
    BaseReader::new(BufReader::new(file), len).map_err(failed("read", path))
}

/// The text's chunks, which must match those of the base if there is one.
fn chunks(args: &PerplexityArgs, model: &Model, base: Option<&BaseHeader>) -> Result<Chunks, CliError> {
    let n_vocab = model.architecture().shape().n_vocab;
    let n_ctx = args.ctx.or(base.map(|base| base.chunks.n_ctx())).unwrap_or(DEFAULT_CTX);
    let chunks = match &args.file {
        Some(path) => {
            let tokenizer = model.tokenizer()?;
            let options = EncodeOptions { add_special: true, parse_special: false };
            let tokens = tokenizer.encode(&read_file(path)?, options);
            let chunks = Chunks::new(tokens, n_ctx, tokenizer.bos().filter(|_| tokenizer.adds_bos()));
            Some(chunks.map_err(|error| CliError::Input(with_options(&error, error.remedies())))?)
        }
        None => None,
    };
    let Some(base) = base else {
        // Without a base the command line requires a file.
        return chunks.ok_or_else(|| CliError::Usage("give a text with -f FILE".into()));
    };
    let agrees = base.n_vocab == n_vocab
        && base.chunks.n_ctx() == n_ctx
        && chunks.as_ref().is_none_or(|chunks| *chunks == base.chunks);
    if !agrees {
        let reason = format!(
            "the base is of {} chunks of {} tokens and a vocabulary of {}; this is another text, context (-c) or \
             tokenizer, and nothing can be compared",
            base.chunks.count(),
            base.chunks.n_ctx(),
            base.n_vocab
        );
        return Err(CliError::Input(reason));
    }
    Ok(base.chunks.clone())
}

impl BaseReport {
    fn of(found: &Divergences) -> BaseReport {
        let [median_kl, kl_99_percent, max_kl] = found.kl_quantiles([0.5, 0.99, 1.0]);
        BaseReport {
            perplexity: found.base_perplexity(),
            perplexity_ratio: found.perplexity_ratio(),
            mean_kl: found.mean_kl(),
            median_kl,
            kl_99_percent,
            max_kl,
            same_top_token: found.same_top(),
            mean_p_difference: found.mean_p_difference(),
            rms_p_difference: found.rms_p_difference(),
        }
    }
}

impl Report {
    fn text(&self) -> String {
        let mut lines = vec![("perplexity", measured(self.perplexity, 1.0, 4, ""))];
        if let Some(base) = &self.base {
            let number = |value: f64| format!("{value:.6}");
            lines.extend([
                ("perplexity of base", measured(base.perplexity, 1.0, 4, "")),
                ("ratio of the two", measured(base.perplexity_ratio, 1.0, 6, "")),
                ("KL divergence", measured(base.mean_kl, 1.0, 6, "")),
                ("  median", number(base.median_kl)),
                ("  99 %", number(base.kl_99_percent)),
                ("  largest", number(base.max_kl)),
                ("same top token", measured(base.same_top_token, 100.0, 3, " %")),
                ("mean Δp", measured(base.mean_p_difference, 100.0, 3, " %")),
                ("RMS Δp", measured(base.rms_p_difference, 100.0, 3, " %")),
            ]);
        }
        let mut text = String::new();
        for (name, value) in lines {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{name:<18}  {value}");
        }
        let _ = writeln!(text, "{} tokens of {} chunks of {}", self.tokens, self.chunks, self.n_ctx);
        text
    }
}

/// A number and its standard error.
fn measured(summary: Summary, scale: f64, digits: usize, unit: &str) -> String {
    let Summary { value, error } = summary;
    format!("{:.digits$} ± {:.digits$}{unit}", value * scale, error * scale)
}
