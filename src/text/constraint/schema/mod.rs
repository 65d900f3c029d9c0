//! Compiles JSON schemas, with the schema compiler of the `llguidance` library between two steps of ours.
//!
//! `rewrite` makes an equivalent schema that the library keeps: it resolves references, drops annotations, and names the
//! keyword and its path where a schema cannot be kept. Patterns (`pattern`), numbers beyond 2^53 (`number`) and ranges with
//! excluded bounds (`decimal`) become regular expressions, which stand in the schema as placeholders and are put into the
//! compiled grammar by `lexemes`.
//! `exclusive` finds out that the choices of a `oneOf` exclude each other.

mod decimal;
mod digits;
mod ecma;
mod embed;
mod exclusive;
mod keywords;
mod lexemes;
mod locate;
mod number;
mod one_of;
mod pattern;
mod placeholders;
mod pointer;
mod references;
mod rewrite;

use llguidance::api::{GrammarInit, ParserLimits, TopLevelGrammar};
use serde_json::Value;

pub(super) use embed::refusal;
pub(in crate::text) use embed::{Embedded, pattern_terminal};
pub(super) use locate::locate;

/// Most subschemas of a schema, those of references counted where they are used.
const MOST_SUBSCHEMAS: usize = 20_000;

/// A schema that cannot be kept: the path of the keyword and the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::text) struct Refusal {
    /// A JSON pointer with a `#`.
    pub(in crate::text) path: String,
    pub(in crate::text) reason: String,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.path, self.reason)
    }
}

/// The grammar of the part of a schema at a path, such as `#` for all of it.
pub(super) fn compile(schema: &Value, path: &str, limits: &ParserLimits) -> Result<GrammarInit, Refusal> {
    let rewritten = rewrite::rewrite(schema, path, 0)?;
    let refused = |reason: String| match reason.contains("oneOf constraints") {
        true => {
            Refusal { path: format!("{path}/oneOf"), reason: "its choices may hold at the same time".into() }
        }
        false => Refusal { path: path.into(), reason },
    };
    let init = GrammarInit::Serialized(TopLevelGrammar::from_json_schema(rewritten.schema));
    let (grammar, lexer) =
        init.to_internal(None, limits.clone()).map_err(|error| refused(format!("{error:#}")))?;
    let lexer = lexemes::put(lexer, rewritten.lexemes).map_err(refused)?;
    Ok(GrammarInit::Internal(grammar, lexer))
}
