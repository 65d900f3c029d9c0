//! One answer: chooses a token from the last row's output, gives its text and the next row or the reason for the end.

use std::collections::VecDeque;

use crate::model::{ModelError, Output, RowOutput};
use crate::sampling::{Needs, Sampler, TokenLogprobs};
#[cfg(feature = "grammar")]
use crate::text::Constraint;
use crate::text::{
    AnswerFormat, AnswerParser, AnswerPlace, Delta, EncodeOptions, PartKind, StopStrings, StreamDecoder,
    TokenKind, Tokenizer,
};

/// End conditions of an answer besides the model's end token, and the records kept of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GenerateOptions {
    /// Most tokens to generate; `None` means no limit.
    pub max_tokens: Option<usize>,
    /// Stop strings. They are not part of the answer, and may begin or end inside a token: text that may still become
    /// one is held back. A special token counts as its text, as a whole.
    pub stop: Vec<String>,
    /// Tokens that end the answer as the model's own end tokens do.
    pub stop_tokens: Vec<u32>,
    /// The answer's first tokens, this many, do not end it: neither its end tokens nor [`stop_tokens`](Self::stop_tokens)
    /// are chosen. A constraint that allows no more goes first.
    pub min_tokens: usize,
    /// Most tokens of the model's thoughts; then the marker of their end is forced, and the answer goes on. `None` means
    /// no limit. A model without thoughts keeps each.
    pub max_thoughts: Option<usize>,
    /// Keeps the log-probability of each token and of this many most probable tokens.
    pub logprobs: Option<usize>,
}

/// Reason why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stop {
    /// The model chose an end token, or the grammar allows nothing more.
    EndOfGeneration,
    /// One of [`GenerateOptions::stop`] was found.
    StopString,
    /// [`GenerateOptions::max_tokens`] tokens were generated.
    Limit,
    /// The context has no room for another token.
    ContextFull,
    /// The answer was interrupted.
    Interrupted,
}

impl Stop {
    /// The reason in one word, for machine-readable output.
    pub fn name(self) -> &'static str {
        match self {
            Stop::EndOfGeneration => "end",
            Stop::StopString => "stop",
            Stop::Limit => "limit",
            Stop::ContextFull => "context",
            Stop::Interrupted => "interrupted",
        }
    }
}

/// Next action of an answer after a token was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Next {
    /// Append this token to the sequence, and pass its output ([`Generation::wants`]) to the generation.
    Token(u32),
    /// The answer is over.
    Stopped(Stop),
}

/// One step of an answer.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Advance<'g> {
    /// Text for the user that is now final; empty inside an incomplete character, a possible stop string or thoughts.
    pub text: &'g str,
    /// All that is now final, by parts of the answer.
    pub deltas: &'g [Delta],
    /// The next row, or the reason for the end.
    pub next: Next,
}

/// The thoughts so far, if they have a limit.
#[derive(Clone, Debug, Default)]
struct Thoughts {
    /// Tokens in them.
    n: usize,
    /// The rest of the marker that ends them.
    marker: VecDeque<u32>,
    /// The marker was forced, and nothing followed it yet.
    is_forced: bool,
}

/// A token's text, or text between special tokens.
#[derive(Clone, Debug)]
struct Piece {
    text: String,
    /// A special token, and whether it is structure.
    special: Option<(u32, bool)>,
}

