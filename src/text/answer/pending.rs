//! Text of an answer that is not divided yet, and markers in it.
//!
//! A marker that the vocabulary has as a special token is that token and no other spelling of its text; the rest of a
//! marker is text. So an answer that talks about `<think>` does not begin to think.

use std::ops::Range;

use crate::text::Tokenizer;

/// A text that divides answers, such as `<think>` or `<|channel>thought`.
#[derive(Clone, Debug)]
pub(super) struct Marker {
    pub(super) text: String,
    /// The places of special tokens in it.
    specials: Vec<Range<usize>>,
}

impl Marker {
    pub(super) fn new(text: &str, tokenizer: &Tokenizer) -> Marker {
        let specials = tokenizer.special_tokens_in(text).into_iter().map(|(range, _)| range).collect();
        Marker { text: text.to_owned(), specials }
    }

    /// True if no part of it is a special token.
    pub(super) fn is_plain(&self) -> bool {
        self.specials.is_empty()
    }

    /// True if its parts that look like tokens are special tokens of the vocabulary.
    pub(super) fn is_in_vocabulary(&self) -> bool {
        let special = |at: usize| self.specials.iter().any(|range| range.contains(&at));
        let rest = self.text.char_indices().filter(|&(at, _)| !special(at));
        !self.is_plain() && !rest.into_iter().any(|(_, c)| "<>[]|".contains(c))
    }
}

/// A special token in the text.
#[derive(Clone, Debug)]
struct Special {
    range: Range<usize>,
    /// Not shown where it is no marker.
    hidden: bool,
}

/// Text that is not divided yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Pending {
    text: String,
    specials: Vec<Special>,
}

impl Pending {
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn push_text(&mut self, text: &str) {
        self.text.push_str(text);
    }

    pub(super) fn push_special(&mut self, text: &str, hidden: bool) {
        let start = self.text.len();
        self.text.push_str(text);
        self.specials.push(Special { range: start..self.text.len(), hidden });
    }

    /// Number of bytes of white space at the start.
    pub(super) fn leading_space(&self) -> usize {
        self.text.len() - self.text.trim_start().len()
    }

    /// Bytes of the first character, or of the special token that is first.
    pub(super) fn first_unit(&self) -> usize {
        match self.specials.first() {
            Some(special) if special.range.start == 0 => special.range.end,
            _ => self.text.chars().next().map_or(0, char::len_utf8),
        }
    }

    /// The first place of a marker at or after byte `from`, which begins at a place that `is_valid`.
    pub(super) fn find(
        &self,
        marker: &Marker,
        from: usize,
        is_valid: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let is_boundary = |&at: &usize| self.text.is_char_boundary(at);
        let from = (0..=from).rev().find(is_boundary).unwrap_or(0);
        let places = self.text[from..].match_indices(&marker.text).map(|(at, _)| from + at);
        let agrees = |&at: &usize| self.specials_agree(marker, at, at + marker.text.len()) && is_valid(at);
        places.into_iter().find(agrees)
    }

    /// The first place at which the text ends with a beginning of the marker.
    pub(super) fn begun(&self, marker: &Marker, is_valid: impl Fn(usize) -> bool) -> Option<usize> {
        let len = self.text.len();
        let first = (len + 1).saturating_sub(marker.text.len());
        let first = (first..len).find(|&at| self.text.is_char_boundary(at)).unwrap_or(len);
        let starts = self.text[first..].char_indices().map(|(at, _)| first + at);
        let begins = |&at: &usize| {
            marker.text.starts_with(&self.text[at..])
                && self.specials_agree(marker, at, self.text.len())
                && is_valid(at)
        };
        starts.into_iter().find(begins)
    }

    /// True if the special tokens between two places are those of the marker's beginning.
    fn specials_agree(&self, marker: &Marker, start: usize, end: usize) -> bool {
        let overlaps = |special: &&Special| special.range.start < end && special.range.end > start;
        let mut here = self.specials.iter().filter(overlaps).map(|special| special.range.clone());
        let mut wanted = marker.specials.iter().filter(|range| range.start < end - start);
        loop {
            match (here.next(), wanted.next()) {
                (None, None) => return true,
                (Some(here), Some(wanted))
                    if here.start >= start
                        && here.start - start == wanted.start
                        && here.len() == wanted.len() => {}
                _ => return false,
            }
        }
    }

    /// Removes the first `n` bytes: the bytes, and their visible text.
    pub(super) fn take(&mut self, n: usize) -> (String, String) {
        let rest = self.text.split_off(n);
        let raw = std::mem::replace(&mut self.text, rest);
        let mut text = String::with_capacity(raw.len());
        let mut at = 0;
        for special in self.specials.iter().take_while(|special| special.range.end <= n) {
            text.push_str(&raw[at..special.range.start]);
            if !special.hidden {
                text.push_str(&raw[special.range.clone()]);
            }
            at = special.range.end;
        }
        text.push_str(&raw[at..]);
        self.specials.retain(|special| special.range.end > n);
        for special in &mut self.specials {
            special.range.start -= n;
            special.range.end -= n;
        }
        (raw, text)
    }
}
