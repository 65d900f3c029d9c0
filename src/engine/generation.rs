//! One answer: chooses a token from the last row's output, gives its text and the next row or the reason for the end.

use crate::model::{ModelError, Output, RowOutput};
use crate::sampling::{Needs, Sampler, TokenLogprobs};
#[cfg(feature = "grammar")]
use crate::text::Constraint;
use crate::text::{StopStrings, StreamDecoder, Tokenizer};

/// End conditions of an answer besides the model's end token, and the records kept of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GenerateOptions {
    /// Most tokens to generate; `None` means no limit.
    pub max_tokens: Option<usize>,
    /// Stop strings. They are not part of the answer, and may begin or end inside a token: text that may still become
    /// one is held back.
    pub stop: Vec<String>,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Advance<'g> {
    /// Text that is now final; empty inside an incomplete character or a possible stop string.
    pub text: &'g str,
    /// The next row, or the reason for the end.
    pub next: Next,
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
    /// Working memory: the logits after the constraint's mask.
    #[cfg(feature = "grammar")]
    masked: Vec<f32>,
    options: GenerateOptions,
    decoder: StreamDecoder,
    stops: StopStrings,
    text: String,
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
            masked: Vec::new(),
            stops: StopStrings::new(&options.stop),
            options,
            text: String::new(),
            tokens: Vec::new(),
            logprobs: Vec::new(),
            stop,
            failed: false,
        })
    }

    /// Restricts the answer to the constraint, which must not have accepted any token yet.
    #[cfg(feature = "grammar")]
    #[must_use]
    pub fn constrained(mut self, constraint: Constraint) -> Generation {
        if constraint.is_complete() {
            self.stop.get_or_insert(Stop::EndOfGeneration);
        }
        self.constraint = Some(constraint);
        self
    }

    /// Begins a constraint that is [waiting](Constraint::waiting) before the next token. Without effect if there is
    /// none or it has begun.
    #[cfg(feature = "grammar")]
    pub fn begin_constraint(&mut self) {
        if let Some(constraint) = &mut self.constraint {
            constraint.begin();
            if self.stop.is_none() && constraint.is_complete() {
                self.stop = Some(Stop::EndOfGeneration);
            }
        }
    }

    /// The least output that the generation needs of its next row.
    pub fn wants(&self) -> Output {
        if self.needs_logits() { Output::Logits } else { wish(self.sampler.needs()) }
    }

    /// True if all logits are needed, whatever the sampler needs.
    fn needs_logits(&self) -> bool {
        #[cfg(feature = "grammar")]
        if self.constraint.is_some() {
            return true;
        }
        self.options.logprobs.is_some()
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
                Ok(Advance { text: &self.text, next })
            }
            Err(error) => {
                self.failed = true;
                Err(error)
            }
        }
    }

    /// Ends the answer from outside, and returns the text that was held back.
    pub fn end(&mut self, stop: Stop) -> &str {
        self.text.clear();
        if self.stop.is_none() {
            self.stop = Some(stop);
            self.flush();
        }
        &self.text
    }

    /// Chooses a token; unless it ends the answer, the constraint, the sampler and the records accept it.
    fn choose_and_accept(&mut self, output: RowOutput<'_>) -> Result<Next, ModelError> {
        let token = self.choose(output)?;
        if self.tokenizer.is_end_of_generation(token) {
            return Ok(Next::Stopped(Stop::EndOfGeneration));
        }
        #[cfg(feature = "grammar")]
        if let Some(constraint) = &mut self.constraint {
            constraint.accept(token)?;
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
        if let Some(constraint) = &mut self.constraint {
            self.masked.clear();
            self.masked.extend_from_slice(logits);
            constraint.mask(&mut self.masked)?;
            return Ok(self.sampler.sample(&self.masked)?);
        }
        Ok(self.sampler.sample(logits)?)
    }

    /// Sets the text that the chosen token makes final, and checks whether the answer ends.
    fn set_text(&mut self, chosen: Next) -> Next {
        self.text.clear();
        self.stop = match chosen {
            Next::Stopped(stop) => Some(stop),
            Next::Token(token) => {
                self.text.push_str(self.stops.push(self.decoder.push(token)));
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
        }
        self.stop.map_or(chosen, Next::Stopped)
    }

    /// Adds the bytes of an incomplete character, and text held back as a possible stop string.
    fn flush(&mut self) {
        self.text.push_str(self.stops.push(self.decoder.finish()));
        if self.stops.found().is_none() {
            self.text.push_str(self.stops.finish());
        }
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

    /// The sampler, with its random state and history, for a further answer.
    pub fn into_sampler(self) -> Sampler {
        self.sampler
    }
}

/// The output that satisfies a sampler's needs.
pub(super) fn wish(needs: Needs) -> Output {
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
