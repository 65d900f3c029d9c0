//! `rfgraph run`: an answer to a prompt, or a chat at the terminal.

use std::io;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use super::answer::{PartsArgs, Printer, ReportedPart};
use super::chat;
#[cfg(feature = "grammar")]
use super::constraint::ConstraintArgs;
use super::device::setup;
use super::error::CliError;
use super::interrupt::{self, Second};
use super::logprobs::Logprob;
use super::options::{ContextArg, ModelArg, SessionArgs};
use super::output::print_json;
use super::progress::{Progress, Unit, read_ahead};
use super::sampling::{Chosen, SamplingArgs};
use super::shift::ShiftArg;
use super::text::TextArgs;
use super::trace::TraceArg;
use crate::engine::{Answer, AnswerOptions, Chat, ChatOptions, GenerateOptions, Stop};
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
    json: bool,
    #[command(flatten)]
    trace: TraceArg,
    /// With --json: add each token's log-probability and those of the N most probable tokens at its position
    #[arg(long, value_name = "N", requires = "json")]
    logprobs: Option<usize>,
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
    /// Limits, stop strings and records of an answer.
    pub(super) fn limits(&self) -> GenerateOptions {
        let max_tokens = match self.max_tokens {
            MaxTokens::Tokens(n) => Some(n),
            MaxTokens::Any | MaxTokens::UntilFull => None,
        };
        GenerateOptions { max_tokens, stop: self.stop.clone(), logprobs: self.logprobs }
    }

    /// The context shift, if it is requested and the limit of tokens allows it.
    pub(super) fn context_shift(
        &self,
        model: &Model,
        tokenizer: &Tokenizer,
        n_ctx: usize,
    ) -> Result<Option<ContextShift>, CliError> {
        let shift = self.shift.of(self, model, tokenizer, n_ctx)?;
        Ok(shift.filter(|_| self.max_tokens != MaxTokens::UntilFull))
    }

    /// Settings for choosing the answer's tokens.
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

/// The output of `--json`.
#[derive(Serialize)]
struct Report<'a> {
    text: String,
    /// The answer's thoughts, text and tool calls, in order.
    parts: Vec<ReportedPart<'a>>,
    tokens: &'a [u32],
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<Vec<Logprob>>,
    /// `end`, `stop`, `limit`, `context` or `interrupted`.
    stop: &'static str,
    counts: Counts,
    /// The samplers' settings, and whether each is a default, the file's or an option's.
    sampling: &'a serde_json::Map<String, serde_json::Value>,
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
    // Fail before anything is read.
    args.sampling.params()?;
    let Some(text) = args.text.read_without_last_line_end()? else {
        let needs_prompt = [("--raw", args.raw), ("--json", args.json), ("--trace", args.trace.is_given())];
        if let Some((option, _)) = needs_prompt.into_iter().find(|(_, given)| *given) {
            return Err(CliError::Usage(format!(
                "{option} needs a prompt: -p TEXT, -f FILE or standard input"
            )));
        }
        return chat::chat(args);
    };
    let start = Instant::now();
    let model = args.model.open()?;
    let trace = args.trace.file(&model)?;
    let tokenizer = model.tokenizer()?;
    let prompt = if args.raw {
        tokenizer.encode_chat(&text)
    } else {
        let mut messages: Vec<Message> = args.system_message().into_iter().collect();
        messages.push(Message::new("user", text));
        tokenizer.encode_chat(&model.chat_template(&tokenizer)?.render(&messages, true)?)
    };
    let n_ctx = args.ctx.size(model.architecture().shape().n_ctx_train, &args.model);
    let options = args.session.options(&model, n_ctx)?;
    read_ahead(model.gguf(), options.device);
    let chosen = args.sampling.choose(&model, &tokenizer, &args.model)?;
    let mut conversation = Chat::new(&model, &options, &setup(), args.choice(&chosen, &tokenizer)?)?;
    let load_time = start.elapsed();
    if let Some(trace) = trace {
        trace.start(conversation.session());
    }
    let context_shift = args.context_shift(&model, &tokenizer, conversation.n_ctx())?;
    let interrupt = Some(interrupt::listen(Second::Exits));
    tracing::info!("loaded in {:.2} s", load_time.as_secs_f64());
    let mut printer = Printer::new(&args.parts, io::stdout().lock());
    let mut progress = Progress::new("prompt", Unit::Tokens, prompt.len());
    let mut on_prompt = |done, total| progress.set_of(done, total);
    let on_prompt: Option<&mut dyn FnMut(usize, usize)> = Some(&mut on_prompt);
    let limits = AnswerOptions { generate: args.limits(), interrupt, context_shift, on_prompt };
    let answer = conversation.answer(&prompt, limits, |delta| {
        if args.json { Ok::<(), CliError>(()) } else { printer.put(delta) }
    })?;
    if args.json {
        drop(printer);
        let logprobs = args.logprobs.map(|_| Logprob::list(&answer.logprobs, &tokenizer));
        print_json(&report(args, &answer, logprobs, &chosen.settings, load_time))?;
    } else {
        printer.finish()?;
    }
    tell(&answer, conversation.n_ctx());
    if let Some(trace) = trace {
        trace.finish(conversation.session(), &args.model)?;
    }
    if answer.stop == Stop::Interrupted { Err(CliError::Interrupted) } else { Ok(()) }
}

impl RunArgs {
    /// The system message, if given.
    pub(super) fn system_message(&self) -> Option<Message> {
        self.system.as_deref().map(|text| Message::new("system", text))
    }
}

/// Prints notes on an answer to standard error.
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

fn report<'a>(
    args: &RunArgs,
    answer: &'a Answer,
    logprobs: Option<Vec<Logprob>>,
    sampling: &'a serde_json::Map<String, serde_json::Value>,
    load_time: Duration,
) -> Report<'a> {
    let (text, parts) = args.parts.report(answer);
    Report {
        text,
        parts,
        tokens: &answer.tokens,
        logprobs,
        stop: answer.stop.name(),
        counts: Counts { prompt: answer.prompt_tokens, generated: answer.tokens.len() },
        sampling,
        timings: Timings {
            load_seconds: load_time.as_secs_f64(),
            prompt_seconds: answer.prompt_time.as_secs_f64(),
            prompt_tokens_per_second: rate(answer.computed_tokens, answer.prompt_time),
            decode_seconds: answer.decode_time.as_secs_f64(),
            decode_tokens_per_second: rate(answer.decode_runs, answer.decode_time),
        },
    }
}

/// Units per second; 0 for a time of zero.
pub(super) fn rate(units: usize, time: Duration) -> f64 {
    if time.is_zero() { 0.0 } else { units as f64 / time.as_secs_f64() }
}
