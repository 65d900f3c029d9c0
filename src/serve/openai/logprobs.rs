//! Log-probabilities of tokens in OpenAI's forms.

use serde_json::{Value, json};

use crate::sampling::TokenLogprobs;
use crate::text::Tokenizer;

/// The least number that JSON clients read as a logarithm of 0.
const LEAST: f64 = -9999.0;

/// A log-probability that JSON can hold.
pub(super) fn finite(logprob: f64) -> f64 {
    logprob.max(LEAST)
}

/// A token's text; bytes that are no characters become U+FFFD.
pub(in crate::serve) fn token_text(tokenizer: &Tokenizer, id: u32) -> String {
    String::from_utf8_lossy(tokenizer.token_bytes(id)).into_owned()
}

fn entry(tokenizer: &Tokenizer, id: u32, logprob: f64) -> Value {
    json!({
        "id": id,
        "token": token_text(tokenizer, id),
        "logprob": finite(logprob),
        "bytes": tokenizer.token_bytes(id),
    })
}

/// An entry of a chat's `logprobs.content`.
pub(in crate::serve) fn chat_entry(tokenizer: &Tokenizer, token: &TokenLogprobs) -> Value {
    let mut value = entry(tokenizer, token.token, token.logprob);
    value["top_logprobs"] = token.top.iter().map(|&(id, logprob)| entry(tokenizer, id, logprob)).collect();
    value
}

/// The `logprobs` of a completion: parallel lists. The first token of a prompt has no probability.
#[derive(Debug, Default)]
pub(super) struct Lists {
    tokens: Vec<Value>,
    token_logprobs: Vec<Value>,
    top_logprobs: Vec<Value>,
    text_offset: Vec<usize>,
    /// Characters so far.
    offset: usize,
}

impl Lists {
    /// Adds a token without a probability.
    pub fn first(&mut self, tokenizer: &Tokenizer, id: u32) {
        self.add(token_text(tokenizer, id), Value::Null, Value::Null);
    }

    /// Adds a token.
    pub fn push(&mut self, tokenizer: &Tokenizer, token: &TokenLogprobs) {
        let top = token.top.iter().map(|&(id, logprob)| (token_text(tokenizer, id), finite(logprob)));
        let top: serde_json::Map<String, Value> = top.map(|(text, logprob)| (text, logprob.into())).collect();
        self.add(token_text(tokenizer, token.token), finite(token.logprob).into(), top.into());
    }

    fn add(&mut self, text: String, logprob: Value, top: Value) {
        self.text_offset.push(self.offset);
        self.offset += text.chars().count();
        self.tokens.push(text.into());
        self.token_logprobs.push(logprob);
        self.top_logprobs.push(top);
    }

    /// The lists as JSON, which empties them; the offset goes on.
    pub fn take(&mut self) -> Value {
        json!({
            "tokens": std::mem::take(&mut self.tokens),
            "token_logprobs": std::mem::take(&mut self.token_logprobs),
            "top_logprobs": std::mem::take(&mut self.top_logprobs),
            "text_offset": std::mem::take(&mut self.text_offset),
        })
    }
}
