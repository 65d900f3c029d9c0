//! Loading a model for the server.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::cli::device::extras;
use crate::cli::error::CliError;
use crate::cli::options::{ContextArg, ModelArg, SessionArgs};
use crate::cli::progress::read_ahead;
use crate::cli::sampling::SamplingArgs;
use crate::cli::text::read_file;
use crate::engine::{Engine, EngineOptions, OnStep};
use crate::model::{DeviceChoice, Pooling};
use crate::serve::{Loaded, ModelNames};

/// Options of each model.
#[derive(Clone, Debug, Args)]
pub(super) struct LoadArgs {
    #[command(flatten)]
    ctx: ContextArg,
    /// Answers that are computed at a time; further ones wait
    #[arg(long, value_name = "N", default_value_t = 32)]
    parallel: usize,
    /// Tokens that all answers may hold together [default: those of 4 whole contexts]
    #[arg(long, value_name = "TOKENS")]
    pool: Option<usize>,
    /// Requests that wait at most; further ones are refused with status 429
    #[arg(long, value_name = "N", default_value_t = 256)]
    max_queue: usize,
    /// Longest pause in running answers while prompts are computed, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 50)]
    step_time: u64,
    /// On the CPU too, an answer's last bits may depend on other requests, which is faster. On a GPU this is so unless
    /// --deterministic is given, which makes prompts more than 20 times slower there
    #[arg(long, conflicts_with = "deterministic")]
    no_deterministic: bool,
    /// Most tokens of an answer whose request sets no limit; -1: as many as the context holds
    #[arg(short = 'n', long, alias = "n-predict", value_name = "N", default_value_t = -1, allow_negative_numbers = true)]
    max_tokens: i64,
    /// Pooling of embeddings: mean, last or cls [default: the file's]
    #[arg(long, value_name = "KIND", value_parser = crate::cli::embed::pooling)]
    pooling: Option<Pooling>,
    /// Chat template to use in place of the file's; needs a MODEL
    #[arg(long, value_name = "FILE")]
    pub(super) chat_template_file: Option<PathBuf>,
    /// Chat template as a Jinja text, in place of the file; needs a MODEL
    #[arg(long, value_name = "TEXT", conflicts_with = "chat_template_file", value_parser = template_text)]
    pub(super) chat_template: Option<String>,
    /// llama-server's switches for what this server always does
    #[arg(long = "cont-batching", hide = true, action = clap::ArgAction::Count,
        aliases = ["jinja", "metrics", "slots", "kv-unified", "embedding", "embeddings"])]
    always: u8,
    #[command(flatten)]
    session: SessionArgs,
}

impl LoadArgs {
    /// Loads a model.
    pub(super) fn load(
        &self,
        given: &ModelArg,
        sampling: &SamplingArgs,
        names: ModelNames,
        on_step: OnStep,
    ) -> Result<Loaded, CliError> {
        let model = given.open()?;
        let tokenizer = model.tokenizer()?;
        let n_ctx = self.ctx.size(model.architecture().shape().n_ctx_train, given);
        let mut session = self.session.options(&model, n_ctx)?;
        read_ahead(model.gguf(), session.device);
        session.n_sequences = self.parallel.max(1);
        session.n_tokens = Some(self.pool.unwrap_or(4 * n_ctx));
        // Measured on an H200: prompts of 2,048 tokens at 1,349 tokens/s with it, and at 31,013 without it.
        session.deterministic |= session.device == DeviceChoice::Cpu && !self.no_deterministic;
        let sampling = sampling.choose(&model, &tokenizer, given)?.params;
        let options = EngineOptions {
            session,
            extras: extras(),
            max_queue: self.max_queue,
            step_time: Duration::from_millis(self.step_time),
            on_step: Some(on_step),
            ..EngineOptions::default()
        };
        let mut loaded = Loaded::new(Engine::start(&model, options)?, names, sampling);
        loaded.limit_answers(usize::try_from(self.max_tokens).ok());
        if let Some(pooling) = self.pooling {
            loaded.set_pooling(pooling);
        }
        if let Some(path) = &self.chat_template_file {
            loaded.set_template(&read_file(path)?)?;
        }
        if let Some(text) = &self.chat_template {
            loaded.set_template(text)?;
        }
        Ok(loaded)
    }
}

/// A template as text. llama-server also takes names of templates that are built into it.
fn template_text(text: &str) -> Result<String, String> {
    match text.contains('{') {
        true => Ok(text.to_owned()),
        false => {
            Err("no Jinja text; names of templates are not known: give the template, or --chat-template-file"
                .to_owned())
        }
    }
}
