//! `rfgraph logits`: raw logits, for comparison with another program.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use clap::Args;

use super::device::extras;
use super::error::CliError;
use super::options::{ModelArg, SessionArgs};
use super::progress::{Progress, Unit, read_ahead};
use super::text::{parse_ids, read_file};
use crate::model::{ModelError, Session};

/// Write the logits at every position of a token sequence
///
/// The output is raw little-endian float32, [tokens, vocabulary]: one row per token, with the logits of the next
/// token.
#[derive(Debug, Args)]
pub(super) struct LogitsArgs {
    #[command(flatten)]
    model: ModelArg,
    /// File of token ids separated by white space; `-` is standard input
    #[arg(long, value_name = "FILE")]
    tokens: PathBuf,
    /// Output file; an existing file is replaced
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    session: SessionArgs,
}

pub(super) fn run(args: &LogitsArgs) -> Result<(), CliError> {
    let tokens = parse_ids(&read_file(&args.tokens)?, &args.tokens.display().to_string())?;
    if tokens.is_empty() {
        return Err(CliError::Input(format!("{} holds no token ids", args.tokens.display())));
    }
    let model = args.model.open()?;
    // Checked before the file is created, so that a mistake does not replace an existing file.
    let n_vocab = model.architecture().shape().n_vocab;
    if let Some(&token) = tokens.iter().find(|&&token| token as usize >= n_vocab) {
        return Err(ModelError::Token { token, n_vocab }.into());
    }
    let options = args.session.options(&model, tokens.len())?;
    read_ahead(model.gguf(), options.device);
    let mut session = Session::with(&model, &options, &extras())?;
    let sequence = session.open()?;
    let failed = |source| CliError::Path { verb: "write", path: args.out.clone(), source };
    let mut out = BufWriter::new(File::create(&args.out).map_err(failed)?);
    let mut progress = Progress::new("logits", Unit::Tokens, tokens.len());
    let mut done = 0;
    for chunk in tokens.chunks(session.ubatch()) {
        let mut written = Ok(());
        session.all_logits(sequence, chunk, |row| {
            if written.is_ok() {
                written = row.iter().try_for_each(|logit| out.write_all(&logit.to_le_bytes()));
            }
        })?;
        written.map_err(failed)?;
        done += chunk.len();
        progress.set(done);
    }
    out.flush().map_err(failed)?;
    tracing::info!(tokens = done, vocabulary = n_vocab, "wrote the logits");
    Ok(())
}
