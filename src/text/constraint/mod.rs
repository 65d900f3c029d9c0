//! Constrained output: which tokens a grammar or a JSON schema allows next.
//!
//! The `llguidance` library follows the grammar over the bytes of the text; a trie of the vocabulary's bytes tells it
//! which tokens fit. Control tokens never fit, but for those that end an answer, where the grammar is satisfied. `gbnf` translates grammars in GBNF.
//!
//! This folder knows a `Tokenizer`. It knows no sampler and no model: it is given logits and masks them.

mod gbnf;

use std::fmt::Display;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use llguidance::api::TopLevelGrammar;
use llguidance::panic_utils::catch_unwind;
use llguidance::{Matcher, ParserFactory};
use serde_json::{Value, json};
use toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie};

use crate::text::tokenizer::{TokenKind, Tokenizer};
pub use gbnf::GbnfError;

/// Why a constraint cannot be made or followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConstraintError {
    /// A vocabulary that output cannot be constrained in.
    #[error("output cannot be constrained with this vocabulary: {0}")]
    Vocabulary(String),
    /// A schema that is no JSON.
    #[error("the JSON schema is no JSON: {0}")]
    Json(String),
    /// A schema that cannot be followed.
    #[error("the JSON schema cannot be used: {0}")]
    Schema(String),
    /// A grammar that cannot be followed.
    #[error("the grammar cannot be used: {0}")]
    Grammar(String),
    /// A grammar in GBNF that is malformed.
    #[error("the grammar (GBNF) is malformed: {0}")]
    Gbnf(#[from] GbnfError),
    /// Text that a constraint cannot go on from.
    #[error("the constraint cannot be followed further: {0}")]
    Stuck(String),
    /// More tokens were to be taken back than there are.
    #[error("cannot take back {asked} tokens: the constraint accepted {accepted} since the answer began")]
    Rewind {
        /// The tokens to take back.
        asked: usize,
        /// The tokens accepted so far.
        accepted: usize,
    },
}

/// White space that a JSON answer may have between two of its tokens: models left free to write any amount of it may
/// never stop.
const JSON_SPACE: &str = r"\x20|\x0A[\x20\x09]{0,20}";

/// The longest token that the trie holds. Longer ones are never allowed.
const LONGEST_TOKEN: usize = 255;

/// Makes constraints over one vocabulary.
pub struct ConstraintFactory {
    factory: ParserFactory,
    n_vocab: usize,
}

impl ConstraintFactory {
    /// Indexes a vocabulary.
    ///
    /// # Errors
    /// [`ConstraintError::Vocabulary`] if it has no token that ends an answer.
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

    /// Output that is JSON and satisfies a JSON schema, given as JSON text. Between its tokens there is at most a space,
    /// or a line end and an indentation; the key `x-guidance` of the schema changes that and other options of
    /// `llguidance`.
    ///
    /// # Errors
    /// [`ConstraintError::Json`] says where the schema is no JSON, [`ConstraintError::Schema`] what of it is not
    /// supported: nothing of a schema is ignored.
    pub fn json_schema(&self, schema: &str) -> Result<Constraint, ConstraintError> {
        let parsed: Result<Value, _> = serde_json::from_str(schema);
        let mut schema = parsed.map_err(|error| ConstraintError::Json(error.to_string()))?;
        // The same, with room for an option.
        if schema == Value::Bool(true) {
            schema = json!({});
        }
        if let Some(object) = schema.as_object_mut() {
            object.entry("x-guidance").or_insert_with(|| json!({ "whitespace_pattern": JSON_SPACE }));
        }
        self.make(TopLevelGrammar::from_json_schema(schema)).map_err(ConstraintError::Schema)
    }

    /// Output that a grammar derives: one in `llguidance`'s variant of Lark, or in llama.cpp's GBNF, which is known by
    /// its `::=`.
    ///
    /// # Errors
    /// [`ConstraintError::Grammar`] or [`ConstraintError::Gbnf`], with the line.
    pub fn grammar(&self, grammar: &str) -> Result<Constraint, ConstraintError> {
        let lark = match gbnf::is_gbnf(grammar) {
            true => gbnf::to_lark(grammar)?,
            false => grammar.to_string(),
        };
        self.make(TopLevelGrammar::from_lark(lark)).map_err(ConstraintError::Grammar)
    }

