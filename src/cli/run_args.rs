//! The options of `rfgraph run`, for one answer and for a chat.

use clap::Args;

use super::answer::PartsArgs;
#[cfg(feature = "grammar")]
use super::constraint::ConstraintArgs;
use super::error::CliError;
use super::options::{ContextArg, ModelArg, SessionArgs};
use super::sampling::{Chosen, SamplingArgs};
use super::shift::ShiftArg;
use super::text::TextArgs;
use super::trace::TraceArg;
use crate::engine::{ChatOptions, GenerateOptions};
use crate::model::{ContextShift, Model};
use crate::text::{Message, Tokenizer};

/// Answer a prompt, or chat at the terminal
///
/// With -p or -f, or if standard input is not a terminal, prints only the answer on standard output and exits; a
/// single trailing newline of a file or of standard input is stripped. Otherwise starts a chat: Ctrl-C stops an
/// answer, /help lists the commands, Ctrl-D exits.
///
/// The prompt is formatted as one user message by the model's chat template; --raw continues it as plain text.
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    pub(super) model: ModelArg,
    #[command(flatten)]
    pub(super) text: TextArgs,
    /// Continue the prompt as plain text; do not apply the chat template
    #[arg(long)]
    pub(super) raw: bool,
    /// System message at the start of the conversation
    #[arg(long, value_name = "TEXT", conflicts_with = "raw")]
    pub(super) system: Option<String>,
    /// Generate at most N tokens; -1: until the model ends the answer or the context is full; -2: likewise, and the
    /// context is never shifted
    #[arg(short = 'n', long = "max-tokens", value_name = "N", default_value = "-1", allow_negative_numbers = true,
        value_parser = max_tokens)]
    max_tokens: MaxTokens,
    /// Stop string: the answer ends before it. The name of a control token stops at that token. May be repeated
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true, value_parser = stop_string)]
    stop: Vec<String>,
    #[command(flatten)]
    pub(super) parts: PartsArgs,
    #[command(flatten)]
    pub(super) ctx: ContextArg,
    #[command(flatten)]
    pub(super) shift: ShiftArg,
    #[command(flatten)]
    pub(super) session: SessionArgs,
    /// Print one JSON object with text, tokens, counts and timings
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) trace: TraceArg,
    /// With --json: add each token's log-probability and those of the N most probable tokens at its position
    #[arg(long, value_name = "N", requires = "json")]
    pub(super) logprobs: Option<usize>,
    #[command(flatten)]
    pub(super) sampling: SamplingArgs,
    #[cfg(feature = "grammar")]
    #[command(flatten)]
    constraint: ConstraintArgs,
}

fn stop_string(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("an empty text would end every answer at once".into()) } else { Ok(text.into()) }
}

/// The limit of an answer's tokens; the negative numbers mean what they mean in llama.cpp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MaxTokens {
    /// 0 or more.
    Tokens(usize),
    /// -1.
    Any,
    /// -2.
    UntilFull,
}

fn max_tokens(text: &str) -> Result<MaxTokens, String> {
    match text {
        "-1" => Ok(MaxTokens::Any),
        "-2" => Ok(MaxTokens::UntilFull),
        _ => text.parse().map(MaxTokens::Tokens).map_err(|_| "expected 0 or more, -1 or -2".into()),
    }
}

impl RunArgs {
    /// The system message, if given.
    pub(super) fn system_message(&self) -> Option<Message> {
        self.system.as_deref().map(|text| Message::new("system", text))
    }

    /// Limits, stop strings and records of an answer.
    pub(super) fn limits(&self) -> GenerateOptions {
        let max_tokens = match self.max_tokens {
            MaxTokens::Tokens(n) => Some(n),
            MaxTokens::Any | MaxTokens::UntilFull => None,
        };
        GenerateOptions {
            max_tokens,
            stop: self.stop.clone(),
            logprobs: self.logprobs,
            ..GenerateOptions::default()
        }
    }

    /// The context shift, if it is requested and the limit of tokens allows it.
    pub(super) fn context_shift(
        &self,
        model: &Model,
        tokenizer: &Tokenizer,
        n_ctx: usize,
    ) -> Result<Option<ContextShift>, CliError> {
        let shift = self.shift.of(self.raw, self.system_message(), model, tokenizer, n_ctx)?;
        Ok(shift.filter(|_| self.max_tokens != MaxTokens::UntilFull))
    }

    /// Settings for choosing the answer's tokens.
    #[cfg_attr(
        not(feature = "grammar"),
        allow(unused_variables, reason = "only a constraint is about the tokenizer's tokens")
    )]
    pub(super) fn choice(&self, chosen: &Chosen, tokenizer: &Tokenizer) -> Result<ChatOptions, CliError> {
        Ok(ChatOptions {
            sampling: chosen.params.clone(),
            plain: !self.parts.divides(self.raw),
            #[cfg(feature = "grammar")]
            constraint: self.constraint.open(tokenizer)?,
            logprobs: self.logprobs.is_some(),
        })
    }
}
