//! Constrained output: masks the tokens that a grammar or a JSON schema does not allow next.
//!
//! The `llguidance` library follows the grammar over the bytes of the text, and matches tokens through a trie of the
//! vocabulary's bytes. Control tokens never match, except those that end an answer once the grammar is satisfied.
//! `gbnf` compiles GBNF grammars, `schema` JSON schemas, also within other grammars; `compile` has the limits of all.
//!
//! This folder knows a `Tokenizer`. It knows no sampler and no model: it masks the logits it is given.

mod compile;
mod gbnf;
mod schema;

use std::fmt::Display;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use llguidance::api::{GrammarInit, ParserLimits, TopLevelGrammar};
use llguidance::panic_utils::catch_unwind;
use llguidance::{Logger, Matcher, ParserFactory};
use serde_json::Value;
use toktrie::{ApproximateTokEnv, InferenceCapabilities, TokEnv, TokRxInfo, TokTrie};

use crate::text::tokenizer::{TokenKind, Tokenizer};
pub use gbnf::GbnfError;
pub(in crate::text) use schema::{Embedded, Refusal, pattern_terminal};

/// Reason why a constraint cannot be made or followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConstraintError {
    /// The vocabulary does not support constraints.
    #[error("output cannot be constrained with this vocabulary: {0}")]
    Vocabulary(String),
    /// The schema is not valid JSON.
    #[error("the JSON schema is not JSON: {0}")]
    Json(String),
    /// The schema is not supported.
    #[error("the JSON schema cannot be used: {0}")]
    Schema(String),
    /// The grammar is invalid.
    #[error("the grammar cannot be used: {0}")]
    Grammar(String),
    /// The GBNF grammar is malformed.
    #[error("the grammar (GBNF) is malformed: {0}")]
    Gbnf(#[from] GbnfError),
    /// No continuation of the text satisfies the constraint.
    #[error("the constraint cannot be followed further: {0}")]
    Stuck(String),
    /// A rewind by more tokens than were accepted.
    #[error("cannot take back {asked} tokens: the constraint accepted {accepted} since the answer began")]
    Rewind {
        /// Number of tokens to rewind.
        asked: usize,
        /// Number of tokens accepted so far.
        accepted: usize,
    },
}

/// Longest token in the trie, in bytes. Longer tokens are never allowed.
const LONGEST_TOKEN: usize = 255;

/// Makes constraints for one vocabulary.
pub struct ConstraintFactory {
    factory: ParserFactory,
    n_vocab: usize,
}

impl ConstraintFactory {
    /// Indexes a vocabulary.
    ///
    /// # Errors
    /// [`ConstraintError::Vocabulary`] if no token ends an answer.
    pub fn new(tokenizer: &Tokenizer) -> Result<ConstraintFactory, ConstraintError> {
        let n_vocab = tokenizer.n_vocab();
        let ends: Vec<u32> = (0..n_vocab as u32).filter(|&id| tokenizer.is_end_of_generation(id)).collect();
        let Some(&first_end) = ends.first() else {
            return Err(ConstraintError::Vocabulary("it has no token that ends an answer".into()));
        };
        let words: Vec<Vec<u8>> = (0..n_vocab as u32).map(|id| bytes_in_trie(tokenizer, id)).collect();
        let info = TokRxInfo::new(n_vocab as u32, first_end);
        let trie = TokTrie::from(&info, &words).with_eos_tokens(&ends);
        let env: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let mut factory = catch_unwind(AssertUnwindSafe(|| ParserFactory::new_simple(&env)))
            .map_err(|error| ConstraintError::Vocabulary(format!("{error:#}")))?;
        compile::set_limits(factory.quiet().limits_mut());
        Ok(ConstraintFactory { factory, n_vocab })
    }

    /// Output that is JSON and satisfies a JSON schema, given as JSON text. Its tokens are separated by at most a
    /// space, or a newline and indentation; the schema's key `x-guidance` changes this and other options of
    /// `llguidance`. A `format` that is not known, or beside a `pattern`, is an annotation.
    ///
    /// # Errors
    /// [`ConstraintError::Json`] locates the JSON error; [`ConstraintError::Schema`] names the keyword that is not
    /// supported, and its path: no part of a schema is ignored.
    pub fn json_schema(&self, schema: &str) -> Result<Constraint, ConstraintError> {
        compile::check_size(schema, compile::MOST_SCHEMA).map_err(ConstraintError::Schema)?;
        let parsed: Result<Value, _> = serde_json::from_str(schema);
        let schema = parsed.map_err(|error| ConstraintError::Json(error.to_string()))?;
        let compiled = compile::with_stack(|| {
            let limits = self.factory.limits();
            let made = schema::compile(&schema, "#", limits).and_then(|init| {
                self.make(init).map_err(|reason| schema::Refusal { path: "#".into(), reason })
            });
            made.map_err(|refusal| schema::locate(&schema, limits, refusal).to_string())
        });
        compiled.map_err(ConstraintError::Schema)
    }