    fn make(&self, grammar: TopLevelGrammar) -> Result<Constraint, String> {
        // The library's panics are errors, as they are while it matches.
        let parser = catch_unwind(AssertUnwindSafe(|| self.factory.create_parser(grammar)))
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

/// The bytes that the trie knows a token by; none for one that no output may hold.
fn bytes_in_trie(tokenizer: &Tokenizer, id: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    match tokenizer.kind(id) {
        // The mark of special tokens, which a grammar may name. A token that ends an answer is never text, whatever kind
        // the file gives it: chosen as text, it would end the answer in the middle.
        kind if matches!(kind, Some(TokenKind::Control | TokenKind::Unknown))
            || tokenizer.is_end_of_generation(id) =>
        {
            bytes.push(TokTrie::SPECIAL_TOKEN_MARKER);
            tokenizer.decode_into(id, true, &mut bytes);
        }
        Some(TokenKind::Unused) | None => {}
        // The byte 0xFF is in no UTF-8, and would look like the mark.
        Some(_) => {
            tokenizer.decode_into(id, true, &mut bytes);
            bytes = if bytes.first() == Some(&TokTrie::SPECIAL_TOKEN_MARKER) { Vec::new() } else { bytes };
        }
    }
    if bytes.len() > LONGEST_TOKEN { Vec::new() } else { bytes }
}

/// The tokens that may come next in one answer. A clone goes on from the same place by itself.
pub struct Constraint {
    matcher: Matcher,
    /// As it was before the first token.
    fresh: Arc<Matcher>,
    /// The tokens of the answer so far.
    accepted: Vec<u32>,
    n_vocab: usize,
}

impl Clone for Constraint {
    /// Copies the library's caches too: shared ones would be locked by every mask, and their limits spent in common.
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
    /// Rules out, as −∞, the logits of all tokens that may not come next.
    ///
    /// # Errors
    /// [`ConstraintError::Stuck`] if no token may come next, or following the grammar takes too much work.
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

    /// Goes on with a token that the mask allowed.
    ///
    /// # Errors
    /// [`ConstraintError::Stuck`] if it did not.
    pub fn accept(&mut self, token: u32) -> Result<(), ConstraintError> {
        self.matcher.consume_token(token).map_err(stuck)?;
        self.accepted.push(token);
        Ok(())
    }

    /// Takes back the last `n` accepted tokens: everything is as it was before the first of them. This also ends the
    /// state of [`ConstraintError::Stuck`], even with `n` = 0.
    ///
    /// # Errors
    /// [`ConstraintError::Rewind`] if fewer tokens were accepted since the answer began.
    pub fn rewind(&mut self, n: usize) -> Result<(), ConstraintError> {
        let accepted = self.accepted.len();
        let Some(left) = accepted.checked_sub(n) else {
            return Err(ConstraintError::Rewind { asked: n, accepted });
        };
        let taken = self.accepted.split_off(left);
        let rolled_back =
            !self.matcher.is_error() && !self.has_end(&taken) && self.matcher.rollback(n).is_ok();
        if !rolled_back {
            // After an error, over a token that ends an answer, and in a grammar with `max_tokens` or `stop` the library
            // cannot roll back: the answer is followed again from its start.
            self.matcher = self.fresh.deep_clone();
            for &token in &self.accepted {
                self.matcher.consume_token(token).map_err(stuck)?;
            }
        }
        Ok(())
    }

    /// Whether one of the tokens ends an answer. The library takes such a token for no part of the text when it rolls
    /// back, which is wrong where the grammar names it.
    fn has_end(&self, tokens: &[u32]) -> bool {
        let env = self.matcher.tok_env();
        env.is_ok_and(|env| tokens.iter().any(|token| env.tok_trie().eos_tokens().contains(token)))
    }

    /// Whether the grammar is satisfied and allows nothing more.
    pub fn is_complete(&self) -> bool {
        self.matcher.is_stopped()
    }

    /// Begins another answer.
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
