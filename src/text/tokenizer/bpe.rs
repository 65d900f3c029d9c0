//! Byte-pair encoding (`tokenizer.ggml.model` = `gpt2` or `gemma4`).
//!
//! Text is cut into words; a word starts as one symbol per byte of its UTF-8, and pairs merge in the order of the
//! file's merge list. Sennrich, Haddow, Birch 2016 (arXiv 1508.07909); over bytes as in GPT-2 (Radford et al. 2019).
//! For Gemma 4 and a few others a word starts as its characters, a space is U+2581, and a character that is not a token
//! becomes byte tokens.

use super::byte_alphabet::single_byte;
use super::merge::{Merge, Merger, NO_TOKEN};
use super::spelling::{byte_token, is_in_utf8, push_escaped};
use super::tables::{CACHED_WORD, CACHED_WORDS, HashMap, check_bytes};
use super::{TokenKind, TokenizerError, VocabData};
use crate::text::pretokenizer::PreTokenizer;

/// The tables of one vocabulary.
pub(super) struct Bpe {
    pre: PreTokenizer,
    /// The merge of a pair of tokens, by [`pair_key`].
    merges: HashMap<u64, Merge>,
    /// The token of each byte, or the unknown token.
    byte_ids: [u32; 256],
    /// The tokens of single characters, if words start as characters.
    characters: HashMap<char, u32>,
    /// Tokens by their bytes, if the rule matches whole words; otherwise empty.
    whole_words: HashMap<Box<[u8]>, u32>,
}

fn pair_key(left: u32, right: u32) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}

impl Bpe {
    /// Checks and indexes a vocabulary. `bytes_of` returns the bytes of a token.
    pub fn new<'a>(
        data: &VocabData,
        kinds: &[TokenKind],
        bytes_of: impl Fn(usize) -> &'a [u8],
    ) -> Result<Bpe, TokenizerError> {
        let pre = PreTokenizer::by_name(data.pre.as_deref())
            .ok_or_else(|| TokenizerError::UnknownPre(data.pre.clone().unwrap_or_default()))?;
        let merges = index_merges(data, kinds)?;
        let ordinary = |&id: &usize| !kinds[id].is_structure();
        let mut byte_ids = [data.unk.unwrap_or(NO_TOKEN); 256];
        for id in (0..data.tokens.len()).filter(ordinary) {
            let byte =
                if pre.characters { byte_token(&data.tokens[id]) } else { single_byte(&data.tokens[id]) };
            if let Some(byte) = byte {
                byte_ids[byte as usize] = id as u32;
            }
        }
        match pre.characters {
            true => check_bytes(&byte_ids, is_in_utf8)?,
            // Real vocabularies lack bytes that their training text did not contain: Falcon's has no token for some
            // control characters. One without an ASCII letter is damaged.
            false => check_bytes(&byte_ids, |byte| (b' '..=b'~').contains(&byte))?,
        }
        // Words that start as characters are whole lines: of their tokens only line breaks match whole words.
        let is_whole = |&id: &usize| match pre.characters {
            true => data.tokens[id].bytes().all(|byte| byte == b'\n'),
            false => pre.whole_words,
        };
        let whole = (0..data.tokens.len()).filter(ordinary).filter(is_whole);
        let whole_words = whole.map(|id| (bytes_of(id).into(), id as u32)).collect();
        let single = |id: usize| {
            let mut characters = data.tokens[id].chars();
            characters.next().filter(|_| characters.next().is_none()).map(|character| (character, id as u32))
        };
        let characters = (0..data.tokens.len()).filter(|_| pre.characters).filter(ordinary);
        let characters = characters.filter_map(single).collect();
        Ok(Bpe { pre, merges, byte_ids, characters, whole_words })
    }

    /// True if a text starts with BOS unless the file says otherwise.
    pub fn adds_bos(&self) -> bool {
        self.pre.adds_bos
    }

    /// Appends the tokens of one word. A byte without a token is omitted, and separates its neighbours.
    fn encode_word(&self, word: &str, merger: &mut Merger, ids: &mut Vec<u32>) {
        if let Some(&id) = self.whole_words.get(word.as_bytes()) {
            return ids.push(id);
        }
        merger.clear();
        match self.pre.characters {
            false => word.bytes().for_each(|byte| merger.push(1, self.byte_ids[byte as usize])),
            true => word.chars().for_each(|character| {
                let id = self.characters.get(&character).copied();
                merger.push(character.len_utf8(), id.unwrap_or(NO_TOKEN));
            }),
        }
        let find = |a: u32, b: u32| self.merges.get(&pair_key(a, b)).copied();
        merger.run(
            |a, b| find(a.id, b.id),
            |symbol| match symbol.id {
                NO_TOKEN if self.pre.characters => {
                    let bytes = &word.as_bytes()[symbol.start..symbol.start + symbol.len];
                    ids.extend(bytes.iter().map(|&byte| self.byte_ids[byte as usize]));
                }
                NO_TOKEN => {}
                id => ids.push(id),
            },
        );
    }
}

