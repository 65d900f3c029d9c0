//! `rfgraph tokenize`: text to token ids and back.

use std::io::{self, IsTerminal};

use clap::Args;
use serde::Serialize;

use super::error::CliError;
use super::options::ModelArg;
use super::output::{print, print_json};
use super::text::{TextArgs, parse_ids};
use crate::text::{EncodeOptions, Tokenizer};

/// Convert text to token ids, or token ids to text
///
/// Prints the ids on one line, separated by spaces. The text is used as it is, with its trailing newline.
#[derive(Debug, Args)]
pub(super) struct TokenizeArgs {
    #[command(flatten)]
    model: ModelArg,
    #[command(flatten)]
    text: TextArgs,
    /// Decode instead: the input is token ids separated by white space. Prints only their text
    #[arg(long, conflicts_with_all = ["no_parse_special", "add_special"])]
    decode: bool,
    /// Do not parse special tokens in the text; tokenize them as plain text
    #[arg(long)]
    no_parse_special: bool,
    /// Add the model's special tokens around the text (BOS, EOS, CLS or SEP)
    #[arg(long)]
    add_special: bool,
    /// Print one JSON object with `tokens` and `pieces`; with --decode `tokens` and `text`
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Encoded<'t> {
    tokens: &'t [u32],
    /// The tokens in the vocabulary's spelling.
    pieces: Vec<&'t str>,
}

#[derive(Serialize)]
struct Decoded<'t> {
    tokens: &'t [u32],
    text: &'t str,
}

pub(super) fn run(args: &TokenizeArgs) -> Result<(), CliError> {
    let text = args.text.need()?;
    let tokenizer = args.model.open_tokenizer()?;
    if args.decode {
        return decode(args, &tokenizer, &text);
    }
    let options = EncodeOptions { add_special: args.add_special, parse_special: !args.no_parse_special };
    let tokens = tokenizer.encode(&text, options);
    if args.json {
        let pieces = tokens.iter().map(|&id| tokenizer.token_text(id).unwrap_or_default()).collect();
        return print_json(&Encoded { tokens: &tokens, pieces });
    }
    let ids: Vec<String> = tokens.iter().map(u32::to_string).collect();
    print(format_args!("{}\n", ids.join(" ")))
}

fn decode(args: &TokenizeArgs, tokenizer: &Tokenizer, ids: &str) -> Result<(), CliError> {
    let tokens = parse_ids(ids, "the text")?;
    let n_vocab = tokenizer.n_vocab();
    if let Some(id) = tokens.iter().find(|&&id| id as usize >= n_vocab) {
        return Err(CliError::Input(format!("token {id} is outside of the vocabulary of {n_vocab}")));
    }
    let text = tokenizer.decode(&tokens, true);
    if args.json {
        return print_json(&Decoded { tokens: &tokens, text: &text });
    }
    // Exact bytes for a file or a program; a final newline for a terminal.
    print(format_args!("{text}{}", if io::stdout().is_terminal() { "\n" } else { "" }))
}
