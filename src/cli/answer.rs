//! Printing an answer: its text, its thoughts, its tool calls, its markers, and notes on it.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::error::CliError;
use crate::engine::{Answer, Stop};
use crate::text::{Delta, Part, PartKind};

/// The parts of an answer to print.
#[derive(Debug, Args)]
pub(super) struct PartsArgs {
    /// The model's thoughts before its answer: show them, hide them, or show them only [default: show on a terminal and
    /// in --json, otherwise hide]
    #[arg(long, value_name = "show|hide|only", hide_possible_values = true)]
    reasoning: Option<Reasoning>,
    /// Show control tokens and the markers of thoughts and tool calls
    #[arg(long)]
    special: bool,
}

/// The treatment of thoughts in the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Reasoning {
    Show,
    Hide,
    Only,
}

impl PartsArgs {
    /// True if answers are divided into parts. Of plain text they are only if thoughts are asked for.
    pub(super) fn divides(&self, raw: bool) -> bool {
        !raw || self.reasoning.is_some()
    }

    fn shows(&self, kind: PartKind, default: Reasoning) -> bool {
        match self.reasoning.unwrap_or(default) {
            Reasoning::Show => true,
            Reasoning::Hide => kind != PartKind::Thoughts,
            Reasoning::Only => kind == PartKind::Thoughts,
        }
    }

    fn text_of<'d>(&self, kind: PartKind, text: &'d str, raw: &'d str) -> &'d str {
        if self.special || kind == PartKind::ToolCall { raw } else { text }
    }

    /// The text and the parts of a whole answer, for `--json`.
    pub(super) fn report<'a>(&self, answer: &'a Answer) -> (String, Vec<ReportedPart<'a>>) {
        let shown = |part: &&Part| self.shows(part.kind, Reasoning::Show);
        let parts: Vec<&Part> = answer.parts.iter().filter(shown).collect();
        let text = parts.iter().filter(|part| self.special || part.kind == PartKind::Text);
        let text =
            text.map(|part| if self.special { part.raw.as_str() } else { part.text.as_str() }).collect();
        let reported = parts
            .into_iter()
            .map(|part| ReportedPart { part, raw: self.special.then_some(part.raw.as_str()) });
        (text, reported.collect())
    }
}

/// A part of an answer in `--json`.
#[derive(Serialize)]
pub(super) struct ReportedPart<'a> {
    #[serde(flatten)]
    part: &'a Part,
    #[serde(skip_serializing_if = "Option::is_none")]
    raw: Option<&'a str>,
}

/// Prints an answer as it comes: a blank line between thoughts and text, thoughts dimmed on a terminal.
pub(super) struct Printer<'a, W> {
    args: &'a PartsArgs,
    out: W,
    default: Reasoning,
    dims: bool,
    /// The kind of the part that was printed last.
    last: Option<PartKind>,
    /// The last character that was printed.
    end: Option<char>,
    hidden: bool,
}

impl<'a, W: Write + IsTerminal> Printer<'a, W> {
    pub(super) fn new(args: &'a PartsArgs, out: W) -> Printer<'a, W> {
        let is_terminal = out.is_terminal();
        let default = if is_terminal { Reasoning::Show } else { Reasoning::Hide };
        let dims = is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Printer { args, out, default, dims, last: None, end: None, hidden: false }
    }

    /// Prints a piece of the answer.
    pub(super) fn put(&mut self, delta: &Delta) -> Result<(), CliError> {
        if !self.args.shows(delta.kind, self.default) {
            self.hidden |= delta.kind == PartKind::Thoughts;
            return Ok(());
        }
        let text = self.args.text_of(delta.kind, &delta.text, &delta.raw);
        let Some(end) = text.chars().next_back() else { return Ok(()) };
        if self.last.is_some_and(|last| last != delta.kind) && !self.args.special {
            self.out.write_all(if self.end == Some('\n') { b"\n" } else { b"\n\n" })?;
        }
        match self.dims && delta.kind == PartKind::Thoughts {
            true => write!(self.out, "\x1b[2m{text}\x1b[0m")?,
            false => self.out.write_all(text.as_bytes())?,
        }
        (self.last, self.end) = (Some(delta.kind), Some(end));
        Ok(self.out.flush()?)
    }

    /// Ends the last line, and says if nothing but hidden thoughts came.
    pub(super) fn finish(mut self) -> Result<(), CliError> {
        if self.end != Some('\n') {
            self.out.write_all(b"\n")?;
        }
        if self.hidden && self.last.is_none() {
            tracing::warn!("the answer has nothing but the model's thoughts; --reasoning show shows them");
        }
        Ok(self.out.flush()?)
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

/// Units per second; 0 for a time of zero.
pub(super) fn rate(units: usize, time: Duration) -> f64 {
    if time.is_zero() { 0.0 } else { units as f64 / time.as_secs_f64() }
}
