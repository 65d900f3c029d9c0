//! DRY: tokens that would continue a verbatim repetition become less likely.
//!
//! By p-e-w's description of 2024. A sequence breaker is found in the tokens' bytes as they come, so it may lie across
//! tokens; the repetition that counts begins after the token in which the last one ends.

use std::collections::HashMap;

use super::DryParams;
use super::history::Ring;
use crate::text::Tokenizer;

/// The tokens that DRY looks at, and its working memory.
pub(super) struct Dry {
    params: DryParams,
    ring: Ring,
    breakers: Breakers,
    /// Tokens since the one in which the last breaker ended.
    since_break: usize,
    /// The window, the newest first, and how long the repetition is that ends at each of its tokens.
    window: Vec<u32>,
    repeated: Vec<usize>,
    /// The longest repetition that each token would continue.
    continued: HashMap<u32, usize>,
}

impl Dry {
    /// DRY without breakers, or with the breakers of `params` as they are spelled in `tokenizer`'s tokens.
    pub(super) fn new(params: &DryParams, tokenizer: Option<&Tokenizer>) -> Dry {
        let length = if params.acts() { params.penalty_last_n } else { 0 };
        let tokenizer = tokenizer.filter(|_| length > 0);
        Dry {
            params: params.clone(),
            ring: Ring::new(length),
            breakers: tokenizer.map_or_else(Breakers::none, |t| Breakers::new(&params.sequence_breakers, t)),
            since_break: 0,
            window: Vec::with_capacity(length),
            repeated: Vec::with_capacity(length),
            continued: if length == 0 { HashMap::new() } else { HashMap::with_capacity(2 * length) },
        }
    }

    pub(super) fn push(&mut self, token: u32) {
        if self.params.acts() {
            self.ring.push(token);
            self.since_break = if self.breakers.end_in(token) { 0 } else { self.since_break + 1 };
        }
    }

    pub(super) fn clear(&mut self) {
        self.ring.clear();
        self.breakers.restart();
        self.since_break = 0;
    }

    /// The tokens that would continue a repetition, with what they lose.
    pub(super) fn penalties(&mut self) -> impl Iterator<Item = (u32, f64)> {
        let allowed = self.params.allowed_length;
        self.continued.clear();
        self.window.clear();
        self.window.extend(self.ring.newest_first());
        if self.window.len() > allowed && self.since_break >= allowed {
            common_prefixes(&self.window, &mut self.repeated);
            // Where a repetition ends, the token after it, one newer, would continue it.
            for (&token, &length) in self.window.iter().zip(self.repeated.iter().skip(1)) {
                let length = length.min(self.since_break);
                if length >= allowed && !self.breakers.within(token) {
                    let longest = self.continued.entry(token).or_insert(0);
                    *longest = length.max(*longest);
                }
            }
        }
        let (multiplier, base) = (f64::from(self.params.multiplier), f64::from(self.params.base));
        self.continued.iter().map(move |(&token, &length)| {
            let beyond = i32::try_from(length - allowed).unwrap_or(i32::MAX);
            (token, multiplier * base.powi(beyond))
        })
    }
}

/// For each position the length of the longest common prefix of the whole and of what begins there (the Z function,
/// Gusfield 1997), in linear time.
fn common_prefixes(tokens: &[u32], lengths: &mut Vec<usize>) {
    lengths.clear();
    let n = tokens.len();
    // The part of the window that is known to equal its beginning: the match that reaches furthest.
    let (mut start, mut end) = (0, 0);
    for at in 0..n {
        let mut length = match at {
            0 => n,
            _ if at < end => lengths[at - start].min(end - at),
            _ => 0,
        };
        while at + length < n && tokens[length] == tokens[at + length] {
            length += 1;
        }
        if at > 0 && at + length > end {
            (start, end) = (at, at + length);
        }
        lengths.push(length);
    }
}

/// Finds texts in the bytes of tokens that come one by one.
struct Breakers {
    /// Each breaker's bytes, the longest border of each of its prefixes, and how many of its bytes match now.
    texts: Vec<(Vec<u8>, Vec<usize>, usize)>,
    /// The bytes of every token, one after the other, and where each ends.
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Breakers {
    fn none() -> Breakers {
        Breakers { texts: Vec::new(), bytes: Vec::new(), ends: Vec::new() }
    }

    fn new(texts: &[String], tokenizer: &Tokenizer) -> Breakers {
        let texts = texts.iter().map(|text| (text.as_bytes().to_vec(), borders(text.as_bytes()), 0));
        let mut breakers = Breakers { texts: texts.collect(), ..Breakers::none() };
        if breakers.texts.is_empty() {
            return breakers;
        }
        for id in 0..tokenizer.n_vocab() as u32 {
            tokenizer.decode_into(id, true, &mut breakers.bytes);
            breakers.ends.push(breakers.bytes.len());
        }
        breakers
    }

    fn restart(&mut self) {
        self.texts.iter_mut().for_each(|(_, _, matched)| *matched = 0);
    }

    fn bytes_of(&self, token: u32) -> &[u8] {
        let index = token as usize;
        let start = index.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        self.ends.get(index).and_then(|&end| self.bytes.get(start..end)).unwrap_or_default()
    }

    /// Whether a token has a whole breaker in its own bytes.
    fn within(&self, token: u32) -> bool {
        let bytes = self.bytes_of(token);
        self.texts.iter().any(|(text, _, _)| bytes.windows(text.len()).any(|window| window == text))
    }

    /// Takes the next token of the text, and says whether a breaker ends in it (Knuth, Morris, Pratt 1977).
    fn end_in(&mut self, token: u32) -> bool {
        let mut texts = std::mem::take(&mut self.texts);
        let mut found = false;
        for (text, borders, matched) in &mut texts {
            for byte in self.bytes_of(token) {
                while *matched > 0 && (*matched == text.len() || text[*matched] != *byte) {
                    *matched = borders[*matched - 1];
                }
                *matched += usize::from(text[*matched] == *byte);
                found |= *matched == text.len();
            }
        }
        self.texts = texts;
        found
    }
}

/// For each prefix, by its last byte, the length of its longest proper border: what it begins and ends with.
fn borders(text: &[u8]) -> Vec<usize> {
    let mut borders = vec![0; text.len()];
    for end in 1..text.len() {
        let mut length = borders[end - 1];
        while length > 0 && text[length] != text[end] {
            length = borders[length - 1];
        }
        borders[end] = length + usize::from(text[length] == text[end]);
    }
    borders
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::common_prefixes;

    proptest! {
        #[test]
        fn common_prefixes_are_what_they_are_called(tokens in prop::collection::vec(0u32..3, 0..40)) {
            let mut lengths = Vec::new();
            common_prefixes(&tokens, &mut lengths);
            let plain = |at: usize| tokens.iter().zip(&tokens[at..]).take_while(|(a, b)| a == b).count();
            prop_assert_eq!(lengths, (0..tokens.len()).map(plain).collect::<Vec<_>>());
        }
    }
}
