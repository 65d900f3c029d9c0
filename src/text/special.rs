//! Finding the tokens that stand in text as themselves: control tokens and user-defined ones.
//!
//! The leftmost match wins, and of those the longest. A trie over bytes; text that starts no such token
//! costs one table look-up a byte.

use std::collections::HashMap;

/// One state of the trie.
#[derive(Default)]
struct Node {
    /// The node that each byte leads to, sorted by byte.
    children: Vec<(u8, u32)>,
    /// The token that ends here.
    token: Option<u32>,
}

/// A set of strings that are tokens wherever they stand.
pub(super) struct SpecialTokens {
    nodes: Vec<Node>,
    /// The child of the root for each byte, 0 for none.
    roots: [u32; 256],
}

impl SpecialTokens {
    /// The set of these strings with their ids. Empty strings are left out.
    pub fn new<'a>(tokens: impl Iterator<Item = (&'a str, u32)>) -> SpecialTokens {
        // A hash map while building: a hostile vocabulary may give one node many children.
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

    /// The first token in `text`: where it starts, where it ends, and its id.
    pub fn find(&self, text: &str) -> Option<(usize, usize, u32)> {
        let bytes = text.as_bytes();
        let mut starts = bytes.iter().enumerate().filter(|&(_, &byte)| self.roots[byte as usize] != 0);
        starts.find_map(|(start, &byte)| {
            let (end, id) = self.longest_from(bytes, start + 1, self.roots[byte as usize])?;
            Some((start, end, id))
        })
    }

    /// The longest token that goes on from `node` with the bytes at `at`: its end and its id.
    fn longest_from(&self, bytes: &[u8], mut at: usize, node: u32) -> Option<(usize, u32)> {
        let mut node = &self.nodes[node as usize];
        let mut longest = None;
        loop {
            longest = node.token.map(|id| (at, id)).or(longest);
            let Some(byte) = bytes.get(at) else { return longest };
            let Ok(child) = node.children.binary_search_by_key(byte, |&(byte, _)| byte) else {
                return longest;
            };
            node = &self.nodes[node.children[child].1 as usize];
            at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leftmost_then_longest() {
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
