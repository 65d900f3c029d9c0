//! `rfgraph embed`: embedding vectors of texts.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::device::extras;
use super::error::CliError;
use super::options::{ModelArg, SessionArgs};
use super::output::{print, print_json};
use super::progress::{Progress, Unit, read_ahead};
use super::text::read_file;
use crate::model::{Model, Pooling, Session, l2_normalize};
use crate::text::{EncodeOptions, Tokenizer};

/// Compute embedding vectors of texts
///
/// The vector of a text is pooled from the hidden states of its tokens after the model's last norm. Prints one line of
/// numbers per text, in order. The model's special tokens (BOS, EOS, CLS or SEP) are added around each text.
#[derive(Debug, Args)]
pub(super) struct EmbedArgs {
    #[command(flatten)]
    model: ModelArg,
    /// Text to embed. May be repeated
    #[arg(short, long = "prompt", value_name = "TEXT", allow_hyphen_values = true)]
    prompts: Vec<String>,
    /// File with one text per line, empty lines skipped; `-` is standard input, the default without -p
    #[arg(short, long, value_name = "FILE", conflicts_with = "prompts")]
    file: Option<PathBuf>,
    /// Pooling of the hidden states: mean, last (of the last token) or cls (of the first) [default: as the file says,
    /// else mean]
    #[arg(long, value_name = "POOLING", value_parser = pooling)]
    pooling: Option<Pooling>,
    /// Do not normalize the vectors to L2 length 1
    #[arg(long)]
    no_normalize: bool,
    #[command(flatten)]
    session: SessionArgs,
    /// Print one JSON object with `pooling`, `normalized`, and `embeddings` of `tokens` (their number) and `values`
    #[arg(long)]
    json: bool,
}

pub(super) fn pooling(name: &str) -> Result<Pooling, String> {
    let found = Pooling::ALL.into_iter().find(|pooling| pooling.name() == name);
    found.ok_or_else(|| format!("expected {}", Pooling::ALL.map(Pooling::name).join(", ")))
}

#[derive(Serialize)]
struct Report {
    pooling: &'static str,
    normalized: bool,
    embeddings: Vec<Embedding>,
}

#[derive(Serialize)]
struct Embedding {
    tokens: usize,
    values: Vec<f32>,
}

pub(super) fn run(args: &EmbedArgs) -> Result<(), CliError> {
    let texts = texts(args)?;
    let model = args.model.open()?;
    let tokenizer = model.tokenizer()?;
    let pooling = match args.pooling {
        Some(pooling) => pooling,
        None => Pooling::of(&model)?,
    };
    let tokens = texts.iter().enumerate().map(|(i, text)| encode(&tokenizer, i, text));
    let embeddings = embed(args, &model, pooling, &tokens.collect::<Result<Vec<_>, _>>()?)?;
    if args.json {
        return print_json(&Report { pooling: pooling.name(), normalized: !args.no_normalize, embeddings });
    }
    let line = |embedding: &Embedding| {
        let values: Vec<String> = embedding.values.iter().map(f32::to_string).collect();
        values.join(" ") + "\n"
    };
    print(embeddings.iter().map(line).collect::<String>())
}

/// The texts, at least one.
fn texts(args: &EmbedArgs) -> Result<Vec<String>, CliError> {
    if !args.prompts.is_empty() {
        return Ok(args.prompts.clone());
    }
    let missing = "no text: give it with -p TEXT, -f FILE or standard input";
    let path = match &args.file {
        Some(path) => path,
        None if io::stdin().is_terminal() => return Err(CliError::Usage(missing.into())),
        None => Path::new("-"),
    };
    let text = read_file(path)?;
    let lines: Vec<String> = text.lines().filter(|line| !line.is_empty()).map(str::to_string).collect();
    if lines.is_empty() { Err(CliError::Input(missing.into())) } else { Ok(lines) }
}

fn encode(tokenizer: &Tokenizer, i: usize, text: &str) -> Result<Vec<u32>, CliError> {
    let tokens = tokenizer.encode(text, EncodeOptions { add_special: true, parse_special: true });
    match tokens.is_empty() {
        true => Err(CliError::Input(format!("text {} has no tokens, and so no embedding", i + 1))),
        false => Ok(tokens),
    }
}

fn embed(
    args: &EmbedArgs,
    model: &Model,
    pooling: Pooling,
    texts: &[Vec<u32>],
) -> Result<Vec<Embedding>, CliError> {
    let longest = texts.iter().map(Vec::len).max().unwrap_or_default();
    let trained = model.architecture().shape().n_ctx_train;
    if longest > trained {
        tracing::warn!(
            "a text of {longest} tokens is more than the {trained} that the model was trained for"
        );
    }
    let options = args.session.options(model, longest)?;
    read_ahead(model.gguf(), options.device);
    let mut session = Session::with(model, &options, &extras())?;
    let mut progress = Progress::new("embedding", Unit::Tokens, texts.iter().map(Vec::len).sum());
    let mut done = 0;
    let mut embeddings = Vec::with_capacity(texts.len());
    for tokens in texts {
        let mut values = session.embed(tokens, pooling)?;
        if !args.no_normalize {
            l2_normalize(&mut values);
        }
        embeddings.push(Embedding { tokens: tokens.len(), values });
        done += tokens.len();
        progress.set(done);
    }
    tracing::info!(texts = texts.len(), tokens = done, pooling = pooling.name(), "embedded");
    Ok(embeddings)
}