/// An answer in progress, independent of a session: the caller computes the rows that the generation requests.
///
/// It is a value: a clone continues independently from the same point, with the same random numbers.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use rfgraph::{GenerateOptions, Generation, Model, Next, Rows, Sampler, SamplerParams, Session, SessionOptions};
///
/// let model = Model::open("model.gguf")?;
/// let tokenizer = model.tokenizer()?;
/// let mut session = Session::new(&model, &SessionOptions::default())?;
/// let sampler = Sampler::new(SamplerParams::default(), tokenizer.n_vocab())?;
/// let mut answer = Generation::new(&tokenizer, sampler, GenerateOptions::default())?;
///
/// let (sequence, prompt) = (session.open()?, tokenizer.encode_chat("Once upon a time"));
/// let mut next = prompt;
/// loop {
///     let outputs = session.step(&[Rows::of(sequence, &next).want(answer.wants())])?;
///     let step = answer.advance(outputs.last(0))?;
///     print!("{}", step.text);
///     let Next::Token(token) = step.next else { break };
///     next = vec![token];
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Generation {
    tokenizer: Tokenizer,
    sampler: Sampler,
    #[cfg(feature = "grammar")]
    constraint: Option<Constraint>,
    /// The constraint has accepted a token.
    #[cfg(feature = "grammar")]
    constrains: bool,
    /// Working memory: the logits after the constraint's mask.
    masked: Vec<f32>,
    options: GenerateOptions,
    decoder: StreamDecoder,
    stops: StopStrings,
    /// Text that may become a stop string, by tokens.
    held: VecDeque<Piece>,
    parser: AnswerParser,
    /// Text that the last token made final, by parts.
    deltas: Vec<Delta>,
    text: String,
    thoughts: Thoughts,
    tokens: Vec<u32>,
    logprobs: Vec<TokenLogprobs>,
    stop: Option<Stop>,
    /// An error ended the answer.
    failed: bool,
}

impl Generation {
    /// Begins an answer. The sampler's penalties see the tokens that it has accepted: usually the prompt
    /// ([`Sampler::accept`]).
    ///
    /// # Errors
    /// [`ModelError::EmptyStopString`], which would end every answer before it begins.
    pub fn new(
        tokenizer: &Tokenizer,
        sampler: Sampler,
        options: GenerateOptions,
    ) -> Result<Generation, ModelError> {
        if options.stop.iter().any(String::is_empty) {
            return Err(ModelError::EmptyStopString);
        }
        let stop = (options.max_tokens == Some(0)).then_some(Stop::Limit);
        Ok(Generation {
            decoder: StreamDecoder::new(tokenizer, false),
            tokenizer: tokenizer.clone(),
            sampler,
            #[cfg(feature = "grammar")]
            constraint: None,
            #[cfg(feature = "grammar")]
            constrains: false,
            masked: Vec::new(),
            stops: StopStrings::new(&options.stop),
            options,
            held: VecDeque::new(),
            parser: AnswerFormat::plain(tokenizer).parser(&[]),
            deltas: Vec::new(),
            text: String::new(),
            thoughts: Thoughts::default(),
            tokens: Vec::new(),
            logprobs: Vec::new(),
            stop,
            failed: false,
        })
    }

    /// Divides the answer into parts ([`AnswerFormat::parser`]). Without this all of it is text.
    #[must_use]
    pub fn in_parts(mut self, parser: AnswerParser) -> Generation {
        self.parser = parser;
        self
    }

    /// Restricts the answer to the constraint, which must not have accepted any token yet. In an answer with parts it
    /// begins where the text does, after the thoughts.
    #[cfg(feature = "grammar")]
    #[must_use]
    pub fn constrained(mut self, constraint: Constraint) -> Generation {
        if constraint.is_complete() {
            self.stop.get_or_insert(Stop::EndOfGeneration);
        }
        self.constraint = Some(constraint);
        self
    }

    /// The least output that the generation needs of its next row.
    pub fn wants(&self) -> Output {
        if self.needs_logits() { Output::Logits } else { wanted_output(self.sampler.needs()) }
    }

    /// True if all logits are needed, whatever the sampler needs.
    fn needs_logits(&self) -> bool {
        #[cfg(feature = "grammar")]
        if self.constraint.is_some() {
            return true;
        }
        self.options.logprobs.is_some() || self.must_go_on()
    }

    /// True if the next token must not end the answer.
    fn must_go_on(&self) -> bool {
        self.tokens.len() < self.options.min_tokens
    }

