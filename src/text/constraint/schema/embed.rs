//! Schemas, and patterns of texts outside of JSON, within a larger grammar in Lark.

use std::fmt::Write;

use llguidance::api::{GrammarInit, ParserLimits, TopLevelGrammar};
use llguidance::derivre::RegexAst;
use serde_json::Value;

use super::lexemes::{self, Lexeme};
use super::{Refusal, locate, pattern, rewrite};

/// The schemas in a grammar.
#[derive(Default)]
pub(in crate::text) struct Embedded {
    lexemes: Vec<Lexeme>,
}

impl Embedded {
    /// The part of a schema at a path, as an atom of a rule.
    ///
    /// # Errors
    /// The part that cannot be kept.
    pub(in crate::text) fn schema(&mut self, root: &Value, path: &str) -> Result<String, Refusal> {
        let rewritten = rewrite::rewrite(root, path, self.lexemes.len())?;
        self.lexemes.extend(rewritten.lexemes);
        Ok(format!("%json {}", rewritten.schema))
    }

    /// Refuses a part of a schema that cannot be kept.
    ///
    /// # Errors
    /// The part of it.
    pub(in crate::text) fn check(&self, root: &Value, path: &str) -> Result<(), Refusal> {
        rewrite::rewrite(root, path, 0).map(|_| ())
    }

    /// The grammar.
    ///
    /// # Errors
    /// The library's reason.
    pub(in super::super) fn compile(self, lark: &str, limits: &ParserLimits) -> Result<GrammarInit, String> {
        let init = GrammarInit::Serialized(TopLevelGrammar::from_lark(lark.to_owned()));
        let (grammar, lexer) =
            init.to_internal(None, limits.clone()).map_err(|error| format!("{error:#}"))?;
        Ok(GrammarInit::Internal(grammar, lexemes::put(lexer, self.lexemes)?))
    }
}

/// The reason why the part of a schema at a path cannot be kept, if it cannot.
pub(in super::super) fn refusal(root: &Value, path: &str, limits: &ParserLimits) -> Option<Refusal> {
    let refusal = super::compile(root, path, limits).err()?;
    Some(locate(root, limits, refusal))
}

/// The texts in which a pattern matches somewhere, as the body of a terminal, and whether the empty text is one.
///
/// # Errors
/// The reason why the pattern cannot be kept.
pub(in crate::text) fn pattern_terminal(pattern: &str) -> Result<(String, bool), String> {
    let mut out = String::new();
    let expression = pattern::text(pattern)?;
    write_terminal(&expression, &mut out)?;
    Ok((out, pattern::allows_empty(&expression)?))
}

/// Writes an expression as the body of a terminal. The patterns' nesting is limited, and with it this recursion.
fn write_terminal(expression: &RegexAst, out: &mut String) -> Result<(), String> {
    let list = |parts: &[RegexAst], between: &str, out: &mut String| {
        out.push('(');
        for (n, part) in parts.iter().enumerate() {
            out.push_str(if n > 0 { between } else { "" });
            write_terminal(part, out)?;
        }
        out.push(')');
        Ok(())
    };
    match expression {
        RegexAst::And(parts) => list(parts, " & ", out),
        RegexAst::Or(parts) if parts.is_empty() => write_terminal(&RegexAst::NoMatch, out),
        RegexAst::Or(parts) => list(parts, " | ", out),
        RegexAst::Concat(parts) if parts.is_empty() => write_terminal(&RegexAst::EmptyString, out),
        RegexAst::Concat(parts) => list(parts, " ", out),
        RegexAst::Not(part) => {
            out.push('~');
            list(std::slice::from_ref(&**part), "", out)
        }
        RegexAst::Repeat(part, least, most) => {
            list(std::slice::from_ref(&**part), "", out)?;
            let most = if *most == u32::MAX { String::new() } else { most.to_string() };
            // A terminal's repetition takes 31 bits.
            let _ = write!(out, "{{{},{most}}}", (*least).min(i32::MAX as u32));
            Ok(())
        }
        RegexAst::EmptyString => {
            out.push_str("\"\"");
            Ok(())
        }
        RegexAst::Literal(text) => {
            let _ = write!(out, "{}", Value::from(text.as_str()));
            Ok(())
        }
        RegexAst::Regex(regex) => {
            let _ = write!(out, "/{regex}/");
            Ok(())
        }
        RegexAst::NoMatch => {
            out.push_str("/[^\\s\\S]/");
            Ok(())
        }
        _ => Err("has an expression that is not supported".into()),
    }
}
