//! `rfgraph run`: an answer to a prompt, or a chat at the terminal.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use super::chat;
use super::conversation::{Answer, Conversation};
use super::error::CliError;
use super::interrupt::{self, Second};
use super::options::{ContextArg, ModelArg, SamplingArgs, SessionArgs};
use super::output::print_json;
use super::progress::read_ahead;
use super::shift::ShiftArg;
use super::text::TextArgs;
use crate::model::{GenerateOptions, Stop};
use crate::text::Message;

/// Answer a prompt, or chat at the terminal
///
/// With -p or -f, or if standard input is not a terminal, prints the answer alone on standard output and
/// exits; one line end at the end of a file's or of standard input's text is not part of the prompt.
/// Otherwise it is a chat: Ctrl-C stops an answer, /help lists what else there is, Ctrl-D ends.
///
/// The prompt is one user message, put into the model's own chat template; --raw continues it as plain text.
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    pub(super) model: ModelArg,
    #[command(flatten)]
    pub(super) text: TextArgs,
    /// Continue the prompt as plain text, without the chat template
    #[arg(long)]
    pub(super) raw: bool,
    /// System message before the conversation
    #[arg(long, value_name = "TEXT", conflicts_with = "raw")]
    pub(super) system: Option<String>,
    /// Generate at most N tokens [default: until the answer ends or the context is full]
    #[arg(short = 'n', long = "max-tokens", value_name = "N")]
    pub(super) max_tokens: Option<usize>,
    #[command(flatten)]
    pub(super) ctx: ContextArg,
    #[command(flatten)]
    pub(super) shift: ShiftArg,
    #[command(flatten)]
    pub(super) session: SessionArgs,
    /// Print one JSON object with text, tokens, counts and timings instead of the text
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) sampling: SamplingArgs,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    text: &'a str,
    tokens: &'a [u32],
    /// `end`, `limit`, `context` or `interrupted`.
    stop: &'static str,
    counts: Counts,
    timings: Timings,
}

#[derive(Serialize)]
struct Counts {
    prompt: usize,
    generated: usize,
}

#[derive(Serialize)]
struct Timings {
    load_seconds: f64,
    prompt_seconds: f64,
    prompt_tokens_per_second: f64,
    decode_seconds: f64,
    decode_tokens_per_second: f64,
}

pub(super) fn run(args: &RunArgs) -> Result<(), CliError> {
    let sampling = args.sampling.params()?;
    let Some(text) = args.text.read_without_last_line_end()? else {
        if args.raw || args.json {
            let option = if args.raw { "--raw" } else { "--json" };
            return Err(CliError::Usage(format!(
                "{option} needs a prompt: -p TEXT, -f FILE or standard input"
            )));
        }
        return chat::chat(args);
    };
    let start = Instant::now();
    let model = args.model.open()?;
    let tokenizer = model.tokenizer()?;
    let prompt = if args.raw {
        tokenizer.encode_chat(&text)
    } else {
        let mut messages: Vec<Message> = args.system_message().into_iter().collect();
        messages.push(Message::new("user", text));
        tokenizer.encode_chat(&model.chat_template(&tokenizer)?.render(&messages, true)?)
    };
    let options = args.session.options(args.ctx.size(model.architecture().shape().n_ctx_train))?;
    read_ahead(model.gguf(), options.device);
    let mut conversation = Conversation::new(&model, &tokenizer, &options, sampling)?;
    let load_time = start.elapsed();
    let limits = GenerateOptions {
        max_tokens: args.max_tokens,
        interrupt: Some(interrupt::listen(Second::Exits)),
        context_shift: args.shift.of(args, &model, &tokenizer, conversation.n_ctx())?,
    };
    tracing::info!("loaded in {:.2} s", load_time.as_secs_f64());
    let mut out = io::stdout().lock();
    let answer = conversation.answer(&prompt, limits, |piece| {
        if !args.json && !piece.is_empty() {
            out.write_all(piece.as_bytes())?;
            out.flush()?;
        }
        Ok(())
    })?;
    drop(out);
    if args.json {
        print_json(&report(&answer, load_time))?;
    } else {
        end_line(&answer.text)?;
    }
    tell(&answer, conversation.n_ctx());
    if answer.stop == Stop::Interrupted { Err(CliError::Interrupted) } else { Ok(()) }
}

impl RunArgs {
    /// The system message, if one was given.
    pub(super) fn system_message(&self) -> Option<Message> {
        self.system.as_deref().map(|text| Message::new("system", text))
    }
}

/// Ends the line of an answer that does not end it itself.
pub(super) fn end_line(text: &str) -> Result<(), CliError> {
    if !text.ends_with('\n') {
        io::stdout().lock().write_all(b"\n")?;
    }
    Ok(())
}

/// Says on standard error what the reader should know of an answer.
pub(super) fn tell(answer: &Answer, n_ctx: usize) {
    if answer.stop == Stop::ContextFull {
        tracing::warn!(
            "the answer ends here because the context of {n_ctx} tokens is full; -c makes it larger, \
             --context-shift goes on"
        );
    }
    if answer.stop == Stop::Interrupted {
        tracing::info!("the answer was stopped");
    }
    let computed = answer.computed_tokens;
    tracing::info!(
        "prompt: {} tokens, {computed} computed, {:.2} s, {:.1} tokens/s; answer: {} tokens, {:.2} s, {:.1} tokens/s",
        answer.prompt_tokens,
        answer.prompt_time.as_secs_f64(),
        rate(computed, answer.prompt_time),
        answer.tokens.len(),
        answer.decode_time.as_secs_f64(),
        rate(answer.decode_runs, answer.decode_time),
    );
}

fn report(answer: &Answer, load_time: Duration) -> Report<'_> {
    Report {
        text: &answer.text,
        tokens: &answer.tokens,
        stop: answer.stop.name(),
        counts: Counts { prompt: answer.prompt_tokens, generated: answer.tokens.len() },
        timings: Timings {
            load_seconds: load_time.as_secs_f64(),
            prompt_seconds: answer.prompt_time.as_secs_f64(),
            prompt_tokens_per_second: rate(answer.computed_tokens, answer.prompt_time),
            decode_seconds: answer.decode_time.as_secs_f64(),
            decode_tokens_per_second: rate(answer.decode_runs, answer.decode_time),
        },
    }
}

/// Units per second; 0 for no time.
pub(super) fn rate(units: usize, time: Duration) -> f64 {
    if time.is_zero() { 0.0 } else { units as f64 / time.as_secs_f64() }
}
