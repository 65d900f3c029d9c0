//! Compiles grammars in GBNF, llama.cpp's form of BNF, into grammars of the `llguidance` library.
//!
//! GBNF works on characters. So each character of a literal and each class becomes its own lexeme: then the lexer's
//! rule of the longest match never applies, and the language is the same. A reference to a token is a lexeme too, which
//! `tokens` resolves. `read` makes plain rules of a text, `regular` makes deterministic automata of its regular parts, `tails`
//! turns other right recursion into left recursion, `factor` joins alternatives that begin alike, `emit` makes the library's
//! grammar. None of them recurses deeper than the groups of a text, of which `read` allows a hundred.

mod emit;
mod factor;
mod read;
mod regular;
mod rules;
mod tails;
mod tokens;

use toktrie::TokTrie;

pub(super) use emit::emit;
pub(super) use read::is_gbnf;

/// An error in a grammar, with its line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct GbnfError {
    /// The line, counted from 1.
    pub line: usize,
    /// Description of the error.
    pub reason: String,
}

/// Reads a grammar, which may name tokens of a vocabulary, and brings its rules into the form that is followed fastest.
pub(super) fn read(grammar: &str, vocabulary: &TokTrie) -> Result<rules::Rules, GbnfError> {
    let mut rules = read::read(grammar, vocabulary)?;
    if !rules.drop_endless() {
        let reason = "no text satisfies the grammar: each of its texts would be endless";
        return Err(GbnfError { line: 1, reason: reason.into() });
    }
    regular::make_deterministic(&mut rules);
    tails::make_left_recursive(&mut rules);
    factor::join_beginnings(&mut rules);
    rules.mark_nullable();
    Ok(rules)
}
