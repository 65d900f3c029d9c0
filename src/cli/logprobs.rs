//! Log-probabilities in the format of `--json`.

use serde::Serialize;

use crate::sampling::TokenLogprobs;
use crate::text::Tokenizer;

/// A token of an answer.
#[derive(Serialize)]
pub(super) struct Logprob {
    #[serde(flatten)]
    token: Token,
    /// The most probable tokens at its position, most probable first.
    top: Vec<Token>,
}

/// A token with its log-probability.
#[derive(Serialize)]
struct Token {
    id: u32,
    /// Its text, if it is valid UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    /// Its bytes, if it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<Vec<u8>>,
    /// `null` for a token of probability 0.
    logprob: f64,
}

impl Token {
    fn new(id: u32, logprob: f64, tokenizer: &Tokenizer) -> Token {
        let mut bytes = Vec::new();
        tokenizer.decode_into(id, true, &mut bytes);
        let (text, bytes) = match String::from_utf8(bytes) {
            Ok(text) => (Some(text), None),
            Err(error) => (None, Some(error.into_bytes())),
        };
        Token { id, text, bytes, logprob }
    }
}

impl Logprob {
    /// The tokens of an answer, in order.
    pub(super) fn list(tokens: &[TokenLogprobs], tokenizer: &Tokenizer) -> Vec<Logprob> {
        let top = |token: &TokenLogprobs| {
            token.top.iter().map(|&(id, logprob)| Token::new(id, logprob, tokenizer)).collect()
        };
        let one = |token: &TokenLogprobs| Logprob {
            token: Token::new(token.token, token.logprob, tokenizer),
            top: top(token),
        };
        tokens.iter().map(one).collect()
    }
}
