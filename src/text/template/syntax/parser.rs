//! The tokens of a template, one after the other.

use super::SyntaxError;
use super::lexer::Token;

/// Reads tokens one after the other.
pub(super) struct Parser {
    pub(super) tokens: Vec<(Token, usize)>,
    pub(super) at: usize,
    /// Nesting of the expression that is read.
    pub(super) depth: usize,
}

impl Parser {
    pub(super) fn new(tokens: Vec<(Token, usize)>) -> Parser {
        Parser { tokens, at: 0, depth: 0 }
    }

    pub(super) fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|(token, _)| token)
    }

    /// The tokens from the next one on.
    pub(super) fn ahead(&self) -> impl Iterator<Item = &Token> {
        self.tokens.get(self.at..).unwrap_or_default().iter().map(|(token, _)| token)
    }

    pub(super) fn line(&self) -> usize {
        self.tokens.get(self.at).or(self.tokens.last()).map_or(1, |&(_, line)| line)
    }

    pub(super) fn next(&mut self) -> Option<Token> {
        let token =
            self.tokens.get_mut(self.at).map(|(token, _)| std::mem::replace(token, Token::VariableEnd));
        self.at += 1;
        token
    }

    pub(super) fn error(&self, reason: impl Into<String>) -> SyntaxError {
        SyntaxError { line: self.line(), reason: reason.into() }
    }

    pub(super) fn unexpected<T>(&self, expected: &str) -> Result<T, SyntaxError> {
        Err(self.error(match self.peek() {
            Some(Token::Name(name)) => format!("unexpected {name}, expected {expected}"),
            Some(Token::Op(op)) => format!("unexpected {op}, expected {expected}"),
            Some(Token::BlockEnd | Token::VariableEnd) => {
                format!("unexpected end of tag, expected {expected}")
            }
            Some(Token::Text(_)) => format!("unexpected string, expected {expected}"),
            Some(Token::Integer(_) | Token::Float(_)) => format!("unexpected number, expected {expected}"),
            _ => format!("unexpected end, expected {expected}"),
        }))
    }

    pub(super) fn is_op(&self, op: &str) -> bool {
        matches!(self.peek(), Some(Token::Op(found)) if *found == op)
    }

    pub(super) fn is_name(&self, name: &str) -> bool {
        matches!(self.peek(), Some(Token::Name(found)) if found == name)
    }

    pub(super) fn skip_op(&mut self, op: &str) -> bool {
        let found = self.is_op(op);
        self.at += usize::from(found);
        found
    }

    pub(super) fn skip_name(&mut self, name: &str) -> bool {
        let found = self.is_name(name);
        self.at += usize::from(found);
        found
    }

    pub(super) fn expect_op(&mut self, op: &str) -> Result<(), SyntaxError> {
        if self.skip_op(op) { Ok(()) } else { self.unexpected(op) }
    }

    pub(super) fn expect_name(&mut self, expected: &str) -> Result<String, SyntaxError> {
        match self.peek() {
            Some(Token::Name(_)) => match self.next() {
                Some(Token::Name(name)) => Ok(name),
                _ => self.unexpected(expected),
            },
            _ => self.unexpected(expected),
        }
    }
}