/// Indexes the merge list by pairs of ids.
fn index_merges(data: &VocabData, kinds: &[TokenKind]) -> Result<HashMap<u64, Merge>, TokenizerError> {
    let ids: HashMap<&str, u32> = data.tokens.iter().map(String::as_str).zip(0..).collect();
    let mut merges = HashMap::with_capacity_and_hasher(data.merges.len(), Default::default());
    let mut whole = String::new();
    for (index, merge) in data.merges.iter().enumerate() {
        // A part may start with a space, so the first character is never the separator.
        let second = merge.chars().next().map_or(0, char::len_utf8);
        let space = merge[second..].find(' ').map(|at| at + second);
        let parts = space.map(|at| (&merge[..at], &merge[at + 1..])).filter(|(_, right)| !right.is_empty());
        let Some((left, right)) = parts else {
            return Err(TokenizerError::MalformedMerge { index, merge: merge.clone() });
        };
        whole.clear();
        whole.extend([left, right]);
        let id_of = |text: &str| {
            let missing = || TokenizerError::MergeWithoutToken {
                index,
                merge: merge.clone(),
                missing: text.to_owned(),
            };
            ids.get(text).copied().ok_or_else(missing)
        };
        let (left, right, id) = (id_of(left)?, id_of(right)?, id_of(&whole)?);
        // A tokenizer trained on marked-up text has merges that spell its control tokens. Ordinary text must not merge
        // into them.
        if [left, right, id].iter().any(|&id| kinds[id as usize].is_structure()) {
            continue;
        }
        let priority = u32::try_from(index).unwrap_or(u32::MAX);
        merges.entry(pair_key(left, right)).or_insert(Merge { priority, id });
    }
    Ok(merges)
}

/// Working memory of one `encode` call over a text that lives for `'t`.
pub(super) struct BpeEncoder<'v, 't> {
    bpe: &'v Bpe,
    merger: Merger,
    /// Start and end of each earlier word's tokens in the output.
    seen: HashMap<&'t str, (usize, usize)>,
    escaped: String,
}

impl<'v, 't> BpeEncoder<'v, 't> {
    pub fn new(bpe: &'v Bpe) -> Self {
        BpeEncoder { bpe, merger: Merger::default(), seen: HashMap::default(), escaped: String::new() }
    }

    /// Appends the tokens of a piece of the text. Every call must pass the same `ids`.
    pub fn encode(&mut self, text: &'t str, ids: &mut Vec<u32>) {
        let bpe = self.bpe;
        if bpe.pre.characters {
            self.escaped.clear();
            push_escaped(text, &mut self.escaped);
            return bpe.pre.split(&self.escaped, |line| bpe.encode_word(line, &mut self.merger, ids));
        }
        bpe.pre.split(text, |word| {
            if let Some(&(start, end)) = self.seen.get(word) {
                return ids.extend_from_within(start..end);
            }
            let start = ids.len();
            bpe.encode_word(word, &mut self.merger, ids);
            if word.len() <= CACHED_WORD && self.seen.len() < CACHED_WORDS {
                self.seen.insert(word, (start, ids.len()));
            }
        });
    }
}
