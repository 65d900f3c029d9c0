//! DRY ("don't repeat yourself"): tokens that would continue a verbatim repetition become less likely.
//!
//! Follows p-e-w's description of 2024. Sequence breakers are searched in the bytes of the tokens, so a breaker may
//! span tokens; repetitions count from the token after the one in which the last breaker ends.

use std::collections::HashMap;
use std::sync::Arc;

use super::candidates::{Candidates, Scratch, subtract};
use super::history::{MAX_WINDOW, Past, Ring};
use super::stage::{ActiveStage, Settings};
use super::{ParamError, Parameter, Range, Rng, Value};
use crate::text::Tokenizer;

/// The settings of DRY: a token that would continue a repetition of length n ≥ `allowed_length` loses `multiplier ·
/// base^(n − allowed_length)`.
#[derive(Clone, Debug, PartialEq)]
pub struct Dry {
    /// Penalty of the shortest penalized repetition; 0 turns DRY off.
    pub multiplier: f32,
    /// Factor of the penalty for each further token of repetition. A value below 1 turns DRY off.
    pub base: f32,
    /// Length of a repetition that is not penalized yet.
    pub allowed_length: usize,
    /// Number of last tokens to search, at most 16777216; 0 turns DRY off.
    pub last_n: usize,
    /// Texts that repetitions do not cross: tokens up to the last breaker do not count.
    pub sequence_breakers: Vec<String>,
}

impl Default for Dry {
    /// Off; base 1.75, two tokens allowed, 64 searched; the breakers are a newline, `:`, `"` and `*`.
    fn default() -> Dry {
        Dry {
            multiplier: 0.0,
            base: 1.75,
            allowed_length: 2,
            last_n: 64,
            sequence_breakers: ["\n", ":", "\"", "*"].map(String::from).to_vec(),
        }
    }
}

impl Dry {
    /// True if DRY acts and needs the tokens' texts.
    pub(super) fn needs_text(&self) -> bool {
        self.acts() && !self.sequence_breakers.is_empty()
    }
}

impl Settings for Dry {
    fn name() -> &'static str {
        "dry"
    }

    fn parameters(&mut self) -> Vec<Parameter<'_>> {
        let multiplier = Value::Number(&mut self.multiplier, Range::NotNegative);
        let base = Value::Number(&mut self.base, Range::NotNegative);
        let allowed = Value::Count(&mut self.allowed_length, usize::MAX);
        let last_n = Value::Count(&mut self.last_n, MAX_WINDOW);
        let breakers = Value::Texts(&mut self.sequence_breakers);
        vec![
            Parameter::new("dry_multiplier", "dry-multiplier", "A", multiplier)
                .help("DRY: penalty on tokens that would extend a repetition; 0: off"),
            Parameter::new("dry_base", "dry-base", "B", base)
                .help("DRY: factor of the penalty per further token of the repetition"),
            Parameter::new("dry_allowed_length", "dry-allowed-length", "N", allowed)
                .help("DRY: shortest repetition that is penalized, in tokens"),
            Parameter::new("dry_penalty_last_n", "dry-penalty-last-n", "N", last_n)
                .help("DRY: number of last tokens that are searched for repetitions; 0: off"),
            Parameter::new("dry_sequence_breakers", "dry-sequence-breaker", "TEXT", breakers).help(
                "DRY: sequence breaker, a text that ends a repetition; `none`: no breakers. May be repeated [default: a newline, `:`, `\"` and `*`]",
            ),
        ]
    }

    fn check(&self) -> Result<(), ParamError> {
        match self.sequence_breakers.iter().any(String::is_empty) {
            true => Err(ParamError::EmptyBreaker),
            false => Ok(()),
        }
    }

    fn acts(&self) -> bool {
        self.multiplier != 0.0 && self.base >= 1.0 && self.last_n > 0
    }

    fn changes_scores(&self) -> bool {
        true
    }

    fn start(&self, tokenizer: Option<&Tokenizer>) -> Box<dyn ActiveStage> {
        let breakers = Breakers::new(&self.sequence_breakers, tokenizer);
        let matched = vec![0; breakers.texts.len()];
        Box::new(ActiveDry {
            window: Ring::new(self.last_n),
            breakers,
            since_break: 0,
            past_since_break: Past::new(&0),
            past_matched: Past::new(&matched),
            matched,
            newest_first: Scratch::with_capacity(self.last_n),
            repeated: Scratch::with_capacity(self.last_n),
            continued: HashMap::with_capacity(2 * self.last_n),
            settings: self.clone(),
        })
    }

    /// Without sequence breakers, which need texts.
    #[cfg(test)]
    fn strategy() -> proptest::strategy::BoxedStrategy<Dry> {
        use proptest::strategy::Strategy;
        (0.1f32..1.0, 1.0f32..1.5, 0usize..3, 1usize..30)
            .prop_map(|(multiplier, base, allowed_length, last_n)| Dry {
                multiplier,
                base,
                allowed_length,
                last_n,
                sequence_breakers: vec![],
            })
            .boxed()
    }

    #[cfg(test)]
    fn reference(&self, chain: &mut super::tests::Chain, text: &[u32]) {
        let window = &text[text.len().saturating_sub(self.last_n)..];
        let repeated = super::tests::repetitions(window, usize::MAX);
        for (id, logit) in &mut chain.left {
            let longest = repeated.iter().filter(|(token, _)| token == id).map(|&(_, n)| n).max();
            if let Some(n) = longest.filter(|&n| n >= self.allowed_length) {
                let beyond = (n - self.allowed_length) as i32;
                *logit -= f64::from(self.multiplier) * f64::from(self.base).powi(beyond);
            }
        }
    }
}

