//! A request in the engine: its tokens, how many of them are computed, and what becomes of its rows.

use std::time::Duration;

use tokio::sync::mpsc;

use super::options::Running;
use super::reply::{EngineError, Event, PromptProgress, Summary, TextEvent};
use super::{Generation, Next, Stop};
use crate::model::{Output, Outputs, Pooled, RowOutput, Rows, SequenceId};
use crate::sampling::TokenLogprobs;

/// Events that a reader may leave unread before its request pauses.
pub(super) const MOST_UNREAD: usize = 64;

/// The most events of one step of a request, and one for an error.
const EVENTS_OF_STEP: usize = 6;

/// The most rows of a prompt in one step if each of them has logits, which take `n_vocab` numbers.
const SCORED_ROWS: usize = 32;

/// A request.
pub(super) struct Job {
    /// The prompt and the answer so far.
    pub tokens: Vec<u32>,
    /// The number of tokens of the prompt.
    pub n_prompt: usize,
    /// The number of tokens whose state the sequence holds.
    pub computed: usize,
    /// The open sequence, of an admitted request.
    pub sequence: Option<SequenceId>,
    /// Its number in the order of submission.
    pub number: u64,
    pub salt: u64,
    task: Task,
    events: mpsc::Sender<Event>,
    times: Times,
    cached: usize,
    times_put_aside: usize,
}

/// The purpose of the rows.
pub(super) enum Task {
    Answer(Box<Generation>, Option<Scores>),
    Embedding(Pooled),
}

/// Log-probabilities of the prompt's tokens.
pub(super) struct Scores {
    pub n: usize,
    pub of: Vec<TokenLogprobs>,
}

/// Times since the engine's start.
#[derive(Clone, Copy, Debug, Default)]
struct Times {
    submitted: Duration,
    admitted: Option<Duration>,
    prompted: Option<Duration>,
    /// Since when the reader has had too many events to read.
    unread: Option<Duration>,
}

/// Phase of a request, for counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Waiting,
    Prompt,
    Answer,
}

impl Job {
    pub fn new(tokens: Vec<u32>, salt: u64, task: Task, events: mpsc::Sender<Event>) -> Job {
        Job {
            n_prompt: tokens.len(),
            tokens,
            computed: 0,
            sequence: None,
            number: 0,
            salt,
            task,
            events,
            times: Times::default(),
            cached: 0,
            times_put_aside: 0,
        }
    }

    pub fn submitted(&mut self, number: u64, now: Duration) {
        (self.number, self.times.submitted) = (number, now);
    }

    /// True if the request was never admitted.
    pub fn is_new(&self) -> bool {
        self.times.admitted.is_none()
    }

    /// Notes that a sequence holds the first `held` tokens.
    pub fn admitted(&mut self, sequence: SequenceId, held: usize, now: Duration) {
        (self.sequence, self.computed) = (Some(sequence), held);
        if self.is_new() {
            self.times.admitted = Some(now);
            self.cached = held;
        }
    }

    /// Notes that the sequence was closed to free its memory.
    pub fn put_aside(&mut self) {
        (self.sequence, self.computed) = (None, 0);
        self.times_put_aside += 1;
    }

    /// True if the reply was dropped.
    pub fn is_cancelled(&self) -> bool {
        self.events.is_closed()
    }

    /// True if a computed prefix may be shared: if not every row of the prompt has an output of its own.
    pub fn shares_prefix(&self) -> bool {
        matches!(self.task, Task::Answer(_, None))
    }

    pub fn phase(&self) -> Phase {
        match (self.times.admitted, self.times.prompted) {
            (None, _) => Phase::Waiting,
            (_, None) => Phase::Prompt,
            _ => Phase::Answer,
        }
    }

    /// The number of tokens that are not computed yet. A decoding request has one.
    pub fn left(&self) -> usize {
        self.tokens.len() - self.computed
    }

    /// The number of tokens of the answer so far.
    pub fn n_generated(&self) -> usize {
        match &self.task {
            Task::Answer(generation, _) => generation.tokens().len(),
            Task::Embedding(_) => 0,
        }
    }

    /// The request as others see it, if it has a sequence.
    pub fn running(&self) -> Option<Running> {
        let max_tokens = match &self.task {
            Task::Answer(generation, _) => generation.max_tokens(),
            Task::Embedding(_) => Some(0),
        };
        Some(Running {
            number: self.number,
            sequence: self.sequence?.index(),
            prompt_tokens: self.n_prompt,
            generated_tokens: self.n_generated(),
            max_tokens,
        })
    }

    /// True if the next row is the last token of an answer that goes on.
    pub fn decodes(&self) -> bool {
        self.left() == 1 && self.tokens.len() > self.n_prompt
    }

    /// The most rows of one step.
    pub fn most_rows(&self) -> usize {
        match self.task {
            Task::Answer(_, Some(_)) => SCORED_ROWS,
            _ => usize::MAX,
        }
    }

    /// True if the reader has room for the events of a step; else since when it has not.
    pub fn readable(&mut self, now: Duration) -> Result<(), Duration> {
        if self.events.capacity() >= EVENTS_OF_STEP {
            self.times.unread = None;
            return Ok(());
        }
        Err(*self.times.unread.get_or_insert(now))
    }

