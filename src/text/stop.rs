//! Stop strings: text at which an answer ends, found even across token borders.

/// Finds the first of several texts in a stream of pieces, and holds back text that may become one.
///
/// The match that is complete first counts; if several end at the same place, the longest. So the result does not
/// depend on the division of the text into pieces.
#[derive(Clone, Debug, Default)]
pub struct StopStrings {
    texts: Vec<String>,
    /// Text held back because it may begin a stop string.
    held: String,
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
        let mut seen = self.held.len();
        self.held.push_str(piece);
        // Any character may complete a stop string.
        for c in piece.chars() {
            seen += c.len_utf8();
            let text = &self.held[..seen];
            let ends = |(_, stop): &(usize, &String)| !stop.is_empty() && text.ends_with(stop.as_str());
            let longest = self.texts.iter().enumerate().filter(ends).max_by_key(|(_, stop)| stop.len());
            if let Some((index, stop)) = longest {
                self.found = Some(index);
                self.free.push_str(&self.held[..seen - stop.len()]);
                self.held.clear();
                return &self.free;
            }
        }
        let begun =
            |&(start, _): &(usize, char)| self.texts.iter().any(|stop| stop.starts_with(&self.held[start..]));
        let keep = self.held.char_indices().find(begun).map_or(self.held.len(), |(start, _)| start);
        self.free.push_str(&self.held[..keep]);
        self.held.drain(..keep);
        &self.free
    }

    /// Ends the text, and returns the text that was held back.
    pub fn finish(&mut self) -> &str {
        self.free.clear();
        self.free.push_str(&self.held);
        self.held.clear();
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