/// DRY at work: its window and working memory.
#[derive(Clone)]
struct ActiveDry {
    settings: Dry,
    window: Ring,
    breakers: Breakers,
    /// Tokens after the one in which the last breaker ended.
    since_break: usize,
    /// Number of bytes matched so far of each breaker.
    matched: Vec<usize>,
    /// Both values before each of the last tokens.
    past_since_break: Past<usize>,
    past_matched: Past<Vec<usize>>,
    /// The window, and the length of the repetition that ends at each of its tokens.
    newest_first: Scratch<u32>,
    repeated: Scratch<usize>,
    /// The length of the longest repetition that each token would continue.
    continued: HashMap<u32, usize>,
}

impl ActiveDry {
    /// The tokens that would continue a repetition, with their penalties.
    fn penalties(&mut self) -> impl Iterator<Item = (u32, f64)> {
        let allowed = self.settings.allowed_length;
        self.continued.clear();
        self.newest_first.clear();
        self.newest_first.extend(self.window.newest_first());
        if self.newest_first.len() > allowed && self.since_break >= allowed {
            common_prefixes(&self.newest_first, &mut self.repeated);
            // A repetition that ends at a token would be continued by the next newer token.
            for (&token, &length) in self.newest_first.iter().zip(self.repeated.iter().skip(1)) {
                let length = length.min(self.since_break);
                if length >= allowed && !self.breakers.within(token) {
                    let longest = self.continued.entry(token).or_insert(0);
                    *longest = length.max(*longest);
                }
            }
        }
        let (multiplier, base) = (f64::from(self.settings.multiplier), f64::from(self.settings.base));
        self.continued.iter().map(move |(&token, &length)| {
            let beyond = i32::try_from(length - allowed).unwrap_or(i32::MAX);
            (token, multiplier * base.powi(beyond))
        })
    }
}

impl ActiveStage for ActiveDry {
    fn change_scores(&mut self, scores: &mut [f32]) {
        for (token, penalty) in self.penalties() {
            if let Some(score) = scores.get_mut(token as usize) {
                subtract(score, penalty);
            }
        }
    }

    fn apply(&mut self, candidates: &mut Candidates, _rng: &mut Rng) {
        let scale = candidates.scale;
        for (token, penalty) in self.penalties() {
            for candidate in candidates.list.iter_mut().filter(|candidate| candidate.id == token) {
                subtract(&mut candidate.logit, penalty / scale);
            }
        }
    }

