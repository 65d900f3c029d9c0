//! Jinja2's syntax, translated for the engine.
//!
//! The engine reads Jinja too, but some of the language cannot be replaced from outside: its operators do not follow
//! Python (`1 < 'a'` is true, `'%s' % x` an error, a backward slice may panic), its parser calls itself without a bound
//! on some paths, and text of the template that is captured escapes the bound of memory. So the source is read as
//! Jinja2 reads it (`lexer`, `expression`, `statement`) and printed again for the engine, with each operator a call of
//! a function of `python`. Lines keep their numbers. Nesting is counted before the recursion, here.
//!
//! This folder knows no values and no engine.

mod expression;
mod lexer;
mod parser;
mod printed;
mod statement;

pub(super) use statement::translate;

/// A syntax error, or a construct that has no translation.
#[derive(Debug, PartialEq)]
pub(super) struct SyntaxError {
    /// The line, counted from 1.
    pub(super) line: usize,
    pub(super) reason: String,
}

/// Prefix of the functions that a translation calls. No template may use it.
pub(super) const PREFIX: &str = "__rf_";

/// White space as Python has it.
pub(super) fn is_space(character: char) -> bool {
    character.is_whitespace() || matches!(character, '\x1c'..='\x1f')
}
