//! References to tokens: `<[5]>` names a token by its id, `<think>` by its text, and `!<think>` means any other token.

use std::ops::RangeInclusive;

use toktrie::TokTrie;

/// The ids that a reference to a token stands for: `reference` is the text from `<` to `>`.
///
/// # Errors
/// The reason, if the vocabulary has no such token.
pub(super) fn ids_of(reference: &str, negated: bool, vocabulary: &TokTrie) -> Result<Ids, String> {
    let n_vocab = vocabulary.vocab_size() as u32;
    let number = reference.strip_prefix("<[").and_then(|rest| rest.strip_suffix("]>"));
    let id = match number {
        Some(number) => number.parse().ok().filter(|&id| id < n_vocab).ok_or_else(|| {
            format!("the vocabulary has no token `{reference}`; its ids are 0 to {}", n_vocab - 1)
        })?,
        None => by_text(reference, vocabulary).ok_or_else(|| {
            format!("the vocabulary has no token `{reference}`; write its text as a literal, in quotes")
        })?,
    };
    if !negated {
        return Ok(vec![id..=id]);
    }
    // A token that ends an answer is never part of its text.
    let mut without = [vocabulary.eos_tokens(), &[id]].concat();
    without.sort_unstable();
    without.dedup();
    let starts = std::iter::once(0).chain(without.iter().map(|id| id + 1));
    let stops = without.iter().copied().chain([n_vocab]);
    let between = starts.zip(stops).filter(|(start, stop)| start < stop);
    Ok(between.map(|(start, stop)| start..=stop - 1).collect())
}

/// Ranges of token ids.
type Ids = Vec<RangeInclusive<u32>>;

/// The token with this text: a special token first, as in a prompt.
fn by_text(text: &str, vocabulary: &TokTrie) -> Option<u32> {
    vocabulary.get_special_token(text).or_else(|| vocabulary.token_id(text.as_bytes()))
}