    /// True if this token ends the answer.
    fn is_end(&self, token: u32) -> bool {
        self.tokenizer.is_end_of_generation(token) || self.options.stop_tokens.contains(&token)
    }

    /// Chooses a token from the last row's output. After an error the answer is over.
    ///
    /// # Errors
    /// [`ModelError::AnswerOver`]; [`ModelError::OutputMismatch`] if the output is less than [`Generation::wants`];
    /// also if no token can be chosen from the logits, or the constraint cannot be followed.
    pub fn advance(&mut self, output: RowOutput<'_>) -> Result<Advance<'_>, ModelError> {
        if self.stop.is_some() || self.failed {
            return Err(ModelError::AnswerOver);
        }
        match self.choose_and_accept(output) {
            Ok(chosen) => {
                let next = self.set_text(chosen);
                Ok(Advance { text: &self.text, deltas: &self.deltas, next })
            }
            Err(error) => {
                self.failed = true;
                Err(error)
            }
        }
    }

    /// Ends the answer from outside, and returns the text for the user that was held back ([`deltas`](Self::deltas) has
    /// all that was).
    pub fn end(&mut self, stop: Stop) -> &str {
        self.deltas.clear();
        self.text.clear();
        if self.stop.is_none() {
            self.stop = Some(stop);
            self.flush();
        }
        &self.text
    }

    /// All that the last call of [`advance`](Self::advance) or [`end`](Self::end) made final, by parts of the answer.
    pub fn deltas(&self) -> &[Delta] {
        &self.deltas
    }

    /// Chooses a token; unless it ends the answer, the constraint, the sampler and the records accept it.
    fn choose_and_accept(&mut self, output: RowOutput<'_>) -> Result<Next, ModelError> {
        let token = match self.forced() {
            Some(token) => token,
            None => self.choose(output)?,
        };
        if self.is_end(token) {
            return Ok(Next::Stopped(Stop::EndOfGeneration));
        }
        #[cfg(feature = "grammar")]
        if self.is_constrained()
            && Some(token) != self.thoughts_token()
            && let Some(constraint) = &mut self.constraint
        {
            constraint.accept(token)?;
            self.constrains = true;
        }
        self.sampler.accept(token);
        self.tokens.push(token);
        if let (Some(n), RowOutput::Logits(logits)) = (self.options.logprobs, output) {
            self.logprobs.push(TokenLogprobs::new(logits, token, n));
        }
        Ok(Next::Token(token))
    }

    fn choose(&mut self, output: RowOutput<'_>) -> Result<u32, ModelError> {
        match output {
            RowOutput::Logits(logits) => self.sample(logits),
            RowOutput::Argmax(token) if !self.needs_logits() && self.sampler.needs() == Needs::Largest => {
                Ok(token)
            }
            RowOutput::TopK(ids, logits) if !self.needs_logits() && self.sampler.needs() != Needs::Logits => {
                Ok(self.sampler.sample_top(ids, logits)?)
            }
            other => Err(ModelError::OutputMismatch { wanted: self.wants(), given: other.name() }),
        }
    }

    fn sample(&mut self, logits: &[f32]) -> Result<u32, ModelError> {
        #[cfg(feature = "grammar")]
        if self.constraint.is_some() {
            self.mask(logits)?;
            return Ok(self.sampler.sample(&self.masked)?);
        }
        if self.must_go_on() {
            self.masked.clear();
            self.masked.extend_from_slice(logits);
            self.forbid_ends();
            return Ok(self.sampler.sample(&self.masked)?);
        }
        Ok(self.sampler.sample(logits)?)
    }

    /// Takes the tokens that end the answer out of the masked logits.
    fn forbid_ends(&mut self) {
        for &end in self.tokenizer.end_tokens().iter().chain(&self.options.stop_tokens) {
            if let Some(logit) = self.masked.get_mut(end as usize) {
                *logit = f32::NEG_INFINITY;
            }
        }
    }

    /// The next token, if it is one of the marker that ends thoughts which are as long as they may be.
    fn forced(&mut self) -> Option<u32> {
        let most = self.options.max_thoughts?;
        if let Some(token) = self.thoughts.marker.pop_front() {
            return Some(token);
        }
        if self.parser.place() != AnswerPlace::Thoughts {
            self.thoughts.is_forced = false;
            return None;
        }
        if self.thoughts.n < most {
            self.thoughts.n += 1;
            return None;
        }
        // A marker that did not end the thoughts would not do so the next time.
        if std::mem::replace(&mut self.thoughts.is_forced, true) {
            return None;
        }
        let options = EncodeOptions { add_special: false, parse_special: true };
        let marker = self.tokenizer.encode(&self.parser.thoughts_end()?, options);
        if self.allows(&marker) {
            self.thoughts.marker = marker.into();
        }
        self.thoughts.marker.pop_front()
    }

    /// True if a constraint on all of the answer allows these tokens.
    #[cfg(feature = "grammar")]
    fn allows(&self, tokens: &[u32]) -> bool {
        let whole = self.constraint.as_ref().filter(|constraint| constraint.is_whole());
        whole
            .cloned()
            .is_none_or(|mut constraint| tokens.iter().all(|&token| constraint.accept(token).is_ok()))
    }

    #[cfg(not(feature = "grammar"))]
    fn allows(&self, _tokens: &[u32]) -> bool {
        true
    }

    /// True if the constraint limits the next token: in the text, and not in thoughts or markers before it.
    #[cfg(feature = "grammar")]
    fn is_constrained(&self) -> bool {
        let is_whole = || self.constraint.as_ref().is_some_and(Constraint::is_whole);
        self.constrains || is_whole() || matches!(self.parser.place(), AnswerPlace::Text | AnswerPlace::Start)
    }

    /// The token with which thoughts may begin in place of constrained text.
    #[cfg(feature = "grammar")]
    fn thoughts_token(&self) -> Option<u32> {
        let is_whole = || self.constraint.as_ref().is_some_and(Constraint::is_whole);
        self.parser.thoughts_token().filter(|_| !self.constrains && !is_whole())
    }

    /// Sets the logits that the constraint leaves. Thoughts are free but cannot end the answer, which would not match.
    #[cfg(feature = "grammar")]
    fn mask(&mut self, logits: &[f32]) -> Result<(), ModelError> {
        self.masked.clear();
        self.masked.extend_from_slice(logits);
        if !self.is_constrained() {
            self.forbid_ends();
            return Ok(());
        }
        let thoughts = self.thoughts_token().map(|token| token as usize);
        if let Some(constraint) = &mut self.constraint {
            constraint.mask(&mut self.masked)?;
        }
        if let Some((masked, &logit)) =
            thoughts.and_then(|at| Some((self.masked.get_mut(at)?, logits.get(at)?)))
        {
            *masked = logit;
        }
        if self.must_go_on() {
            let is_open = |(token, logit): (u32, &f32)| *logit > f32::NEG_INFINITY && !self.is_end(token);
            if (0..).zip(&self.masked).any(is_open) {
                self.forbid_ends();
            }
        }
        Ok(())
    }

    /// Sets the text that the chosen token makes final, and checks whether the answer ends.
    fn set_text(&mut self, chosen: Next) -> Next {
        self.deltas.clear();
        self.stop = match chosen {
            Next::Stopped(stop) => Some(stop),
            Next::Token(token) => {
                self.decode(token);
                match self.stops.found() {
                    Some(_) => Some(Stop::StopString),
                    None if self.options.max_tokens.is_some_and(|most| self.tokens.len() >= most) => {
                        Some(Stop::Limit)
                    }
                    None => self.is_complete().then_some(Stop::EndOfGeneration),
                }
            }
        };
        if self.stop.is_some() {
            self.flush();
        } else {
            self.take_deltas();
        }
        self.stop.map_or(chosen, Next::Stopped)
    }

    /// Appends a token's text to the answer.
    fn decode(&mut self, token: u32) {
        use TokenKind::{Control, Unknown, UserDefined};
        match self.tokenizer.kind(token) {
            Some(kind @ (Control | Unknown | UserDefined)) => {
                // Bytes of an incomplete character end here.
                let text = self.decoder.finish().to_owned();
                self.hold(text, None);
                let text = String::from_utf8_lossy(self.tokenizer.token_bytes(token)).into_owned();
                self.hold(text, Some((token, kind != UserDefined)));
            }
            _ => {
                let text = self.decoder.push(token).to_owned();
                self.hold(text, None);
            }
        }
    }

    /// Passes a piece to the stop strings, and what they let go to the parser.
    fn hold(&mut self, text: String, special: Option<(u32, bool)>) {
        let free = match special {
            Some(_) => self.stops.push_special(&text).len(),
            None => self.stops.push(&text).len(),
        };
        self.held.push_back(Piece { text, special });
        self.release(free);
    }

    /// Passes the first bytes of the held pieces to the parser. They never end inside a special token.
    fn release(&mut self, mut n: usize) {
        while let Some(mut piece) = self.held.pop_front() {
            match piece.special {
                Some((id, is_structure)) if piece.text.len() <= n => {
                    self.parser.push_special(id, &piece.text, is_structure);
                }
                None if n > 0 || piece.text.is_empty() => {
                    let rest = piece.text.split_off(n.min(piece.text.len()));
                    self.parser.push_text(&piece.text);
                    if !rest.is_empty() {
                        self.held.push_front(Piece { text: rest, special: None });
                    }
                }
                _ => {
                    self.held.push_front(piece);
                    return;
                }
            }
            n -= piece.text.len();
        }
    }

    /// Adds the bytes of an incomplete character, and text held back as a possible stop string or marker.
    fn flush(&mut self) {
        let text = self.decoder.finish().to_owned();
        self.hold(text, None);
        if self.stops.found().is_none() {
            let free = self.stops.finish().len();
            self.release(free);
        }
        self.held.clear();
        self.parser.finish();
        self.take_deltas();
    }

    fn take_deltas(&mut self) {
        self.deltas.extend(self.parser.take());
        self.text.clear();
        let text = self.deltas.iter().filter(|delta| delta.kind == PartKind::Text);
        text.for_each(|delta| self.text.push_str(&delta.text));
    }

    /// True if the constraint allows no further token.
    fn is_complete(&self) -> bool {
        #[cfg(feature = "grammar")]
        return self.constraint.as_ref().is_some_and(Constraint::is_complete);
        #[cfg(not(feature = "grammar"))]
        false
    }

    /// The tokens so far, without the one that ended the answer. Tokens of a stop string are included.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// The log-probabilities of the [`tokens`](Self::tokens), if [`GenerateOptions::logprobs`] asks for them.
    pub fn logprobs(&self) -> &[TokenLogprobs] {
        &self.logprobs
    }

    /// Reason for the end; `None` while the answer goes on, and after an error.
    pub fn stop(&self) -> Option<Stop> {
        self.stop
    }

    /// The most tokens of the answer ([`GenerateOptions::max_tokens`]).
    pub fn max_tokens(&self) -> Option<usize> {
        self.options.max_tokens
    }

    /// The stop string that ended the answer.
    pub fn stop_string(&self) -> Option<&str> {
        let found = self.stops.found()?;
        self.options.stop.get(found).map(String::as_str)
    }

    /// The sampler, with its random state and history, for a further answer.
    pub fn into_sampler(self) -> Sampler {
        self.sampler
    }
}

/// The output that satisfies a sampler's needs.
pub(super) fn wanted_output(needs: Needs) -> Output {
    match needs {
        Needs::Logits => Output::Logits,
        Needs::Largest => Output::Argmax,
        Needs::Top(k) => Output::TopK(k),
    }
}

impl std::fmt::Debug for Generation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Generation")
            .field("tokens", &self.tokens)
            .field("stop", &self.stop)
            .finish_non_exhaustive()
    }
}