    /// Output that a grammar derives, in `llguidance`'s variant of Lark or in llama.cpp's GBNF, which is recognized by
    /// its `::=`. Both may name tokens, by id (`<[5]>`) or by text (`<think>`). A token that matches such a name never matches a
    /// text at the same place.
    ///
    /// # Errors
    /// [`ConstraintError::Grammar`] or [`ConstraintError::Gbnf`], with the line.
    pub fn grammar(&self, grammar: &str) -> Result<Constraint, ConstraintError> {
        let made = if gbnf::is_gbnf(grammar) {
            compile::check_size(grammar, compile::MOST_GBNF).map_err(ConstraintError::Grammar)?;
            let rules = gbnf::read(grammar, self.factory.tok_env().tok_trie())?;
            compile::with_stack(|| self.make(gbnf::emit(&rules)?))
        } else {
            compile::check_lark(grammar).map_err(ConstraintError::Grammar)?;
            let lark = GrammarInit::Serialized(TopLevelGrammar::from_lark(grammar.to_string()));
            compile::with_stack(|| {
                self.make_within(lark, compile::lark_limits(self.factory.limits(), grammar))
            })
        };
        made.map_err(ConstraintError::Grammar)
    }

    /// Output that a grammar in Lark derives, in which schemas are embedded.
    ///
    /// # Errors
    /// [`ConstraintError::Grammar`].
    pub(in crate::text) fn embedding(
        &self,
        lark: &str,
        schemas: Embedded,
    ) -> Result<Constraint, ConstraintError> {
        compile::check_size(lark, compile::MOST_SCHEMA).map_err(ConstraintError::Grammar)?;
        let made = compile::with_stack(|| self.make(schemas.compile(lark, self.factory.limits())?));
        made.map_err(|reason| ConstraintError::Grammar(compile::reason(&reason)))
    }

    /// The reason why the part of a schema at a path cannot be kept, if it cannot.
    pub(in crate::text) fn refusal(&self, schema: &Value, path: &str) -> Option<Refusal> {
        compile::with_stack(|| Ok(schema::refusal(schema, path, self.factory.limits()))).ok().flatten()
    }

    /// Compiles a grammar, and finds the tokens that may be first: then a grammar that is too large to be followed is an
    /// error at once.
    fn make(&self, grammar: GrammarInit) -> Result<Constraint, String> {
        self.make_within(grammar, self.factory.limits().clone())
    }

    fn make_within(&self, grammar: GrammarInit, limits: ParserLimits) -> Result<Constraint, String> {
        let (quiet, caps) = (Logger::new(0, 0), InferenceCapabilities::default());
        let made = || self.factory.create_parser_from_init_ext(grammar, quiet, caps, limits);
        // Panics of the library become errors, as they do while matching.
        let parser =
            catch_unwind(AssertUnwindSafe(made)).map_err(|error| compile::reason(&format!("{error:#}")))?;
        let mut fresh = Matcher::new(Ok(parser));
        if let Some(error) = fresh.get_error() {
            return Err(compile::reason(&error));
        }
        fresh.compute_mask_or_eos().map_err(|error| compile::reason(&error.to_string()))?;
        Ok(Constraint {
            matcher: fresh.deep_clone(),
            fresh: Arc::new(fresh),
            accepted: Vec::new(),
            waits: false,
            waited: 0,
            begun: true,
            is_whole: false,
            n_vocab: self.n_vocab,
        })
    }
}

/// The token's bytes in the trie; empty for a token that output must not contain.
fn bytes_in_trie(tokenizer: &Tokenizer, id: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    match tokenizer.kind(id) {
        // The marker of special tokens, which a grammar may name. A token that ends an answer never counts as text,
        // whatever its kind in the file: as text it would end the answer in the middle.
        kind if matches!(kind, Some(TokenKind::Control | TokenKind::Unknown))
            || tokenizer.is_end_of_generation(id) =>
        {
            bytes.push(TokTrie::SPECIAL_TOKEN_MARKER);
            tokenizer.decode_into(id, true, &mut bytes);
        }
        Some(TokenKind::Unused) | None => {}
        // The byte 0xFF does not occur in UTF-8, and would look like the marker.
        Some(_) => {
            tokenizer.decode_into(id, true, &mut bytes);
            bytes = if bytes.first() == Some(&TokTrie::SPECIAL_TOKEN_MARKER) { Vec::new() } else { bytes };
        }
    }
    if bytes.len() > LONGEST_TOKEN { Vec::new() } else { bytes }
}

/// The tokens allowed next in one answer. A clone continues independently from the same point.
///
/// A constraint begins with the answer's first token, or later if it is [`waiting`](Self::waiting).
pub struct Constraint {
    matcher: Matcher,
    /// The state before the first token.
    fresh: Arc<Matcher>,
    /// The tokens of the answer since the constraint began.
    accepted: Vec<u32>,
    /// Every answer begins without the constraint.
    waits: bool,
    /// Number of tokens of the answer before the constraint began.
    waited: usize,
    begun: bool,
    /// Thoughts and headers are part of the grammar.
    is_whole: bool,
    n_vocab: usize,
}

