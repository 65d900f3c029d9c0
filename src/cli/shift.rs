//! `--context-shift`: the tokens to keep when the context is full.

use clap::Args;

use super::error::CliError;
use crate::model::{ContextShift, Model};
use crate::text::{Message, Tokenizer};

/// Behaviour when the context is full.
#[derive(Debug, Args)]
pub(super) struct ShiftArg {
    /// When the context is full, keep its first KEEP tokens, drop the older half of the others and continue [default
    /// KEEP: the tokens before the first user message]
    #[arg(long, value_name = "KEEP", require_equals = true)]
    context_shift: Option<Option<usize>>,
}

impl ShiftArg {
    /// The requested shift for a context of `n_ctx` tokens, if any. The prompts are plain text if `raw`, otherwise a
    /// conversation that begins with the system message.
    pub(super) fn of(
        &self,
        raw: bool,
        system: Option<Message>,
        model: &Model,
        tokenizer: &Tokenizer,
        n_ctx: usize,
    ) -> Result<Option<ContextShift>, CliError> {
        let Some(keep) = self.context_shift else { return Ok(None) };
        let keep = match keep {
            Some(keep) if keep >= n_ctx => {
                let reason = format!("--context-shift={keep} keeps all of a context of {n_ctx} tokens");
                return Err(CliError::Usage(reason));
            }
            Some(keep) => keep,
            None => opening(raw, system, model, tokenizer)?,
        };
        Ok(Some(ContextShift { keep }))
    }
}

/// Number of tokens before the first user message: the common prefix of two conversations.
fn opening(
    raw: bool,
    system: Option<Message>,
    model: &Model,
    tokenizer: &Tokenizer,
) -> Result<usize, CliError> {
    let start = |said: &str| -> Result<Vec<u32>, CliError> {
        if raw {
            return Ok(tokenizer.encode_chat(said));
        }
        let messages: Vec<Message> = system.clone().into_iter().chain([Message::new("user", said)]).collect();
        Ok(tokenizer.encode_chat(&model.chat_template(tokenizer)?.render(&messages, true)?))
    };
    let (one, other) = (start("1")?, start("a")?);
    Ok(one.iter().zip(&other).take_while(|(a, b)| a == b).count())
}
