//! Finds tokens in text: special ones (control and user-defined), and the pieces that a text starts with.
//!
//! A trie over bytes. The leftmost special token wins, and of those the longest; text that cannot start one costs one
//! table look-up per byte.

use std::collections::HashMap;

/// One state of the trie.
#[derive(Default)]
struct Node {
    /// The child node for each byte, sorted by byte.
    children: Vec<(u8, u32)>,
    /// The token that ends here.
    token: Option<u32>,
}

/// True for text in brackets, such as `<|im_end|>`, `</s>` or `[EOS]`: it is not a piece of ordinary text.
pub(super) fn looks_like_marker(text: &str) -> bool {
    let text = text.strip_prefix('_').unwrap_or(text);
    let pairs = [('<', '>'), ('[', ']')];
    text.len() > 2 && pairs.iter().any(|&(open, close)| text.starts_with(open) && text.ends_with(close))
}

/// A set of strings: the special tokens, or all pieces of a vocabulary (unigram, WordPiece).
pub(super) struct SpecialTokens {
    nodes: Vec<Node>,
    /// The child of the root for each byte; 0 for none.
    roots: [u32; 256],
}

impl SpecialTokens {
    /// The set of these strings with their ids. Empty strings are omitted.
    pub fn new<'a>(tokens: impl Iterator<Item = (&'a str, u32)>) -> SpecialTokens {
        // A hash map during construction: a hostile vocabulary may give one node many children.
        let mut edges: HashMap<(u32, u8), u32> = HashMap::new();
        let mut nodes = vec![Node::default()];
        for (text, id) in tokens.filter(|(text, _)| !text.is_empty()) {
            let mut at = 0u32;
            for &byte in text.as_bytes() {
                at = *edges.entry((at, byte)).or_insert_with(|| {
                    nodes.push(Node::default());
                    (nodes.len() - 1) as u32
                });
            }
            nodes[at as usize].token = Some(id);
        }
        for ((parent, byte), child) in edges {
            nodes[parent as usize].children.push((byte, child));
        }
        nodes.iter_mut().for_each(|node| node.children.sort_unstable());
        let mut roots = [0; 256];
        for &(byte, child) in &nodes[0].children {
            roots[byte as usize] = child;
        }
        SpecialTokens { nodes, roots }
    }

    /// The first token in `text`: its start, its end and its id.
    pub fn find(&self, text: &str) -> Option<(usize, usize, u32)> {
        let bytes = text.as_bytes();
        let mut starts = bytes.iter().enumerate().filter(|&(_, &byte)| self.roots[byte as usize] != 0);
        starts.find_map(|(start, _)| {
            let (len, id) = self.longest_prefix(&bytes[start..])?;
            Some((start, start + len, id))
        })
    }

    /// The longest token that `text` starts with: its length and id.
    pub fn longest_prefix(&self, text: &[u8]) -> Option<(usize, u32)> {
        let mut longest = None;
        self.prefixes(text, |len, id| longest = Some((len, id)));
        longest
    }

    /// Passes every token that `text` starts with to `each`, shortest first: its length and id.
    pub fn prefixes(&self, text: &[u8], mut each: impl FnMut(usize, u32)) {
        let Some(&root) = text.first().map(|&first| &self.roots[first as usize]) else { return };
        let (mut node, mut len) = (root, 1);
        while let Some(state) = self.nodes.get(node as usize).filter(|_| node != 0) {
            if let Some(id) = state.token {
                each(len, id);
            }
            let Some(byte) = text.get(len) else { return };
            let child = state.children.binary_search_by_key(byte, |&(byte, _)| byte);
            node = child.map_or(0, |child| state.children[child].1);
            len += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leftmost_then_longest_token_wins() {
        let tokens = [("<a>", 1), ("<a>b", 2), ("a>bcd", 3), ("", 4), ("é", 5)];
        let special = SpecialTokens::new(tokens.into_iter());
        assert_eq!(special.find("x<a>bcd"), Some((1, 5, 2)));
        assert_eq!(special.find("<<a>c"), Some((1, 4, 1)));
        assert_eq!(special.find("xa>bc a>bcd"), Some((6, 11, 3)));
        assert_eq!(special.find("caf\u{e8}\u{e9}"), Some((5, 7, 5)));
        assert_eq!(special.find("<a"), None);
        assert_eq!(special.find(""), None);
    }
}