impl Clone for Constraint {
    /// Also copies the library's caches: shared ones would be locked by every mask, and share their limits.
    fn clone(&self) -> Constraint {
        Constraint {
            matcher: self.matcher.deep_clone(),
            fresh: self.fresh.clone(),
            accepted: self.accepted.clone(),
            ..*self
        }
    }
}

impl Constraint {
    /// The constraint for answers whose beginning is free, such as thoughts: until [`begin`](Self::begin) is called,
    /// every token is allowed. Starts another answer.
    #[must_use]
    pub fn waiting(mut self) -> Constraint {
        self.waits = true;
        self.restart();
        self
    }

    /// The constraint for answers of which all is part of the grammar: thoughts and headers too.
    pub(in crate::text) fn whole(mut self) -> Constraint {
        self.is_whole = true;
        self
    }

    /// True if the constraint begins with the answer's first token, whatever part of the answer that is: its thoughts
    /// and headers are part of the grammar.
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// Begins the constraint before the next token. Without effect if it has begun.
    pub fn begin(&mut self) {
        self.begun = true;
    }

    /// True if the constraint restricts the next token; false while it is waiting.
    pub fn has_begun(&self) -> bool {
        self.begun
    }

    /// Sets the logits of all tokens that are not allowed next to −∞.
    ///
    /// # Errors
    /// [`ConstraintError::Stuck`] if no token is allowed, or following the grammar exceeds the library's limits.
    pub fn mask(&mut self, logits: &mut [f32]) -> Result<(), ConstraintError> {
        if !self.begun {
            return Ok(());
        }
        let allowed = self.matcher.compute_mask_or_eos().map_err(stuck)?;
        let words = allowed.as_slice();
        for (id, logit) in logits.iter_mut().enumerate() {
            let bit = words.get(id / 32).is_some_and(|word| word >> (id % 32) & 1 == 1);
            if !bit || id >= self.n_vocab {
                *logit = f32::NEG_INFINITY;
            }
        }
        Ok(())
    }

    /// Advances by a token that the mask allowed.
    ///
    /// # Errors
    /// [`ConstraintError::Stuck`] if the mask did not allow it.
    pub fn accept(&mut self, token: u32) -> Result<(), ConstraintError> {
        if !self.begun {
            self.waited += 1;
            return Ok(());
        }
        self.matcher.consume_token(token).map_err(stuck)?;
        self.accepted.push(token);
        Ok(())
    }

    /// Rewinds the last `n` accepted tokens: restores the state before the first of them. This also clears
    /// [`ConstraintError::Stuck`], even with `n` = 0. Rewound to before the token that it began at, the constraint is
    /// waiting again.
    ///
    /// # Errors
    /// [`ConstraintError::Rewind`] if fewer tokens were accepted in this answer.
    pub fn rewind(&mut self, n: usize) -> Result<(), ConstraintError> {
        let accepted = self.waited + self.accepted.len();
        if n > accepted {
            return Err(ConstraintError::Rewind { asked: n, accepted });
        }
        let Some(left) = self.accepted.len().checked_sub(n) else {
            self.waited = accepted - n;
            self.accepted.clear();
            self.matcher = self.fresh.deep_clone();
            self.begun = false;
            return Ok(());
        };
        let taken = self.accepted.split_off(left);
        let rolled_back =
            !self.matcher.is_error() && !self.has_end(&taken) && self.matcher.rollback(n).is_ok();
        if !rolled_back {
            // The library cannot roll back after an error, over a token that ends an answer, and in a grammar with
            // `max_tokens` or `stop`: replay the answer from its start.
            self.matcher = self.fresh.deep_clone();
            for &token in &self.accepted {
                self.matcher.consume_token(token).map_err(stuck)?;
            }
        }
        Ok(())
    }

    /// True if one of the tokens ends an answer. On a roll-back the library treats such a token as not part of the
    /// text, which is wrong if the grammar names it.
    fn has_end(&self, tokens: &[u32]) -> bool {
        let env = self.matcher.tok_env();
        env.is_ok_and(|env| tokens.iter().any(|token| env.tok_trie().eos_tokens().contains(token)))
    }

    /// True if the grammar is satisfied and allows no further token.
    pub fn is_complete(&self) -> bool {
        self.begun && self.matcher.is_stopped()
    }

    /// Starts another answer.
    pub fn restart(&mut self) {
        self.matcher = self.fresh.deep_clone();
        self.accepted.clear();
        self.waited = 0;
        self.begun = !self.waits;
    }
}

fn stuck(error: impl Display) -> ConstraintError {
    ConstraintError::Stuck(error.to_string())
}

impl std::fmt::Debug for Constraint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Constraint")
            .field("n_vocab", &self.n_vocab)
            .field("begun", &self.begun)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for ConstraintFactory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConstraintFactory").field("n_vocab", &self.n_vocab).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