    fn accept(&mut self, token: u32) {
        self.past_since_break.push(&self.since_break);
        self.past_matched.push(&self.matched);
        self.window.push(token);
        let breaks = self.breakers.end_in(token, &mut self.matched);
        self.since_break = if breaks { 0 } else { self.since_break + 1 };
    }

    fn rewind(&mut self, n: usize) {
        if let (Some(since_break), Some(matched)) =
            (self.past_since_break.rewind(n), self.past_matched.rewind(n))
        {
            self.since_break = *since_break;
            self.matched.clone_from(matched);
            self.window.rewind(n);
        }
    }

    fn clear(&mut self) {
        self.window.clear();
        self.matched.fill(0);
        self.since_break = 0;
        self.past_since_break.clear();
        self.past_matched.clear();
    }

    fn boxed(&self) -> Box<dyn ActiveStage> {
        Box::new(self.clone())
    }
}

/// For each position, the length of the longest common prefix of the slice and its suffix from there (the Z function,
/// Gusfield 1997), in linear time.
fn common_prefixes(tokens: &[u32], lengths: &mut Vec<usize>) {
    lengths.clear();
    let n = tokens.len();
    // The match that reaches furthest: this part of the window is known to equal the window's beginning.
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

/// Finds sequence breakers in the bytes of tokens that arrive one by one.
#[derive(Clone)]
struct Breakers {
    /// Each breaker's bytes, and the longest border of each of its prefixes.
    texts: Arc<[(Vec<u8>, Vec<usize>)]>,
    /// Source of the tokens' bytes.
    tokenizer: Option<Tokenizer>,
}

impl Breakers {
    fn new(texts: &[String], tokenizer: Option<&Tokenizer>) -> Breakers {
        let texts = texts.iter().map(|text| (text.as_bytes().to_vec(), borders(text.as_bytes())));
        let texts = if tokenizer.is_some() { texts.collect() } else { Arc::default() };
        Breakers { texts, tokenizer: tokenizer.cloned() }
    }

    fn bytes_of(&self, token: u32) -> &[u8] {
        self.tokenizer.as_ref().map_or(&[], |tokenizer| tokenizer.token_bytes(token))
    }

    /// True if the token's own bytes contain a whole breaker.
    fn within(&self, token: u32) -> bool {
        let bytes = self.bytes_of(token);
        self.texts.iter().any(|(text, _)| bytes.windows(text.len()).any(|window| window == text))
    }

    /// Advances by the next token; true if a breaker ends in it (Knuth, Morris, Pratt 1977). `matched` is the number of
    /// matched bytes of each breaker.
    fn end_in(&self, token: u32, matched: &mut [usize]) -> bool {
        let mut found = false;
        for ((text, borders), matched) in self.texts.iter().zip(matched) {
            for byte in self.bytes_of(token) {
                while *matched > 0 && (*matched == text.len() || text[*matched] != *byte) {
                    *matched = borders[*matched - 1];
                }
                *matched += usize::from(text[*matched] == *byte);
                found |= *matched == text.len();
            }
        }
        found
    }
}

/// For each prefix, indexed by its last byte, the length of its longest proper border: a prefix that is also its
/// suffix.
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

    use super::super::tests::{demo_tokenizer, neutral, repetitions};
    use super::super::{Rng, Sampler, SamplerParams};
    use super::{Dry, common_prefixes};
    use crate::text::EncodeOptions;

    proptest! {
        #[test]
        fn common_prefixes_match_direct_comparison(tokens in prop::collection::vec(0u32..3, 0..40)) {
            let mut lengths = Vec::new();
            common_prefixes(&tokens, &mut lengths);
            let plain = |at: usize| tokens.iter().zip(&tokens[at..]).take_while(|(a, b)| a == b).count();
            prop_assert_eq!(lengths, (0..tokens.len()).map(plain).collect::<Vec<_>>());
        }

        #[test]
        fn dry_penalizes_tokens_that_continue_a_repetition(
            history in prop::collection::vec(0u32..3, 0..60), multiplier in 0.1f32..2.0, base in 1.0f32..2.0,
            allowed_length in 0usize..4, last_n in 1usize..40,
        ) {
            let logits = [0.5, 1.0, 1.5, 2.0f32];
            let dry = Dry { multiplier, base, allowed_length, last_n, sequence_breakers: vec![] };
            let mut sampler = Sampler::new(SamplerParams { dry, ..neutral() }, logits.len()).unwrap();
            history.iter().for_each(|&token| sampler.accept(token));
            let window = &history[history.len().saturating_sub(last_n)..];
            let repetitions = repetitions(window, usize::MAX);
            for candidate in sampler.distribution(&logits).unwrap() {
                let mut expected = f64::from(logits[candidate.id as usize]);
                let lengths = repetitions.iter().filter(|&&(token, _)| token == candidate.id).map(|&(_, n)| n);
                if let Some(n) = lengths.max().filter(|&n| n >= allowed_length) {
                    expected -= f64::from(multiplier) * f64::from(base).powi((n - allowed_length) as i32);
                }
                // One rounding to 24 bits.
                let off = (f64::from(candidate.logit) - expected).abs();
                prop_assert!(off <= expected.abs().max(1.0) * 2f64.powi(-24), "{} is {}, not {}", candidate.id, candidate.logit, expected);
            }
        }
    }

    /// A breaker may be in one token or span several; text before it does not count as repeated after it.
    #[test]
    fn dry_repetitions_do_not_cross_a_breaker() {
        let tokenizer = demo_tokenizer();
        let breakers = ["\n", "ab", ":"];
        let sequence_breakers = breakers.map(String::from).to_vec();
        let dry = Dry { multiplier: 1.0, base: 1.5, allowed_length: 1, last_n: 30, sequence_breakers };
        let n_vocab = tokenizer.n_vocab();
        let params = SamplerParams { dry, ..neutral() };
        let mut sampler = Sampler::for_tokenizer(params.clone(), n_vocab, &tokenizer).unwrap();
        assert!(Sampler::new(params, n_vocab).is_err(), "breakers need texts");
        // Single characters: `ab` is always two tokens.
        let id = |c: &str| match tokenizer.encode(c, EncodeOptions::default())[..] {
            [id] => id,
            ref ids => panic!("{c} is {ids:?}"),
        };
        let ids = ["a", "b", "c", "d", ":", "\n"].map(id);
        let mut rng = Rng::new(5);
        let (mut broken, mut penalized) = (0, 0);
        for _ in 0..400 {
            sampler.reset();
            let history: Vec<u32> = (0..24).map(|_| ids[(rng.next_u64() % 13 / 2).min(5) as usize]).collect();
            history.iter().for_each(|&token| sampler.accept(token));
            let text = tokenizer.decode(&history, true);
            assert_eq!(text.len(), history.len(), "one byte for each token");
            let last =
                breakers.iter().filter_map(|b| text.rfind(b).map(|at| at + b.len())).max().unwrap_or(0);
            let since_break = text.len() - last;
            let repetitions = repetitions(&history, since_break);
            let logits = vec![0.0; n_vocab];
            for candidate in sampler.distribution(&logits).unwrap() {
                let lengths =
                    repetitions.iter().filter(|&&(token, _)| token == candidate.id).map(|&(_, n)| n);
                let breaks = [ids[4], ids[5]].contains(&candidate.id);
                let expected = match lengths.max() {
                    Some(n) if n >= 1 && !breaks => -(1.5f64.powi(n as i32 - 1)) as f32,
                    _ => 0.0,
                };
                assert_eq!(candidate.logit, expected, "{text:?} before token {}", candidate.id);
                penalized += u32::from(expected < 0.0);
            }
            broken += u32::from(since_break == 0);
        }
        assert!(broken > 20 && penalized > 100, "{broken} and {penalized}: too few to mean anything");
    }
}
