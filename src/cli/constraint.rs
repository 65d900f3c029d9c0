//! The options that constrain an answer.

use std::path::{Path, PathBuf};

use clap::Args;

use super::error::CliError;
use super::text::read_file;
use crate::text::{Constraint, ConstraintFactory, Tokenizer};

/// Options that constrain an answer.
#[derive(Debug, Args)]
#[command(next_help_heading = "Constrained output")]
pub(super) struct ConstraintArgs {
    /// Grammar file that the answer must match: llguidance's Lark, or GBNF
    #[arg(long, alias = "grammar-file", value_name = "FILE", conflicts_with = "json_schema")]
    grammar: Option<PathBuf>,
    /// JSON schema that the answer must match: a file, or the schema itself if it begins with `{`
    #[arg(long, alias = "json-schema-file", value_name = "FILE")]
    json_schema: Option<PathBuf>,
}

impl ConstraintArgs {
    /// The constraint, if one is requested.
    pub(super) fn open(&self, tokenizer: &Tokenizer) -> Result<Option<Constraint>, CliError> {
        let path = match (&self.grammar, &self.json_schema) {
            (Some(path), _) | (None, Some(path)) => path,
            (None, None) => return Ok(None),
        };
        let inline =
            path.to_str().filter(|text| self.grammar.is_none() && text.trim_start().starts_with('{'));
        let (text, source) = match inline {
            Some(text) => (text.to_string(), Path::new("--json-schema")),
            None => (read_file(path)?, path.as_path()),
        };
        let named = |error| CliError::Input(format!("{}: {error}", source.display()));
        let factory = ConstraintFactory::new(tokenizer).map_err(named)?;
        let made = if self.grammar.is_some() { factory.grammar(&text) } else { factory.json_schema(&text) };
        made.map(Some).map_err(named)
    }
}
