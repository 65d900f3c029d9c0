//! `rfgraph run`: an answer to a prompt, or a chat at the terminal.

use std::io;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::answer::{Printer, ReportedPart, rate, tell};
use super::chat;
use super::device::extras;
use super::error::CliError;
use super::interrupt::{self, Second};
use super::logprobs::Logprob;
use super::output::print_json;
use super::progress::{Progress, Unit, read_ahead};
use super::run_args::RunArgs;
use crate::engine::{Answer, AnswerOptions, Chat, Stop};
use crate::text::Message;

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
    let mut conversation = Chat::new(&model, &options, &extras(), args.choice(&chosen, &tokenizer)?)?;
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