    /// The next `n` rows, with the outputs that the request needs of them.
    pub fn rows(&self, sequence: SequenceId, n: usize) -> Rows<'_> {
        let end = (self.computed + n).min(self.tokens.len());
        let rows = Rows::of(sequence, &self.tokens[self.computed..end]);
        match &self.task {
            Task::Embedding(_) => rows.want_all(Output::Hidden),
            Task::Answer(_, Some(_)) if self.computed < self.n_prompt => rows.want_all(Output::Logits),
            Task::Answer(generation, _) if end == self.tokens.len() => rows.want(generation.wants()),
            Task::Answer(..) => rows,
        }
    }

    /// True if a row's output is all logits.
    pub fn reads_all_logits(&self) -> bool {
        match &self.task {
            Task::Answer(_, Some(_)) => true,
            Task::Answer(generation, None) => generation.wants() == Output::Logits,
            Task::Embedding(_) => false,
        }
    }

    /// Takes the outputs of rows number `i` of a step, `n` of them. Returns true if the request is over.
    pub fn take(&mut self, outputs: Outputs<'_>, i: usize, n: usize, n_ctx: usize, now: Duration) -> bool {
        let before = self.computed;
        self.computed += n;
        let whole = self.left() == 0;
        if self.times.prompted.is_none() {
            let done = self.computed.min(self.n_prompt);
            self.send(Event::Prompt(PromptProgress { total: self.n_prompt, cached: self.cached, done }));
            if self.computed >= self.n_prompt {
                self.times.prompted = Some(now);
            }
        }
        match &mut self.task {
            Task::Embedding(pooled) => {
                (0..n).for_each(|row| pooled_row(pooled, outputs.row(i, row)));
                if whole {
                    let embedding = pooled.vector();
                    self.send(Event::Embedding(embedding));
                    self.finish(None, now);
                }
                whole
            }
            Task::Answer(_, scores) => {
                if let Some(scores) = scores {
                    let rows = (0..n).map(|row| (before + row + 1, outputs.row(i, row)));
                    scores.take(rows, &self.tokens[..self.n_prompt]);
                    if whole && self.tokens.len() == self.n_prompt {
                        let of = std::mem::take(&mut scores.of);
                        self.send(Event::PromptLogprobs(of));
                    }
                }
                whole && self.advance(outputs.row(i, n - 1), n_ctx, now)
            }
        }
    }

    /// Chooses the next token. Returns true if the answer is over.
    fn advance(&mut self, output: RowOutput<'_>, n_ctx: usize, now: Duration) -> bool {
        let Task::Answer(generation, _) = &mut self.task else { return true };
        if let Some(stop) = generation.stop() {
            // An answer of no tokens, which is over before its first.
            self.finish(Some(stop), now);
            return true;
        }
        let n = generation.tokens().len();
        let (text, mut deltas, next) = match generation.advance(output) {
            Ok(advance) => (advance.text.to_string(), advance.deltas.to_vec(), advance.next),
            Err(error) => {
                self.fail(error.into());
                return true;
            }
        };
        let token = generation.tokens().get(n).copied();
        let logprobs = generation.logprobs().get(n).cloned();
        let stop = match next {
            Next::Token(token) if self.computed < n_ctx => {
                self.tokens.push(token);
                self.send(Event::Text(TextEvent { text, deltas, token: Some(token), logprobs }));
                return false;
            }
            Next::Token(_) => Stop::ContextFull,
            Next::Stopped(stop) => stop,
        };
        let text = text + generation.end(stop);
        deltas.extend_from_slice(generation.deltas());
        if token.is_some() || !deltas.is_empty() {
            self.send(Event::Text(TextEvent { text, deltas, token, logprobs }));
        }
        self.finish(Some(stop), now);
        true
    }

    fn send(&self, event: Event) {
        // There is room, as `readable` checked before the step; a reply that was dropped wants no events.
        let _ = self.events.try_send(event);
    }

    fn finish(&self, stop: Option<Stop>, now: Duration) {
        let admitted = self.times.admitted.unwrap_or(now);
        let prompted = self.times.prompted.unwrap_or(now);
        let stop_string = match &self.task {
            Task::Answer(generation, _) => generation.stop_string().map(str::to_owned),
            Task::Embedding(_) => None,
        };
        self.send(Event::Finished(Summary {
            stop,
            stop_string,
            prompt_tokens: self.n_prompt,
            cached_tokens: self.cached,
            generated_tokens: self.n_generated(),
            times_put_aside: self.times_put_aside,
            queue_time: admitted.saturating_sub(self.times.submitted),
            prompt_time: prompted.saturating_sub(admitted),
            decode_time: now.saturating_sub(prompted),
        }));
    }

    /// Ends the request with an error.
    pub fn fail(&self, error: EngineError) {
        self.send(Event::Failed(error));
    }
}

fn pooled_row(pooled: &mut Pooled, output: RowOutput<'_>) {
    if let RowOutput::Hidden(state) = output {
        pooled.add(state);
    }
}

impl Scores {
    /// Takes the logits that predict the token at each position of the prompt.
    fn take<'o>(&mut self, rows: impl Iterator<Item = (usize, RowOutput<'o>)>, prompt: &[u32]) {
        for (position, output) in rows {
            if let (Some(&token), RowOutput::Logits(logits)) = (prompt.get(position), output) {
                self.of.push(TokenLogprobs::new(logits, token, self.n));
            }
        }
    }
}

impl Task {
    /// A task of an answer.
    pub fn answer(generation: Generation, prompt_logprobs: Option<usize>) -> Task {
        Task::Answer(Box::new(generation), prompt_logprobs.map(|n| Scores { n, of: Vec::new() }))
    }
}
