//! Stop strings: text at which an answer ends, found even across token borders.
//!
//! The text of a special token is found as a whole or not at all: `<|user|>` stops at that token, and `user` does not.

use std::ops::Range;

/// Finds the first of several texts in a stream of pieces, and holds back text that may become one.
///
/// The match that is complete first counts; if several end at the same place, the longest. So the result does not
/// depend on the division of the text into pieces.
#[derive(Clone, Debug, Default)]
pub struct StopStrings {
    texts: Vec<String>,
    /// Text held back because it may begin a stop string.
    held: String,
    /// The special tokens in `held`.
    tokens: Vec<Range<usize>>,
    /// Text returned by the last call.
    free: String,
    found: Option<usize>,
}

impl StopStrings {
    /// Searches for these texts. An empty one is never found.
    pub fn new(texts: &[impl AsRef<str>]) -> StopStrings {
        let texts = texts.iter().map(|text| text.as_ref().to_string()).collect();
        StopStrings { texts, ..StopStrings::default() }
    }

    /// Appends a piece, and returns the text that certainly comes before any stop string. Returns nothing after a stop
    /// string was found.
    pub fn push(&mut self, piece: &str) -> &str {
        self.free.clear();
        if self.found.is_some() {
            return &self.free;
        }
        let mut end = self.held.len();
        self.held.push_str(piece);
        // Any character may complete a stop string.
        for c in piece.chars() {
            end += c.len_utf8();
            if self.ends_at(end) {
                return &self.free;
            }
        }
        self.hold()
    }

    /// [`push`](Self::push) of a special token's text.
    pub fn push_special(&mut self, text: &str) -> &str {
        self.free.clear();
        if self.found.is_some() {
            return &self.free;
        }
        let start = self.held.len();
        self.held.push_str(text);
        self.tokens.push(start..self.held.len());
        if self.ends_at(self.held.len()) {
            return &self.free;
        }
        self.hold()
    }

    /// True if a stop string ends at this byte of the held text; the text before it is free then.
    fn ends_at(&mut self, end: usize) -> bool {
        let text = &self.held[..end];
        let ends = |(_, stop): &(usize, &String)| {
            !stop.is_empty() && text.ends_with(stop.as_str()) && !self.is_inside_token(end - stop.len())
        };
        let longest = self.texts.iter().enumerate().filter(ends).max_by_key(|(_, stop)| stop.len());
        let Some((index, stop)) = longest else { return false };
        self.free.push_str(&self.held[..end - stop.len()]);
        self.found = Some(index);
        self.held.clear();
        self.tokens.clear();
        true
    }

    fn is_inside_token(&self, at: usize) -> bool {
        self.tokens.iter().any(|token| token.start < at && at < token.end)
    }

    /// Holds back the text that may begin a stop string, and frees the text before it.
    fn hold(&mut self) -> &str {
        let begun = |&(start, _): &(usize, char)| {
            !self.is_inside_token(start)
                && self.texts.iter().any(|stop| stop.starts_with(&self.held[start..]))
        };
        let keep = self.held.char_indices().find(begun).map_or(self.held.len(), |(start, _)| start);
        self.free.push_str(&self.held[..keep]);
        self.held.drain(..keep);
        self.tokens.retain(|token| token.end > keep);
        for token in &mut self.tokens {
            *token = token.start - keep..token.end - keep;
        }
        &self.free
    }

    /// Ends the text, and returns the text that was held back.
    pub fn finish(&mut self) -> &str {
        self.free.clear();
        self.free.push_str(&self.held);
        self.held.clear();
        self.tokens.clear();
        &self.free
    }

    /// Index of the text that was found.
    pub fn found(&self) -> Option<usize> {
        self.found
    }
}

#[cfg(test)]
mod tests {
    use super::StopStrings;
    use proptest::prelude::*;

    /// The text before the match that is complete first, by checking each prefix.
    fn plain(text: &str, stops: &[String]) -> (String, Option<usize>) {
        for end in text.char_indices().map(|(start, c)| start + c.len_utf8()) {
            let ends = |i: &usize| text[..end].ends_with(&stops[*i]);
            if let Some(i) = (0..stops.len()).filter(ends).max_by_key(|&i| stops[i].len()) {
                return (text[..end - stops[i].len()].to_string(), Some(i));
            }
        }
        (text.to_string(), None)
    }

    proptest! {
        /// A small alphabet, so that stop strings overlap themselves and each other.
        #[test]
        fn result_does_not_depend_on_the_division_of_the_text(
            pieces in prop::collection::vec("[abé]{0,4}", 0..12), stops in prop::collection::vec("[abé]{1,4}", 0..4),
        ) {
            let mut matcher = StopStrings::new(&stops);
            let mut out = String::new();
            for piece in &pieces {
                out.push_str(matcher.push(piece));
                // Returned text cannot be part of a later match.
                let sofar = plain(&pieces.concat(), &stops).0;
                prop_assert!(sofar.starts_with(&out), "{:?} is out of {:?}", out, sofar);
            }
            out.push_str(matcher.finish());
            prop_assert_eq!((out, matcher.found().map(|i| stops[i].clone())), {
                let (text, index) = plain(&pieces.concat(), &stops);
                (text, index.map(|i| stops[i].clone()))
            });
        }
    }

    #[test]
    fn a_special_token_stops_as_a_whole_only() {
        let mut stops = StopStrings::new(&["user", "<|user|>", "a<|user|>b"]);
        assert_eq!(stops.push_special("<|users|>"), "<|users|>");
        assert_eq!(stops.push("<|us"), "");
        assert_eq!(stops.push("x"), "<|usx");
        assert_eq!(stops.push("a"), "");
        assert_eq!(stops.push_special("<|user|>"), "a");
        assert_eq!(stops.found(), Some(1));
        let mut stops = StopStrings::new(&["<|x|>\n"]);
        assert_eq!(stops.push("a<|x|>"), "a");
        assert_eq!(stops.finish(), "<|x|>");
        assert_eq!(stops.push_special("<|x|>"), "");
        assert_eq!(stops.push("\nb"), "");
        assert_eq!(stops.found(), Some(0));
    }

    #[test]
    fn only_a_possible_stop_string_is_held_back() {
        let mut stops = StopStrings::new(&["END", "\n\n"]);
        assert_eq!(stops.push("a E"), "a ");
        assert_eq!(stops.push("N"), "");
        assert_eq!(stops.push("T\n"), "ENT");
        assert_eq!(stops.push("b"), "\nb");
        assert_eq!(stops.push("xEN"), "x");
        assert_eq!(stops.push("D of it"), "");
        assert_eq!(stops.found(), Some(0));
        assert_eq!(stops.push("more"), "");
        assert_eq!(stops.finish(), "");
    }
}
