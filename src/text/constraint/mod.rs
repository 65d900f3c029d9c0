//! Constrained output: masks the tokens that a grammar or a JSON schema does not allow next.
//!
//! The `llguidance` library follows the grammar over the bytes of the text, and matches tokens through a trie of the
//! vocabulary's bytes. Control tokens never match, except those that end an answer once the grammar is satisfied.
//! `gbnf` compiles GBNF grammars.
//!
//! This folder knows a `Tokenizer`. It knows no sampler and no model: it masks the logits it is given.

mod gbnf;

use std::fmt::Display;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use llguidance::api::{GrammarInit, TopLevelGrammar};
use llguidance::panic_utils::catch_unwind;
use llguidance::{Matcher, ParserFactory};
use serde_json::{Value, json};
use toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie};

use crate::text::tokenizer::{TokenKind, Tokenizer};
pub use gbnf::GbnfError;

/// Reason why a constraint cannot be made or followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConstraintError {
    /// The vocabulary does not support constraints.
    #[error("output cannot be constrained with this vocabulary: {0}")]
    Vocabulary(String),
    /// The schema is not valid JSON.
    #[error("the JSON schema is no JSON: {0}")]
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

/// White space allowed between two tokens of a JSON answer: with unlimited white space, models may never stop.
const JSON_SPACE: &str = r"\x20|\x0A[\x20\x09]{0,20}";

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
        factory.quiet().limits_mut().verbose_errors = false;
        Ok(ConstraintFactory { factory, n_vocab })
    }

    /// Output that is JSON and satisfies a JSON schema, given as JSON text. Its tokens are separated by at most a
    /// space, or a newline and indentation; the schema's key `x-guidance` changes this and other options of
    /// `llguidance`.
    ///
    /// # Errors
    /// [`ConstraintError::Json`] locates the JSON error; [`ConstraintError::Schema`] names an unsupported feature: no
    /// part of a schema is ignored.
    pub fn json_schema(&self, schema: &str) -> Result<Constraint, ConstraintError> {
        let parsed: Result<Value, _> = serde_json::from_str(schema);
        let mut schema = parsed.map_err(|error| ConstraintError::Json(error.to_string()))?;
        // An equivalent object, so that an option can be added.
        if schema == Value::Bool(true) {
            schema = json!({});
        }
        if let Some(object) = schema.as_object_mut() {
            object.entry("x-guidance").or_insert_with(|| json!({ "whitespace_pattern": JSON_SPACE }));
        }
        self.make(GrammarInit::Serialized(TopLevelGrammar::from_json_schema(schema)))
            .map_err(ConstraintError::Schema)
    }

    /// Output that a grammar derives, in `llguidance`'s variant of Lark or in llama.cpp's GBNF, which is recognized by
    /// its `::=`.
    ///
    /// # Errors
    /// [`ConstraintError::Grammar`] or [`ConstraintError::Gbnf`], with the line.
    pub fn grammar(&self, grammar: &str) -> Result<Constraint, ConstraintError> {
        let init = match gbnf::is_gbnf(grammar) {
            true => gbnf::emit(&gbnf::read(grammar)?).map_err(ConstraintError::Grammar)?,
            false => GrammarInit::Serialized(TopLevelGrammar::from_lark(grammar.to_string())),
        };
        self.make(init).map_err(ConstraintError::Grammar)
    }

    fn make(&self, grammar: GrammarInit) -> Result<Constraint, String> {
        // Panics of the library become errors, as they do while matching.
        let parser = catch_unwind(AssertUnwindSafe(|| self.factory.create_parser_from_init_default(grammar)))
            .map_err(|error| format!("{error:#}"))?;
        let fresh = Matcher::new(Ok(parser));
        match fresh.get_error() {
            Some(error) => Err(error),
            None => Ok(Constraint {
                matcher: fresh.deep_clone(),
                fresh: Arc::new(fresh),
                accepted: Vec::new(),
                n_vocab: self.n_vocab,
            }),
        }
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
pub struct Constraint {
    matcher: Matcher,
    /// The state before the first token.
    fresh: Arc<Matcher>,
    /// The tokens of the answer so far.
    accepted: Vec<u32>,
    n_vocab: usize,
}

impl Clone for Constraint {
    /// Also copies the library's caches: shared ones would be locked by every mask, and share their limits.
    fn clone(&self) -> Constraint {
        Constraint {
            matcher: self.matcher.deep_clone(),
            fresh: self.fresh.clone(),
            accepted: self.accepted.clone(),
            n_vocab: self.n_vocab,
        }
    }
}

impl Constraint {
    /// Sets the logits of all tokens that are not allowed next to −∞.
    ///
    /// # Errors
    /// [`ConstraintError::Stuck`] if no token is allowed, or following the grammar exceeds the library's limits.
    pub fn mask(&mut self, logits: &mut [f32]) -> Result<(), ConstraintError> {
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
        self.matcher.consume_token(token).map_err(stuck)?;
        self.accepted.push(token);
        Ok(())
    }

    /// Rewinds the last `n` accepted tokens: restores the state before the first of them. This also clears
    /// [`ConstraintError::Stuck`], even with `n` = 0.
    ///
    /// # Errors
    /// [`ConstraintError::Rewind`] if fewer tokens were accepted in this answer.
    pub fn rewind(&mut self, n: usize) -> Result<(), ConstraintError> {
        let accepted = self.accepted.len();
        let Some(left) = accepted.checked_sub(n) else {
            return Err(ConstraintError::Rewind { asked: n, accepted });
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
        self.matcher.is_stopped()
    }

    /// Starts another answer.
    pub fn restart(&mut self) {
        self.matcher = self.fresh.deep_clone();
        self.accepted.clear();
    }
}

fn stuck(error: impl Display) -> ConstraintError {
    ConstraintError::Stuck(error.to_string())
}

impl std::fmt::Debug for Constraint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Constraint").field("n_vocab", &self.n_vocab).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for ConstraintFactory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConstraintFactory").field("n_vocab", &self.n_vocab).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
